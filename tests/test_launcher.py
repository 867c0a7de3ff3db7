"""Runs that `accelerate launch` and torchrun start: what these were told, and the precision that a run keeps."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from runs import ROOT, SMOKE, TORCHRUN, run_command
from selftrain import launcher, preflight
from selftrain.errors import ConfigError, ResourceError
from selftrain.preflight import machine
from selftrain.settings import compose

BESIDE = Path(sys.executable).parent  # where pip puts the commands
TINY = [
    *SMOKE,
    "keep_checkpoints=true",
    "generations=[{}]",
    "train.steps=2",
    "data.shapes={labelled:4,unlabelled:2,val:1,test:1}",
]
AUTO = "bf16" if machine.bf16_is_faster() else "none"
needs_accelerate = pytest.mark.skipif(
    shutil.which(BESIDE / "accelerate") is None, reason="no accelerate command beside Python"
)
on_a_cpu = pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU takes it")


def config_file(folder, **settings):
    """HF_HOME with the answers that `accelerate config` keeps."""
    file = folder / "accelerate" / "default_config.yaml"
    file.parent.mkdir()
    answers = {
        "compute_environment": "LOCAL_MACHINE",
        "distributed_type": "NO",
        "num_machines": 1,
        "num_processes": 1,
    }
    file.write_text(yaml.safe_dump({**answers, **settings}))
    return file


def told(*arguments, home):
    """What a program that `accelerate launch` starts finds out of its launch."""
    script = home / "told.py"
    script.write_text(
        "from selftrain import launcher\nprint('told', getattr(launcher.precision(), 'value', None))\n"
    )
    command = [BESIDE / "accelerate", "launch", *arguments, script, "--mixed_precision", "bf16"]
    env = {**os.environ, "HF_HOME": str(home), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()[-1]


@needs_accelerate
@pytest.mark.parametrize(
    ("arguments", "precision"),
    [
        (["--cpu"], "None"),  # accelerate does not read its file then
        pytest.param([], "no", marks=pytest.mark.slow),
        pytest.param(["--cpu", "--mixed-precision=no"], "no", marks=pytest.mark.slow),
    ],
)
def test_a_launcher_that_is_told_no_precision_is_not_one_that_is_told_no(tmp_path, arguments, precision):
    config_file(tmp_path, mixed_precision="no")
    assert told(*arguments, home=tmp_path) == precision


def test_a_precision_in_the_environment_is_somebodys_word(monkeypatch):
    monkeypatch.delenv("ACCELERATE_MIXED_PRECISION", raising=False)
    assert launcher.precision() is None
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    assert launcher.precision() == launcher.Told("no", "ACCELERATE_MIXED_PRECISION")
    monkeypatch.setattr(launcher, "PROCESSES", Path("/nowhere"))  # it could as well be accelerate's default
    assert launcher.precision() is None


@needs_accelerate
@on_a_cpu
@pytest.mark.parametrize("place", ["file", pytest.param("line", marks=pytest.mark.slow)])
def test_processes_that_were_asked_for_and_are_missing_are_refused(tmp_path, place):
    file = config_file(tmp_path, distributed_type="MULTI_CPU", num_processes=2, use_cpu=True)
    arguments = ["--cpu", "--num_processes", "2", "--num_machines", "1"] if place == "line" else ["--quiet"]
    command = [str(BESIDE / "accelerate"), "launch", *arguments]
    code, _, err = run_command(*TINY, f"out={tmp_path / 'run'}", launcher=command, HF_HOME=str(tmp_path))
    said = "".join(line for line in err.splitlines() if line.startswith("selftrain: error"))
    asker = "accelerate launch --num_processes" if place == "line" else str(file)
    assert code != 0 and f"2 processes were requested ({asker}" in said.replace("num_processes of ", ""), err
    assert "1 runs" in said and "ACCELERATE_USE_CPU=true torchrun --nproc_per_node 2" in said
    assert not (tmp_path / "run").exists()


@on_a_cpu
def test_torchrun_whose_processes_would_not_work_together_is_refused_before_any_lock(tmp_path):
    code, _, err = run_command(*TINY, f"out={tmp_path / 'run'}", launcher=TORCHRUN)
    said = {line for line in err.splitlines() if line.startswith("selftrain: error")}
    assert code != 0 and len(said) == 1, err
    assert (
        "2 processes were requested" in err and "ACCELERATE_USE_CPU=true torchrun --nproc_per_node 2" in err
    )
    assert "another run is writing" not in err and not (tmp_path / "run").exists()


@needs_accelerate
@pytest.mark.slow
def test_one_process_by_a_config_file_goes_on_working(tmp_path):
    config_file(tmp_path)
    command = [str(BESIDE / "accelerate"), "launch", "--quiet"]
    code, _, err = run_command(*TINY, f"out={tmp_path / 'run'}", launcher=command, HF_HOME=str(tmp_path))
    assert code == 0, err
    assert kept(tmp_path / "run") == AUTO


def test_as_many_processes_as_were_asked_for_are_taken_on_several_machines_too(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    launcher.check_processes(4)
    with pytest.raises(
        ResourceError, match=r"4 processes were requested .* and 1 runs; .*--nproc_per_node 2 "
    ):
        launcher.check_processes(1)


def test_the_network_to_other_hosts_is_told_to_gloo_once(monkeypatch):
    """On one host nothing is told; tests/distributed needs what is told on two."""
    monkeypatch.delenv("GLOO_SOCKET_IFNAME", raising=False)
    assert launcher._interface_of("127.0.0.1") == "lo" and launcher._interface_of("192.0.2.77") is None
    monkeypatch.setattr(launcher, "_interface_of", lambda address: "lo" if address == "127.0.0.1" else "eth7")
    for address, here, expected in [
        ("127.0.0.1", "1", None),
        ("a name that nobody has", "1", None),
        ("192.0.2.1", "2", None),  # both processes are on this host
    ]:
        monkeypatch.setenv("MASTER_ADDR", address)
        monkeypatch.setenv("WORLD_SIZE", "2")
        monkeypatch.setenv("LOCAL_WORLD_SIZE", here)
        launcher.find_interface()
        assert os.environ.get("GLOO_SOCKET_IFNAME") == expected


def kept(out):
    return json.loads((out / "conditions.json").read_text())["now"].get("precision")


def keep(out, **changed):
    """Change what is written down; None removes it."""
    written = json.loads((out / "conditions.json").read_text())
    now = {name: value for name, value in (written["now"] | changed).items() if value is not None}
    (out / "conditions.json").write_text(json.dumps({**written, "now": now}))


def weights(out):
    return hashlib.sha256((out / "gen0" / "model" / "model.safetensors").read_bytes()).hexdigest()


def undone(out):
    """The run, before its generation was measured: a resume computes batch-norm statistics, the scores and the export."""
    shutil.rmtree(out / "gen0" / "model")
    for path in (out / "gen0" / "report.json", out / "report.json"):
        path.unlink()
    return out


@pytest.fixture(scope="module")
def runs(zygote, tmp_path_factory):
    """One run a precision; never changed."""
    folder = tmp_path_factory.mktemp("precision")
    for name, settings in {
        "auto": [],
        "bf16": ["train.precision=bf16"],
        "none": ["train.precision=none"],
    }.items():
        ended = zygote.run(*TINY, *settings, f"out={folder / name}")
        assert ended.code == 0, ended.err
    assert weights(folder / "bf16") != weights(folder / "none")
    return folder


def test_the_precision_in_use_is_written_down_once(runs):
    assert [kept(runs / name) for name in ("auto", "bf16", "none")] == [AUTO, "bf16", "none"]
    assert weights(runs / "auto") == weights(runs / AUTO)
    for name, used in {"auto": AUTO, "bf16": "bf16", "none": "none"}.items():
        assert json.loads((runs / name / "gen0" / "report.json").read_text())["precision"] == used
        assert yaml.safe_load((runs / name / "config.yaml").read_text())["train"]["precision"] == name


@pytest.mark.parametrize(
    ("began", "settings", "environment", "asker"),
    [
        ("bf16", ["train.precision=none"], {}, "train.precision=none"),
        ("none", [], {"ACCELERATE_MIXED_PRECISION": "bf16"}, "ACCELERATE_MIXED_PRECISION=bf16"),
        pytest.param("none", ["train.precision=bf16"], {}, "train.precision=bf16", marks=pytest.mark.slow),
        pytest.param(
            "bf16",
            [],
            {"ACCELERATE_MIXED_PRECISION": "no"},
            "ACCELERATE_MIXED_PRECISION=no",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_resume_in_another_precision_is_refused(
    zygote, runs, tmp_path, began, settings, environment, asker
):
    out = undone(shutil.copytree(runs / began, tmp_path / "run"))
    before = yaml.safe_load((out / "config.yaml").read_text())
    ended = zygote.run(*TINY, *settings, f"out={out}", **environment)
    assert ended.code == 2 and f"{out} began in {began}, and {asker} asks for another" in ended.last, (
        ended.err
    )
    assert f"set train.precision={began} " in ended.last
    ended = zygote.run(*TINY, f"train.precision={began}", f"out={out}", **environment)  # as it says
    assert ended.code == 0 and weights(out) == weights(runs / began), ended.err
    after = yaml.safe_load((out / "config.yaml").read_text())
    assert after == {**before, "out": str(out)}  # the copy's own place


@pytest.mark.parametrize("began", ["none", pytest.param("bf16", marks=pytest.mark.slow)])
def test_auto_goes_on_in_what_a_run_began_with_and_its_name_is_no_change(zygote, runs, tmp_path, began):
    out = undone(shutil.copytree(runs / "auto", tmp_path / "run"))
    keep(out, precision=began)  # as if it had begun on a machine of that kind
    if began == "bf16" and not machine.bf16_is_native():
        pytest.skip("this machine does not compute in bf16 by itself")
    ended = zygote.run(*TINY, f"out={out}")
    assert ended.code == 0, ended.err
    assert json.loads((out / "gen0" / "report.json").read_text())["precision"] == began
    ended = zygote.run(*TINY, f"train.precision={began}", f"out={out}")
    assert ended.code == 0 and "nothing to do" in ended.out, ended.err


@pytest.mark.parametrize(
    ("amx", "avx512", "vendor", "faster"),
    [
        (True, True, "GenuineIntel", True),
        (False, True, "GenuineIntel", False),
        (False, True, "AuthenticAMD", True),
        (False, False, "AuthenticAMD", False),
    ],
)
def test_auto_is_bf16_only_where_it_is_faster(amx, avx512, vendor, faster, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    (tmp_path / "cpuinfo").write_text(f"vendor_id : {vendor}\n")
    monkeypatch.setattr(machine, "CPU", tmp_path / "cpuinfo")
    assert machine.bf16_is_faster() == faster


def test_a_run_in_bf16_is_not_taken_up_unasked_by_a_machine_without(runs, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    out = shutil.copytree(runs / "bf16", tmp_path / "run")
    with pytest.raises(ConfigError, match=r"began in bf16, .* train\.precision=bf16 continues in it"):
        preflight.accelerator_of(compose([*TINY, f"out={out}"]))


def test_a_run_from_before_this_was_kept_goes_on_as_it_did(zygote, runs, tmp_path):
    """The `no` of a launcher was no word in those days, and bf16 was taken wherever it was native."""
    began = "bf16" if machine.bf16_is_native() else "none"
    out = undone(shutil.copytree(runs / began, tmp_path / "run"))
    config = (out / "config.yaml").read_text()
    (out / "config.yaml").write_text(config.replace(f"precision: {began}", "precision: auto"))
    keep(out, precision=None)
    ended = zygote.run(*TINY, f"out={out}", ACCELERATE_MIXED_PRECISION="no")
    assert ended.code == 0 and weights(out) == weights(runs / began), ended.err
    assert kept(out) is None


@on_a_cpu
@pytest.mark.parametrize("place", ["setting", "launcher"])
def test_fp16_on_a_cpu_is_refused(zygote, tmp_path, place):
    given = {
        "setting": (["train.precision=fp16"], {}),
        "launcher": ([], {"ACCELERATE_MIXED_PRECISION": "fp16"}),
    }
    settings, environment = given[place]
    ended = zygote.run(*TINY, *settings, f"out={tmp_path / 'run'}", **environment)
    asker = "train.precision=fp16" if place == "setting" else "ACCELERATE_MIXED_PRECISION=fp16"
    assert (
        ended.code == 2
        and f"{asker}: fp16 needs a GPU" in ended.last
        and "train.precision=bf16" in ended.last
    ), ended.err
    assert not (tmp_path / "run").exists()


@on_a_cpu
def test_a_run_that_asked_for_fp16_on_a_cpu_in_earlier_days_goes_on_in_fp32(zygote, runs, tmp_path):
    out = undone(shutil.copytree(runs / "none", tmp_path / "run"))
    keep(out, precision=None)
    config = yaml.safe_load((out / "config.yaml").read_text())
    config["train"]["precision"] = "fp16"
    (out / "config.yaml").write_text(yaml.safe_dump(config))
    ended = zygote.run(*TINY, "train.precision=fp16", f"out={out}")
    assert ended.code == 0 and weights(out) == weights(runs / "none"), ended.err
    assert json.loads((out / "gen0" / "report.json").read_text())["precision"] == "none"


def test_a_start_that_came_to_no_step_settles_no_precision(zygote, runs, tmp_path):
    out = tmp_path / "run"
    out.mkdir()
    shutil.copy(runs / "auto" / "config.yaml", out)
    ended = zygote.run(*TINY, f"out={out}", ACCELERATE_MIXED_PRECISION="no")
    assert ended.code == 0 and kept(out) == "none" and weights(out) == weights(runs / "none"), ended.err


def test_a_precision_that_selftrain_does_not_have_is_refused(zygote, tmp_path):
    ended = zygote.run(*TINY, f"out={tmp_path / 'run'}", ACCELERATE_MIXED_PRECISION="fp8")
    assert ended.code == 2 and "ACCELERATE_MIXED_PRECISION=fp8: not a precision of selftrain" in ended.last, (
        ended.err
    )
