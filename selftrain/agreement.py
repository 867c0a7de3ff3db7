"""Agreement of two sets of images about which network is better: the correlation of their scores."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

FEWEST = 3  # pairs
HALVES = ("val_miou_first", "val_miou_second")  # of metrics.jsonl: val mIoU on each half of the val images


def correlation(pairs: Sequence[tuple[float, float]]) -> dict[str, float] | None:
    """{"correlation": Pearson's r, "count": number of pairs}.

    None for fewer than FEWEST pairs, or if one side does not vary.
    """
    if len(pairs) < FEWEST:
        return None
    first, second = np.array(pairs, float).T
    if not first.std() or not second.std():
        return None
    return {"correlation": float(np.corrcoef(first, second)[0, 1]), "count": len(pairs)}


def of_halves(rows: Iterable[Mapping]) -> dict[str, float] | None:
    """The correlation of two halves of val over the evaluations of a run; `rows` are of metrics.jsonl."""
    return correlation([(row[HALVES[0]], row[HALVES[1]]) for row in rows if HALVES[0] in row])


def of_val_and_test(reports: Iterable[Mapping]) -> dict[str, float] | None:
    """The correlation of val and test over runs with a test score; `reports` are their report.json.

    A run counts once, by the generation that leads it.
    """
    scores = [(report["generations"][report["best"]]["val"], report["test"]) for report in reports]
    return correlation([(val["miou"] or 0.0, test["miou"] or 0.0) for val, test in scores if test])
