"""Try every network of a run before the first step, at the sizes it will meet.

Some encoders take one size only, and some decoders fail below a minimum size. Without a trial, training would
only fail at the first evaluation. Where memory may not suffice for the micro-batches of a step, one of them
is tried; fitting.py takes smaller ones if it does not fit.
"""

import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import cv2
import numpy as np
import timm
import torch
from accelerate import Accelerator
from torch import nn

from selftrain import memory
from selftrain.anatomy import Anatomy, anatomy_of
from selftrain.config import Config, LabelConfig
from selftrain.data.dataset import SPLITS, DataSet
from selftrain.data.look import Look
from selftrain.errors import ConfigError, ResourceError, SelftrainError, is_out_of_memory
from selftrain.forecast import Speed
from selftrain.inference import tta, windows
from selftrain.models import ensemble
from selftrain.models.build import parameters, to_layout
from selftrain.models.outputs import tensors_of
from selftrain.networks import Networks
from selftrain.optim.features import check_called
from selftrain.plan import Plan, students, views_of_labels, window_of, window_of_labels
from selftrain.process import cores
from selftrain.rng import untouched
from selftrain.sizes import resized, seen_size
from selftrain.stages.pseudo_label import refiner_of
from selftrain.values import worded

Size = tuple[int, int]  # height, width
Sizes = Mapping[str, Counter[Size]]  # image sizes by split
CROP, VAL = "train.crop", "val and test images"
IMAGES = 2  # of a trial step
MARGIN = 1.5  # a step is tried in full if its memory by a small step, times this, is not free
KEPT = 3  # copies of the weights that training keeps besides those and their gradients: average, moments
FLOAT = 4  # bytes


class TooLargeError(ResourceError):
    """A training step that does not fit the memory; micro-batches with fewer images may fit."""


@dataclass(frozen=True)
class Place:
    """An input size of the network, and its origin."""

    size: Size
    where: str  # for messages: train.crop, or the images


def sizes_seen(looks: Iterable[Look], cfg: Config) -> Sizes:
    """The sizes of images by split, from the check of all files."""
    sizes: dict[str, Counter[Size]] = {split: Counter() for split in SPLITS}
    for one in looks:
        if one.size is not None and one.split in sizes:  # a copy that was left out has no split
            sizes[one.split][resized(cfg.data.size, one.size)] += 1
    return sizes


