"""The embedded data set: textured solids on a clouded table, drawn from a seed.

Each scene assigns hues to the classes at random. Within a scene, colour separates the classes; across scenes,
it carries no information, so a few labelled scenes teach the wrong rule. A class is recognised by its outline
and by its usual texture. Pebbles in the background have the same textures. Stars are rare; they are golden,
but other objects may happen to be golden as well.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from selftrain.data.dataset import SPLITS, DataSet
from selftrain.data.division import spend_labels
from selftrain.data.sample import Copies, Sample, Source
from selftrain.data.spec import Spec
from selftrain.errors import ConfigError

CLASSES: tuple[str, ...] = ("background", "disc", "ring", "square", "triangle", "star")
SIZE = 128
# Settings that have no meaning for drawn data.
OF_FILES = (
    "root", "images", "masks", "unlabelled", "annotations", "values", "colours", "ignore", "ignore_colours",
    "threshold", "nearest", "background", "order", "empty", "range", "channels", "duplicates", "tags",
)  # fmt: skip
OF_FILE_SPLITS = ("train", "val", "test", "val_fraction", "test_fraction", "group")

# Closed contours (P, 2) float32 around the origin, with a radius of about 1. A second contour is a hole.
Points = list[np.ndarray]
Rng = np.random.Generator

# Share of each class among the common objects of a scene; STAR_SHARE of the scenes also contain a star.
COMMON = {"disc": 0.3, "ring": 0.2, "square": 0.25, "triangle": 0.25}
STAR_SHARE = 0.5
# The usual texture of a class. An object has it with probability FIDELITY, otherwise a random texture.
TEXTURE_OF = {"disc": "dots", "ring": "plain", "square": "checks", "triangle": "stripes", "star": "waves"}
FIDELITY = 0.95
# Degrees of hue. HUE_SPREAD is the standard deviation of an object's hue from its class's hue in the scene.
STAR_HUE = 45
HUE_SPREAD = 15


def draw(seed: int, split: str, index: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw scene `index` of a split: image (128, 128, 3) uint8 RGB, mask (128, 128) uint8, ids into CLASSES.

    A pure function of its arguments. `seed` and `index` are >= 0. Raises ValueError for a split not in
    SPLITS.
    """
    if split not in SPLITS:
        raise ValueError(f"split {split!r} must be one of {', '.join(SPLITS)}")
    rng = np.random.default_rng(np.random.SeedSequence([seed, SPLITS.index(split), index]))
    image = _table(rng)  # (3, 128, 128) float32, about 0..1: planes broadcast faster than pixels
    mask = np.zeros((SIZE, SIZE), np.uint8)
    for _ in range(rng.integers(1, 4)):
        _place(image, _blob(rng), rng.uniform(5, 14), _any_texture(rng), rng.uniform(0, 360), rng)
    hues = rng.uniform(0, 360, len(CLASSES))
    for name in _names(rng):
        radius = rng.uniform(14, 22) if name == "star" else 13 * 2.7 ** rng.random()
        texture = TEXTURE_OF[name] if rng.random() < FIDELITY else _any_texture(rng)
        hue = rng.normal(STAR_HUE if name == "star" else hues[CLASSES.index(name)], HUE_SPREAD)
        covered, box = _place(image, OUTLINES[name](rng), radius, texture, hue, rng)
        mask[box][covered] = CLASSES.index(name)
    return _photograph(image, rng), mask


def _names(rng: Rng) -> list[str]:
    """Class names of a scene's objects, in the order in which they are drawn."""
    names = [str(n) for n in rng.choice(list(COMMON), size=rng.integers(3, 7), p=list(COMMON.values()))]
    return [*names, "star"] if rng.random() < STAR_SHARE else names


def _colour(rng: Rng, hue: float) -> np.ndarray:
    """A colour (3,) float32 RGB in 0..1 of the given hue in degrees."""
    hsv = np.array([hue % 360, rng.uniform(0.25, 0.7), rng.uniform(0.5, 0.95)], np.float32)
    return cv2.cvtColor(hsv[None, None], cv2.COLOR_HSV2RGB)[0, 0]


# --- outlines: class -> contours around the origin


def _polygon(radii: np.ndarray) -> np.ndarray:
    """One contour (P, 2) with its corners at equal angles and at the given distances."""
    angle = np.linspace(0, 2 * np.pi, len(radii), endpoint=False)
    return np.stack([radii * np.cos(angle), radii * np.sin(angle)], axis=1).astype(np.float32)


def _disc(rng: Rng) -> Points:
    return [_polygon(np.full(40, 0.95))]


