"""Augmentation pipelines of each generation, resolved once from the settings."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from selftrain.config import GenerationConfig, NoiseConfig, TrainConfig
from selftrain.data import mixing
from selftrain.data.augment.colour import COLOUR, Colour
from selftrain.data.augment.erase import ERASE, Erase
from selftrain.data.augment.geometry import GEOMETRY, Geometry
from selftrain.data.augment.pipeline import Pipeline
from selftrain.data.augment.places import PLACES
from selftrain.data.augment.policies import POLICIES, Policy
from selftrain.data.augment.randaugment import OFF, RandAugment, recoloured
from selftrain.data.augment.view import View
from selftrain.data.batches import Augmentation
from selftrain.data.mixing import Mixer
from selftrain.data.samplers import SAMPLERS, Contents, Sampler
from selftrain.errors import ConfigError
from selftrain.tables import Chosen, Table, bound

Rows = Mapping[str, Mapping[str, Any]]

TABLES: dict[str, Table[Callable[..., Any]]] = {  # by the setting that chooses from the table
    "train.place": Table(PLACES),
    "train.sampler": Table(SAMPLERS),
    "noise.geometry": Table(GEOMETRY, main="p"),
    "noise.colours": Table(COLOUR, main="p"),
    "noise.erase": Table(ERASE, main="p"),
    "noise.policy": Table(POLICIES, main="p"),
}


def of(train: TrainConfig, generation: GenerationConfig, number: int) -> Augmentation:
    """The augmentation of generation `number`.

    Online methods see several views of an unlabelled image. The views share one crop and its geometry, and
    differ in colours and erased parts. The short settings `rand_n` and `cutout` do not act on views.
    """
    noise, name = generation.noise, f"generations.{number}.noise"
    plain, noisy = weak(train), strong(train, noise, name)
    erase = _entries("erase", noise.erase, name, {})
    views = replace(noisy, always=(), randaugment=OFF, erase=erase)
    return Augmentation(
        labelled=noisy if noise.labelled else plain,
        unlabelled=views if generation.online else noisy,
        mixers=mixers(noise),
        labelled_mixers=_mixers(noise.mix_labelled, f"{name}.mix_labelled"),
        paste=noise.paste,
        style=noise.style,
    )


def check(augmentation: Augmentation, channels: int, name: str) -> None:
    """Try each chosen change of geometry and colours, policy and erasing, on an image of `channels` channels.

    `name` is the name of the noise settings. Raises ConfigError if an entry does not return what it must.
    """
    rng = np.random.default_rng(0)
    for pipeline in (augmentation.labelled, augmentation.unlabelled):
        crop = pipeline.crop
        seen = View(
            rng.integers(256, size=(*crop, channels), dtype=np.uint8),
            np.arange(crop[0] * crop[1]).reshape(crop),
        )
        for geometry in pipeline.geometry:
            moved = np.asarray(bound(geometry)(rng, crop))
            if moved.shape != (3, 3) or not np.isfinite(moved).all() or np.linalg.det(moved) == 0:
                raise ConfigError(
                    f"{name}.geometry.{geometry.name} returns {moved.tolist()}, "
                    "not an affine map (3, 3) that can be inverted"
                )
        before = seen.image.copy()
        for policy in pipeline.policies:
            found = recoloured(seen.image, bound(policy)(rng))
            _check_alike(found, seen.image, before, f"{name}.policy.{policy.name}")
        for colour in pipeline.colours:
            found = bound(colour)(seen.image, rng)
            _check_alike(found, seen.image, before, f"{name}.colours.{colour.name}")
        for erase in pipeline.erase:
            found = bound(erase)(seen, rng).image
            _check_alike(found, seen.image, before, f"{name}.erase.{erase.name}")


def _check_alike(found: np.ndarray, image: np.ndarray, before: np.ndarray, setting: str) -> None:
    """Raises ConfigError if `found` is not like `image`, or if `image` is no longer as it was `before`."""
    if found.shape != image.shape or found.dtype != image.dtype:
        raise ConfigError(
            f"{setting} returns an image {found.shape} {found.dtype}, "
            f"not {image.shape} {image.dtype} like the image that it receives"
        )
    if not np.array_equal(image, before):
        raise ConfigError(f"{setting} changes the image that it receives; let it change a copy")


def mixers(noise: NoiseConfig) -> tuple[Mixer, ...]:
    """The mixings of `noise.cutmix` and `noise.mix`, in the order of their table."""
    return _mixers({"cutmix": {"p": noise.cutmix}, **noise.mix}, "noise.mix")


def _mixers(given: Rows, name: str) -> tuple[Mixer, ...]:
    return tuple(
        Mixer(
            one.name,
            one.amount,
            partial(one.entry.draw, **one.settings),
            one.entry.mask,
            one.entry.soft,
            one.entry.weighs,
        )
        for one in mixing.TABLE.chosen(given, name)
    )


def weak(train: TrainConfig) -> Pipeline:
    """The pipeline of weak augmentation, for images without noise."""
    jitter: Rows = {"jitter": {"p": 1.0, "strength": train.jitter}} if train.jitter else {}
    return Pipeline(
        crop=(train.crop[0], train.crop[1]),
        scale=(train.scale[0], train.scale[1]),
        place=TABLES["train.place"].one(train.place, "train.place"),
        geometry=_geometry(train, {}, "noise"),
        always=tuple(TABLES["noise.colours"].chosen(jitter, "train.jitter")),
    )


def zoomed(train: TrainConfig, zoom: float, multiple: int) -> TrainConfig:
    """`train` for images resized by `zoom`: crops show as much as before, in multiples of `multiple`."""
    if zoom == 1.0:
        return train
    crop = [max(multiple, round(side * zoom / multiple) * multiple) for side in train.crop]
    return replace(train, crop=crop, scale=[zoom * factor for factor in train.scale])


def strong(train: TrainConfig, noise: NoiseConfig, name: str) -> Pipeline:
    """The pipeline of strong augmentation by `noise`; `name` is the name of the noise settings."""
    return replace(
        weak(train),
        geometry=_geometry(train, noise.geometry, name),
        randaugment=RandAugment(noise.rand_n, noise.rand_m),
        policies=_policies(noise, name),
        colours=_colours(noise, name),
        erase=_erase(noise, name),
    )


def sampler(train: TrainConfig, count: int, contents: Contents) -> Sampler:
    """The sampler of `count` labelled images; `contents` reads their masks on demand."""
    return bound(TABLES["train.sampler"].one(train.sampler, "train.sampler"))(count, contents)


def _geometry(train: TrainConfig, given: Rows, name: str) -> tuple[Chosen[Geometry], ...]:
    return _entries("geometry", given, name, {"flip": (0.5 if train.flip else 0.0, "train.flip")})


def _policies(noise: NoiseConfig, name: str) -> tuple[Chosen[Policy], ...]:
    return _entries("policy", noise.policy, name, {})


def _colours(noise: NoiseConfig, name: str) -> tuple[Chosen[Colour], ...]:
    return _entries("colours", noise.colours, name, {"colour_noise": (noise.colour, f"{name}.colour")})


def _erase(noise: NoiseConfig, name: str) -> tuple[Chosen[Erase], ...]:
    return _entries("erase", noise.erase, name, {"cutout": (noise.cutout, f"{name}.cutout")})


def _entries(
    table: str, given: Rows, name: str, short: Mapping[str, tuple[float, str]]
) -> tuple[Chosen[Callable[..., Any]], ...]:
    """The chosen entries of a table: the `given` entries, and entries switched on by `short` settings.

    `short` maps an entry to the probability and the name of its short setting.
    """
    rows = {entry: {"p": p} for entry, (p, _) in short.items() if p}
    for entry in rows:
        if entry in given:
            setting = short[entry][1]
            raise ConfigError(f"{name}.{table}.{entry}: {setting} chooses {entry}, too; switch {setting} off")
    return tuple(TABLES[f"noise.{table}"].chosen({**rows, **given}, f"{name}.{table}"))
