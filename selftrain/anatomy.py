"""What the program knows of a network besides its forward pass: its input sides and its parts."""

from dataclasses import dataclass

from torch import nn

from selftrain.errors import ConfigError

ATTRIBUTE = "anatomy"  # an attribute of networks; copies keep it


@dataclass(frozen=True)
class Anatomy:
    """The sides that a network accepts, and the names of two modules. The defaults fit smp."""

    multiple: int = 32  # image sides are multiples of it
    encoder: str = "encoder"  # the part with pretrained weights and, optionally, its own learning rate
    head: str = "segmentation_head"  # dropout acts on its input features


def anatomy_of(network: nn.Module) -> Anatomy:
    """The anatomy that `models.build` attached to a network; the defaults for any other module."""
    found = getattr(network, ATTRIBUTE, None)
    return found if isinstance(found, Anatomy) else Anatomy()


def part(network: nn.Module, name: str, setting: str) -> nn.Module:
    """The module `name` of a network, on which `setting` acts. Raises ConfigError if it does not exist."""
    try:
        return network.get_submodule(name)
    except AttributeError:
        raise ConfigError(
            f"{setting}: {type(network).__name__} has no module {name!r}; its Anatomy may name another"
        ) from None
