"""Alarms: reasons to check a generation before trusting it.

Alarms do not stop a run. Only the val score decides which generation leads.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from selftrain.scores import distance

# Share of the pixels that would have to change class. Sound training had 0.07 to 0.13 (docs/lab-notes.md).
DRIFT = 0.25
# A class is lost if its IoU was at least KNOWN and is now less than the share LOST of that.
KNOWN, LOST = 0.05, 0.5
# Distance of the averaged weights. Sound training had 0.01 to 0.12 (docs/lab-notes.md).
FAR = 0.25


def about_scores(val: Mapping, leader: Mapping | None) -> list[str]:
    """Alarms about a generation's val scores (`scores.report`), also compared with the leader so far."""
    alarms = []
    if (val["drift"] or 0) > DRIFT:
        alarms.append(
            f"{val['drift']:.0%} of the val pixels are predicted as classes that are rarer in val: "
            "has it collapsed?"
        )
    if leader is None:
        return alarms
    if (val["miou"] or 0) < (leader["miou"] or 0):
        alarms.append(f"val mIoU {val['miou'] or 0:.4f} is below the leader's {leader['miou']:.4f}")
    pairs = {name: (leader["per_class"][name] or 0, iou or 0) for name, iou in val["per_class"].items()}
    lost = [
        f"{name} ({old:.2f} to {new:.2f})"
        for name, (old, new) in pairs.items()
        if old >= KNOWN and new < LOST * old
    ]
    return [*alarms, f"it has lost {', '.join(lost)} (val IoU)"] if lost else alarms


def about_labels(said: np.ndarray, true: np.ndarray, classes: Sequence[str]) -> list[str]:
    """Alarms about pseudo-labels.

    `said` and `true` are the pixels (C,) of each class in the pseudo-labels and in the labelled images'
    masks.
    """
    alarms, unseen = [], [name for name, pixels in zip(classes, said, strict=True) if not pixels]
    if unseen:
        alarms.append(
            f"it labels no pixel as {', '.join(unseen)}: students cannot learn that from its labels"
        )
    if (drift := distance(said, true)) > DRIFT:
        alarms.append(
            f"its labels assign {drift:.0%} of the pixels to classes that are rarer in the masks: "
            "has it collapsed?"
        )
    return alarms


def about_average(share: float) -> list[str]:
    """Alarms about the distance of the averaged weights from the last weights, as a share of the last."""
    if share <= FAR:
        return []
    return [
        f"the averaged weights are {share:.0%} away from the last ones: "
        "train.average or train.ema reaches too far back"
    ]