def sizes_sampled(data: DataSet, *, most: int = 8) -> Sizes:
    """The sizes of up to `most` images of each split. Images are read only if their size is not known."""
    sizes: dict[str, Counter[Size]] = {}
    for split in SPLITS:
        samples = getattr(data, split)
        sizes[split] = Counter(one.read_size() for one in samples[:: max(len(samples) // most, 1)])
    return sizes


def check(
    cfg: Config,
    networks: Networks,
    built: Sequence[tuple[Plan, nn.Module]],
    sizes: Sizes,
    accelerator: Accelerator,
) -> None:
    """Try a training step and a few input sizes with each of `built`, networks that are not used again.

    Raises ConfigError that names the generation, the size and the fix, or ResourceError if memory is
    insufficient.
    """
    labelling = any(plan.needs_labels for plan in [*networks.plans, *students(cfg)])
    parts = accelerator.num_processes * cfg.train.accumulate
    for plan, network, most in _different(networks, built, parts):
        images = IMAGES if plan.batch // parts > 1 else 1
        zoom, crop = plan.member.zoom, plan.unnoised.crop
        name = f"generation {plan.number}: arch={worded(plan.arch)} encoder={plan.encoder}"
        looked_at = places(sizes, cfg, labelling=labelling, multiple=anatomy_of(network).multiple)
        with untouched():
            network = to_layout(network).to(accelerator.device)
            place = Place(crop, CROP)
            train = partial(_pass, network, place, channels=plan.channels, accelerator=accelerator)
            with _explaining(place, images, name):
                if cfg.train.feature_mb:
                    check_called(network, partial(train, images))
                _check_memory(train, network, images, most, accelerator.device)
            for place in looked_at:
                _try(ensemble.joined([network], [zoom]), place, images, plan.channels, name, accelerator)
            network.cpu()


def _different(
    networks: Networks, built: Sequence[tuple[Plan, nn.Module]], parts: int
) -> Iterator[tuple[Plan, nn.Module, int]]:
    """Each network of a kind once, with the most images that pass through one of its kind at once."""
    found: dict[tuple, tuple[Plan, nn.Module, int]] = {}
    for plan, network in [(one, network) for whole, network in built for one in whole.each]:
        key = (str(networks.describe(plan, network)), min(IMAGES, plan.batch // parts), plan.member.zoom)
        first, its, most = found.get(key, (plan, network, 0))
        found[key] = (first, its, max(most, plan.images(parts)))
    yield from found.values()


def _check_memory(
    train: Callable[[int], None], network: nn.Module, few: int, images: int, device: torch.device
) -> None:
    """Try a step with a few images. If memory may not suffice for `images`, also try these.

    On a CPU, the ranks share the memory, and the kernel kills a process that takes too much. So a step that
    would need more than is free is not tried. Raises MemoryError, or the error of an allocation.
    """
    kept = KEPT * FLOAT * parameters(network)
    first = memory.taken(device, partial(train, few)).growth
    sharing = int(os.environ.get("LOCAL_WORLD_SIZE", 1)) if device.type == "cpu" else 1
    if images <= few or (kept + first * images / few * MARGIN) * sharing < memory.free(device):
        return
    # the second measurement separates what an image takes from what all of them share
    each = (memory.taken(device, partial(train, 2 * few)).growth - first) / few
    if device.type == "cpu" and (kept + first + each * (images - few)) * sharing > memory.free(device):
        raise MemoryError("a whole micro-batch needs more than is free")
    reserved = torch.ones(kept // FLOAT, device=device)
    train(images)
    del reserved


def speeds(
    cfg: Config, built: Sequence[tuple[Plan, nn.Module]], classes: int, accelerator: Accelerator
) -> dict[int, Speed]:
    """Measure the speed of the network of each generation, by number. The networks are not used again.

    Raises ConfigError or ResourceError like `check`.
    """
    labels = cfg.export.distill or any(plan.needs_labels for plan, _ in built)
    refine = _refining(cfg.labels, classes, built[0][0].channels) if labels else 0.0
    found: dict[int, Speed] = {}
    for plan, network in built:
        with untouched():
            network = to_layout(network).to(accelerator.device)
            train, predict = (
                _seconds(network, place, plan, accelerator)
                for place in (Place(plan.unnoised.crop, CROP), Place(plan.unnoised.crop, VAL))
            )
            network.cpu()
        pixels = plan.unnoised.crop[0] * plan.unnoised.crop[1]
        found[plan.number] = Speed(train / IMAGES, predict / pixels, refine)
    return found


def _seconds(network: nn.Module, place: Place, plan: Plan, accelerator: Accelerator) -> float:
    """The seconds of the second of two passes; the first one prepares kernels and memory."""
    name, seconds = f"generation {plan.number}: arch={worded(plan.arch)} encoder={plan.encoder}", 0.0
    for _ in range(2):
        began = time.perf_counter()
        _try(network, place, IMAGES, plan.channels, name, accelerator)
        if accelerator.device.type == "cuda":
            torch.cuda.synchronize()
        seconds = time.perf_counter() - began
    return seconds


def _refining(cfg: LabelConfig, classes: int, channels: int, side: int = 128) -> float:
    """The seconds per pixel that the refiner of labels needs, with all its threads."""
    rng, coarse = np.random.default_rng(0), side // 16
    # smooth, as photographs are: noise would fill the lattice of the CRF with a cell for each pixel
    image = rng.integers(0, 256, (coarse, coarse, channels), np.uint8)
    image = np.asarray(cv2.resize(image, (side, side)), np.uint8).reshape(side, side, channels)
    probs = rng.dirichlet(np.ones(classes), (coarse, coarse)).astype(np.float32).repeat(16, 0).repeat(16, 1)
    refiner = refiner_of(cfg)
    began = time.perf_counter()
    refiner(image, np.ascontiguousarray(probs.transpose(2, 0, 1)))
    return (time.perf_counter() - began) / side**2 / (cfg.crf.workers or max(cores(), 1))


def places(sizes: Sizes, cfg: Config, *, labelling: bool, multiple: int = Anatomy.multiple) -> list[Place]:
    """The input sizes for val, test and unlabelled images; a few of each."""
    labelled = _views(sizes["unlabelled"], views_of_labels(cfg), cfg.labels.size)
    predicted = _views(sizes["val"] + sizes["test"], tta.of(cfg.predict.views), cfg.predict.size)
    kinds = {
        VAL: (predicted, windows.side_of(window_of(cfg))),
        "unlabelled images": (
            labelled if labelling else Counter[Size](),
            windows.side_of(window_of_labels(cfg)),
        ),
    }
    found: dict[Size, str] = {}
    for kind, (counts, side) in kinds.items():
        seen: Counter[Size] = Counter()
        for size, count in counts.items():
            seen[_window(size, side, multiple)] += count
        for size in _few(seen):
            found.setdefault(size, kind)
    return [Place(size, where) for size, where in found.items()]


def _views(sizes: Counter[Size], asked: tta.Views, seen: Sequence[Any]) -> Counter[Size]:
    """The sizes of the views of images, which are brought to the size `seen` beforehand."""
    views: Counter[Size] = Counter()
    for size, count in sizes.items():
        for view in dict.fromkeys(tta.sizes_of(asked.transforms, seen_size([], seen, size))):
            views[view] += count
    return views


def _window(size: Size, window: int, multiple: int) -> Size:
    """The padded part of an image that one forward pass takes."""
    height, width = (side + -side % multiple for side in size)
    return (min(height, window), min(width, window)) if window else (height, width)


def _few(sizes: Counter[Size]) -> list[Size]:
    """The most frequent size, the lowest, the narrowest and the largest."""
    if not sizes:
        return []
    lowest, narrowest = min(sizes), min(sizes, key=lambda size: size[::-1])
    chosen = [sizes.most_common(1)[0][0], lowest, narrowest, max(sizes, key=lambda size: size[0] * size[1])]
    return list(dict.fromkeys(chosen))


def _try(
    network: nn.Module, place: Place, images: int, channels: int, name: str, accelerator: Accelerator
) -> None:
    """Try a forward pass at a place, and a backward pass if training happens there."""
    with _explaining(place, images, name):
        _pass(network, place, images, channels, accelerator)


def _pass(network: nn.Module, place: Place, images: int, channels: int, accelerator: Accelerator) -> None:
    trained = place.where == CROP
    shown = torch.zeros(images if trained else 1, channels, *place.size, device=accelerator.device)
    network.train(trained)
    with torch.set_grad_enabled(trained), accelerator.autocast():
        outputs = tensors_of(network(shown.contiguous(memory_format=torch.channels_last)))
    if trained:
        torch.stack([logits.float().sum() for logits in outputs]).sum().backward()
        network.zero_grad()


@contextmanager
def _explaining(place: Place, images: int, name: str) -> Iterator[None]:
    """Turn the errors of a network in the block into errors that name the generation and the fix."""
    try:
        yield
    except SelftrainError:
        raise
    except Exception as error:
        raise _explained(error, place, images, name) from error


def _explained(error: Exception, place: Place, images: int, name: str) -> ConfigError | ResourceError:
    size, trained = "x".join(map(str, place.size)), place.where == CROP
    said = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
    if is_out_of_memory(error):
        kind = TooLargeError if trained else ResourceError
        lower = CROP if trained else "data.size or labels.window"
        return kind(f"{name}: no memory for images of {size} ({place.where}); lower {lower}")
    if trained and images == 1 and "more than 1 value per channel" in said:
        why = f"cannot train with one image per step and process ({said})"
        return ConfigError(f"{name}: {why}; raise train.labelled_batch")
    return ConfigError(
        f"{name}: cannot take images of {size} ({place.where}): {said}; {_way_out(place, name)}"
    )


def _way_out(place: Place, name: str) -> str:
    only, trained = only_size(name.rpartition("encoder=")[2]), place.where == CROP
    if only is None:
        return f"set another {CROP}, arch or encoder" if trained else "set another data.size, arch or encoder"
    height, width = only
    size = f"[{height},{width}]"
    if trained:
        return f"this encoder is made for {height}x{width}: set {CROP}={size}"
    fits = height == width and height % Anatomy.multiple == 0 and min(place.size) >= height
    return (
        f"this encoder is made for {height}x{width}: "
        f"set data.size={size}{f' or labels.window={height}' if fits else ''}"
    )


def only_size(encoder: str) -> Size | None:
    """The only size that a timm encoder takes; None if it takes many sizes or is not from timm."""
    if not encoder.startswith("tu-"):
        return None
    known = timm.get_pretrained_cfg(encoder.removeprefix("tu-"))
    return (known.input_size[1], known.input_size[2]) if known and known.fixed_input_size else None
