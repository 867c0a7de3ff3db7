"""The sources of a network's initial weights: a hub, a package, a safetensors file, or its teacher."""

import re
import shlex
import threading
import urllib.error
import urllib.request
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import huggingface_hub.constants
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.models import adapt_input_conv
from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn
from torch import nn

from selftrain.anatomy import anatomy_of
from selftrain.errors import ConfigError, IntegrityError
from selftrain.models.encoders import PACKAGES, package_file
from selftrain.values import Choice

HUB_SECONDS = 3.0
HUB_ANSWERS = (
    401,
    404,
    405,
)  # errors that a mirror of the hub, but not a proxy without a way to it, may give
IMAGENET = "imagenet"
PACKAGE = "package:"
WAY_OUT = "set model.weights=null (from scratch) or model.weights=/path/to/weights.safetensors"
PREFIXES = ("model.", "net.", "_orig_mod.", "module.")  # Lightning, torch.compile, DataParallel
COUNTER = "num_batches_tracked"  # batch norm's step counter, which no network needs
SHOWN = 3  # names of tensors per message
Tensors = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Taken:
    """The number of a network's tensors that came from `source`, without batch norm's counters."""

    source: str
    encoder: int
    of_encoder: int
    decoder: int  # includes the head
    of_decoder: int

    @classmethod
    def of(cls, network: nn.Module, names: Collection[str], source: str) -> "Taken":
        """`names`: the network's tensors that came from `source`."""
        parts = (encoder_names(network), decoder_names(network))
        counts = [(sum(name in names for name in part), len(part)) for part in parts]
        return cls(source, *counts[0], *counts[1])

    def __str__(self) -> str:
        said = f"{self.encoder} of {self.of_encoder} encoder tensors from {self.source}; "
        return said + (
            f"decoder: {self.decoder} of {self.of_decoder}" if self.decoder else "decoder from random weights"
        )


def encoder_names(network: nn.Module) -> list[str]:
    """The encoder tensors that a file must contain: no counters, no classifier (timm's ViTs keep theirs)."""
    encoder = encoder_prefix(network)
    unused = tuple(f"{encoder}model.{name}." for name in _classifiers(network))
    return [name for name in _counted(network) if name.startswith(encoder) and not name.startswith(unused)]


def decoder_names(network: nn.Module) -> list[str]:
    """The other tensors, of decoder and head, without counters."""
    return [name for name in _counted(network) if not name.startswith(encoder_prefix(network))]


def encoder_prefix(network: nn.Module) -> str:
    """The prefix of the encoder's tensor names."""
    return f"{anatomy_of(network).encoder}."


def _counted(network: nn.Module) -> list[str]:
    return [name for name in network.state_dict() if not name.endswith(COUNTER)]


def _classifiers(network: nn.Module) -> tuple[str, ...]:
    model = dict(network.named_modules()).get(f"{encoder_prefix(network)}model")
    known = getattr(model, "pretrained_cfg", None) or {}
    names = known.get("classifier") or ()
    return (names,) if isinstance(names, str) else tuple(names)


def check_weights(weights: str | None, *, arch: Choice, encoder: str) -> None:
    """Check, before any work, that weights are available. Raises ConfigError with the fix."""
    if weights == IMAGENET:
        hub_is_there()
    elif weights and weights.startswith(PACKAGE):
        package_of(weights, encoder)
    elif weights and not Path(weights).is_file():
        raise ConfigError(f"model.weights={weights}: no such file; {WAY_OUT}")
    elif weights and Path(weights).suffix != ".safetensors":
        source, target = (
            shlex.quote(str(path)) for path in (weights, Path(weights).with_suffix(".safetensors"))
        )
        raise ConfigError(
            f"model.weights={weights}: only safetensors are read (a pickle could run code); convert it with: "
            f"selftrain import-weights {source} -o {target} --arch {arch} --encoder {encoder}"
        )


def package_of(weights: str, encoder: str) -> Path:
    """The file of `package:NAME`.

    Raises ConfigError if the package is not installed or is known to be of another encoder.
    """
    name = weights.removeprefix(PACKAGE).replace("-", "_")
    file = package_file(name)
    if file is None:
        raise ConfigError(f"model.weights={weights}: no package {name} with one .pth file; {WAY_OUT}")
    of = next((known for known, package in PACKAGES.items() if package == name), encoder)
    if of != encoder:
        raise ConfigError(f"model.weights={weights} is of {of}, not of {encoder}; set model.encoder={of}")
    return file


