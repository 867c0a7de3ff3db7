"""Checks before a run starts, and what a run records about itself."""

import itertools
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from torch import nn

from selftrain import augmentation, checkpoint, choices, conditions, files, launcher, process
from selftrain.config import PRECISIONS, Config, GenerationConfig, NoiseConfig
from selftrain.data import load, loading, verify
from selftrain.data.augment.colour import OF_RGB
from selftrain.data.bands import RGB
from selftrain.data.faults import refuse
from selftrain.data.look import Look
from selftrain.data.sample import DataSet, Sample, with_levels, without
from selftrain.data.tiles import Tiling
from selftrain.datasets import spec_of
from selftrain.errors import ConfigError, DataError, StorageError
from selftrain.labels import record
from selftrain.log import say
from selftrain.methods.table import METHODS
from selftrain.models.build import leaves_parameters_unused, multiple_of, parameters
from selftrain.models.encoders import pretrained
from selftrain.models.weights import check_weights
from selftrain.networks import SNAPSHOTS
from selftrain.objectives.objective import check_losses
from selftrain.optim.groups import GROUPS, WITHOUT_DEPTH
from selftrain.optim.schedules import BY_SCORES, SCHEDULES
from selftrain.plan import Plan, plans
from selftrain.rundir import RunDir
from selftrain.settings.changes import ROUNDING, flat
from selftrain.settings.check import check as check_settings
from selftrain.stages import reliability
from selftrain.stages.pseudo_label import check_refiner
from selftrain.stages.select import check_threshold
from selftrain.tables import Table

# noise of unlabelled images, unless noise.labelled
PSEUDO_NOISE = ("rand_n", "colour", "cutout", "cutmix", "paste")
FEW = 8  # val images; with fewer, scores hardly tell generations apart
WITHOUT_UNLABELLED = (
    "name some by data.unlabelled=, or keep only some masks (e.g. data.splits.labels=20), "
    "or take recipe=supervised"
)
COPIES = "copies"  # the key in data.json, if there are copies
WARNINGS = 10  # warnings about files that a run prints
CHECKPOINT = 4  # copies of the weights in a checkpoint: the weights, their average, two moments


def check(cfg: Config) -> None:
    """Check settings alone and together. Raises ConfigError that names them."""
    check_settings(cfg)
    choices.check(cfg)
    for check_together in (
        _check_sides,
        _check_channels,
        _check_tiles,
        _check_first,
        _check_snapshots,
        _check_online_noise,
        _check_methods,
        _check_learning,
    ):
        check_together(cfg)
    for plan in plans(cfg):  # raises if settings choose the same augmentation twice
        augmentation.check(plan.augmentation, plan.channels, f"generations.{plan.number}.noise")
    check_losses(cfg.loss)
    check_refiner(cfg.labels, cfg.data.channels if any(plan.needs_labels for plan in plans(cfg)) else RGB)
    check_threshold(cfg.select)
    check_weights(cfg.model.weights, arch=cfg.model.arch, encoder=cfg.model.encoder)


def _check_learning(cfg: Config) -> None:
    """Raises ConfigError for settings without effect under the schedule or the parameter groups."""
    train = cfg.train
    schedule = Table(SCHEDULES).one(train.schedule, "train.schedule").name
    groups = Table(GROUPS).one(train.groups, "train.groups").name
    if schedule in BY_SCORES and not train.eval_every:
        raise ConfigError(
            f"train.schedule={schedule} follows the scores on val, so train.eval_every must not be 0"
        )
    for number, row in enumerate(cfg.generations):
        if groups in WITHOUT_DEPTH and row.noise.drop_path:
            raise ConfigError(
                f"generations.{number}.noise.drop_path={row.noise.drop_path} acts in the encoder, and "
                f"train.groups={groups} keeps that in eval mode; set it to 0"
            )


def _check_sides(cfg: Config) -> None:
    """Raises ConfigError for a crop or window size that a network of the run does not accept."""
    for multiple in (multiple_of(plan.arch) for plan in plans(cfg)):
        if any(side % multiple for side in cfg.train.crop):
            raise ConfigError(
                f"train.crop={cfg.train.crop} must be [height, width] in multiples of {multiple}"
            )
        if cfg.labels.window % multiple:
            raise ConfigError(
                f"labels.window={cfg.labels.window} must be a multiple of {multiple} (0: no windows)"
            )


