"""Checks of a run's data, and what a run records about them."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from selftrain import base, choices, files, process, runlog, verdicts
from selftrain.config import Config, GenerationConfig
from selftrain.data import load, reviewed, verify
from selftrain.data.bands import RGB
from selftrain.data.dataset import DataSet, with_levels, without
from selftrain.data.faults import refuse
from selftrain.data.look import Look
from selftrain.data.spec import Spec
from selftrain.data.tiles import Tiling
from selftrain.errors import ConfigError, DataError
from selftrain.inference import cleanup, windows
from selftrain.inference.decide import DECISIONS, thresholds
from selftrain.log import say
from selftrain.plan import Plan, window_of, window_of_labels
from selftrain.preflight.machine import precision_of_run
from selftrain.rundir import RunDir
from selftrain.tables import Table
from selftrain.verdicts import Review

FEW = 8  # val images; with fewer, scores hardly tell generations apart
WITHOUT_UNLABELLED = (
    "name some by data.unlabelled=, or keep only some masks (e.g. data.splits.labels=20), "
    "or take recipe=supervised"
)
COPIES = "copies"  # the key in data.json, if there are copies
REASONS = "set_aside_because"  # the key in data.json: what is wrong with each image that was set aside
WARNINGS = 10  # warnings about files that a run prints
# noise of unlabelled images, unless noise.labelled
PSEUDO_NOISE = ("rand_n", "colour", "cutout", "cutmix", "paste")


@dataclass(frozen=True)
class Examined:
    """Facts about a run's data before its first step."""

    data: DataSet  # the data set to train on
    facts: (
        dict  # further content of data.json: set_aside and, if there are any, its reasons, range and copies
    )
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
        remedy = "fewer folds have more" if cfg.data.splits.fold else "data.splits.val_fraction"
        say(f"data: few images in val ({len(data.val)}), hardly enough to tell generations apart ({remedy})")
    if cfg.data.channels != RGB and cfg.train.jitter:
        say(
            f"train.jitter changes brightness and contrast only: saturation needs RGB, "
            f"and data.channels={cfg.data.channels}"
        )
    say_tiles(cfg, data)
    for number, row in enumerate(cfg.generations):
        if (number == 0 or row.unlabelled_batch == 0) and (idle := _idle_noise(row)):
            say(
                f"generations.{number}: {', '.join(idle)} of its noise have no effect: "
                "it learns from labelled images only"
            )
    return known


def _known(run: RunDir, cfg: Config, data: DataSet) -> Examined:
    if run.data.exists():  # a resume does not measure again; `settle` refuses a changed data.range
        begun = files.read_json(run.data, "set_aside")
        return Examined(
            data, {name: begun[name] for name in ("set_aside", REASONS, "range", COPIES) if name in begun}, []
        )
    if data.sound:
        return Examined(data, {"set_aside": []}, [])
    data, looks, reasons, copies = _looked_at(data, cfg, base.spec_for(run, cfg))
    aside = list(reasons)
    sound = without(data, aside)
    levels = load.levels_of(sound, cfg.data.range)
    rows = ((REASONS, reasons), ("range", levels and list(levels)), (COPIES, copies))
    found = {name: value for name, value in rows if value}
    return Examined(with_levels(sound, levels), {"set_aside": aside, **found}, looks)


def settle(run: RunDir, cfg: Config, known: Examined) -> None:
    """Record settings and data of the run, or compare with the record. From here on the run has begun."""
    settings = _as_begun(choices.completed(asdict(cfg)), run)
    manifest = {**load.manifest(known.data), **known.facts}
    if cfg.base and not run.config.exists():
        say(base.about(manifest, base.spec_for(run, cfg)))
        base.keep(run, cfg)
    run.settle(settings, manifest, complete=choices.completed)
    if not run.report.exists():
        runlog.keep(run.log)


def _as_begun(settings: dict, run: RunDir) -> dict:
    """`settings` with the run's own train.precision; the precision itself has already been compared."""
    if precision_of_run(run):
        settings["train"]["precision"] = files.read_yaml(run.config, "train")["train"].get(
            "precision", "auto"
        )
    return settings


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


def _idle_noise(row: GenerationConfig) -> list[str]:
    """Noise settings that have no effect in a generation without pseudo-labels."""
    names = () if row.online else ("cutmix", "paste") if row.noise.labelled else PSEUDO_NOISE
    return [name for name in names if getattr(row.noise, name)]


def recorded_data(run: RunDir, cfg: Config) -> DataSet:
    """The data set, divided as at the beginning of `run`.

    The record lists copies of pictures, which are known only after every file was read.
    """
    begun = files.read_json(run.data, "set_aside") if run.data.exists() else {}
    data = load.load(base.spec_for(run, cfg), copies=begun.get(COPIES, ()))
    return with_levels(without(data, begun.get("set_aside", ())), begun.get("range"))


