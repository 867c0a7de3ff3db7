"""Label the unlabelled images with a generation, and select the labels that the next one trains on."""

import numpy as np

from selftrain import files
from selftrain.labels.store import LabelStore
from selftrain.log import say
from selftrain.plan import Plan, views_of_labels
from selftrain.report.alarms import about_labels
from selftrain.session import Session
from selftrain.stages import pseudo_label, reliability, select


def labels(session: Session, teacher: int, student: Plan) -> select.SelectedLabels | None:
    """Label the unlabelled images with `teacher`, and select the labels that `student` may train on.

    None without unlabelled images or without accepted labels.
    """
    if not session.data.unlabelled:
        say("no unlabelled images: the teacher is the result")
        return None
    gen = session.run.generation(teacher)
    network, digest = session.networks.load(teacher)
    predictor = session.labelling(network).with_views(views_of_labels(session.cfg))
    labeller = pseudo_label.Labeller(
        predictor, len(session.data.classes), session.cfg.labels, session.cache, session.accelerator
    )
    where = f"gen{teacher}"
    with session.times.of(f"{where} labels"):
        store = labeller.label(
            session.data.unlabelled,
            gen.labels,
            stage=where,
            teacher=digest,
            check=lambda: session.stop.check(f"{where} labels"),
        )
        if session.cfg.loss.distill:
            labeller.label(
                session.data.labelled,
                gen.taught,
                stage=f"{where} taught",
                teacher=digest,
                check=lambda: session.stop.check(f"{where} labels of labelled images"),
            )
    chosen = selected(session, teacher, student, store)
    if session.accelerator.is_main_process:
        said, true = store.histogram().sum(axis=1), session.material.class_pixels
        alarms = about_labels(said, true, session.data.classes, steps=session.plans[teacher].steps)
        files.keep_json(gen.selection, {**chosen.report(), "alarms": alarms})
        session.warn(where, alarms)
    session.accelerator.wait_for_everyone()
    if not chosen.accepted:
        settled = session.run.has_student([plan.online for plan in session.plans])
        select.refuse_empty(session.cfg.select, gen.selection, settled=settled)
        return None
    return chosen


def selected(
    session: Session, teacher: int, student: Plan, store: LabelStore | None = None
) -> select.SelectedLabels:
    """A teacher's labels, selected by the student's rule."""
    store = store or LabelStore(session.run.generation(teacher).labels)
    rule = student.select
    ranks = _reliability(session, teacher, store) if rule.image_share < 1 or rule.weight_images else None
    return select.select(
        store,
        session.data.unlabelled,
        session.data.classes,
        rule,
        generation=teacher,
        known=session.material.class_pixels,
        reliability=ranks,
    )


def _reliability(session: Session, teacher: int, store: LabelStore) -> np.ndarray:
    """The reliability of a teacher's labels for each unlabelled image, (N,); slow measures are kept."""
    stage, rule, plan = f"gen{teacher}", session.cfg.select, session.plans[teacher]
    subject = reliability.Subject(
        store,
        session.data.unlabelled,
        len(session.data.classes),
        teacher=lambda: session.labelling(session.networks.load(teacher)[0]),
        snapshots=lambda: [session.labelling(network) for network in session.networks.snapshots(plan)],
        cache=session.cache,
        accelerator=session.accelerator,
        batch=session.cfg.labels.batch,
        stage=stage,
        check=lambda: session.stop.check(f"{stage} reliability"),
    )
    if not reliability.chosen(rule).entry.looks:
        return reliability.measure(rule, subject)
    kept, labelled = (
        session.run.generation(teacher).reliability,
        {"teacher": store.index.teacher, "ids": store.index.ids_sha256},
    )
    if not (kept.exists() and labelled.items() <= files.read_json(kept, "reliability").items()):
        found = reliability.measure(rule, subject)
        if session.accelerator.is_main_process:
            files.write_json(kept, {**labelled, "reliability": [round(float(value), 6) for value in found]})
        session.accelerator.wait_for_everyone()
    return np.array(files.read_json(kept, "reliability")["reliability"], np.float32)