def _check_channels(cfg: Config) -> None:
    """Raises ConfigError for settings that contradict data.channels, or that need RGB."""
    channels = cfg.data.channels
    for name in ("mean", "std"):
        given = getattr(cfg.data, name)
        if len(given) != channels:
            example = f"data.{name}=[{','.join(['0.5' if name == 'mean' else '0.25'] * channels)}]"
            raise ConfigError(
                f"data.{name}={given} must have a number for each channel (data.channels={channels}), "
                f"such as {example}"
            )
    if channels == RGB:
        return
    for number, row in enumerate(cfg.generations):
        for setting in _needing_rgb(row.noise):
            raise ConfigError(
                f"generations.{number}.noise.{setting} needs RGB, but data.channels={channels}; switch it off"
            )


def _check_tiles(cfg: Config) -> None:
    """Raises ConfigError for settings of tiles that have no effect, or that leave out pixels."""
    tile, stride, crop = cfg.data.tile, cfg.data.stride, cfg.train.crop
    if not tile:
        for name in ("stride", "reject"):
            if getattr(cfg.data, name):
                raise ConfigError(f"data.{name} is about tiles; set data.tile, or remove data.{name}")
        return
    if any(side < least for side, least in zip(tile, crop, strict=True)):
        raise ConfigError(f"data.tile={tile} must not be smaller than train.crop={crop}")
    if stride and any(step > side for step, side in zip(stride, tile, strict=True)):
        raise ConfigError(f"data.stride={stride} must not exceed data.tile={tile}: pixels would be left out")


def say_tiles(cfg: Config, data: DataSet) -> None:
    """Print the number of tiles that training draws from."""
    tiling = Tiling.of(cfg.data.tile, cfg.data.stride, cfg.data.reject)
    if tiling:
        counts = [
            f"{len(tiling.tiles(samples))} tiles of {len(samples)} {name} images"
            for name, samples in (("labelled", data.labelled), ("unlabelled", data.unlabelled))
            if samples
        ]
        say(f"data: {', '.join(counts)}")


def _needing_rgb(noise: NoiseConfig) -> list[str]:
    """The names of noise settings in use that change colours as only RGB has them."""
    single = [name for name in ("rand_n", "colour", "style") if getattr(noise, name)]
    entries = [f"colours.{name}" for name, row in noise.colours.items() if name in OF_RGB and row.get("p", 1)]
    return single + entries


def _check_first(cfg: Config) -> None:
    """Raises ConfigError if the first generation should be initialised from a teacher."""
    if cfg.generations[0].init == "teacher":
        raise ConfigError("generations.0.init=teacher: it has no teacher")


def _check_snapshots(cfg: Config) -> None:
    """Raises ConfigError if a generation has too few steps for its snapshots."""
    least = min(plan.steps for plan in plans(cfg))
    chosen = reliability.chosen(cfg.select)
    if chosen.entry.snapshots and least < SNAPSHOTS:
        raise ConfigError(
            f"select.reliability={chosen.name} looks at each third of the steps: a generation needs 3 or more"
        )


def _check_online_noise(cfg: Config) -> None:
    """Raises ConfigError for noise that online methods do not support."""
    for row in cfg.generations:
        if (
            row.online
            and (row.noise.rand_n or row.noise.cutout or row.noise.erase)
            and not row.noise.labelled
        ):
            raise ConfigError(
                "generations: of online methods, only labelled images get rand_n, cutout and erase; "
                "see noise.labelled"
            )


def _check_methods(cfg: Config) -> None:
    """Raises ConfigError for settings that no method of the run uses."""
    adaptive = [name for name, method in METHODS.items() if method.adaptive]
    if cfg.loss.adaptive and not any(row.online in adaptive for row in cfg.generations):
        methods = " and ".join(adaptive)
        raise ConfigError(
            f"loss.adaptive is of {methods}, and no generation is one of these; set it to false"
        )
    for row in cfg.generations:
        mixed = augmentation.mixers(row.noise)
        if mixed and not METHODS[row.online].mixes:
            setting = "cutmix" if row.noise.cutmix else "mix"
            raise ConfigError(f"generations: {row.online} mixes nothing: its noise.{setting} must be 0")
        if sum(mixer.p for mixer in mixed) > 1:
            names = ", ".join(mixer.name for mixer in mixed)
            raise ConfigError(
                f"generations: the probabilities of {names} add up to more than 1; "
                "one mixing acts on an image"
            )


