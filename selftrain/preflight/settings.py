"""Checks of settings that depend on each other."""

import itertools
from collections.abc import Iterator

from torch import nn

from selftrain import augmentation, choices, tracking, variants
from selftrain.config import ALWAYS, AUTO, Config, NoiseConfig
from selftrain.data.augment.colour import OF_RGB
from selftrain.data.bands import RGB
from selftrain.data.batches import Augmentation
from selftrain.data.samplers import SAMPLERS
from selftrain.errors import ConfigError
from selftrain.inference import tta, windows
from selftrain.log import say
from selftrain.methods.table import METHODS
from selftrain.models.build import multiple_of, parameters
from selftrain.models.encoders import pretrained
from selftrain.networks import SNAPSHOTS
from selftrain.objectives.objective import check_losses
from selftrain.optim.schedules import BY_SCORES, SCHEDULES, WARMING
from selftrain.plan import Plan, plans, students, views_of_labels, window_of, window_of_labels
from selftrain.pretraining import check_sources
from selftrain.settings.check import check as check_settings
from selftrain.stages import reliability
from selftrain.stages.pseudo_label import check_refiner
from selftrain.stages.select import check_threshold
from selftrain.tables import Chosen, Table
from selftrain.tuning.steps import tunes_thresholds


def check(cfg: Config) -> None:
    """Check settings alone and together. Raises ConfigError that names them."""
    check_settings(cfg)
    tracking.check(cfg.trackers)
    choices.check(cfg)
    for check_together in (
        _check_sides,
        _check_views,
        _check_channels,
        _check_tiles,
        _check_splits,
        _check_first,
        _check_snapshots,
        _check_online,
        _check_labelled_mixing,
        _check_methods,
        _check_image_head,
        _check_tags,
        _check_learning,
        _check_distilling,
        _check_features,
        _check_tuning,
    ):
        check_together(cfg)
    planned = plans(cfg)
    for plan in planned:  # raises if settings choose the same augmentation twice
        augmentation.check(plan.augmentation, plan.channels, f"generations.{plan.number}.noise")
    taught = cfg.loss.distill or cfg.export.distill  # soft labels of labelled images come from a teacher
    softened = all(plan.augmentation.softens for plan in planned) and not taught
    check_losses(cfg.loss, soft=softened)
    labelling = any(plan.needs_labels for plan in [*planned, *students(cfg)])
    check_refiner(cfg.labels, cfg.data.channels if labelling else RGB)
    check_threshold(cfg.select)
    check_sources(cfg)
    variants.check(cfg.export)


def _check_learning(cfg: Config) -> None:
    """Raises ConfigError for settings without effect under the schedule or a frozen encoder."""
    train = cfg.train
    schedule = Table(SCHEDULES).one(train.schedule, "train.schedule").name
    if schedule in BY_SCORES and not train.eval_every:
        raise ConfigError(
            f"train.schedule={schedule} follows the scores on val, so train.eval_every must not be 0"
        )
    if schedule in WARMING and train.warmup:
        raise ConfigError(f"train.schedule={schedule} begins with a rise of its own; set train.warmup=0")
    if train.patience and not train.eval_every:
        raise ConfigError(f"train.patience={train.patience} waits for scores on val; set train.eval_every")
    if train.lookahead and train.optimizer.startswith("lookahead_"):
        raise ConfigError(f"train.optimizer={train.optimizer} has Lookahead already; set train.lookahead=0")
    for number, row in enumerate(cfg.generations):
        if train.freeze == ALWAYS and row.noise.drop_path:
            raise ConfigError(
                f"generations.{number}.noise.drop_path={row.noise.drop_path} acts in the encoder, and "
                f"train.freeze={ALWAYS} keeps that in eval mode; set it to 0"
            )


def _check_distilling(cfg: Config) -> None:
    """Raises ConfigError if there will be no ensemble to distil."""
    exported = plans(cfg) if cfg.export.generation == "best" else plans(cfg)[-1:]
    if cfg.export.distill and not any(plan.members.several for plan in exported):
        raise ConfigError(
            "export.distill=true distils an exported ensemble, and no generation that may be exported has "
            "several networks; set its members, as in generations.0.members={seeds: 3}"
        )


def _check_features(cfg: Config) -> None:
    """Raises ConfigError if features of a frozen encoder are to be kept, but images change between steps."""
    train = cfg.train
    if not train.feature_mb:
        return
    side = f"[{train.crop[0]},{train.crop[1]}]"
    wanted = {
        f"train.freeze={ALWAYS}": train.freeze == ALWAYS,
        f"data.size={side}, the size of train.crop": list(cfg.data.size) == list(train.crop),
        "data.tile=[]": not cfg.data.tile,
        "train.scale=[1,1]": list(train.scale) == [1, 1],
        "train.flip=false": not train.flip,
        "train.jitter=0": not train.jitter,
    }
    for plan in plans(cfg):
        unchanged = not any(_changes(plan.augmentation))
        wanted[f"generations.{plan.number}.noise without changes of images"] = unchanged
        wanted[f"generations.{plan.number}.members without zooms"] = set(plan.zooms) == {1.0}
    lacking = [setting for setting, there in wanted.items() if not there]
    if lacking:
        raise ConfigError(
            f"train.feature_mb={train.feature_mb} keeps a frozen encoder's features of images that each step "
            f"shows unchanged; set train.feature_mb=0, or set {', '.join(lacking)}"
        )


