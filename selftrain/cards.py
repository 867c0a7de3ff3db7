"""The card of an exported generation, from the run's settings, its data and the generation's report."""

from collections.abc import Mapping
from typing import Any

from selftrain import debugging
from selftrain.config import Config
from selftrain.data.load import mask_coding
from selftrain.data.sample import DataSet
from selftrain.diagnosis import brief
from selftrain.inference import decide, tta
from selftrain.inference.exported import Input, Origin, Output, card
from selftrain.models.build import multiple_of
from selftrain.plan import window_of
from selftrain.tables import Table
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
    tuned = Tuned.of(row)
    decision = tuned.decision or Table(decide.DECISIONS).one(cfg.predict.decision, "predict.decision").written
    views = tuned.view(Table(tta.VIEWS).one(cfg.predict.views, "predict.views").written)
    cleaning = {"min_area": cfg.predict.min_area, "max_hole": cfg.predict.max_hole}
    output = Output(
        data.classes,
        mask_coding(data),
        window_of(cfg).written,
        decision,
        views,
        cleaning,
        cfg.predict.gate,
        tuned.refine,
    )
    described = card(
        Origin(cfg.recipe, cfg.data.name, row["generation"], cfg.seed, metrics),
        Input(cfg.data.mean, cfg.data.std, cfg.data.size, multiple, data.levels, cfg.predict.size),
        output,
        model=row["model"],
        ensemble=ensemble,
    )
    return {**described, "debug": debugging.NOTE} if cfg.debug else described