@dataclass(frozen=True)
class Examined:
    """Facts about a run's data before its first step."""

    data: DataSet  # the data set to train on
    facts: dict  # further content of data.json: set_aside and, if there are any, range and copies
    looks: list[Look]  # one per file; empty for drawn images, and on a resume


def examine(run: RunDir, cfg: Config, data: DataSet) -> Examined:
    """Read every file of a new run; a resume reads the run's record. Prints warnings, raises DataError.

    Unreadable unlabelled images are set aside. Made splits are divided so that no two contain the same
    picture.
    """
    known = _known(run, cfg, data)
    data = known.data
    for warning in data.warnings:
        say(f"data: {warning}")
    if len(data.val) < FEW:
        say(
            f"data: few images in val ({len(data.val)}), hardly enough to tell generations apart "
            "(data.splits.val_fraction)"
        )
    if cfg.data.channels != RGB and cfg.train.jitter:
        say(
            f"train.jitter changes brightness and contrast only: saturation needs RGB, "
            f"and data.channels={cfg.data.channels}"
        )
    say_tiles(cfg, data)
    idle = _idle_noise(cfg.generations[0])
    if idle:
        say(
            f"generations.0: {', '.join(idle)} of its noise have no image to act on: "
            "it learns from labelled images only"
        )
    return known


def _known(run: RunDir, cfg: Config, data: DataSet) -> Examined:
    if run.data.exists():  # a resume does not measure again; `settle` refuses a changed data.range
        begun = files.read_json(run.data, "set_aside")
        return Examined(
            data, {name: begun[name] for name in ("set_aside", "range", COPIES) if name in begun}, []
        )
    if data.sound:
        return Examined(data, {"set_aside": []}, [])
    data, looks, aside, copies = _looked_at(data, cfg)
    sound = without(data, aside)
    levels = load.levels_of(sound, cfg.data.range)
    found = {name: value for name, value in (("range", levels and list(levels)), (COPIES, copies)) if value}
    return Examined(with_levels(sound, levels), {"set_aside": aside, **found}, looks)


def settle(run: RunDir, cfg: Config, known: Examined) -> None:
    """Record settings and data of the run, or compare with the record. From here on the run has begun."""
    settings = _as_begun(choices.completed(asdict(cfg)), run)
    run.settle(settings, {**load.manifest(known.data), **known.facts}, complete=choices.completed)


def _as_begun(settings: dict, run: RunDir) -> dict:
    """`settings` with the run's own train.precision; the precision itself has already been compared."""
    if _precision_of_run(run):
        settings["train"]["precision"] = files.read_yaml(run.config, "train")["train"].get(
            "precision", "auto"
        )
    return settings


def _idle_noise(first: GenerationConfig) -> list[str]:
    """Noise settings of the first generation that have no effect, as there are no pseudo-labels yet."""
    names = () if first.online else ("cutmix", "paste") if first.noise.labelled else PSEUDO_NOISE
    return [name for name in names if getattr(first.noise, name)]


def recorded_data(run: RunDir, cfg: Config) -> DataSet:
    """The data set, divided as at the beginning of `run`.

    The record lists copies of pictures, which are known only after every file was read.
    """
    begun = files.read_json(run.data, "set_aside") if run.data.exists() else {}
    data = load.load(spec_of(cfg.data), copies=begun.get(COPIES, ()))
    return with_levels(without(data, begun.get("set_aside", ())), begun.get("range"))


def _looked_at(data: DataSet, cfg: Config) -> tuple[DataSet, list[Look], list[str], list[list[str]]]:
    """The data set, the looks at its files, ids of unreadable unlabelled images, and copies.

    Raises DataError for other faults.
    """
    data, report = verify.divide(data, spec_of(cfg.data), workers=process.cores())
    refuse(report.faults)
    found = report.warnings[len(data.warnings) :]
    for warning in found[:WARNINGS]:
        say(f"data: {warning}")
    if found[WARNINGS:]:
        say(f"data: {len(found) - WARNINGS} more warnings: selftrain verify lists all")
    copies = report.copies if cfg.data.duplicates != "fault" else []
    return data, report.seen, [sample.id for sample in report.set_aside], copies


