"""The tuned values of a generation, and how a predictor takes them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from torch import nn

from selftrain.inference import decide, tta
from selftrain.inference.predictor import Predictor
from selftrain.labels.crf import CRF, marginals
from selftrain.models import ensemble
from selftrain.tables import Table


@dataclass(frozen=True)
class Tuned:
    """Values that were tuned on val; an empty one leaves the predictor as it is."""

    members: tuple[float, ...] = ()  # the weight of each network of an ensemble, with sum 1
    views: tuple[float, ...] = ()  # the weight of each view of the predictor, with sum 1
    crf: CRF | None = None  # refines the probabilities
    thresholds: tuple[float, ...] = ()  # of each class, see `decide.thresholds`

    @classmethod
    def of(cls, report: Mapping[str, Any]) -> "Tuned":
        """The tuned values of a generation, from its report.json."""
        values = (report.get("tuned") or {}).get("values", {})
        crf = values.get("crf")
        members, views, thresholds = (
            tuple(values.get(name, ())) for name in ("members", "views", "thresholds")
        )
        return cls(members, views, CRF(**crf) if crf else None, thresholds)

    @property
    def values(self) -> dict[str, Any]:
        """The values as JSON, without empty ones."""
        return {name: value for name, value in asdict(self).items() if value}

    def network(self, network: nn.Module) -> nn.Module:
        """The network with its members weighted."""
        if not self.members:
            return network
        return ensemble.joined(ensemble.parts(network), ensemble.zooms_of(network), self.members)

    def predictor(self, plain: Predictor) -> Predictor:
        """A predictor with the tuned values."""
        if self.members:
            plain = replace(plain, networks=tuple(self.network(one) for one in plain.networks))
        if self.views:
            plain = replace(plain, view_weights=self.views)
        if self.crf:
            plain = replace(plain, refiner=partial(marginals, crf=self.crf))
        if self.decision:
            plain = replace(plain, decision=decide.instead(plain.decision, decide.of(self.decision)))
        return plain

    @property
    def decision(self) -> dict[str, Any] | None:
        """The setting `predict.decision` with the tuned thresholds."""
        return {"thresholds": {"each": list(self.thresholds)}} if self.thresholds else None

    def view(self, setting: str | Mapping[str, Mapping[str, Any]]) -> str | dict[str, Any]:
        """The setting `predict.views` with the tuned weights of the views, if there are any."""
        return weighed(setting, self.views) if self.views else Table(tta.VIEWS).one(setting, "views").written

    @property
    def refine(self) -> dict[str, Any] | None:
        """The refinement of the probabilities as cards contain it."""
        return {"crf": asdict(self.crf)} if self.crf else None


UNTUNED = Tuned()


def weighed(setting: str | Mapping[str, Mapping[str, Any]], weights: Sequence[float]) -> str | dict[str, Any]:
    """A setting of views, such as `d4`, with other weights."""
    chosen = Table(tta.VIEWS).one(setting, "views")
    return replace(chosen, settings={**chosen.settings, "weights": list(weights)}).written