def _ring(rng: Rng) -> Points:
    return [_polygon(np.full(40, 1.0)), _polygon(np.full(40, rng.uniform(0.4, 0.6)))]


def _square(rng: Rng) -> Points:
    return [_polygon(np.full(4, 1.15))]


def _triangle(rng: Rng) -> Points:
    return [_polygon(np.full(3, 1.25))]


def _star(rng: Rng) -> Points:
    return [_polygon(np.tile([1.25, 0.55], 5))]


def _blob(rng: Rng) -> Points:
    """A wobbly pebble, which belongs to the background."""
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    waves = np.sum([rng.uniform(0.08, 0.2) * np.cos(k * angle + rng.uniform(0, 6.3)) for k in (2, 3)], axis=0)
    return [_polygon(1 + waves)]


OUTLINES: dict[str, Callable[[Rng], Points]] = {
    "disc": _disc, "ring": _ring, "square": _square, "triangle": _triangle, "star": _star,
}  # fmt: skip


# --- textures: (u, v) in pixels -> field in 0..1


def _dots(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.clip(1.2 - 2 * np.sin(u) * np.sin(v), 0, 1)


def _stripes(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.clip(0.5 + 1.5 * np.sin(u), 0, 1)


def _checks(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.clip(0.5 + 2 * np.sin(u) * np.sin(v), 0, 1)


def _waves(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.clip(0.5 + 1.5 * np.sin(u + 1.5 * np.sin(0.7 * v)), 0, 1)


def _plain(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.zeros_like(u + v)


TEXTURES = {"dots": _dots, "stripes": _stripes, "checks": _checks, "waves": _waves, "plain": _plain}


def _any_texture(rng: Rng) -> str:
    return str(rng.choice(list(TEXTURES)))


def _weave(x: np.ndarray, y: np.ndarray, texture: str, rng: Rng, colours: np.ndarray) -> np.ndarray:
    """Two colours (2, 3) mixed by a texture of random pitch and direction; x (W,), y (H, 1) -> (3, H, W)."""
    angle, pitch = rng.uniform(0, np.pi), rng.uniform(6, 11)
    c, s = np.float32(np.cos(angle) * 2 * np.pi / pitch), np.float32(np.sin(angle) * 2 * np.pi / pitch)
    field = TEXTURES[texture](c * x + s * y, c * y - s * x)
    first, second = colours[..., None, None]
    return first + field * (second - first)


# --- the scene


def _table(rng: Rng) -> np.ndarray:
    """The table (3, 128, 128): a faint weave under clouds of a second colour."""
    axis = np.arange(SIZE, dtype=np.float32)
    first, second = (
        0.35 * _colour(rng, rng.uniform(0, 360)) + 0.65 * np.float32(rng.uniform(0.35, 0.75))
        for _ in range(2)
    )
    colours = np.stack([first, first + rng.uniform(0, 0.15) * (second - first)])
    ground = _weave(axis, axis[:, None], _any_texture(rng), rng, colours)
    clouds = cv2.resize(rng.random((5, 5), np.float32), (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)
    return ground + 0.6 * clouds * (second[:, None, None] - ground)


def _place(
    image: np.ndarray, outline: Points, radius: float, texture: str, hue: float, rng: Rng
) -> tuple[np.ndarray, tuple[slice, slice]]:
    """Paint one rotated, squeezed and shaded solid with its shadow.

    Returns the covered pixels, (h, w) bool, and their box in the image.
    """
    centre = rng.uniform(4, SIZE - 4, 2)
    low = np.clip(centre - 1.4 * radius - 4, 0, SIZE).astype(int)
    high = np.clip(centre + 1.4 * radius + 4, 0, SIZE).astype(int)
    box = slice(low[1], high[1]), slice(low[0], high[0])
    alpha = _silhouette(outline, radius, centre - low, high - low, rng)

    shift = np.array([[1, 0, 2], [0, 1, 3]], np.float32)
    shadow = cv2.blur(cv2.warpAffine(alpha, shift, (alpha.shape[1], alpha.shape[0])), (5, 5))
    part = image[:, *box]
    part *= 1 - 0.4 * shadow

    x = np.arange(low[0], high[0], dtype=np.float32) - np.float32(centre[0])
    y = np.arange(low[1], high[1], dtype=np.float32)[:, None] - np.float32(centre[1])
    colours = _colour(rng, hue) * np.array([[1], [rng.uniform(0.25, 0.5)]], np.float32)
    light = 1 - np.float32(0.18 / radius) * (x + y)
    part += alpha * (_weave(x, y, texture, rng, colours) * light - part)
    return alpha >= 0.5, box


def _silhouette(outline: Points, radius: float, centre: np.ndarray, size: np.ndarray, rng: Rng) -> np.ndarray:
    """Coverage (h, w) float32 in 0..1 of an outline, rotated at random and squeezed; `size` is (w, h)."""
    angle, squeeze = rng.uniform(0, 2 * np.pi), rng.uniform(0.75, 1)
    c, s = np.cos(angle), np.sin(angle)
    warp = radius * np.array([[c, -s], [s * squeeze, c * squeeze]])
    contours = [np.rint(16 * (points @ warp.T + centre)).astype(np.int32) for points in outline]
    alpha = np.zeros((size[1], size[0]), np.uint8)
    cv2.fillPoly(alpha, contours, 255, lineType=cv2.LINE_AA, shift=4)
    return alpha.astype(np.float32) / np.float32(255)


def _photograph(image: np.ndarray, rng: Rng) -> np.ndarray:
    """Turn a float scene into a uint8 photograph: light from one side, a colour cast, blur and grain."""
    axis = np.linspace(-1, 1, SIZE, dtype=np.float32)
    angle, fall = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.45)
    side = axis * np.float32(fall * np.cos(angle)) + axis[:, None] * np.float32(fall * np.sin(angle))
    cast = rng.uniform(0.7, 1.15) * (1 + rng.normal(0, 0.06, 3))
    image = cv2.merge(list(image * ((1 + side) * cast.astype(np.float32)[:, None, None])))  # (128, 128, 3)
    image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 0.9))
    grain = rng.standard_normal(image.shape, np.float32) * np.float32(rng.uniform(0.005, 0.035))
    return np.clip(255 * (image + grain), 0, 255).astype(np.uint8)


# --- the data set


@dataclass(frozen=True)
class Drawing(Source):
    """The image or the mask of a scene. It has no fingerprint: seed and id determine its content."""

    part: Literal["image", "mask"]
    seed: int
    split: str
    index: int

    @property
    def name(self) -> str:
        return name_of(self.split, self.index)

    @property
    def size(self) -> tuple[int, int]:
        return SIZE, SIZE

    def read(self) -> np.ndarray:
        image, mask = draw(self.seed, self.split, self.index)
        return image if self.part == "image" else mask

    def fingerprint(self) -> None:
        return None


def name_of(split: str, index: int) -> str:
    """The id of a scene."""
    return f"{split}/{index:05d}"


def data_set(spec: Spec, copies: Copies) -> DataSet:
    """The drawn data set. All scenes differ, so `copies` is ignored. Raises ConfigError for settings."""
    counts, seed = spec.shapes, spec.splits.seed
    _refuse_file_settings(spec)
    if spec.classes and spec.classes != list(CLASSES):
        raise ConfigError(f"data.classes={spec.classes}, but data.format=shapes draws {', '.join(CLASSES)}")
    if set(counts) != set(SPLITS) or min(counts.values()) < 0:
        raise ConfigError(f"data.shapes={counts} must hold a count for each of {', '.join(SPLITS)}")
    if counts["labelled"] < 1 or counts["val"] < 1:
        raise ConfigError("data.shapes needs at least one image in labelled and in val")
    scenes = {split: [_scene(spec, split, index) for index in range(counts[split])] for split in SPLITS}
    labelled, spared = spend_labels(scenes["labelled"], len(CLASSES), spec.splits)
    unlabelled = spared + scenes["unlabelled"]
    facts = {"drawn": {"seed": seed}}
    return DataSet(
        list(CLASSES), labelled, unlabelled, scenes["val"], scenes["test"], facts=facts, sound=True
    )


def _scene(spec: Spec, split: str, index: int) -> Sample:
    image, mask = (Drawing(part, spec.splits.seed, split, index) for part in ("image", "mask"))
    return Sample(name_of(split, index), image, mask, size=spec.target)


def _refuse_file_settings(spec: Spec) -> None:
    """Raises ConfigError for a setting that drawn data would ignore."""
    for name in OF_FILES:
        if name in spec.changed:
            value = getattr(spec, name)
            raise ConfigError(
                f"data.{name}={value} is about files, but data.format=shapes draws its images: "
                "use data=folder"
            )
    for name in OF_FILE_SPLITS:
        if f"splits.{name}" in spec.changed:
            raise ConfigError(
                f"data.splits.{name} divides files, but data.format=shapes: set the counts in data.shapes"
            )
    if spec.splits.seed < 0:
        raise ConfigError(f"data.splits.seed={spec.splits.seed} must be at least 0")