def load_weights(
    network: nn.Module, path: Path, *, partial: bool = False, whose: str, remedy: str
) -> set[str]:
    """Load every tensor whose name and shape fit; returns their names. Decoder tensors may be missing.

    `whose` names the network and `remedy` the setting of its encoder. Both go into messages.

    Raises ConfigError if encoder tensors are missing and `partial` is false, IntegrityError for a damaged
    file.
    """
    try:
        found = load_file(path)
    except (SafetensorError, OSError) as error:
        raise IntegrityError(f"model.weights={path} is not an intact safetensors file ({error})") from None
    tensors = fitting(network, resampled(network, found))
    if not partial and not tensors.keys() >= set(encoder_names(network)):
        raise ConfigError(
            f"model.weights={path}: {misfit(network, tensors, found, whose)}. Fixes: {remedy}, "
            "model.partial_weights=true (what does not fit stays random), "
            "or model.weights=null (from scratch)"
        )
    network.load_state_dict(tensors, strict=False)
    return set(tensors)


def load_whole(
    network: nn.Module, found: Tensors, *, partial: bool, whose: str, source: str, remedy: str
) -> set[str]:
    """Load the tensors of a whole network, encoder and decoder; returns the names of the tensors that fit.

    `whose` names the network, `source` the other one with its name, and `remedy` a setting without it. They
    go into messages. Raises ConfigError if a tensor does not fit and `partial` is false, or if none fits.
    """
    tensors, own = fitting(network, found), network.state_dict()
    lacking = [name for name in (*encoder_names(network), *decoder_names(network)) if name not in tensors]
    if (lacking and not partial) or len(lacking) == len(_counted(network)):
        shown = ", ".join(
            f"{name} ({_shape(found.get(name))}, here {_shape(own[name])})" for name in lacking[:SHOWN]
        )
        raise ConfigError(
            f"{source}; {len(lacking)} tensors of {whose} are not there, or of another shape: "
            f"{shown}{', …' if len(lacking) > SHOWN else ''}. Fixes: the same model.arch, model.encoder and "
            f"classes, model.partial_weights=true (what does not fit keeps random weights), or {remedy}"
        )
    network.load_state_dict(tensors, strict=False)
    return set(tensors)


def _shape(tensor: torch.Tensor | None) -> str:
    return "absent" if tensor is None else "x".join(map(str, tensor.shape)) or "one number"


def misfit(network: nn.Module, tensors: Tensors, found: Tensors, whose: str) -> str:
    """A message with the number of fitting encoder tensors and the first names that do not fit.

    If none fits, it lists names of both sides. `tensors` is the part of `found` that fits, under the
    network's names.
    """
    own, names = network.state_dict(), encoder_names(network)
    lacking = {name: own[name] for name in names if name not in tensors}
    said = f"{len(names) - len(lacking)} of {len(names)} encoder tensors fit {whose}"
    if len(lacking) < len(names):
        return f"{said}; not in the file, or of another shape: {_listed(lacking)}"
    used = {id(tensor) for tensor in tensors.values()}
    theirs = {
        name: tensor
        for name, tensor in found.items()
        if id(tensor) not in used and not name.endswith(COUNTER)
    }
    return f"{said}; the file has {_listed(theirs)}; the network has {_listed(lacking)}"


def _listed(tensors: Tensors) -> str:
    shown = [f"{name} ({'x'.join(map(str, tensor.shape))})" for name, tensor in list(tensors.items())[:SHOWN]]
    return ", ".join(shown) + (", …" if len(tensors) > SHOWN else "") or "no tensor"


def fitting(network: nn.Module, found: Tensors) -> dict[str, torch.Tensor]:
    """The tensors that fit by name and shape, under the network's names.

    The file may contain the encoder only. A first convolution on RGB is adapted to the network's channels.
    """
    own, encoder = network.state_dict(), encoder_prefix(network)
    tensors: dict[str, torch.Tensor] = {}
    for theirs, tensor in found.items():
        name = next(
            (name for name in _names(theirs, encoder) if name in own and _fits(tensor, own[name])),
            None,
        )
        if name:
            tensors.setdefault(name, _of_channels(tensor, own[name].shape))
    return tensors


