"""Remarks of a report's page: what a reader needs to know before trusting the numbers."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from selftrain.report.reading import Generation, Headline, compared, difference, incumbents, number, pick
from selftrain.report.summary import NOTES


def remarks(
    report: dict, top: Headline, generations: Sequence[Generation], *, finished: bool = True
) -> list[str]:
    """Remarks that a reader needs before trusting the numbers."""
    return [
        *_notes(report),
        *(_about_result(top, generations) if finished else ()),
        *_about_promotion(top, generations),
        *_alarms(generations),
        *_about_tuning(generations),
        *(_about_scores(report, top) if finished else _until_the_end(top)),
        *_about_fairness(top, generations),
        *_about_exactness(generations),
    ]


def _notes(report: dict) -> Iterable[str]:
    for name in NOTES:
        if pick(report, name):
            yield f"{report[name]}."


def _about_result(top: Headline, generations: Sequence[Generation]) -> Iterable[str]:
    if len(generations) == 1:
        yield "Only the teacher was trained: there is no student to compare it with."
    if top.best == 0 and len(generations) > 1:
        yield "Every student is worse than the teacher on val: the teacher is the result of this run."


def _about_promotion(top: Headline, generations: Sequence[Generation]) -> Iterable[str]:
    before = incumbents(generations)
    for g in generations[1:]:
        incumbent, found = before[g.number], compared(g, before[g.number])
        scores = (
            ""
            if difference(g.miou, incumbent.miou) is None
            else f" ({g.miou:.4f} against {incumbent.miou:.4f})"
        )
        if g.promoted is False:
            yield (
                f"Generation {g.number} is worse than generation {incumbent.number} on val{scores} "
                "and was not promoted."
            )
        elif g.promoted and found and found[0] < 0:
            role = "leads" if g.number == top.best else "was promoted"
            yield (
                f"Generation {g.number} {role} although its val score is lower than the score of generation "
                f"{incumbent.number}{scores}: the difference, {-found[0]:.4f}, is within its standard error, "
                f"{found[1]:.4f}. The leader is the last promoted generation, not the highest score."
            )


def _alarms(generations: Sequence[Generation]) -> Iterable[str]:
    for g in generations:
        for alarm in [*(pick(g.row, "alarms") or []), *(pick(g.row, "labels", "alarms") or [])]:
            yield f"Generation {g.number}: {alarm}{'' if alarm.endswith('?') else '.'}"


def about_tuning(facts: Mapping[str, Any] | None) -> list[str]:
    """What was tuned on val, from "tuned" of a generation's report: a line for each thing that was tried."""
    if not facts:
        return []
    if facts.get("note"):
        return [facts["note"]]
    return [_tried(row) for row in facts.get("steps") or [] if row]


def _tried(row: Mapping[str, Any]) -> str:
    before, after = (row.get(name) or 0.0 for name in ("before", "cross_fitted"))
    return (
        f"{row.get('setting') or '–'}, tuned on val, is {'kept' if row.get('kept') else 'not kept'}: "
        f"val mIoU {before:.4f} without it, {after:.4f} cross-fitted"
    )


def _about_tuning(generations: Sequence[Generation]) -> Iterable[str]:
    for g in generations:
        for line in about_tuning(pick(g.row, "tuned")):
            yield f"Generation {g.number}: {line}."


def _until_the_end(top: Headline) -> Iterable[str]:
    if top.best is not None:
        yield "The scores at the top are those on val so far. The test set is read when the run ends."


def _about_scores(report: dict, top: Headline) -> Iterable[str]:
    if top.split == "val":
        yield "There is no test set. The scores at the top are optimistic: val also selected the generation."
    elif top.gain is not None and top.gain < 0:
        yield "On test, the generation selected on val is worse than the teacher."
    halves, count = (number(report, "val_halves", name) for name in ("correlation", "count"))
    if halves is not None:
        yield (
            f"Over {count:.0f} evaluations, the mIoU on the first half of val and on the second one have the "
            f"correlation {halves:+.2f}. A low one means that val is too small to choose by."
        )
    exported = pick(report, "exported")
    if isinstance(exported, int) and exported != top.best:
        score = number(report, "exported_test", "miou")
        its_score = f" Its test mIoU is {score:.4f}." if score is not None else ""
        yield f"The export is generation {exported}, not the best one.{its_score}"


def _about_fairness(top: Headline, generations: Sequence[Generation]) -> Iterable[str]:
    if not top.best or top.gain is None:
        return
    until = [g.row for g in generations[: top.best + 1]]
    sizes = [number(row, "model", "params") or 0 for row in until]
    steps = [number(row, "steps") or 0 for row in until]
    ratios = [
        (sizes[-1], sizes[0], "the teacher's parameters"),
        (sum(steps), steps[0], "the teacher's steps in total"),
    ]
    larger = [
        f"{mine / teachers:.2g} times {what}"
        for mine, teachers, what in ratios
        if teachers and mine != teachers
    ]
    if larger:
        yield (
            f"Generation {top.best} has {' and '.join(larger)}, "
            "so the gain does not come from the unlabelled images alone. "
            "Compare it with recipe=supervised, with the same model and the same total steps."
        )
    yield "One run is one seed: a gain smaller than the spread between seeds proves nothing."


def _about_exactness(generations: Sequence[Generation]) -> Iterable[str]:
    for g in generations:
        if g.exact is False:
            yield (
                f"Generation {g.number} is not exact: the run was resumed under different conditions "
                f"({'; '.join(pick(g.row, 'changed_conditions') or ['a different number of processes'])}), "
                "so the same command may give different bits."
            )
