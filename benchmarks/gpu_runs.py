"""The parts of benchmarks/gpu.py that start runs: each recipe killed and resumed, a large network, two GPUs."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path

import ranks
import torch
from safetensors.torch import load_file
from sides import Row, below, measured

ROOT = Path(__file__).resolve().parent.parent
FAULTS = ROOT / "tests" / "faults"
sys.path[:0] = [str(ROOT / "tests"), str(FAULTS)]
import runs  # noqa: E402 (of tests/)
from harness import Ended  # noqa: E402 (of tests/faults/)

RECIPES = sorted(path.stem for path in (ROOT / "recipes" / "recipe").glob("*.yaml") if path.stem != "smoke")
# A resumed run may differ from an undisturbed one by so many times what two undisturbed ones differ, or by
# this share of the weights.
TIMES, SHARE = 3.0, 0.001
LONGEST = "noisy_student"  # begins first, as it takes several times as long as others
ANOTHER = {"dinov2": "tu-test_vit"}  # the encoder of a recipe at smoke size
VIT = [
    "recipe=dinov2", "model.weights=null", "data.size=[512,512]", "train.accumulate=4", "train.steps=6", "train.eval_every=0",
    "data.shapes={labelled: 16, unlabelled: 32, val: 2, test: 2}", "export.onnx=false",
]  # fmt: skip
SMALL_VIT = [
    "model.encoder=tu-test_vit", "data.size=[64,64]", "train.crop=[64,64]", "train.labelled_batch=4", "train.unlabelled_batch=4", "train.accumulate=2",
    "train.steps=2", "train.precision=none", "train.threads=1",
]  # fmt: skip
STEP = re.compile(r"training +([\d.e+-]+) s for a step, ([\d.]+) (MB|GB) of memory")


class SkippedError(Exception):
    """A part that this machine cannot do; the message is the reason."""


def command(
    *words: str, door: str = "run", fault: dict | None = None, processes: int = 1, timeout: float = 90
) -> Ended:
    """Run selftrain.run, or the command line (door="cli"), in a new process, with a fault of tests/faults/inject.py."""
    launcher = [sys.executable]
    if processes > 1:
        launcher += ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    out = next((word.removeprefix("out=") for word in words if word.startswith("out=")), "")
    environment = {**os.environ, "SELFTRAIN_FAULT_ROOT": out}
    environment["PYTHONPATH"] = os.pathsep.join(map(str, (ROOT, FAULTS)))
    if fault:
        environment["SELFTRAIN_FAULT"] = json.dumps(fault)
    began = time.perf_counter()
    try:
        ended = subprocess.run(
            [*launcher, "-m", f"selftrain.{door}", *words],
            cwd=ROOT, env=environment, capture_output=True, text=True, timeout=timeout,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return Ended(None, "", f"no end after {timeout:.0f} s", timeout, 0)
    return Ended(ended.returncode, ended.stdout, ended.stderr, time.perf_counter() - began, 0)


@dataclass(frozen=True)
class Check:
    """What a part needs to know: the device, a folder for its files, and its size."""

    device: str  # cuda or cpu
    folder: Path
    small: bool = False  # as small as in tests, where only the code matters
    recipes: Sequence[str] = tuple(RECIPES)
    start: Callable[..., Ended] = command  # tests fork a process instead, which is quicker
    together: int = field(default_factory=lambda: min(8, len(os.sched_getaffinity(0))))

    @property
    def gpu(self) -> bool:
        """Whether the device is a GPU."""
        return self.device == "cuda"

    @property
    def steps(self) -> tuple[int, int]:
        """The steps of a generation, and those between its checkpoints."""
        return (3, 1) if self.small else (8, 2)


def recipe_rows(check: Check, precision: str) -> Iterator[Row]:
    """Every recipe: run twice, killed and resumed. Several recipes run at once."""
    if precision == "fp16" and not check.gpu:
        raise SkippedError("fp16 needs a GPU")
    if precision == "bf16" and check.gpu and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise SkippedError("this GPU does not compute in bf16")
    with ThreadPoolExecutor(check.together) as pool:
        order = sorted(check.recipes, key=lambda name: name != LONGEST)
        waiting = [pool.submit(resumed, check, recipe, precision) for recipe in order]
        for recipe in as_completed(waiting):
            yield from recipe.result()


def settings_of(check: Check, recipe: str, precision: str) -> list[str]:
    """The settings of a recipe at smoke size."""
    found = [*runs.SMALL, f"recipe={recipe}", f"train.precision={precision}"]
    steps, every = check.steps
    found += [f"train.steps={steps}", f"train.checkpoint_every={every}"]
    encoder = ANOTHER.get(recipe) or ("tu-test_resnet" if check.small else "")
    return [*found, f"model.encoder={encoder}"] if encoder else found


def resumed(check: Check, recipe: str, precision: str) -> list[Row]:
    """Two undisturbed runs of a recipe, and one that is killed in its last generation and resumed."""
    name, settings = f"{recipe}, {precision}", settings_of(check, recipe, precision)
    place = check.folder / f"{recipe}-{precision}"
    one, other, third = (place / name for name in ("one", "other", "killed"))
    for out in (one, other):
        ended = check.start(*settings, f"out={out}")
        if ended.code != 0:
            return [failed(f"{name}: a whole run", ended)]
    last, (steps, every) = len(list(one.glob("gen*/report.json"))) - 1, check.steps
    step = steps - every  # its checkpoint is not written any more
    at = ["rename", f"gen{last}/checkpoints/.step-{step:06d}.tmp"]
    ended = check.start(*settings, f"out={third}", fault={"do": "kill", "at": at})
    if ended.code != -signal.SIGKILL:
        return [failed(f"{name}: a run to be killed at step {step}", ended)]
    saved = json.loads((third / f"gen{last}/checkpoints/step-{step - every:06d}/state.json").read_text())
    ended = check.start(*settings, f"out={third}")
    if ended.code != 0:
        return [failed(f"{name}: resuming", ended)]
    rows = [difference_row(name, one, other, third, exact=not check.gpu)]
    return rows + (scaler_rows(name, one, saved) if precision == "fp16" else [])


def difference_row(name: str, one: Path, other: Path, third: Path, *, exact: bool) -> Row:
    """How far a resumed run is from an undisturbed one; `exact`: their bits must be equal.

    Otherwise, as kernels of a GPU add in changing order, the measure is how far a second undisturbed run is.
    """
    bits, found = runs.fingerprint(one), runs.fingerprint(third)
    files = sum(bits.get(file) != found.get(file) for file in bits | found)
    ours, noise = difference(one, third), difference(one, other)
    limit = 0.0 if exact else max(SHARE, TIMES * noise)
    what = f"{name}: weights after kill and resume ({files} of {len(bits)} files differ), of two whole runs"
    met = ours <= limit and not (exact and files)
    return Row(what, ours, noise, "relative", None, f"<= {limit:.2g} relative", met)


def difference(one: Path, other: Path) -> float:
    """The distance of the weights of two runs, relative to their size: that of the generation with the largest."""
    names = sorted(path.relative_to(one) for path in one.glob("gen*/model/model.safetensors"))
    assert names, f"{one} has no network"
    found = []
    for name in names:
        first, second = load_file(one / name), load_file(other / name)
        floats = [key for key, tensor in first.items() if tensor.is_floating_point()]
        apart = sum(float((first[key].double() - second[key].double()).square().sum()) for key in floats)
        size = sum(float(first[key].double().square().sum()) for key in floats)
        found.append((apart / size) ** 0.5)
    return max(found) if all(value == value for value in found) else float("inf")


def scaler_rows(name: str, out: Path, saved: dict) -> list[Row]:
    """Whether a checkpoint has the scale of fp16, and whether steps were taken in it."""
    scale = (saved["scaler"] or {}).get("scale", 0.0)
    reports = [json.loads(path.read_text()) for path in sorted(out.glob("gen*/report.json"))]
    share = max(report["skipped_steps"] / report["steps"] for report in reports)
    return [
        Row(f"{name}: scale in the checkpoint", scale, None, "", None, "> 0", scale > 0),
        below(f"{name}: steps that the scaler skipped, at most of a generation", 100 * share, "%", 75),
    ]


def failed(what: str, ended: Ended) -> Row:
    """A row of a process that did not end as it should."""
    code = float("nan") if ended.code is None else ended.code
    last = ended.last.replace("|", "/").strip()
    return Row(f"{what}: exit code ({last})", code, None, "", None, "ends as it should", False)


def vit_rows(check: Check) -> Iterator[Row]:
    """UniMatch V2 with the network of DINOv2's smallest encoder at 512 pixels, in micro-batches."""
    settings = [*VIT, *(SMALL_VIT if check.small else [])]
    planned = check.start("plan", *settings, f"out={check.folder / 'plan'}", door="cli")
    step = STEP.search(planned.out)
    if planned.code != 0 or step is None:
        yield failed("large network: selftrain plan", planned)
    else:
        size = float(step[2]) / (1000 if step[3] == "MB" else 1)
        yield measured(
            "large network: a step, with its images loaded by the same process", float(step[1]), "s"
        )
        yield measured("large network: memory of training", size, "GB")
    out = check.folder / "vit"
    ended = check.start(*settings, f"out={out}")
    if ended.code != 0:
        yield failed("large network: a whole run", ended)
        return
    report = json.loads((out / "gen0/report.json").read_text())
    yield measured("large network: parameters", report["model"]["params"] / 1e6, "million")
    yield below("large network: steps without finite gradients", report["skipped_steps"], "", 0)


def two_rows(check: Check) -> Iterator[Row]:
    """Two GPUs against one: speed, and the bytes of the labels."""
    if check.gpu and torch.cuda.device_count() < 2:
        raise SkippedError(f"{torch.cuda.device_count()} GPU")
    place, cpu = check.folder / "two", not check.gpu
    if check.small:
        yield from ranks.compare(place, "training", 30, [*ranks.SETTINGS, *SMALL_TWO], cpu=cpu, goal=None)
        return
    loaders = max(
        1, min(4, len(os.sched_getaffinity(0)) // 2)
    )  # a training process alone is too slow for a GPU
    settings = [*ranks.SETTINGS, *ranks.SIZES["training"][1], f"train.workers={loaders}"]
    yield from ranks.compare(place, "training", 100, settings, cpu=cpu, goal=1.0)


SMALL_TWO = [
    "model.encoder=tu-test_resnet", "model.decoder_channels=[16,8,8,8,8]", "data.size=[32,32]", "train.crop=[32,32]",
    "data.shapes={labelled: 4, unlabelled: 8, val: 2, test: 2}", "train.labelled_batch=2", "train.unlabelled_batch=2",
    "train.precision=none", "labels.shard=4",
]  # fmt: skip
