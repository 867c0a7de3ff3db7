"""selftrain: semi-supervised self-training for semantic segmentation.

    model = selftrain.load("runs/first")
    mask = model.predict("photo.jpg")
    run = selftrain.fit(data="mine.yaml", out="runs/second")

docs/guide/python.md has more.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from selftrain.api import Model, Run, fit, load

__version__ = "0.2.0"
__all__ = ["Model", "Run", "__version__", "fit", "load"]


def __getattr__(name: str) -> Any:
    """The names of `selftrain.api`, which is imported when one is first used: torch takes seconds."""
    if name in __all__:
        return getattr(import_module("selftrain.api"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
