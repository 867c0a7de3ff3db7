"""One network that learns from the exported ensemble (`export.distill`), after the last generation.

It is trained like any student, on stored labels. The ensemble labels all images, and no threshold is applied
(Hinton et al. 2015). The student does not count as a generation: it neither leads nor teaches.
"""

from dataclasses import dataclass, replace

from torch import nn

from selftrain import files, labelling, plan, training
from selftrain.labels.store import LabelStore
from selftrain.log import say
from selftrain.plan import Plan
from selftrain.scores import gain
from selftrain.session import Session
from selftrain.stages import select

KL = {"kl": {"weight": 1.0}}  # the loss against the ensemble's probabilities
REPORTED = ("model", "val", "steps", "generation")


@dataclass(frozen=True)
class Student:
    """The network, and its report, gen<k>/student/report.json."""

    network: nn.Module
    report: dict


def student(session: Session, teacher: int, reports: list[dict]) -> Student | None:
    """Train the student of generation `teacher`, from where an earlier process stopped; load it if finished.

    None if `export.distill` does not ask for it, or if the generation is a single network.
    """
    if not session.cfg.export.distill:
        return None
    row = reports[teacher]
    if not row.get("members"):
        if session.accelerator.is_main_process:
            say(f"export.distill: generation {teacher} is a single network, so there is nothing to distil")
        return None
    home = session.run.generation(teacher).student
    if not home.report.exists():
        _train(session, plan.student(session.cfg, teacher, bool(session.data.unlabelled)), teacher, row)
    if session.accelerator.is_main_process and not session.cfg.keep_checkpoints:
        home.drop_checkpoints()
    session.accelerator.wait_for_everyone()
    return Student(session.networks.load_from(home)[0], files.read_json(home.report, *REPORTED))


def _train(session: Session, own: Plan, teacher: int, row: dict) -> None:
    """Train, score and keep the student."""
    own_session, home = _distilling(session), own.home(session.run)
    store = labelling.store(own_session, teacher)
    labels = _all_labels(own_session, own, store, teacher) if store else None
    trained = training.trained(own_session, own, labels, teacher)
    if session.accelerator.is_main_process:
        session.networks.keep(own, trained.network, home)
    val = session.evaluate(trained.network, session.data.val, f"{own.name} val")
    session.metrics.rewind(f"{own.name}/val", -1)
    session.metrics.write(f"{own.name}/val", trained.facts["steps"], {"miou": val["miou"] or 0.0})
    report = {
        "generation": teacher,  # that it learnt from
        "model": session.networks.describe(own, trained.network),
        "val": val,
        "gain": gain(val, row["val"]),  # over the ensemble
        **trained.facts,
    }
    if session.accelerator.is_main_process:
        session.metrics.sync()
        files.write_json(home.report, report)
        say(
            f"{own.name}: val mIoU {val['miou'] or 0:.4f}; the {len(row['members'])} networks that it learnt "
            f"from have {row['val']['miou'] or 0:.4f}"
        )
    session.accelerator.wait_for_everyone()


def _distilling(session: Session) -> Session:
    """The session with the losses of the student: as configured on masks, and KL against the ensemble."""
    loss = replace(session.cfg.loss, distill=KL, pseudo=KL)
    material = replace(session.material, loss=loss)
    return replace(session, cfg=replace(session.cfg, loss=loss), material=material)


def _all_labels(session: Session, own: Plan, store: LabelStore, teacher: int) -> select.SelectedLabels:
    return select.select(
        store,
        session.data.unlabelled,
        session.data.classes,
        own.select,
        generation=teacher,
        known=session.material.class_pixels,
    )
