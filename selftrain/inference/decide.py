"""Decisions, from probabilities to class ids: DECISIONS.

A decision is a function from probabilities (N, C, H, W) to ids (N, H, W) uint8.
`Cleaned` is a decision whose ids are cleaned up afterwards.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from selftrain.ids import IGNORE
from selftrain.inference.cleanup import CleanUp
from selftrain.tables import Bounds, Table, bound

Decision = Callable[[Tensor], Tensor]


def argmax(probs: Tensor) -> Tensor:
    """The most probable class; of equally probable ones the first."""
    # torch's argmax gives the same ids, but takes four times as long on a CPU
    return probs.max(dim=1).indices.to(torch.uint8)


def thresholds(
    probs: Tensor,
    *,
    each: Annotated[
        list[float], Bounds(above=0, most=1), "threshold of each class; empty: tuned on val"
    ] = [],  # noqa: B006  (never changed)
) -> Tensor:
    """The class with the largest ratio of its probability to its threshold.

    Of two classes whose thresholds add up to 1, the second one is chosen where its probability reaches its
    threshold. Equal thresholds, and an empty list, choose the most probable class.
    """
    return argmax(probs / probs.new_tensor(each)[:, None, None] if each else probs)


DECISIONS: dict[str, Callable[..., Tensor]] = {"argmax": argmax, "thresholds": thresholds}


def of(setting: str | Mapping[str, Mapping[str, Any]]) -> Decision:
    """The decision that `setting` names: `argmax`, or `{name: {parameter: value}}`.

    Raises ConfigError for names and values that no entry has.
    """
    chosen = Table(DECISIONS).one(setting, "decision")
    return bound(chosen) if chosen.settings else chosen.entry


@dataclass(frozen=True)
class Cleaned:
    """A decision, and the clean-up of whole label maps after it."""

    decision: Decision
    rule: CleanUp

    def __call__(self, probs: Tensor) -> Tensor:
        return self.after(self.decision(probs))

    def after(self, ids: Tensor) -> Tensor:
        """The ids (N, H, W) of `decision`, cleaned up."""
        maps = np.stack([self.rule.cleaned(one) for one in ids.cpu().numpy()])
        return torch.from_numpy(maps).to(ids.device)


@dataclass(frozen=True)
class Sure:
    """A decision that leaves pixels without a class (255) if their class is less probable than `least`."""

    decision: Decision
    least: float

    def __call__(self, probs: Tensor) -> Tensor:
        ids = self.decision(probs)
        return ids.masked_fill(confidence(probs, ids) < self.least, IGNORE)


def confidence(probs: Tensor, ids: Tensor) -> Tensor:
    """The probability (N, H, W) of the decided ids (N, H, W); of pixels without a class, the largest one."""
    of_class = probs.gather(1, ids.long().clamp_max(probs.shape[1] - 1)[:, None])[:, 0]
    return torch.where(ids == IGNORE, probs.amax(dim=1), of_class)


def instead(decision: Decision, other: Decision) -> Decision:
    """Replace a decision by `other`; a clean-up after it stays."""
    return replace(decision, decision=other) if isinstance(decision, Cleaned) else other


def cleaned(decision: Decision, rule: CleanUp | None) -> Decision:
    """`decision`, followed by the clean-up if there is one."""
    return Cleaned(decision, rule) if rule else decision


def at_size(decision: Decision, probs: Tensor, size: tuple[int, int]) -> Tensor:
    """Class ids (H, W) uint8 of probabilities (C, h, w), which are resized to `size` before the decision."""
    if isinstance(decision, Cleaned):
        return decision.after(at_size(decision.decision, probs, size)[None])[0]
    return judged_at_size(decision, probs, size)[0]


def judged_at_size(decision: Decision, probs: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """`at_size` without a clean-up, and the confidence (H, W) of the ids."""
    if decision is argmax and tuple(probs.shape[1:]) != size:
        return _argmax_at_size(probs, size)
    resized = (probs if tuple(probs.shape[1:]) == size else _resized(probs, size))[None]
    ids = decision(resized)
    return ids[0], confidence(resized, ids)[0]


def _argmax_at_size(probs: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """`argmax` and the largest probability, class by class: all resized maps may not fit in memory."""
    best = torch.full(size, -1.0, device=probs.device)
    ids = torch.zeros(size, dtype=torch.uint8, device=probs.device)
    for c in range(len(probs)):
        resized = _resized(probs[c : c + 1], size)[0]
        better = resized > best
        best, ids = torch.where(better, resized, best), torch.where(better, c, ids)
    return ids, best


def _resized(probs: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(probs[None], size=size, mode="bilinear", align_corners=False)[0]
