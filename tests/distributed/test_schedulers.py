"""The script for Slurm, the job for Kubernetes and the Dockerfile: run as far as one machine can, and parsed."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml

from harness import of_two
from machines import TINY, ended
from runs import ROOT
from selftrain import errors

SBATCH, JOB, DOCKERFILE = ROOT / "scripts/slurm.sbatch", ROOT / "scripts/k8s/job.yaml", ROOT / "Dockerfile"
SRUN = f"""#!{sys.executable}
import os, signal, subprocess, sys
words = sys.argv[1:]
while words[0].startswith("--"):
    del words[0]
tasks = [
    subprocess.Popen(words, env=os.environ | {{"SLURM_PROCID": str(n), "SLURM_LOCALID": str(n)}})
    for n in range(int(os.environ["SLURM_NTASKS"]))
]
signal.signal(signal.SIGUSR1, lambda number, _: [task.send_signal(number) for task in tasks])
open(os.environ["FAKE"] + "/srun", "w").write(str(os.getpid()))
codes = [task.wait() for task in tasks]
sys.exit(max(code if code >= 0 else 128 - code for code in codes))
"""
SCONTROL = """#!/bin/sh
case $1 in show) echo 127.0.0.1 ;; *) echo "$@" >> "$FAKE/scontrol" ;; esac
"""
SLURM = {
    "SLURM_JOB_ID": "79",
    "SLURM_ARRAY_JOB_ID": "77",
    "SLURM_ARRAY_TASK_ID": "1",
    "SLURM_JOB_NODELIST": "node[1-2]",
    "SLURM_NTASKS": "2",
    "SLURM_NTASKS_PER_NODE": "2",
    "SLURM_CPUS_PER_TASK": "1",
}


@pytest.fixture
def slurm(tmp_path):
    """The environment of a job in which srun starts two tasks here, and scontrol notes what it is told."""
    for name, content in {"srun": SRUN, "scontrol": SCONTROL}.items():
        (tmp_path / name).write_text(content)
        (tmp_path / name).chmod(0o755)
    (tmp_path / "fake").mkdir()
    return {
        **os.environ,
        **SLURM,
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "FAKE": str(tmp_path / "fake"),
        "RUNS": str(tmp_path / "runs"),
        "PYTHON": sys.executable,
    }


def told(slurm):
    """What scontrol was told."""
    note = Path(slurm["FAKE"]) / "scontrol"
    return note.read_text() if note.exists() else ""


@pytest.mark.parametrize(
    ("code", "restarts", "again"),
    [
        (75, 9, True),
        (7, 0, True),
        (7, 3, False),
        (137, 1, True),
        (0, 0, False),
        (2, 0, False),
        (73, 0, False),
    ],
)
def test_slurm_requeues_what_a_resume_can_continue(slurm, tmp_path, code, restarts, again):
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\necho "$@" > "$FAKE/$RANK-$LOCAL_RANK-$WORLD_SIZE"\nexit {code}\n')
    python.chmod(0o755)
    env = slurm | {"PYTHON": str(python), "SLURM_RESTART_COUNT": str(restarts)}
    done = subprocess.run(["bash", SBATCH, "recipe=smoke"], env=env, capture_output=True, text=True)
    assert done.returncode == code and not done.stderr, done.stderr
    assert told(slurm) == ("requeue 77_1\n" if again else "")
    for rank in ("0-0-2", "1-1-2"):
        words = (Path(slurm["FAKE"]) / rank).read_text()
        assert words == f"-m selftrain.run recipe=smoke seed=1 out={slurm['RUNS']}/seed1\n"


def test_the_header_of_the_slurm_script_asks_for_what_it_relies_on():
    lines = re.findall(r"^#SBATCH --(\S+)$", SBATCH.read_text(), flags=re.MULTILINE)
    asked = dict(line.partition("=")[::2] for line in lines)
    assert {"array", "requeue", "ntasks-per-node", "nodes"} <= asked.keys()
    assert (
        asked["signal"].startswith("USR1@") and asked["open-mode"] == "append"
    )  # requeued jobs add to the log
    number = {"STOPPED": errors.StoppedError, "LOST": errors.ResourceError}
    for name, kind in number.items():
        assert f"{name}={kind.exit_code}" in SBATCH.read_text()


@pytest.mark.slow
def test_a_slurm_job_that_is_stopped_saves_is_requeued_and_finishes(slurm, tmp_path):
    """The real script and runs: Slurm signals the tasks before the time is over, and the script itself."""
    out = tmp_path / "runs" / "seed1"
    faults = {"SELFTRAIN_FAULT": json.dumps({"do": "slow_steps", "seconds": 0.5})}
    path = f"{ROOT / 'tests/faults'}:{ROOT}"
    env = slurm | {
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": path,
        "SLURM_NTASKS": "1",
        "SLURM_NTASKS_PER_NODE": "1",
    }
    command = ["bash", str(SBATCH), *TINY, "generations=[{}]"]
    job = subprocess.Popen(command, env=env | faults, stdout=-1, stderr=-1, text=True, start_new_session=True)
    while not (out / "gen0/checkpoints/step-000003").is_dir():
        assert job.poll() is None, job.communicate()
        time.sleep(0.05)
    os.kill(int((Path(slurm["FAKE"]) / "srun").read_text()), signal.SIGUSR1)
    job.terminate()
    code, said, err = ended(job)
    assert code == 75 and "back into the queue" in said, err
    assert told(slurm) == "requeue 77_1\n"
    job = subprocess.Popen(command, env=env, stdout=-1, stderr=-1, text=True, start_new_session=True)
    code, _, err = ended(job)
    assert code == 0 and (out / "report.json").exists(), err
    assert told(slurm) == "requeue 77_1\n"  # nothing more


@pytest.fixture(scope="module")
def parts():
    """The service and the job."""
    return list(yaml.safe_load_all(JOB.read_text()))


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="no kubectl")
def test_kubectl_knows_every_field_of_the_job(parts):
    """Without a cluster: kubectl reads an object by its type, and drops fields that the type does not have."""
    for part, change in zip(parts, (["selector", "a=b"], ["image", "run=other"]), strict=True):
        command = ["kubectl", "set", change[0], "--local", "--output=json", "--filename=-", change[1]]
        done = subprocess.run(command, input=yaml.safe_dump(part), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        changed = (".spec.selector", ".spec.template.spec.containers[0].image")
        missing = list(lost(part, json.loads(done.stdout)))
        assert missing and all(row.startswith(changed) for row in missing)


def lost(asked, known, where=""):
    """The fields of `asked` that `known` does not have, or not with that value."""
    if isinstance(asked, dict) and isinstance(known, dict):
        for name, value in asked.items():
            yield from lost(value, known.get(name), f"{where}.{name}")
    elif isinstance(asked, list) and isinstance(known, list) and len(asked) == len(known):
        for number, (one, other) in enumerate(zip(asked, known, strict=True)):
            yield from lost(one, other, f"{where}[{number}]")
    elif str(asked) != str(known):  # quantities are text there
        yield f"{where}: {asked} -> {known}"


def test_fields_that_kubernetes_does_not_know_are_found():
    assert list(lost({"a": [{"b": 1}], "c": 2}, {"a": [{}], "c": 2})) == [".a[0].b: 1 -> None"]


def pod(parts):
    """The container of the job, and its environment on the host `number` with `address`."""
    (container,) = parts[1]["spec"]["template"]["spec"]["containers"]

    def environment(number):
        index = "metadata.annotations['batch.kubernetes.io/job-completion-index']"
        found = {}
        for row in container["env"]:
            if "valueFrom" in row:
                assert row["valueFrom"]["fieldRef"]["fieldPath"] == index
            found[row["name"]] = row.get("value", str(number))
        return found

    return container, environment


def test_the_kubernetes_job_agrees_with_itself_and_with_the_exit_codes(parts):
    service, job = parts
    spec, template = job["spec"], job["spec"]["template"]["spec"]
    container, environment = pod(parts)
    assert environment(1)["RANK"] == "1" and environment(1)["WORLD_SIZE"] == str(spec["completions"])
    assert spec["completions"] == spec["parallelism"] and spec["completionMode"] == "Indexed"
    assert template["subdomain"] == service["metadata"]["name"] and service["spec"]["clusterIP"] == "None"
    assert service["spec"]["selector"] == {"job-name": job["metadata"]["name"]}
    assert environment(0)["MASTER_ADDR"] == f"{job['metadata']['name']}-0.{template['subdomain']}"
    assert template["restartPolicy"] == "Never"  # or a pod failure policy is refused
    codes = {}
    for rule in spec["podFailurePolicy"]["rules"]:
        row = rule.get("onExitCodes", {"values": []})
        assert row["values"] == sorted(set(row["values"])) and 0 not in row["values"]
        assert row.get("containerName", container["name"]) == container["name"]
        codes |= dict.fromkeys(row["values"], rule["action"])
    known = (errors.ConfigError, errors.DataError, errors.IntegrityError, errors.LearningError)
    assert codes == {75: "Ignore", **{kind.exit_code: "FailJob" for kind in known}}
    mounted = {row["name"]: row["mountPath"] for row in container["volumeMounts"]}
    assert mounted.keys() == {row["name"] for row in template["volumes"]}
    assert mounted["runs"] in container["args"][-1] and mounted["shared-memory"] == "/dev/shm"


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root for process namespaces")
def test_the_pre_stop_hook_of_one_pod_ends_all_pods_with_75(parts, tmp_path):
    """Each pod is process 1 of a namespace, as in a container; the hook runs beside it."""
    container, environment = pod(parts)
    out, place = tmp_path / "run", of_two()[0]
    command = [sys.executable, *container["command"][1:], *TINY, f"out={out}"]
    fault = json.dumps({"do": "slow_steps", "seconds": 0.5})
    more = {"SELFTRAIN_FAULT": fault, "PYTHONPATH": f"{ROOT / 'tests/faults'}:{ROOT}", "OMP_NUM_THREADS": "1"}
    local = {name: place[name] for name in ("MASTER_ADDR", "MASTER_PORT", "ACCELERATE_USE_CPU")}
    pods = [
        subprocess.Popen(
            ["unshare", "--pid", "--fork", "--mount-proc", *command],
            env=os.environ | environment(number) | local | more,
            stdout=-1,
            stderr=-1,
            text=True,
            cwd=ROOT,
            start_new_session=True,
        )
        for number in range(2)
    ]
    while not (out / "gen0/checkpoints/step-000003").is_dir():
        assert all(one.poll() is None for one in pods), [one.communicate() for one in pods]
        time.sleep(0.05)
    (first,) = Path(f"/proc/{pods[0].pid}/task/{pods[0].pid}/children").read_text().split()
    hook = container["lifecycle"]["preStop"]["exec"]["command"]
    subprocess.run(["nsenter", "--target", first, "--pid", "--mount", *hook], timeout=60)
    assert [code for code, _, _ in map(ended, pods)] == [75, 75]
    assert (out / "gen0/checkpoints").is_dir() and not (out / "report.json").exists()


def instructions():
    """The instructions of the Dockerfile, with their words."""
    text = DOCKERFILE.read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(line.split()[0], line.partition(" ")[2]) for line in lines]


def sent():
    """The entries of the repository that .dockerignore leaves to the builder, by its last rule that fits."""
    rules = [
        line
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line and not line.startswith("#")
    ]

    def kept(name):
        fits = [rule for rule in rules if fnmatch(name, rule.removeprefix("!").removeprefix("**/"))]
        return not fits or fits[-1].startswith("!")

    return {path.name for path in ROOT.iterdir() if kept(path.name)}


def copied():
    """(source, target) of each COPY."""
    for name, rest in instructions():
        if name == "COPY":
            *sources, target = rest.split()
            yield from ((source, target) for source in sources)


def test_the_dockerfile_copies_what_is_there_and_is_sent():
    names = [name for name, _ in instructions()]
    assert names[0] == "FROM" and set(names) <= {"FROM", "RUN", "COPY", "WORKDIR", "ENV", "ENTRYPOINT"}
    sources = {source for source, _ in copied()}
    assert all((ROOT / source).exists() for source in sources)
    assert sent() == sources
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (install,) = [rest for name, rest in instructions() if name == "RUN" and rest.startswith("pip install")]
    words = shlex.split(install)
    (asked,) = re.findall(r"^\.\[(.*)\]$", words[3])
    assert set(asked.split(",")) <= extras.keys() and words[words.index("--constraint") + 1] in sources
    entry = json.loads(instructions()[-1][1])
    assert entry[:2] == ["python", "-m"] and (ROOT / (entry[2].replace(".", "/") + ".py")).is_file()


@pytest.mark.slow
def test_what_the_dockerfile_copies_is_enough_to_build_the_package(tmp_path):
    context, wheels = tmp_path / "context", tmp_path / "wheels"
    context.mkdir()
    for source, target in copied():
        place = context / (source if target == "./" else target)
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, place, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
        else:
            shutil.copy(ROOT / source, place)
    pip = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        str(wheels),
    ]
    done = subprocess.run(
        [*pip, str(context)], capture_output=True, text=True, env=os.environ | {"PYTHONPATH": ""}
    )
    assert done.returncode == 0, done.stderr
    assert [path.name.split("-")[0] for path in wheels.iterdir()] == ["selftrain"]