def _changes(augmentation: Augmentation) -> Iterator[bool]:
    """Whether each kind of augmentation may change the pixels of an image, besides zoom and crop."""
    yield bool(augmentation.mixers and any(mixer.p for mixer in augmentation.mixers))
    yield bool(augmentation.labelled_mixers or augmentation.style)
    for one in (augmentation.labelled, augmentation.unlabelled):
        geometry = [entry for entry in one.geometry if entry.name != "flip"]  # train.flip is named on its own
        yield bool(geometry or one.policies or one.colours or one.erase) or one.randaugment.n > 0


def _check_tuning(cfg: Config) -> None:
    """Raises ConfigError for tuning that cannot act."""
    several = len(tta.of(cfg.predict.views, "predict.views").transforms) > 1
    if cfg.predict.average == "fitted" and not (several or any(plan.members.several for plan in plans(cfg))):
        raise ConfigError(
            "predict.average=fitted weighs several networks or views, and there are none; "
            "set generations.0.members={seeds: 3} or predict.views=d4, or predict.average=given"
        )
    if cfg.predict.refine == "crf" and cfg.data.channels not in (1, RGB):
        raise ConfigError(
            f"predict.refine=crf takes grey images and RGB, but data.channels={cfg.data.channels}; "
            "set predict.refine=none"
        )
    if cfg.select.decision == "tuned" and not tunes_thresholds(cfg.predict):
        raise ConfigError(
            "select.decision=tuned reads labels by tuned thresholds, and none are tuned; "
            "set predict.decision=thresholds, or select.decision=stored"
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
        for window, setting in _windows(cfg):
            windows.check(window, setting, multiple)


def _windows(cfg: Config) -> list[tuple[Chosen[windows.Window], str]]:
    """The windows of evaluations and of labelling, with the names of their settings."""
    return [(window_of(cfg), "predict.window"), (window_of_labels(cfg), "labels.windows")]


def _check_views(cfg: Config) -> None:
    """Raises ConfigError for weights that do not fit the views."""
    tta.of(cfg.predict.views, "predict.views")
    views_of_labels(cfg)


def _check_channels(cfg: Config) -> None:
    """Raises ConfigError for settings that contradict data.channels, or that need RGB."""
    channels = cfg.data.channels
    for name in ("mean", "std"):
        given = getattr(cfg.data, name)
        if given != [AUTO] and len(given) != channels:
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


def _needing_rgb(noise: NoiseConfig) -> list[str]:
    """The names of noise settings in use that change colours as only RGB has them."""
    single = [name for name in ("rand_n", "policy", "colour", "style") if getattr(noise, name)]
    entries = [f"colours.{name}" for name, row in noise.colours.items() if name in OF_RGB and row.get("p", 1)]
    return single + entries


def _check_splits(cfg: Config) -> None:
    """Raises ConfigError for folds of a run whose images keep the splits of an earlier run."""
    if cfg.base and cfg.data.splits.fold:
        raise ConfigError(
            f"data.splits.fold={cfg.data.splits.fold} makes another val, but with base={cfg.base} images "
            "keep their split; remove one of them"
        )


def _check_first(cfg: Config) -> None:
    """Raises ConfigError if the first generation should be initialised from a teacher."""
    if cfg.generations[0].init == "teacher":
        raise ConfigError("generations.0.init=teacher: the first generation has no teacher; set init=random")


def _check_snapshots(cfg: Config) -> None:
    """Raises ConfigError if a generation has too few steps for its snapshots."""
    least = min(plan.steps for plan in plans(cfg))
    chosen = reliability.chosen(cfg.select)
    if chosen.entry.snapshots and least < SNAPSHOTS:
        raise ConfigError(
            f"select.reliability={chosen.name} compares three points of the training: "
            "every generation needs 3 or more steps"
        )
    for plan in plans(cfg):
        if plan.moments and cfg.train.patience:
            raise ConfigError(
                f"generations.{plan.number}.members keeps the networks of certain steps; "
                "train.patience may end the training before, so set it to 0"
            )
    if chosen.entry.snapshots and cfg.train.patience:
        raise ConfigError(
            f"select.reliability={chosen.name} compares three points of the training; "
            "train.patience may end a generation before, so set it to 0"
        )


def _check_online(cfg: Config) -> None:
    """Raises ConfigError for settings that online methods cannot follow."""
    for number, row in enumerate(cfg.generations):
        if row.online and row.unlabelled_batch == 0:
            name = f"generations.{number}"
            raise ConfigError(f"{name}.online={row.online} needs {name}.unlabelled_batch >= 1")
        if row.online and (row.noise.rand_n or row.noise.cutout) and not row.noise.labelled:
            raise ConfigError(
                "generations: with an online method, rand_n and cutout act on labelled images only: set "
                "noise.labelled=true, or use noise.policy={randaugment: 1} and noise.erase={cutout: 1}"
            )


def _check_labelled_mixing(cfg: Config) -> None:
    """Raises ConfigError for mixings of labelled images that cannot act."""
    for plan in plans(cfg):
        mixed, name = plan.augmentation.labelled_mixers, f"generations.{plan.number}.noise.mix_labelled"
        if mixed and plan.labelled_batch < 2:
            raise ConfigError(f"{name} mixes labelled images of a step, so train.labelled_batch must be >= 2")
        weighing = [mixer.name for mixer in mixed if mixer.weighs]
        if weighing:
            raise ConfigError(
                f"{name}.{weighing[0]}: no network has labelled these images, so there is no class "
                "activation to weigh by; use cutmix here, and this mixing in noise.mix"
            )
        if sum(mixer.p for mixer in mixed) > 1:
            raise ConfigError(f"{name}: the probabilities add up to more than 1; one mixing acts on an image")


def _check_methods(cfg: Config) -> None:
    """Raises ConfigError for settings that no method of the run uses."""
    adaptive = [name for name, method in METHODS.items() if method.adaptive]
    if cfg.loss.adaptive and not any(row.online in adaptive for row in cfg.generations):
        methods = " or ".join(adaptive)
        raise ConfigError(
            f"loss.adaptive=true acts only with online={methods}, which no generation uses; set it to false"
        )
    if cfg.loss.distill and not any(plan.needs_labels for plan in plans(cfg)):
        raise ConfigError("loss.distill acts in generations that learn from stored labels; the run has none")
    for row in cfg.generations:
        mixed = augmentation.mixers(row.noise)
        if mixed and not METHODS[row.online].mixes:
            setting = "cutmix" if row.noise.cutmix else "mix"
            raise ConfigError(f"generations: {row.online} does not mix images: set its noise.{setting} to 0")
        if sum(mixer.p for mixer in mixed) > 1:
            names = ", ".join(mixer.name for mixer in mixed)
            raise ConfigError(
                f"generations: the probabilities of {names} add up to more than 1; "
                "one mixing acts on an image"
            )


def _check_image_head(cfg: Config) -> None:
    """Raises ConfigError for settings that need an image-level head, and methods that cannot train one."""
    if not cfg.loss.image:
        needing = "predict.gate" if cfg.predict.gate else ""
        needing = next(
            (f"generations.{n}.from_tags" for n, row in enumerate(cfg.generations) if row.from_tags), needing
        )
        if needing:
            raise ConfigError(
                f"{needing} needs an image-level head, and the run trains none; set loss.image.bce=1"
            )
        return
    for number, row in enumerate(cfg.generations):
        if METHODS[row.online].networks > 1:
            raise ConfigError(
                f"generations.{number}.online={row.online} trains two networks that answer for pixels only, "
                "so their image-level heads would learn nothing; set loss.image={} or another method"
            )


def _check_tags(cfg: Config) -> None:
    """Raises ConfigError for settings that contradict a first generation that learns from tags."""
    later = next((number for number, row in enumerate(cfg.generations) if number and row.from_tags), 0)
    if later:
        raise ConfigError(
            f"generations.{later}.from_tags: only the first generation learns from tags; "
            "set generations.0.from_tags"
        )
    first = cfg.generations[0]
    if not first.from_tags:
        return
    name = "generations.0.from_tags"
    if not cfg.data.tags:
        raise ConfigError(f"{name} learns from images with tags; name their file by data.tags")
    if not any(plan.needs_labels for plan in plans(cfg)[1:2]):
        raise ConfigError(
            f"{name} makes labels for the next generation, and no generation that learns from stored labels "
            "follows; add one (generations.extra=1), without online"
        )
    chosen = reliability.chosen(cfg.select)
    sampler = Table(SAMPLERS).one(cfg.train.sampler, "train.sampler").name
    for setting, given, why in (
        ("generations.0.online", first.online, "it labels unlabelled images itself"),
        ("generations.0.members", first.members, "its parts would divide masks"),
        ("data.tile", cfg.data.tile, "tags are about whole images, and tiles may lack their classes"),
        (f"train.sampler={sampler}", sampler != "uniform", "it draws by the classes of masks"),
        ("loss.distill", cfg.loss.distill, "the labels of labelled images would be activation maps"),
        (
            f"select.reliability={chosen.name}",
            chosen.entry.looks,
            "it looks at the pixels that the teacher predicts, and this one has not learnt them",
        ),
    ):
        if given:
            raise ConfigError(f"{setting} does not go with {name}: {why}; leave one of them out")


def say_other_pixel_scales(cfg: Config, planned: list[Plan]) -> None:
    """Warn if pretrained weights were trained with another pixel scale."""
    rgb = cfg.data.channels == RGB
    encoders = [plan.encoder for plan in planned if plan.weights and rgb]
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
