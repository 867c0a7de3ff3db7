"""What the page of a run shows beside numbers: pictures, and facts about labels. Each is drawn once."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, TypeVar

import numpy as np
from torch import nn

from selftrain import choices, debugging, files, fitting, labelling
from selftrain.data.labels import Readable
from selftrain.inference.predictor import Predictor
from selftrain.plan import views_of_labels
from selftrain.preflight.data import REASONS
from selftrain.report import details
from selftrain.report.embedded import Gallery, Row
from selftrain.report.labelled import LabelFacts
from selftrain.session import Session
from selftrain.settings.compared import changed_from_recipe
from selftrain.stages import pictures
from selftrain.stages.select import SelectedLabels
from selftrain.tuning.tuned import Tuned

T = TypeVar("T")


@dataclass(frozen=True)
class Taught:
    """The labels that `student` learnt from; they are opened when they are drawn."""

    teacher: int
    student: int
    labels: Callable[[], SelectedLabels]


@dataclass
class Shown:
    """The pictures of a run. `networks` are loaded already, by generation; others are loaded when needed."""

    session: Session
    networks: Mapping[int, nn.Module] = field(default_factory=dict)
    drawn: dict[Hashable, Any] = field(default_factory=dict)

    def _once(self, key: Hashable, draw: Callable[[], T]) -> T:
        """What `draw` returned when it was called for this key first."""
        if key not in self.drawn:
            self.drawn[key] = draw()
        found: T = self.drawn[key]
        return found

    def _network(self, number: int) -> nn.Module:
        found = self.networks.get(number)
        return self.session.networks.load(number)[0] if found is None else found

    def _predictor(self, number: int, report: Mapping) -> Predictor:
        return self.session.predictor(self._network(number), Tuned.of(report["generations"][number]))

    def predictions(self, report: Mapping) -> list[Row]:
        """Predictions of the teacher, of the leader and of the exported generation on some val images."""
        numbers = sorted({0, report["best"], report.get("exported", 0)} - {None})

        def draw() -> list[Row]:
            """Predict with every generation of `numbers`."""
            predictors = {number: self._predictor(number, report) for number in numbers}
            rows = pictures.predictions(predictors, self.session.scored(self.session.data.val))
            return [row.reduced() for row in rows]

        return [] if report["best"] is None else self._once(("predictions", *numbers), draw)

    def extremes(self, report: Mapping) -> list[Row]:
        """The leader's worst and best val images."""
        leader = report["best"]

        def draw() -> list[Row]:
            """Predict the images that the leader's report calls the worst and the best."""
            told = [
                (id_, f"{word}. {note}")
                for kind, word in (("worst", "Among the worst"), ("best", "Among the best"))
                for id_, note in details.failures(report["generations"][leader]["val"], kind)
            ]
            samples = self.session.scored(self.session.data.val)
            rows = pictures.extremes(self._predictor(leader, report), samples, told)
            return [row.reduced() for row in rows]

        return [] if leader is None else self._once(("extremes", leader), draw)

    def failures(self, report: Mapping) -> Gallery | None:
        """The val image in which the leader fails most, for each class."""
        leader = report["best"]

        def draw() -> Gallery:
            """Predict the images in which the leader's report says that classes fail."""
            told = details.failures_of_classes(report["generations"][leader]["val"])
            samples = self.session.scored(self.session.data.val)
            return pictures.of_classes(self._predictor(leader, report), samples, told).reduced()

        return None if leader is None else self._once(("failures", leader), draw)

    def taught(self, report: Mapping, next_labels: SelectedLabels | None) -> list[Taught]:
        """The labels of each generation that taught, by the last student that learnt from them.

        A generation that is in training learns from `next_labels`.
        """
        found = dict[int, Taught]()
        for student, row in enumerate(report["generations"]):
            teacher = row.get("teacher")
            if row.get("unfinished") and next_labels:
                teacher = next_labels.generation
                found[teacher] = Taught(teacher, student, lambda: next_labels)
            elif teacher is not None and not row["online"]:
                found[teacher] = Taught(teacher, student, partial(self._selected, teacher, student))
        there = [one for one in found.values() if self.session.run.generation(one.teacher).selection.exists()]
        return sorted(there, key=lambda one: one.teacher)

    def _selected(self, teacher: int, student: int) -> SelectedLabels:
        return labelling.selected(self.session, teacher, self.session.plans[student])

    def spread(self, taught: Taught) -> list[Row]:
        """A few images with their labels, spread over all."""

        def draw() -> list[Row]:
            return [row.reduced() for row in pictures.pseudo_labels(taught.labels())]

        return self._once(("spread", taught.teacher, taught.student), draw)

    def facts(self, taught: Taught) -> LabelFacts:
        """Shares, drift, confidence and galleries of a teacher's labels."""

        def draw() -> LabelFacts:
            labels, known = taught.labels(), self.session.material.class_pixels
            found = self._once(("galleries", taught.teacher), lambda: self._galleries(labels))
            return LabelFacts(labels.classes, labels.store.histogram(), known, labels.floors, found)

        return self._once(("facts", taught.teacher, taught.student), draw)

    def _galleries(self, labels: SelectedLabels) -> list[Gallery]:
        session, teacher = self.session, labels.generation
        earlier = labelling.earlier_labels(session, teacher)
        if session.plans[teacher].from_tags:  # its labels are not what its network predicts for pixels
            return [one.reduced() for one in pictures.galleries(labels, earlier)]
        plain = session.labelling(self._network(teacher))
        viewed = plain.with_views(views_of_labels(session.cfg))
        found = pictures.galleries(labels, earlier, _labeller(plain), _labeller(viewed))
        return [one.reduced() for one in found]

    @cached_property
    def changed(self) -> list[tuple[str, str, str]] | None:
        """The settings that differ from the recipe."""
        return changed_from_recipe(self.session.cfg, choices.completed)

    @cached_property
    def set_aside(self) -> dict[str, str]:
        """The images that cannot be read, with the reasons."""
        begun = files.read_json(self.session.run.data, "set_aside")
        found: dict[str, str] = begun.get(REASONS, dict.fromkeys(begun["set_aside"], ""))
        return found


def _labeller(predictor: Predictor) -> Callable[[Readable], np.ndarray]:
    return lambda sample: predictor.labels(sample.read_image()[None])[0]


def with_labels(session: Session, reports: Sequence[dict]) -> list[dict]:
    """The reports of generations, each with "labels": what selection.json says of its labels, or None."""
    rows = []
    for number, report in enumerate(reports):
        selection = session.run.generation(number).selection
        chosen = files.read_json(selection) if selection.exists() else {}
        facts = {name: value for name, value in chosen.items() if name != "image_weights"}
        rows.append({**report, "labels": facts or None})
    return rows


def about_run(session: Session, reports: Sequence[dict]) -> dict:
    """The facts of report.json about the run as a whole."""
    return {
        "seed": session.cfg.seed,
        "recipe": session.cfg.recipe,
        "data": session.cfg.data.name,
        "seconds": round(sum(report["seconds"] for report in reports), 1),
        **({"debug": debugging.NOTE} if session.cfg.debug else {}),
        **({"memory": note} if (note := fitting.note(session.run)) else {}),
    }
