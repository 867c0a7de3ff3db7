"""The card of an exported generation, from the run's settings, its data and the generation's report."""

from collections.abc import Mapping
from typing import Any

from selftrain import debugging, predictors
from selftrain.config import Config
from selftrain.data.dataset import DataSet
from selftrain.data.load import mask_coding
from selftrain.diagnosis import brief, quality_of
from selftrain.inference.exported import Input, Origin, Output, card
from selftrain.models.build import multiple_of
from selftrain.tuning.tuned import Tuned


def card_of(
    cfg: Config, data: DataSet, row: Mapping[str, Any], *, test: dict | None, ensemble: int = 0
) -> dict[str, Any]:
    """The card of the generation that `row`, its report.json, describes; `test` are its test scores.

    Of a student, `ensemble` is the number of networks that it was distilled from. The card of a debug run
    says that it is one.
    """
    metrics = {"val": brief(row["val"]), "test": brief(test)}
    multiple = multiple_of(row["model"]["arch"])
    described = card(
        Origin(cfg.recipe, cfg.data.name, row["generation"], cfg.seed, metrics),
        Input(cfg.data.mean, cfg.data.std, cfg.data.size, multiple, data.levels, cfg.predict.size),
        Output(data.classes, mask_coding(data), predictors.asked(cfg, Tuned.of(row)), quality_of(row["val"])),
        model=row["model"],
        ensemble=ensemble,
    )
    return {**described, "debug": debugging.NOTE} if cfg.debug else described
