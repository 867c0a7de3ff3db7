"""Alarms: reasons to check a generation before trusting it, each with a remedy.

Alarms do not stop a run. Only the val score decides which generation leads. After a short training they are
quiet: its network has hardly learnt, which is no fault.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from selftrain.scores import distance

# Trainings with fewer steps are short. A network of the recipes' size learns its classes in a few hundred.
SHORT = 200
# Share of the pixels that would have to change class. Sound training had 0.07 to 0.13 (docs/lab-notes.md).
DRIFT = 0.25
# A class is lost if its IoU was at least KNOWN and is now less than the share LOST of that.
KNOWN, LOST = 0.05, 0.5
# Distance of the averaged weights. Sound training had 0.01 to 0.12 (docs/lab-notes.md).
FAR = 0.25


def about_generation(
    val: Mapping, leader: Mapping | None, average_distance: float, *, steps: int, promoted: bool
) -> list[str]:
    """Alarms about a generation that was trained for `steps` steps.

    `val` has its scores on val (`scores.report`), and `leader` has the scores of the earlier leader.
    `average_distance` is the distance of the averaged weights from the last ones, as a share of the last.
    """
    if steps < SHORT:
        return []
    compared = [] if leader is None else [*_below(val, leader, promoted=promoted), *_lost(val, leader)]
    return [*_drifted(val), *compared, *_far(average_distance)]


def _drifted(val: Mapping) -> list[str]:
    if (val["drift"] or 0) <= DRIFT:
        return []
    return [
        f"it predicts the classes in other amounts than val has them: {val['drift']:.0%} of the pixels would "
        "have to change class (it may have collapsed to a few classes); look at the predictions in the "
        "report, then raise loss.balance, lower train.lr or train longer"
    ]


def _below(val: Mapping, leader: Mapping, *, promoted: bool) -> list[str]:
    if promoted:  # no worse than chance explains
        return []
    return [
        f"it is worse on val than the generation that leads ({val['miou'] or 0:.4f} against "
        f"{leader['miou'] or 0:.4f}), which goes on teaching; for better labels raise select.confidence or "
        "lower select.keep"
    ]


def _lost(val: Mapping, leader: Mapping) -> list[str]:
    pairs = {name: (leader["per_class"][name] or 0, iou or 0) for name, iou in val["per_class"].items()}
    lost = [
        f"{name} ({old:.2f} to {new:.2f})"
        for name, (old, new) in pairs.items()
        if old >= KNOWN and new < LOST * old
    ]
    if not lost:
        return []
    return [
        f"it has lost most of {', '.join(lost)} (val IoU): few labels of these classes were accepted; "
        "raise select.balance or loss.balance"
    ]


def _far(share: float) -> list[str]:
    if share <= FAR:
        return []
    return [
        f"the averaged weights are {share:.0%} away from the last ones, so the average still contains early "
        "training; lower train.ema or train longer"
    ]


def about_labels(said: np.ndarray, true: np.ndarray, classes: Sequence[str], *, steps: int) -> list[str]:
    """Alarms about the pseudo-labels of a teacher that was trained for `steps` steps.

    `said` and `true` are the pixels (C,) of each class in the pseudo-labels and in the labelled images'
    masks.
    """
    if steps < SHORT:
        return []
    alarms, unseen = [], [name for name, pixels in zip(classes, said, strict=True) if not pixels]
    if unseen:
        alarms.append(
            f"its labels contain no pixel of {', '.join(unseen)}, so students learn this from the masks "
            "only; add masks that show it, or raise loss.balance"
        )
    if true.any() and (drift := distance(said, true)) > DRIFT:
        alarms.append(
            f"its labels contain the classes in other amounts than the masks: {drift:.0%} of the pixels "
            "would have to change class; the unlabelled images may show other things, or it has collapsed "
            "to a few classes: look at the pseudo-labels in the report, then add masks or raise loss.balance"
        )
    return alarms