def _looked_at(
    data: DataSet, cfg: Config, spec: Spec
) -> tuple[DataSet, list[Look], dict[str, str], list[list[str]]]:
    """The data set, the looks at its files, faults of unreadable unlabelled images by id, and copies.

    Raises DataError for other faults.
    """
    crop = [] if cfg.data.tile else cfg.train.crop
    data, report = verify.divide(data, spec, workers=process.cores(), crop=crop)
    refuse(report.faults)
    found = report.warnings[len(data.warnings) :]
    for warning in found[:WARNINGS]:
        say(f"data: {warning}")
    if found[WARNINGS:]:
        say(f"data: {len(found) - WARNINGS} more warnings: selftrain verify lists all")
    copies = [list(names) for names in verify.copies_of(report, spec)]
    faults = {one.sample.id: one.image_fault.what for one in report.seen if one.image_fault}
    reasons = {sample.id: faults.get(sample.id, "") for sample in report.set_aside}
    return data, report.seen, reasons, copies


def check_data(data: DataSet, cfg: Config) -> None:
    """Raises DataError if a required split is empty, ConfigError for settings of unknown classes."""
    from_tags = cfg.generations[0].from_tags
    if from_tags:
        _check_tags(data, cfg)
    if not data.labelled and not from_tags:
        raise DataError(
            "no labelled image to train the teacher on; see data.images and data.masks, or learn from tags "
            "(data.tags, generations.0.from_tags=true)"
        )
    if not data.val:
        raise DataError("no val image to choose by; set data.splits.val or data.splits.val_fraction")
    decision = Table(DECISIONS).one(cfg.predict.decision, "predict.decision")
    each = decision.settings.get("each", []) if decision.entry is thresholds else []
    if len(each) not in (0, len(data.classes)):
        raise ConfigError(
            f"predict.decision.thresholds.each={each} must have a number for each of the "
            f"{len(data.classes)} classes ({', '.join(data.classes)})"
        )
    unknown = [name for name in cfg.loss.class_weights if name not in data.classes]
    if unknown:
        raise ConfigError(
            f"loss.class_weights: there is no class {unknown[0]!r}; there are {', '.join(data.classes)}"
        )
    for section in ("predict", "select"):
        asked = getattr(cfg, section)
        cleanup.of(asked.min_area, asked.max_hole, data.classes, section)
    for window, setting in ((window_of(cfg), "predict.window"), (window_of_labels(cfg), "labels.windows")):
        windows.check_classes(window, setting, data.classes)
    needing = _needing_unlabelled(cfg.generations)
    if needing and not data.unlabelled:
        raise DataError(f"{needing} needs unlabelled images, but the data set has none; {WITHOUT_UNLABELLED}")


def review_of(cfg: Config, data: DataSet) -> Review:
    """The review of data.reviewed, checked.

    Raises ConfigError if there is none, DataError if it belongs to other data, IntegrityError for damage.
    """
    setting, folder = f"data.reviewed={cfg.data.reviewed}", Path(cfg.data.reviewed)
    if not (folder / verdicts.ABOUT).is_file():
        raise ConfigError(f"{setting}: no review is there; selftrain review RUN writes RUN/review")
    review = verdicts.read(folder)
    reviewed.check(review, data, setting, whole=not cfg.debug)
    return review


def check_review(run: RunDir, cfg: Config, data: DataSet) -> None:
    """Raises what `review_of` raises, if a generation that has not begun will train on the review.

    Also ConfigError for image-level heads: of an image that is corrected in part, it is not known which
    classes the rest of it lacks.
    """
    if cfg.data.reviewed and cfg.loss.image:
        raise ConfigError(
            "loss.image trains on the classes that an image lacks, and data.reviewed does not tell them for "
            "images that are corrected in part; set loss.image={} or data.reviewed="
        )
    if cfg.data.reviewed and not all(run.generation(k).begun for k in range(len(cfg.generations))):
        review_of(cfg, data)


def _check_tags(data: DataSet, cfg: Config) -> None:
    """Raises DataError or ConfigError for data on which a first generation cannot learn from tags."""
    if all(one.tags is None for one in data.unlabelled):
        raise DataError(
            f"generations.0.from_tags: data.tags={cfg.data.tags} tags no unlabelled image; add lines"
        )
    background = cfg.labels.cams.background
    if background and background not in data.classes:
        raise ConfigError(
            f"labels.cams.background={background!r} is none of {', '.join(data.classes)}; name the class of "
            "the pixels without an object, or set labels.cams.background= (every class has a map)"
        )
    divided = next((n for n, row in enumerate(cfg.generations) if row.members and not data.labelled), None)
    if divided is not None:
        raise ConfigError(
            f"generations.{divided}.members divides masks, and only val and test images have masks; "
            f"set generations.{divided}.members={{}}"
        )


def _needing_unlabelled(generations: Sequence[GenerationConfig]) -> str:
    """The first setting that needs unlabelled images, as "generations.1.online=fixmatch"; may be empty."""
    for number, row in enumerate(generations):
        if row.online:
            return f"generations.{number}.online={row.online}"
        if row.noise.style > 0 and (number == 0 or row.unlabelled_batch == 0):
            return f"generations.{number}.noise.style"
    return ""


def say_untrained_generations(data: DataSet, planned: Sequence[Plan]) -> None:
    """Without unlabelled images there are no pseudo-labels: the run ends before a student needs them."""
    first = next((plan.number for plan in planned if plan.needs_labels), None)
    if first is not None and not data.unlabelled:
        trained = "only generation 0" if first == 1 else f"only generations 0 to {first - 1}"
        say(f"warning: no unlabelled images, so {trained} will be trained; {WITHOUT_UNLABELLED}")