def check_data(data: DataSet, cfg: Config) -> None:
    """Raises DataError if a required split is empty."""
    if not data.labelled:
        raise DataError("no labelled image to train the teacher on; see data.images and data.masks")
    if not data.val:
        raise DataError("no val image to choose by; set data.splits.val or data.splits.val_fraction")
    needing = _needing_unlabelled(cfg.generations)
    if needing and not data.unlabelled:
        raise DataError(f"{needing} needs unlabelled images, but the data set has none; {WITHOUT_UNLABELLED}")


def _needing_unlabelled(generations: Sequence[GenerationConfig]) -> str:
    """The first setting that needs unlabelled images, as "generations.1.online=fixmatch"; may be empty."""
    for number, row in enumerate(generations):
        if row.online:
            return f"generations.{number}.online={row.online}"
    return "generations.0.noise.style" if generations[0].noise.style > 0 else ""


def check_processes(cfg: Config, planned: list[Plan], processes: int) -> None:
    """Raises ConfigError if a batch has fewer images than processes or micro-batches."""
    least = min(size for plan in planned for size in (plan.labelled_batch, plan.unlabelled_batch) if size)
    if least < processes:
        raise ConfigError(
            f"a batch of {least} cannot be shared by {processes} processes; "
            "raise train.labelled_batch and train.unlabelled_batch"
        )
    parts = processes * cfg.train.accumulate
    mixing = any(plan.method.views and plan.augmentation.mixers for plan in planned)
    if least < parts or (mixing and processes < parts and cfg.train.unlabelled_batch < 2 * parts):
        raise ConfigError(
            f"train.accumulate={cfg.train.accumulate} leaves a micro-batch without an image, "
            "or without a second one to mix; lower it, "
            "or raise train.labelled_batch and train.unlabelled_batch"
        )


def check_shared_memory(cfg: Config, planned: list[Plan], classes: int, processes: int) -> None:
    """Raises ResourceError if the batches of the loader processes do not fit into shared memory."""
    needed = [
        loading.most_shared(
            _images_of_a_part(plan, classes, processes * cfg.train.accumulate),
            cfg.train.crop,
            cfg.train.workers,
            cfg.train.accumulate,
        )
        for plan in planned
    ]
    if cfg.train.workers:
        loading.check_shared(max(needed) * int(os.environ.get("LOCAL_WORLD_SIZE", 1)))