def resampled(network: nn.Module, found: Tensors) -> Tensors:
    """Tensors of a vision transformer at the network's patch and image size, as timm resamples them.

    Names from DINOv2's own files become timm's names. Other tensors are returned as they are.
    """
    model = dict(network.named_modules()).get(f"{encoder_prefix(network)}model")
    patches = "patch_embed.proj.weight"
    start = next((name.removesuffix(patches) for name in found if name.endswith(patches)), None)
    if start is None or not isinstance(model, VisionTransformer):
        return found
    theirs = {name.removeprefix(start): value for name, value in found.items() if name.startswith(start)}
    others = {name: value for name, value in found.items() if not name.startswith(start)}
    return others | {f"{start}{name}": value for name, value in checkpoint_filter_fn(theirs, model).items()}


def _fits(tensor: torch.Tensor, own: torch.Tensor) -> bool:
    """Whether a tensor has the shape of the network's own, perhaps after `_of_channels`."""
    return tensor.shape == own.shape or _of_channels(tensor, own.shape).shape == own.shape


def _of_channels(tensor: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """The weights of a first convolution on RGB for images of other channels, by timm's rule.

    Grey gets the sum over the colours; other channels repeat them, scaled by 3 / channels. Other tensors are
    returned as they are.
    """
    first = tensor.dim() == len(shape) == 4 and tensor.shape[1] == 3 != shape[1]
    return adapt_input_conv(shape[1], tensor) if first and shape[1] else tensor


def _names(theirs: str, encoder: str) -> Iterator[str]:
    """Possible network names of a file's tensor: unchanged, then without each prefix in turn.

    `encoder` is the prefix of the encoder's tensors.
    """
    while True:
        # timm's feature extractors join the two parts: stages.0. becomes stages_0.
        flat = re.sub(r"^(\w+)\.(\d+)\.", r"\1_\2.", theirs)
        yield from (theirs, f"{encoder}{theirs}", f"{encoder}model.{theirs}", f"{encoder}model.{flat}")
        prefix = next((prefix for prefix in PREFIXES if theirs.startswith(prefix)), None)
        if prefix is None:
            return
        theirs = theirs.removeprefix(prefix)


def grown(network: nn.Module, teacher: Tensors) -> dict[str, torch.Tensor]:
    """The teacher's tensors, zero-padded so that `network` computes the same function (Net2Net).

    Chen et al. 2016. Channels that only the network has keep their own weights; the teacher's channels give
    them weight 0.
    """
    own = network.state_dict()
    # not the adaptation of RGB weights: teacher and student see images of the same channels
    same = {
        name: tensor for name, tensor in teacher.items() if name in own and tensor.shape == own[name].shape
    }
    tensors = fitting(network, same)
    for name, tensor in teacher.items():
        mine = own.get(name)
        if (
            name in tensors
            or mine is None
            or mine.dim() != tensor.dim()
            or mine.shape[2:] != tensor.shape[2:]
        ):
            continue
        if all(theirs <= ours for theirs, ours in zip(tensor.shape, mine.shape, strict=True)):
            whole = mine.clone()
            whole[: len(tensor)] = 0
            whole[tuple(map(slice, tensor.shape))] = tensor
            tensors[name] = whole
    return tensors


def hub_is_there() -> bool:
    """Whether the hub answers within seconds; looked up once.

    If not, its client is told to be offline: cached files are still found, and missing ones fail at once.
    HF_HUB_OFFLINE, HF_ENDPOINT and the proxies of the environment are obeyed.
    """
    if huggingface_hub.constants.HF_HUB_OFFLINE:
        return False
    there = _answers(huggingface_hub.constants.ENDPOINT)
    huggingface_hub.constants.HF_HUB_OFFLINE = not there
    return there


@cache
def _answers(url: str) -> bool:
    answers: list[bool] = []

    def ask() -> None:
        """Note whether the hub answers; an error of the network is no answer."""
        try:
            request = urllib.request.Request(url, method="HEAD")
            with urllib.request.urlopen(request, timeout=HUB_SECONDS):
                answers.append(True)
        except urllib.error.HTTPError as error:
            answers.append(error.code in HUB_ANSWERS)
        except (OSError, ValueError):
            answers.append(False)

    # a thread, because no timeout limits the look-up of the name
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(HUB_SECONDS + 1)
    return any(answers)
