"""How well verify tells nearly identical pictures from others, and odd raw images from usual ones.

    python benchmarks/likeness.py --camvid ROOT --nuclei ROOT [--draws 40]

Prints how close changed copies of a picture, frames of a video and all other pairs are; how often a raw image
is called unlike randomly drawn labelled images, and how often images of another kind are; and what both cost
for 30,000 images. No network and no masks are involved.
"""

import argparse
import io
import re
import time
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from selftrain.data import likeness
from selftrain.data.likeness import COLOURS, near, traits, unlike

MANY = 30_000
DARK = 90  # mean of the pixels; below, a nuclei image is a fluorescence image


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--camvid", type=Path, required=True)
    arguments.add_argument("--nuclei", type=Path, required=True)
    arguments.add_argument("--draws", type=int, default=40)
    arguments = arguments.parse_args()
    cv2.setNumThreads(1)
    seen = {}
    for name in ("camvid", "nuclei"):
        files = sorted((getattr(arguments, name) / "images").rglob("*.jpg"))
        images = [np.array(Image.open(file).convert("RGB")) for file in files]
        seen[name] = ([traits(image) for image in images], [image.shape for image in images])
        print(f"{name}: {len(images)} images, {len(near(seen[name][0]))} near pairs")
        changes(images[::4])
        if name == "camvid":
            frames(files, seen[name][0])
        bare = [change(image, cv2.COLOR_RGB2LAB) for image in images[::4] for change in (night, negative)]
        others = [(traits(one), one.shape) for one in bare]
        for count in (8, 23) if name == "camvid" else (4, 16):
            alarms(name, seen[name], others, count, arguments.draws)
        if name == "nuclei":  # dark pictures are fluorescence: the kind that any 16 of the images contain
            dark = [place for place, image in enumerate(images) if image.mean() < DARK]
            kind = ([seen[name][0][i] for i in dark], [seen[name][1][i] for i in dark])
            alarms(f"fluorescence only ({len(dark)})", kind, others, 16, arguments.draws)
    for name, other in (("camvid", "nuclei"), ("nuclei", "camvid")):
        alarms(f"{other} among {name}", seen[name], list(zip(*seen[other], strict=True)), 23, arguments.draws)
    cost([one for part, _ in seen.values() for one in part])


def night(image: np.ndarray, _: int) -> np.ndarray:
    return (image * 0.25).astype(np.uint8)


def negative(image: np.ndarray, _: int) -> np.ndarray:
    return 255 - image