def _images_of_a_part(plan: Plan, classes: int, parts: int) -> list[tuple[int, int]]:
    """The largest numbers of labelled and unlabelled images in one of `parts`, with their bytes per pixel."""
    counts, each = (
        (plan.labelled_batch, plan.unlabelled_batch),
        loading.bytes_per_pixel(classes, channels=plan.channels, views=plan.method.views),
    )
    return [(-(-count // parts), of_one) for count, of_one in zip(counts, each, strict=True)]


def say_untrained_generations(data: DataSet, cfg: Config) -> None:
    """Without unlabelled images there are no pseudo-labels, so no student is trained."""
    if len(cfg.generations) > 1 and not data.unlabelled:
        say(f"warning: no unlabelled images, so only generation 0 will be trained; {WITHOUT_UNLABELLED}")


def say_other_pixel_scales(cfg: Config, planned: list[Plan]) -> None:
    """Warn if pretrained weights were trained with another pixel scale."""
    rgb = cfg.data.channels == RGB
    encoders = [plan.encoder for plan in planned] if cfg.model.weights and rgb else []
    for encoder in dict.fromkeys(encoders):
        known = pretrained(encoder)
        if known and not known.fits(cfg.data.mean, cfg.data.std):
            mean, std = (",".join(map(str, row)) for row in (known.mean, known.std))
            scale = f"data.mean=[{mean}] data.std=[{std}]"
            say(f"warning: {encoder} was pretrained with another pixel scale; set {scale}")


def say_where_students_shrink(networks: list[nn.Module]) -> None:
    """Report students that are smaller than their teachers.

    It can be intended, for example for a small device. More often `model.encoder` is now larger than a later
    generation's own encoder.
    """
    for number, (before, network) in enumerate(itertools.pairwise(networks), start=1):
        small, large = parameters(network), parameters(before)
        if small < large:
            say(
                f"generations.{number}: its network is smaller than the one before "
                f"({small / 1e6:.1f} M and {large / 1e6:.1f} M parameters); "
                f"generations.{number}.encoder= gives it another"
            )


def check_space(
    run: RunDir, cfg: Config, planned: list[Plan], sizes: list[int], data: DataSet, *, snapshots: int = 0
) -> None:
    """Raises StorageError, with the estimate, if the disk is too small for networks of `sizes` parameters.

    `snapshots` is the number of networks that each generation keeps besides its result. The estimate is an
    upper bound: the kept files of each stage, and the largest file that is written before an older one is
    removed.
    """
    if run.report.exists() and run.generations_begun() == len(planned):
        return
    kept = sum(size * 4 * (checkpoint.KEEP * CHECKPOINT + 1 + snapshots) for size in sizes)
    # a checkpoint being written, or two forms of the export and its predecessor
    passing = max(sizes) * 4 * (CHECKPOINT + 3)
    stores = sum(plan.needs_labels for plan in planned)
    bytes_each = record.most_bytes(min(cfg.labels.soft_classes, len(data.classes))) * _pixels(data.unlabelled)
    labels = stores * len(data.unlabelled) * bytes_each
    needed = kept + passing + labels + 2**24
    there = sum(path.stat().st_size for path in run.path.rglob("*") if path.is_file())
    free = shutil.disk_usage(run.path).free
    if needed - there > free:
        raise StorageError(
            f"{run.path} has {free / 2**20:.0f} MiB free, and this run may need "
            f"{(needed - there) / 2**20:.0f} MiB more ({needed / 2**20:.0f} in all); "
            "free space or choose another out="
        )


def _pixels(samples: list[Sample]) -> int:
    """The number of pixels of the largest of a few images."""
    looked_at = samples[:: max(len(samples) // 8, 1)]
    return max(
        (image.shape[0] * image.shape[1] for image in (sample.read_image() for sample in looked_at)),
        default=0,
    )


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


def accelerator_of(cfg: Config) -> Accelerator:
    """Set up devices, processes and precision of the run.

    Raises ConfigError for a precision that this machine or the run does not support, ResourceError if
    processes are missing.
    """
    process.keep_freed()
    run = RunDir(Path(cfg.out))
    asked, asker = _asked_precision(cfg, run)
    wanted = _precision(asked, asker, run)
    unused = any(
        leaves_parameters_unused(
            plan.arch,
            plan.encoder,
            plan.decoder_channels,
        )
        for plan in plans(cfg)
    )
    # Saves one copy of the gradients. Ranks do not wait for gradients of unused parameters.
    ddp = DistributedDataParallelKwargs(gradient_as_bucket_view=True, find_unused_parameters=unused)
    try:
        accelerator = Accelerator(
            mixed_precision={"none": "no"}.get(wanted, wanted),
            log_with="tensorboard",
            project_dir=str(run.path),
            kwargs_handlers=[ddp],
        )
    except (ValueError, ImportError) as error:
        raise ConfigError(f"{asker}: {wanted} is not possible on this machine: {error}") from None
    launcher.check_processes(accelerator.num_processes)
    if wanted == "fp16" and accelerator.device.type == "cpu" and not _is_older(run):
        asker = f"{run.path} began in fp16" if _precision_of_run(run) else asker
        raise ConfigError(f"{asker}: fp16 needs a GPU; on a CPU set train.precision=bf16 or none")
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
    """none, bf16 or fp16: the run's own precision, else the requested one, else bf16 if it is native here."""
    began = _precision_of_run(run)
    native = (
        torch.cuda.is_bf16_supported() if torch.cuda.is_available() else torch.cpu._is_avx512_bf16_supported()
    )
    if began and asked not in ("auto", began):
        raise ConfigError(
            f"{run.path} began in {began}, and {asker} asks for another precision; "
            f"set train.precision={began} or choose another out="
        )
    if began == "bf16" and asked == "auto" and not native:
        raise ConfigError(
            f"{run.path} began in bf16, which this machine does not compute in by itself; "
            "train.precision=bf16 goes on in it, more slowly, or choose another out="
        )
    return began or ({True: "bf16", False: "none"}[native] if asked == "auto" else asked)


def _precision_of_run(run: RunDir) -> str | None:
    """The precision of a run that has begun: none, bf16 or fp16; None for a new run or if not recorded."""
    return conditions.recorded(run).get("precision") if run.config.exists() else None


def _is_older(run: RunDir) -> bool:
    """Whether a run began before precision was recorded.

    It continues as before: a launcher's `no` has no effect.
    """
    return _precision_of_run(run) is None and any(run.path.glob("gen*/checkpoints"))
