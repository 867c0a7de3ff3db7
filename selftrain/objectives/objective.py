"""A weighted sum of losses, and the only place that divides by the counts of the global batch."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from selftrain.config import LossConfig
from selftrain.errors import ConfigError
from selftrain.objectives.losses import IMAGE_TABLE, TABLE, HardLabelsError, Loss
from selftrain.tables import Chosen, Table, handed
from selftrain.targets import Target


def check_losses(cfg: LossConfig, *, soft: bool = False) -> None:
    """Check that labelled and pseudo-labelled pixels have a loss, and that all losses get what they ask for.

    `soft` says that labelled pixels have soft labels in every generation, because a mixing averages them.

    Raises ConfigError.
    """
    for setting, terms in (("loss.labelled", cfg.labelled), ("loss.pseudo", cfg.pseudo)):
        if not Objective.of(terms, setting, 1).groups:
            raise ConfigError(f"{setting} has no loss with a weight above 0; {setting}.ce=1 gives it one")
    for name, term in () if soft else cfg.labelled.items():
        _check_hard(name, term)
    Objective.of(cfg.online, "loss.online", 1)
    Objective.of(cfg.distill, "loss.distill", 1)
    if cfg.image and not Objective.of(cfg.image, "loss.image", 1, table=IMAGE_TABLE).groups:
        raise ConfigError(
            "loss.image has no loss with a weight above 0; set loss.image.bce=1, or loss.image={}"
        )
    used = any(weighs(term.entry) for term in TABLE.chosen(cfg.labelled, "loss.labelled"))
    if cfg.class_weights and not used:
        names = " and ".join(name for name, loss in TABLE.entries.items() if weighs(loss))
        raise ConfigError(f"loss.class_weights acts in {names}, and loss.labelled has none of them")


def _check_hard(name: str, term: Mapping[str, Any]) -> None:
    """Try a loss of labelled pixels on hard labels, such as masks have. Raises ConfigError."""
    objective = Objective.of({name: term}, "loss.labelled", 2)
    masks = Target(torch.zeros((1, 8, 8), dtype=torch.uint8))
    try:
        objective.value(torch.zeros(1, 2, 8, 8), masks, objective.counts(masks))
    except HardLabelsError:
        raise ConfigError(
            f"loss.labelled.{name} learns from soft labels, and masks have none; use ce or dice, or mix the "
            "labelled images of every generation by noise.mix_labelled.mixup, without loss.distill"
        ) from None


def weighs(loss: Loss) -> bool:
    """Whether a loss uses class weights."""
    return "class_weights" in inspect.signature(loss.total).parameters


@dataclass(frozen=True)
class Objective:
    """The losses of one target with their weights, for example `loss.labelled`.

    Terms with the same count are added before they are divided.
    """

    groups: tuple[tuple[Chosen[Loss], ...], ...]
    classes: int

    @classmethod
    def of(
        cls,
        terms: Mapping[str, Mapping[str, Any]],
        setting: str,
        classes: int,
        class_weights: Tensor | None = None,
        table: Table[Loss] = TABLE,
    ) -> "Objective":
        """Collect the losses of `table` listed in the setting `setting`; `class_weights` is (C,).

        Raises ConfigError for unknown losses, and for losses that ask for anything but `class_weights`.
        """
        groups: dict[tuple[Callable[[Any], Tensor], bool], list[Chosen[Loss]]] = {}
        for term in table.chosen(terms, setting):
            asked = handed(term.entry.total, f"{setting}.{term.name}", class_weights=class_weights)
            term = replace(term, settings={**term.settings, **asked})
            groups.setdefault((term.entry.count, term.entry.per_class), []).append(term)
        return cls(tuple(map(tuple, groups.values())), classes)

    @property
    def width(self) -> int:
        """The number of counts of the objective."""
        return sum(self.classes if group[0].entry.per_class else 1 for group in self.groups)

    def counts(self, target: Target[Tensor] | Tensor) -> Tensor:
        """The counts of a target (one micro-batch of one rank), (width,)."""
        counted = [group[0].entry.count(target).reshape(-1) for group in self.groups]
        plane = target if isinstance(target, Tensor) else target.hard
        return torch.cat(counted) if counted else plane.new_zeros(0, dtype=torch.float32)

    def value(self, logits: Tensor, target: Target[Tensor] | Tensor, counts: Tensor) -> Tensor:
        """This part's share of the loss; `counts` (width,) belong to the whole global batch."""
        total, first = logits.new_zeros(()), 0
        for group in self.groups:
            size = self.classes if group[0].entry.per_class else 1
            part, first = self._mean(group, logits, target, counts[first : first + size]), first + size
            total = total + part
        return total

    def _mean(
        self,
        group: tuple[Chosen[Loss], ...],
        logits: Tensor,
        target: Target[Tensor] | Tensor,
        counts: Tensor,
    ) -> Tensor:
        sums = [term.amount * term.entry.total(logits, target, **term.settings).reshape(-1) for term in group]
        shares = 1.0 / counts.clamp_min(1.0)
        if len(counts) > 1:
            shares = shares / (counts > 0).sum().clamp_min(1)
        return (shares * torch.stack(sums).sum(dim=0)).sum()
