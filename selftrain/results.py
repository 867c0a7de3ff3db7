"""The end of a run: test, export, report."""

from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from selftrain import agreement, distilling, files, live, tracking, variants
from selftrain.cards import card_of
from selftrain.log import say
from selftrain.report import summary
from selftrain.session import Session
from selftrain.shown import Shown, about_run, with_labels
from selftrain.stages import export
from selftrain.tuning.tuned import Tuned


def finish(session: Session, leader: int, reports: list[dict]) -> None:
    """Distil the exported ensemble if asked, test, export and write report.json.

    The test set is read once, for the best generation, the first one and the exported one.
    """
    chosen = leader if session.cfg.export.generation == "best" else len(reports) - 1
    student = distilling.student(session, chosen, reports)
    networks = {number: session.networks.load(number)[0] for number in {0, leader, chosen}}
    reads = bool(session.data.test) and session.cfg.test.read == "end"
    tuned = {number: Tuned.of(reports[number]) for number in networks}
    with session.times.of("test"):
        tests = {
            number: session.evaluate(
                network, session.data.test, f"gen{number} test", tuned[number], closely=True
            )
            for number, network in networks.items()
            if reads
        }
        own = None
        if student and reads:
            own = session.evaluate(student.network, session.data.test, "student test", closely=True)
    skipping = session.skipping(networks[chosen], tuned[chosen])
    if session.accelerator.is_main_process:
        row = _export_student(session, student, own, len(reports[chosen]["members"])) if student else None
        beside = {"student": row, "skipped_windows": skipping}
        _write_results(session, networks, tests, leader, chosen, reports, beside)
    session.accelerator.wait_for_everyone()


def _export_student(session: Session, student: distilling.Student, test: dict | None, of: int) -> dict:
    """Export the student of an ensemble of `of` networks; returns its part of report.json."""
    described = card_of(session.cfg, session.data, student.report, test=test, ensemble=of)
    where = session.run.generation(student.report["generation"]).student.export
    _export(session, student.network, where, described)
    return {**student.report, "test": test}


def _export(session: Session, network: nn.Module, where: Path, card: dict[str, Any]) -> dict[str, Any]:
    """Export a network with the variants that are asked for; returns the card."""
    asked = session.cfg.export
    val = [one.at_own_size() for one in session.data.val]
    images = export.of_val(val) if asked.onnx else []
    export.export(network, where, card=card, onnx=asked.onnx, opset=asked.opset, images=images)
    alone = session.accelerator.num_processes == 1  # others would wait for this rank
    check = partial(session.stop.check, "the end of the export") if alone else bool
    return variants.add(where, asked, val, check)


def show(session: Session) -> dict:
    """Print the run's table and the paths of its results; returns report.json."""
    report = files.read_json(session.run.report, *summary.SHOWN)
    if session.accelerator.is_main_process:
        run = session.run
        summary.print_table(report, run.page, run.export, run.student_export(report))
    return report


def _write_results(
    session: Session,
    networks: dict[int, nn.Module],
    tests: dict[int, dict],
    leader: int,
    chosen: int,
    reports: list[dict],
    beside: dict,
) -> None:
    """Write the export, the page and, last, report.json, which marks the run as finished.

    `beside` are further rows of report.json.
    """
    report = {
        "generations": with_labels(session, reports),
        "best": leader,
        "exported": chosen,
        "test": tests.get(leader),
        "teacher_test": tests.get(0),
        "exported_test": tests.get(chosen),
        **beside,
        "val_halves": agreement.of_halves(session.metrics.rows()),
        **about_run(session, reports),
    }
    described = card_of(session.cfg, session.data, reports[chosen], test=report["exported_test"])
    if skipping := beside["skipped_windows"]:
        say(
            f"{skipping['share']:.1%} of the windows of val are skipped; val mIoU {skipping['miou']:.4f}, "
            f"{skipping['miou_of_all_windows']:.4f} with all windows (a cost of {skipping['cost']:.4f})"
        )
    say(f"writing the export of generation {chosen} and the report")
    with session.times.of("export"):
        card = _export(session, networks[chosen], session.run.export, described)
    if session.cfg.export.variants:
        report["export"] = {name: card[name] for name in (export.COMPARED, export.VARIANTS_OF)}
    shown = Shown(session, networks)
    live.write(session, report, shown)
    session.track()
    steps = sum(row["steps"] for row in reports)
    tracking.pictures(session.accelerator, shown.predictions(report), len(session.data.classes), steps)
    files.write_json(session.run.report, report)
    session.cache.clear()
