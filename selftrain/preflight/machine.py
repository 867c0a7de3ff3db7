"""The devices, threads and precision of a run, and what it records about them."""

import os
from pathlib import Path

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs

from selftrain import conditions, hosts, launcher, process
from selftrain.config import ALWAYS, PRECISIONS, Config
from selftrain.errors import ConfigError
from selftrain.log import say
from selftrain.models.build import leaves_parameters_unused
from selftrain.plan import plans
from selftrain.rundir import RunDir
from selftrain.settings.changes import ROUNDING, flat

CPU = Path("/proc/cpuinfo")


def team_of(cfg: Config, run: RunDir) -> process.Team:
    """The threads of this process: the run's recorded number, unless cores or settings changed.

    See process.threads.
    """
    known = conditions.recorded(run)
    same_ranks = known.get("ranks") == int(os.environ.get("WORLD_SIZE", 1))
    return process.Team.of(
        process.threads(cfg.train.threads, recorded=known.get("threads") if same_ranks else None)
    )


def settle_conditions(run: RunDir, cfg: Config, accelerator: Accelerator) -> list[str]:
    """Record ranks, threads, precision and batch sizes.

    Returns, and prints, their changes since the run began.
    """
    if run.report.exists():
        return []
    batches = {name: value for name, value in flat(cfg).items() if name in ROUNDING}
    now: dict[str, object] = {
        "ranks": accelerator.num_processes,
        "threads": torch.get_num_threads(),
        **batches,
    }
    kept = {} if _is_older(run) else {"precision": precision_of(accelerator)}
    changes = conditions.settle(run, now | kept)
    if changes:
        say(
            f"resumed under other conditions ({'; '.join(changes)}): "
            "generations from here on are marked as not exact"
        )
    return changes


def accelerator_of(cfg: Config) -> hosts.Ranks:
    """Set up devices, processes and precision of the run.

    Raises ConfigError for a precision that this machine or the run does not support, or for train.sync_bn on
    CPUs, ResourceError if processes are missing.
    """
    process.keep_freed()
    launcher.find_interface()
    run = RunDir(Path(cfg.out))
    asked, asker = _asked_precision(cfg, run)
    wanted = _precision(asked, asker, run)
    # torch's DDP waits for every gradient, unless it is told that a step may leave some out
    unused = cfg.train.freeze not in (0, ALWAYS) or any(
        leaves_parameters_unused(plan.arch, plan.decoder_channels) for plan in plans(cfg)
    )
    # Saves one copy of the gradients. Ranks do not wait for gradients of unused parameters.
    ddp = DistributedDataParallelKwargs(gradient_as_bucket_view=True, find_unused_parameters=unused)
    try:
        accelerator = hosts.Ranks(
            mixed_precision={"none": "no"}.get(wanted, wanted),
            project_dir=str(run.path),
            kwargs_handlers=[ddp],
        )
    except (ValueError, ImportError) as error:
        raise ConfigError(f"{asker}: {wanted} is not possible on this machine: {error}") from None
    launcher.check_processes(accelerator.num_processes)
    if wanted == "fp16" and accelerator.device.type == "cpu" and not _is_older(run):
        asker = f"{run.path} began in fp16" if precision_of_run(run) else asker
        raise ConfigError(f"{asker}: fp16 needs a GPU; on a CPU set train.precision=bf16 or none")
    if cfg.train.sync_bn and accelerator.num_processes > 1 and accelerator.device.type == "cpu":
        raise ConfigError("train.sync_bn=true: torch synchronises batch norm on GPUs only; set it to false")
    return accelerator


def precision_of(accelerator: Accelerator) -> str:
    """The precision in use: none (fp32), bf16 or fp16."""
    return accelerator.mixed_precision if accelerator.native_amp else "none"


def _asked_precision(cfg: Config, run: RunDir) -> tuple[str, str]:
    """The requested precision and its source: train.precision before the launcher; else `auto`."""
    if cfg.train.precision != "auto":
        return cfg.train.precision, f"train.precision={cfg.train.precision}"
    told = launcher.precision()
    if told is None or (told.value == "no" and _is_older(run)):
        return "auto", "train.precision=auto"
    asked, asker = {"no": "none"}.get(told.value, told.value), f"{told.place}={told.value}"
    if asked not in PRECISIONS:
        raise ConfigError(f"{asker}: not a precision of selftrain; train.precision={'|'.join(PRECISIONS)}")
    return asked, asker


def _precision(asked: str, asker: str, run: RunDir) -> str:
    """none, bf16 or fp16: the run's own precision, else the requested one, else bf16 if it is faster here."""
    began = precision_of_run(run)
    if began and asked not in ("auto", began):
        raise ConfigError(
            f"{run.path} began in {began}, and {asker} asks for another precision; "
            f"set train.precision={began} or choose another out="
        )
    if began == "bf16" and asked == "auto" and not bf16_is_native():
        raise ConfigError(
            f"{run.path} began in bf16, which this machine does not support natively; "
            "train.precision=bf16 continues in it, more slowly, or choose another out="
        )
    if began or asked != "auto":
        return began or asked
    return "bf16" if (bf16_is_native() if _is_older(run) else bf16_is_faster()) else "none"


def bf16_is_native() -> bool:
    """Whether the machine has instructions for bf16."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported()
    return torch.cpu._is_avx512_bf16_supported()


def bf16_is_faster() -> bool:
    """Whether networks compute faster in bf16 than in fp32.

    GPUs with bf16 and CPUs with AMX do, and AMD's CPUs with AVX-512. Intel's CPUs without AMX have the
    instructions of AVX-512 for bf16, too, but a step takes 1.4 times as long (docs/performance.md).
    """
    if torch.cuda.is_available() or torch.cpu._is_amx_tile_supported():
        return bf16_is_native()
    return bf16_is_native() and "AuthenticAMD" in CPU.read_text()


def precision_of_run(run: RunDir) -> str | None:
    """The precision of a run that has begun: none, bf16 or fp16; None for a new run or if not recorded."""
    return conditions.recorded(run).get("precision") if run.config.exists() else None


def _is_older(run: RunDir) -> bool:
    """Whether a run began before precision was recorded.

    It continues as before: a launcher's `no` has no effect.
    """
    return precision_of_run(run) is None and any(run.path.glob("gen*/*"))
