"""The table printed at the end of a run."""

from pathlib import Path

from rich.console import Console
from rich.table import Table

from selftrain import runlog
from selftrain.values import worded

NOTES = ("debug", "memory")  # of report.json: what a reader needs to know before trusting the numbers
SHOWN = ("generations", "best", "test", "teacher_test")  # of report.json


def print_table(report: dict, page: Path, export: Path | None = None, student: Path | None = None) -> None:
    """Print generations with their models and val mIoU, test scores, and the paths of report and export.

    A run that is not finished has no export, and may have no page yet.

    `student` is the export of the network that was distilled from the exported one, if there is any.
    """
    console = Console(highlight=False, markup=False, record=True)
    table = Table("generation", "model", "parameters", "steps", "val mIoU", "promoted")
    for row in report["generations"]:
        model = row["model"]
        mark = "yes" if row["promoted"] else "no"
        online = f" ({row['online']})" if row.get("online") else ""
        table.add_row(
            f"{row['generation']} {'student' if row['generation'] else 'teacher'}{online}",
            f"{several(row)}{worded(model['arch'])} {model['encoder']}".rstrip(),
            f"{model['params'] / 1e6:.1f} M",
            str(row["steps"]),
            score(row["val"]),
            mark if row["generation"] != report["best"] else f"{mark}, leads",
        )
    console.print(table)
    if higher := _higher(report):
        console.print(higher, soft_wrap=True)
    if report["test"]:
        best, teacher = score(report["test"]), score(report["teacher_test"])
        console.print(
            f"test mIoU: leader (generation {report['best']}) {best}, teacher (generation 0) {teacher}"
        )
    halves = report.get("val_halves")
    if halves:
        console.print(
            f"two halves of val: correlation {halves['correlation']:+.2f} over {halves['count']} evaluations"
        )
    for name in NOTES:
        if report.get(name):
            console.print(f"warning: {report[name]}", soft_wrap=True)
    if export or page.is_file():
        console.print(f"report: {page}", soft_wrap=True)
    console.print(f"export: {export}" if export else "not finished", soft_wrap=True)
    if student:
        row = report["student"]
        scores = f"val mIoU {score(row['val'])}" + (f", test {score(row['test'])}" if row["test"] else "")
        console.print(f"one network, distilled from it: {student} ({scores})", soft_wrap=True)
    runlog.note(console.export_text())


def _higher(report: dict) -> str:
    """A line that explains a leader with a lower val score than another promoted generation; else ""."""
    rows = [row for row in report["generations"] if row["promoted"] and row["val"]]
    scores = {row["generation"]: row["val"]["miou"] or 0.0 for row in rows}
    leader, highest = report.get("best"), max(scores, key=lambda number: scores[number], default=None)
    if leader not in scores or highest is None or scores[highest] <= scores[leader]:
        return ""
    return (
        f"generation {leader} leads as the last promoted one; generation {highest} has a higher val mIoU, "
        "by less than one standard error"
    )


def several(row: dict) -> str:
    """The number of a generation's networks, such as "3 x "; empty for one network."""
    return f"{len(row['members'])} x " if row.get("members") else ""


def score(scores: dict | None) -> str:
    """mIoU with four digits, or a dash if there is no score."""
    return "–" if not scores or scores["miou"] is None else f"{scores['miou']:.4f}"