def compressed(image: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.array(Image.open(file))


def distances(first: list[bytes], second: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """Bits that differ and correlations (N, M) of two lists of traits with thumbnails."""
    parts = [
        np.stack([np.frombuffer(one[COLOURS:], np.uint8) for one in part]).astype(np.float32)
        for part in (first, second)
    ]
    bits = [np.ascontiguousarray(likeness._hashes(part)).view(np.uint64) for part in parts]
    units = [part - part.mean(axis=1, keepdims=True) for part in parts]
    units = [part / np.linalg.norm(part, axis=1, keepdims=True) for part in units]
    return np.bitwise_count(bits[0] ^ bits[1].T), units[0] @ units[1].T


def line(what: str, bits: np.ndarray, alike: np.ndarray) -> None:
    called = np.mean((bits <= likeness.BITS) & (alike >= likeness.ALIKE))
    ends = f"bits {np.median(bits):.0f} (99 %: {np.percentile(bits, 99):.0f}, least {bits.min()})"
    print(f"  {what:32} {ends:36} correlation {np.median(alike):.3f} (1 %: {np.percentile(alike, 1):.3f}, "
          f"most {alike.max():.3f})  near {called:.2%} of {bits.size}")  # fmt: skip


def changes(images: list[np.ndarray]) -> None:
    """Changed copies of pictures against the pictures, and different pictures against each other."""
    kinds = {
        "half the size": lambda one: cv2.resize(one, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
        "256x256, bilinear": lambda one: cv2.resize(one, (256, 256)),
        "JPEG quality 30": lambda one: compressed(one, 30),
        "10 % brighter, and 10 levels": lambda one: np.clip(one * 1.1 + 10, 0, 255).astype(np.uint8),
        "15 % darker": lambda one: (one * 0.85).astype(np.uint8),
    }
    own = [traits(image) for image in images]
    kept = [i for i, one in enumerate(own) if len(one) > COLOURS]
    print(f"  {len(own) - len(kept)} of {len(own)} show too little to be compared")
    for kind, change in kinds.items():
        pairs = [(own[i], traits(change(images[i]))) for i in kept]
        pairs = [pair for pair in pairs if len(pair[1]) > COLOURS]
        found = [distances([one], [other]) for one, other in pairs]
        line(kind, *(np.array([each[part][0, 0] for each in found]) for part in (0, 1)))
    above = np.triu_indices(len(kept), 1)
    line("all other pairs", *(part[above] for part in distances(*[[own[i] for i in kept]] * 2)))


def frames(files: list[Path], seen: list[bytes]) -> None:
    """Frames of one video by their distance; CamVid has every second frame of one part, else every 30th."""
    numbers = [
        (file.stem.rpartition("_")[0], int(re.sub(r"\D", "", file.stem.rpartition("_")[2]))) for file in files
    ]
    bits, alike = distances(seen, seen)
    for gap in (2, 4, 10, 20, 30, 60, 90):
        pairs = [
            (i, j)
            for i, (video, number) in enumerate(numbers)
            for j, other in enumerate(numbers)
            if other == (video, number + gap)
        ]
        line(f"{gap} frames apart", *(np.array([part[pair] for pair in pairs]) for part in (bits, alike)))
    split = [file.parent.name for file in files]
    across = [pair for pair in near(seen) if split[pair[0]] != split[pair[1]]]
    print(f"  near pairs across CamVid's named splits: {len(across)}")


def alarms(name: str, own: tuple, others: list, count: int, draws: int) -> None:
    """Shares of raw images called unlike `count` random labelled images; `others` are of another kind."""
    rng, shares = np.random.default_rng(0), []
    side = lambda shape: float(shape[0] * shape[1]) ** 0.5  # noqa: E731
    odd = [(one, side(shape)) for one, shape in others if one]
    for _ in range(draws):
        order = rng.permutation(len(own[0]))
        rows = [(own[0][i], side(own[1][i])) for i in order]
        known, raw = rows[:count], rows[count:]
        found = unlike(*zip(*(raw + odd), strict=True), *zip(*known, strict=True))
        false = sum(place < len(raw) for place in found)
        shares.append((false / len(raw), (len(found) - false) / len(odd)))
    usual, strange = np.array(shares).T
    print(f"  {name}, {count} labelled, {draws} draws: of its own raw images {usual.mean():.2%} are called unlike "
          f"(most {usual.max():.2%}, none in {np.mean(usual == 0):.0%} of the draws); "
          f"of others {strange.mean():.0%}")  # fmt: skip


def cost(seen: list[bytes]) -> None:
    """Seconds of one core for MANY images: noisy thumbnails, as far apart as different pictures."""
    rng = np.random.default_rng(0)
    base = np.stack([np.frombuffer(one, np.uint8) for one in seen if len(one) > COLOURS])
    mixed = (
        base[rng.integers(0, len(base), MANY)] // 2 + base[rng.integers(0, len(base), MANY)] // 2
    ).astype(np.uint8)
    many = [row.tobytes() for row in mixed]
    began = time.process_time()
    pairs = near(many)
    middle = time.process_time()
    unlike(many[500:], [512.0] * (MANY - 500), many[:500], [512.0] * 500)
    print(
        f"{MANY} images: near pairs ({len(pairs)}) {middle - began:.1f} s, unlike {time.process_time() - middle:.1f} s"
    )


if __name__ == "__main__":
    main()
