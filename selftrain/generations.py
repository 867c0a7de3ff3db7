"""The self-training method in order: train, evaluate, promote, label, select, train the next generation.

At the end the test set is read once, and the best generation is exported and reported.
"""

from collections.abc import Callable

from selftrain import corrections, files, labelling, live, preflight, results, training, watchdog
from selftrain.config import Config
from selftrain.log import say
from selftrain.plan import Plan
from selftrain.report.alarms import about_generation
from selftrain.report.remarks import about_tuning
from selftrain.scores import gain, is_worse, level, paired
from selftrain.session import Session
from selftrain.shown import Shown
from selftrain.stages import select

READ = ("generation", "val", "promoted", "model", "teacher")  # of the report of a finished generation


def run(cfg: Config, then: Callable[[Session, dict], None] | None = None) -> dict:
    """Run the whole method in `cfg.out`, from where an earlier run of the same command ended.

    `then` gets the session of the finished run, and its report. Returns report.json.
    """
    session = Session.open(cfg)
    with watchdog.watching(session.accelerator.process_index, session.accelerator.num_processes):
        if session.run.report.exists():
            say(f"{session.run.path} is finished: nothing to do")
        else:
            work(session)
        report = results.show(session)
        if then:
            then(session, report)
    session.accelerator.end_training()  # ends the store through which the ranks watch each other
    return report


def work(session: Session) -> None:
    """Train, measure, promote, label, select, train the next one; then test, export and report."""
    page = live.Page(session, Shown(session))
    session.metrics.noticed = page.refresh
    with session.team.pinned():
        reports = _generations(session, page)
    session.metrics.noticed = None
    results.finish(session, leader(reports), reports)


def _generations(session: Session, page: live.Page) -> list[dict]:
    """The report of each generation, including those trained by an earlier process."""
    reports: list[dict] = []
    for plan in session.plans:
        labels, teacher = None, _teacher(session, reports)
        if teacher is not None and plan.needs_labels:
            labels = labelling.labels(session, teacher, plan)
            if labels is None:
                break  # no pseudo-label to train on: the leader is the result
            page.stage(reports, labels)
        reports.append(generation(session, plan, labels, teacher, reports))
        page.stage(reports)
        if session.accelerator.is_main_process and not session.cfg.keep_checkpoints:
            session.run.generation(plan.number).drop_checkpoints()
    return reports


def _teacher(session: Session, reports: list[dict]) -> int | None:
    """The number of the generation that teaches the next one."""
    if not reports:
        return None
    return leader(reports) if session.cfg.labels.teacher == "leader" else len(reports) - 1


def generation(
    session: Session,
    plan: Plan,
    labels: select.SelectedLabels | None,
    teacher: int | None,
    reports: list[dict],
) -> dict:
    """Train, keep and evaluate a generation; returns its report, which is read if it exists.

    Whether a student is promoted is decided on val (`deserves`).
    """
    gen, stage = session.run.generation(plan.number), plan.name
    if gen.report.exists():
        return files.read_json(gen.report, *READ)
    teacher = teacher if labels or plan.begins_as_teacher else None
    corrections.settle(session, plan)
    with session.times.of(f"{stage} training"):
        trained = training.trained(session, plan, labels, teacher)
    with session.times.of(f"{stage} val"):
        plain = session.evaluate(trained.network, session.data.val, f"{stage} val", closely=True)
        facts = {**trained.facts, **training.scores_on_train(session, plan, trained.network)}
        tuning = session.tune(trained.network, plain, stage)
    network, val = tuning.tuned.network(trained.network), tuning.val
    if session.accelerator.is_main_process:
        session.networks.keep(plan, network, gen)
    session.metrics.rewind(f"{stage}/val", -1)
    session.metrics.write(f"{stage}/val", facts["steps"], {"miou": val["miou"] or 0.0, "ece": val["ece"]})
    for row in facts.get("members", []):
        row["gain"] = gain(val, row["val"])  # of all networks together over this one
    leading = reports[leader(reports)]["val"] if reports else None
    distance = facts.pop("average_distance")
    report = {
        "generation": plan.number,
        "model": session.networks.describe(plan, network),
        "steps": facts.pop("steps"),
        "weights": facts.pop("weights"),
        "teacher": teacher if plan.unlabelled_batch else None,
        "online": plan.online,
        "val": val,
        "tuned": tuning.facts,
        "precision": preflight.precision_of(session.accelerator),
        "exact": not session.changes,
        "changed_conditions": session.changes,
        **({"from_tags": True} if plan.from_tags else {}),
        **corrections.of(session, plan).facts,
        **facts,
    }
    promoted = report["promoted"] = deserves(report, reports)
    report["alarms"] = about_generation(val, leading, distance, steps=report["steps"], promoted=promoted)
    if session.accelerator.is_main_process:
        session.metrics.sync()
        files.write_json(gen.report, report)
        for line in about_tuning(tuning.facts):
            say(f"{stage}: {line}")
        say(f"{stage}: val mIoU {val['miou'] or 0:.4f}, {_outcome(report, reports)}")
        session.warn(stage, report["alarms"])
    session.accelerator.wait_for_everyone()
    return report


def deserves(report: dict, earlier: list[dict]) -> bool:
    """Whether a generation is promoted after the `earlier` ones.

    The first one is. A student is if its score on val is not worse than the best score of a promoted
    generation (`scores.is_worse`), and not below generation 0. So no result is below the first teacher.
    """
    if not earlier:
        return True
    mine, first = level(report), level(earlier[0])
    return not is_worse(mine, level(_best(earlier))) and (mine["miou"] or 0.0) >= (first["miou"] or 0.0)


def leader(reports: list[dict]) -> int:
    """The last promoted generation."""
    return max(number for number, report in enumerate(reports) if report["promoted"])


def _best(reports: list[dict]) -> dict:
    """The promoted generation with the highest mIoU on val."""
    promoted = (report for report in reports if report["promoted"])
    return max(promoted, key=lambda report: level(report)["miou"] or 0.0)


def _outcome(report: dict, earlier: list[dict]) -> str:
    """Whether a generation leads, and why. One that leads may have a lower score than an earlier one."""
    if not earlier:
        return "leads as the first"
    best = _best(earlier)
    difference, error = paired(level(report), level(best))
    than = f"generation {best['generation']} (standard error of the difference {error:.4f})"
    if not report["promoted"] and not is_worse(level(report), level(best)):
        below, _ = paired(level(earlier[0]), level(report))
        return f"does not lead: {below:.4f} below generation 0, the first teacher"
    if not report["promoted"]:
        return f"does not lead: {-difference:.4f} below {than}"
    if difference < 0:
        return f"leads although it is {-difference:.4f} below {than}: less than one standard error"
    return f"leads: {difference:.4f} above {than}"
