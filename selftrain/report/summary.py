"""The table printed at the end of a run."""

from pathlib import Path

from rich.console import Console
from rich.table import Table

from selftrain import runlog
from selftrain.values import worded

SHOWN = ("generations", "best", "test", "teacher_test")  # of report.json


def print_table(report: dict, page: Path, export: Path) -> None:
    """Print generations with their models and val mIoU, test scores, and the paths of report and export."""
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
            mark if row["generation"] != report["best"] else f"{mark}, best",
        )
    console.print(table)
    if report["test"]:
        best, teacher = score(report["test"]), score(report["teacher_test"])
        console.print(
            f"test mIoU: best (generation {report['best']}) {best}, teacher (generation 0) {teacher}"
        )
    halves = report.get("val_halves")
    if halves:
        console.print(
            f"two halves of val: correlation {halves['correlation']:+.2f} over {halves['count']} evaluations"
        )
    if report.get("debug"):
        console.print(f"warning: {report['debug']}", soft_wrap=True)
    console.print(f"report: {page}", soft_wrap=True)
    console.print(f"export: {export}", soft_wrap=True)
    runlog.note(console.export_text())


def several(row: dict) -> str:
    """The number of a generation's networks, such as "3 x "; empty for one network."""
    return f"{len(row['members'])} x " if row.get("members") else ""


def score(scores: dict | None) -> str:
    """mIoU with four digits, or a dash if there is no score."""
    return "–" if not scores or scores["miou"] is None else f"{scores['miou']:.4f}"
