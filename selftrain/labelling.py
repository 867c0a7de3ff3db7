"""Label the unlabelled images with a generation, and select the labels that the next one trains on."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cache, partial

import numpy as np
import torch
from torch import Tensor

from selftrain import files
from selftrain.data.labels import Readable
from selftrain.data.likeness import MOST
from selftrain.data.many import finder
from selftrain.data.tags import tags_of
from selftrain.errors import IntegrityError
from selftrain.inference.cams import Seeds, predictor_of_maps
from selftrain.labels.store import INDEX, LabelsOver, LabelStore
from selftrain.log import say
from selftrain.plan import Plan, views_of_labels
from selftrain.report.alarms import about_labels
from selftrain.session import Session
from selftrain.stages import evaluate, pseudo_label, reliability, select
from selftrain.tuning.tuned import Tuned


def labels(session: Session, teacher: int, student: Plan) -> select.SelectedLabels | None:
    """Label the unlabelled images with `teacher`, and select the labels that `student` may train on.

    None without unlabelled images or without accepted labels.
    """
    found = store(session, teacher)
    if found is None:
        say("no unlabelled images: the teacher is the result")
        return None
    gen, where = session.run.generation(teacher), f"gen{teacher}"
    chosen = selected(session, teacher, student, found)
    if session.accelerator.is_main_process:
        said, true = found.histogram().sum(axis=1), session.material.class_pixels
        alarms = about_labels(said, true, session.data.classes, steps=session.plans[teacher].steps)
        files.keep_json(gen.selection, {**chosen.report(), "alarms": alarms})
        session.warn(where, alarms)
    session.accelerator.wait_for_everyone()
    if not chosen.accepted:
        settled = session.run.has_student([plan.online for plan in session.plans])
        select.refuse_empty(session.cfg.select, gen.selection, settled=settled)
        return None
    return chosen


def _by_tags(session: Session, labeller: pseudo_label.Labeller) -> pseudo_label.Labeller:
    """The labeller with class activation maps of the classes that each image contains.

    They are known by data.tags, or else by the image-level head.
    """
    cams, classes = session.cfg.labels.cams, session.data.classes
    seeds = Seeds(classes.index(cams.background) if cams.background else None, cams.exponent)
    whole = labeller.predictor.plain()

    def finished(samples: Sequence[Readable], maps: Tensor) -> Tensor:
        tags = torch.from_numpy(np.stack([tags_of(sample, len(classes)) for sample in samples])).to(maps)
        if tags.isnan().any():
            images = np.stack([session.cache.image(sample) for sample in samples])
            tags = torch.where(tags.isnan(), (whole.tags(images) >= evaluate.HALF).to(maps), tags)
        return seeds.probabilities(maps, tags > 0)

    return replace(labeller, predictor=predictor_of_maps(labeller.predictor), finished=finished)


def store(session: Session, teacher: int) -> LabelStore | None:
    """Label the unlabelled images with `teacher`, and with `loss.distill` the labelled ones.

    Finished labels stay. Returns the labels of the unlabelled images; None without any.
    """
    gen = session.run.generation(teacher)
    network, digest = session.networks.load(teacher)
    predictor = session.labelling(network).with_views(views_of_labels(session.cfg))
    labeller = pseudo_label.Labeller(
        predictor, len(session.data.classes), session.cfg.labels, session.cache, session.accelerator
    )
    labeller = replace(
        labeller, earlier=earlier_labels(session, teacher), labelled=partial(_labelled_images, session)
    )
    if session.plans[teacher].from_tags:
        labeller = _by_tags(session, labeller)
    where = f"gen{teacher}"
    found = None
    with session.times.of(f"{where} labels"):
        if session.data.unlabelled:
            found = labeller.label(
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
    return found


def earlier_labels(session: Session, teacher: int) -> Callable[[Readable], np.ndarray | None]:
    """Reads the label (H, W) that the last generation before `teacher` with labels gave an image."""
    before = [session.run.generation(number).labels for number in range(teacher)]
    there = [folder for folder in before if (folder / INDEX).is_file()]
    if not there:
        return lambda sample: None
    find = finder(session.data.unlabelled)

    @cache
    def opened() -> LabelStore:
        return LabelStore(there[-1])

    def read(sample: Readable) -> np.ndarray | None:
        with suppress(IntegrityError, IndexError):  # labelling does not depend on it
            place = find(sample.id)
            return None if place is None else opened().read(place).hard
        return None

    return read


def _labelled_images(session: Session) -> Iterator[np.ndarray]:
    """The labelled images with which unlabelled ones are compared: at most MOST, spread over all."""
    own = [sample for sample in session.data.labelled if not sample.extra]
    for place in np.linspace(0, len(own) - 1, min(len(own), MOST)):
        yield session.cache.image(own[int(place)])


def selected(
    session: Session, teacher: int, student: Plan, found: LabelStore | None = None
) -> select.SelectedLabels:
    """A teacher's labels, selected by the student's rule."""
    gen, rule = session.run.generation(teacher), student.select
    found = found or LabelStore(gen.labels)
    thresholds = Tuned.of(files.read_json(gen.report)).thresholds if rule.decision == "tuned" else ()
    if thresholds:
        found = LabelsOver(gen.labels, np.array(thresholds))
    ranks = _reliability(session, teacher, found) if rule.image_share < 1 or rule.weight_images else None
    return select.select(
        found,
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
