"""The end of a run: test, export, report."""

from torch import nn

from selftrain import agreement, choices, debugging, distilling, files, labelling, times
from selftrain.cards import card_of
from selftrain.log import say
from selftrain.preflight.data import REASONS
from selftrain.report import details, page, summary
from selftrain.session import Session
from selftrain.settings.compared import changed_from_recipe
from selftrain.stages import export, pictures
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
    export.export(student.network, where, card=described, onnx=session.cfg.export.onnx)
    return {**student.report, "test": test}


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
    for number, report in enumerate(reports):
        selection = session.run.generation(number).selection
        chosen_labels = files.read_json(selection) if selection.exists() else {}
        report["labels"] = {
            name: value for name, value in chosen_labels.items() if name != "image_weights"
        } or None
    report = {
        "generations": reports,
        "best": leader,
        "exported": chosen,
        "test": tests.get(leader),
        "teacher_test": tests.get(0),
        "exported_test": tests.get(chosen),
        **beside,
        "seed": session.cfg.seed,
        "recipe": session.cfg.recipe,
        "data": session.cfg.data.name,
        "seconds": round(sum(report["seconds"] for report in reports), 1),
        "val_halves": agreement.of_halves(session.metrics.rows()),
        **({"debug": debugging.NOTE} if session.cfg.debug else {}),
    }
    described = card_of(session.cfg, session.data, reports[chosen], test=report["exported_test"])
    if skipping := beside["skipped_windows"]:
        say(
            f"{skipping['share']:.1%} of the windows of val are skipped; val mIoU {skipping['miou']:.4f}, "
            f"{skipping['miou_of_all_windows']:.4f} with all windows (a cost of {skipping['cost']:.4f})"
        )
    say(f"writing the export of generation {chosen} and the report")
    with session.times.of("export"):
        export.export(networks[chosen], session.run.export, card=described, onnx=session.cfg.export.onnx)
    _write_page(session, report, networks, leader)
    files.write_json(session.run.report, report)
    session.cache.clear()


def _write_page(session: Session, report: dict, networks: dict[int, nn.Module], leader: int) -> None:
    predictors = {
        number: session.predictor(network, Tuned.of(report["generations"][number]))
        for number, network in networks.items()
    }
    said = pictures.predictions(predictors, session.scored(session.data.val))
    val = report["generations"][leader]["val"]
    told = [
        (id_, f"{word}. {note}")
        for kind, word in (("worst", "Among the worst"), ("best", "Among the best"))
        for id_, note in details.failures(val, kind)
    ]
    begun = files.read_json(session.run.data, "set_aside")
    reasons = begun.get(REASONS, dict.fromkeys(begun["set_aside"], ""))
    read = [row for row in report["generations"] if row["teacher"] is not None and not row["online"]]
    taught = {row["teacher"]: row["generation"] for row in read}
    learnt = [
        row
        for teacher, student in taught.items()
        if session.run.generation(teacher).selection.exists()
        for row in pictures.pseudo_labels(labelling.selected(session, teacher, session.plans[student]))
    ]
    html = page.render(
        report,
        classes=session.data.classes,
        metrics=session.metrics.rows(),
        predictions=said,
        pseudo_labels=learnt,
        extremes=pictures.extremes(predictors[leader], session.scored(session.data.val), told),
        surroundings=details.Surroundings(
            times.read(session.run.times), changed_from_recipe(session.cfg, choices.completed), reasons
        ),
    )
    files.write_bytes(session.run.page, html.encode())
