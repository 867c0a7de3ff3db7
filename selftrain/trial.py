"""Every network of a run, tried before the first step on the sizes that it is going to meet.

Some encoders take one size only and some decoders none below a least one. Without a trial that shows in the first look at val,
after hours of training.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import timm
import torch
from accelerate import Accelerator
from torch import nn

from selftrain.config import Config
from selftrain.data.findings import Look
from selftrain.data.sources import SPLITS, DataSet
from selftrain.errors import ConfigError, ResourceError, is_out_of_memory
from selftrain.labels.tta import MULTIPLE
from selftrain.models.build import to_layout
from selftrain.networks import Networks
from selftrain.rng import untouched

Size = tuple[int, int]  # height, width
Sizes = Mapping[str, Counter[Size]]  # of the images in each split
EXTREMES = (min, max)
CROP = "train.crop"


@dataclass(frozen=True)
class Place:
    """A size that the network sees, and where."""

    size: Size
    where: str  # for messages: train.crop, or what is looked at


def sizes_seen(looks: Iterable[Look], cfg: Config) -> Sizes:
    """The sizes of images by split, from the look at all files."""
    own = (cfg.data.size[0], cfg.data.size[1]) if cfg.data.size else None
    sizes: dict[str, Counter[Size]] = {split: Counter() for split in SPLITS}
    for one in looks:
        if one.size is not None:
            sizes[one.split][own or one.size] += 1
    return sizes


def sizes_sampled(data: DataSet, *, most: int = 8) -> Sizes:
    """The sizes of up to `most` images of each split. Reads them; drawn ones are all alike, so one of each split."""
    sizes: dict[str, Counter[Size]] = {}
    for split in SPLITS:
        samples = getattr(data, split)
        chosen = samples[:1] if samples and samples[0].drawn else samples[:: max(len(samples) // most, 1)]
        sizes[split] = Counter(one.size or one.read_image().shape[:2] for one in chosen)
    return sizes


def check(cfg: Config, networks: Networks, built: Mapping[int, nn.Module], sizes: Sizes, accelerator: Accelerator) -> None:
    """One step of training and a look at a few sizes with each of `built`, networks by generation that are not used again.

    Raises ConfigError that names the generation, the size and the way out, ResourceError where memory does not suffice.
    """
    looked_at, tried = places(sizes, cfg), set[tuple]()
    for number, network in built.items():
        images = 2 if images_of_a_step(cfg, number, accelerator.num_processes) > 1 else 1
        key = (str(networks.describe(number, network)), images)
        if key in tried:
            continue
        tried.add(key)
        name = "generation {}: arch={arch} encoder={encoder}".format(number, **networks.describe(number, network))
        with untouched():
            network = to_layout(network).to(accelerator.device)
            for place in (Place((cfg.train.crop[0], cfg.train.crop[1]), CROP), *looked_at):
                _try(network, place, images, name, accelerator)
            network.cpu()


def images_of_a_step(cfg: Config, number: int, processes: int) -> int:
    """How many images a process has in a step, at least."""
    unlabelled = cfg.train.unlabelled_batch if number or cfg.generations[number].online else 0
    return (cfg.of_generation(number, "labelled_batch") + unlabelled) // processes


def places(sizes: Sizes, cfg: Config) -> list[Place]:
    """The sizes at which networks look at val, test and unlabelled images: per kind the most frequent, lowest, narrowest, largest."""
    labelling = any(not generation.online for generation in cfg.generations[1:])
    scales = cfg.labels.tta.scales if labelling else []
    turns = (False, True) if cfg.labels.tta.rotate90 else (False,)
    views = Counter({_scaled(size, scale, turn): count for size, count in sizes["unlabelled"].items() for scale in scales for turn in turns})
    kinds = {"val and test images": sizes["val"] + sizes["test"], "unlabelled images": views}
    found: dict[Size, str] = {}
    for kind, counts in kinds.items():
        seen: Counter[Size] = Counter()
        for size, count in counts.items():
            seen[_window(size, cfg.labels.window)] += count
        for size in _few(seen):
            found.setdefault(size, kind)
    return [Place(size, where) for size, where in found.items()]


def _scaled(size: Size, scale: float, turned: bool) -> Size:
    height, width = (max(1, round(side * scale)) for side in size)
    return (width, height) if turned else (height, width)


def _window(size: Size, window: int) -> Size:
    """What of an image the network sees at once, padded."""
    height, width = (side + -side % MULTIPLE for side in size)
    return (min(height, window), min(width, window)) if window else (height, width)


def _few(sizes: Counter[Size]) -> list[Size]:
    if not sizes:
        return []
    chosen = [sizes.most_common(1)[0][0], min(sizes), min(sizes, key=lambda size: size[::-1])]
    return list(dict.fromkeys([*chosen, max(sizes, key=lambda size: size[0] * size[1])]))


def _try(network: nn.Module, place: Place, images: int, name: str, accelerator: Accelerator) -> None:
    """A forward pass at a place, with a backward pass where it is trained."""
    trained = place.where == CROP
    shown = torch.zeros(images if trained else 1, 3, *place.size, device=accelerator.device)
    network.train(trained)
    try:
        with torch.set_grad_enabled(trained), accelerator.autocast():
            logits = network(shown.contiguous(memory_format=torch.channels_last))
        if trained:
            logits.float().sum().backward()
            network.zero_grad()
    except Exception as error:
        raise _explained(error, place, images, name) from error


def _explained(error: Exception, place: Place, images: int, name: str) -> ConfigError | ResourceError:
    size, said = "x".join(map(str, place.size)), (str(error).strip().splitlines() or [type(error).__name__])[0]
    if is_out_of_memory(error):
        return ResourceError(f"{name}: no memory for images of {size} ({place.where}); lower {_setting(place)}")
    if place.where == CROP and images == 1 and "more than 1 value per channel" in said:
        return ConfigError(f"{name}: cannot learn from one image a step and process ({said}); raise train.labelled_batch")
    return ConfigError(f"{name}: does not take images of {size} ({place.where}): {said}; {_way_out(place, name)}")


def _setting(place: Place) -> str:
    return CROP if place.where == CROP else "data.size or labels.window"


def _way_out(place: Place, name: str) -> str:
    fixed = only_size(name.rpartition("encoder=")[2])
    if fixed is None:
        return f"set a larger {CROP}, or another arch or encoder" if place.where == CROP else "set data.size=[height,width] larger"
    size = f"[{fixed[0]},{fixed[1]}]"
    if place.where == CROP:
        return f"this encoder takes {fixed[0]}x{fixed[1]}: set {CROP}={size}"
    windows = f", or labels.window={fixed[0]}" if fixed[0] % MULTIPLE == 0 and min(place.size) >= fixed[0] == fixed[1] else ""
    return f"this encoder takes {fixed[0]}x{fixed[1]}: set data.size={size}{windows}"


def only_size(encoder: str) -> Size | None:
    """The one size (height, width) that a timm encoder takes; None for those that take many, or are not timm's."""
    known = timm.get_pretrained_cfg(encoder.removeprefix("tu-"), allow_unregistered=True) if encoder.startswith("tu-") else None
    return tuple(known.input_size[1:]) if known and known.fixed_input_size else None  # type: ignore[return-value]
