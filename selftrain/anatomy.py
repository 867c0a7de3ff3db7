"""What the program has to know of a network besides its forward pass: which sides it takes, and where its parts are."""

from dataclasses import dataclass

from torch import nn

from selftrain.errors import ConfigError

ATTRIBUTE = "anatomy"  # of a network; copies of it have it, too


@dataclass(frozen=True)
class Anatomy:
    """The sides that a network takes, and the names of two modules. The defaults are smp's."""

    multiple: int = 32  # images have sides that are multiples of it
    encoder: str = "encoder"  # has pretrained weights, and maybe its own learning rate
    head: str = "segmentation_head"  # dropout acts on the features that it gets


def anatomy_of(network: nn.Module) -> Anatomy:
    """What `models.build` wrote onto a network; the defaults for any other module."""
    found = getattr(network, ATTRIBUTE, None)
    return found if isinstance(found, Anatomy) else Anatomy()


def part(network: nn.Module, name: str, setting: str) -> nn.Module:
    """The module `name` of a network, on which `setting` acts. Raises ConfigError if there is none."""
    try:
        return network.get_submodule(name)
    except AttributeError:
        raise ConfigError(f"{setting}: {type(network).__name__} has no module {name!r}; its Anatomy may name another") from None
