"""How networks are asked about images: the settings of `predict` with what val chose, and their predictor."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import nn

from selftrain.inference import cleanup, decide, tta, windows
from selftrain.inference.pixels import PixelScale
from selftrain.inference.predictor import Predictor
from selftrain.labels.crf import CRF, marginals
from selftrain.values import Choice


@dataclass(frozen=True)
class Asked:
    """The settings of `predict` as config.yaml and card.json contain them, with what val chose.

    Runs and exports make their predictors from it, so both predict alike.
    """

    window: int | Choice
    views: Choice = "plain"
    decision: Choice = "argmax"
    gate: float = 0.0  # see exported.GATE
    least: float = 0.0  # pixels whose class is less probable have none
    refine: Mapping[str, Any] | None = None  # {"crf": its settings}; None: the probabilities stay as they are
    # min_area and max_hole, by class name
    cleanup: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    def predictor(self, network: nn.Module, scale: PixelScale, classes: list[str], **rest: Any) -> Predictor:
        """The predictor of a network of `classes`, which is on the device of `scale`.

        `rest` are further fields of `Predictor`. Raises ConfigError for unknown names and values.
        """
        crf = (self.refine or {}).get("crf")
        cleaning = {"min_area": {}, "max_hole": {}, **self.cleanup}
        decision = decide.of(self.decision)
        if self.least:
            decision = decide.Sure(decision, self.least)
        return Predictor(
            (network,),
            scale,
            windows.of(self.window),
            refiner=partial(marginals, crf=CRF(**crf)) if crf else None,
            decision=decide.cleaned(decision, cleanup.of(**cleaning, classes=classes, section="predict")),
            gate=self.gate,
            **rest,
        ).with_views(tta.of(self.views, "predict.views"))
