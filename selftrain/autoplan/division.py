"""How a plan divides the masks. Without torch, so that `selftrain verify` can show these splits at once."""

from collections.abc import Collection, Iterator
from typing import Any

from selftrain.config import AUTO, Config
from selftrain.data.dataset import DataSet
from selftrain.data.load import load
from selftrain.data.sources.named import root_of
from selftrain.data.sources.voc import filled
from selftrain.data.splits import FEW_MASKS
from selftrain.datasets import spec_of
from selftrain.settings.tree import changed

Row = tuple[str, Any, str]  # a setting, its value, and the reason
VAL, FEWEST_VAL = 0.2, 3  # the usual share of val, and its least number of images


def shares(masks: int, named: Collection[str]) -> Iterator[Row]:
    """Few masks are not spent on a test set, and val has at least FEWEST_VAL images.

    `named` are the splits that the data set itself has.
    """
    if masks < FEW_MASKS and "test" not in named:
        why = f"{masks} masks: fewer than {FEW_MASKS} are not spent on a test set"
        yield "data.splits.test_fraction", 0.0, why
    share = min(FEWEST_VAL / masks, 0.5)
    if share > VAL and "val" not in named:
        why = f"val gets at least {FEWEST_VAL} images"
        yield "data.splits.val_fraction", round(share, 3), why


def named_splits(cfg: Config) -> frozenset[str]:
    """Which of val and test the data set itself has, so that no share of the masks becomes them."""
    if cfg.data.format == "shapes":
        return frozenset({"val", "test"})
    spec = spec_of(cfg.data)
    splits = filled(spec, root_of(spec)).splits if spec.format == "voc" else spec.splits  # VOC brings lists
    fold = {"val"} if splits.fold else set()
    return frozenset(name for name in ("val", "test") if getattr(splits, name)) | fold


def masks_in(data: DataSet) -> int:
    """The number of images with a mask, in all splits, without external ones (data.extra)."""
    return sum(not sample.extra for split in (data.labelled, data.val, data.test) for sample in split)


def divided(cfg: Config) -> Config:
    """`cfg` with the splits that its plan will choose. Raises DataError if the data cannot be listed."""
    if cfg.train.plan != AUTO:
        return cfg
    masks = masks_in(load(spec_of(cfg.data), strict=False))
    rows = shares(masks, named_splits(cfg)) if masks else ()
    return changed(cfg, {name: value for name, value, _ in rows if name not in cfg.given})
