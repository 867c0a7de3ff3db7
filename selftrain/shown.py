"""What the page of a run shows beside numbers: pictures, and facts about labels. Each is drawn once."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from torch import nn

from selftrain import choices, debugging, files, labelling
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
        return self.networks.get(number) or self.session.networks.load(number)[0]

    def _predictor(self, number: int, report: Mapping) -> Predictor:
        return self.session.predictor(self._network(number), Tuned.of(report["generations"][number]))

    def predictions(self, report: Mapping) -> list[Row]:
        """Predictions of the teacher, of the leader and of the exported generation on some val images."""
        numbers = sorted({0, report["best"], report.get("exported", 0)} - {None})

        def draw() -> list[Row]:
            predictors = {number: self._predictor(number, report) for number in numbers}
            return pictures.predictions(predictors, self.session.scored(self.session.data.val))

        return [] if report["best"] is None else self._once(("predictions", *numbers), draw)

    def extremes(self, report: Mapping) -> list[Row]:
        """The leader's worst and best val images."""
        leader = report["best"]

        def draw() -> list[Row]:
            told = [
                (id_, f"{word}. {note}")
                for kind, word in (("worst", "Among the worst"), ("best", "Among the best"))
                for id_, note in details.failures(report["generations"][leader]["val"], kind)
            ]
            samples = self.session.scored(self.session.data.val)
            return pictures.extremes(self._predictor(leader, report), samples, told)

        return [] if leader is None else self._once(("extremes", leader), draw)

    def failures(self, report: Mapping) -> Gallery | None:
        """The val image in which the leader fails most, for each class."""
        leader = report["best"]

        def draw() -> Gallery:
            told = details.failures_of_classes(report["generations"][leader]["val"])
            samples = self.session.scored(self.session.data.val)
            return pictures.of_classes(self._predictor(leader, report), samples, told)

        return None if leader is None else self._once(("failures", leader), draw)

    def taught(self, report: Mapping, next_labels: SelectedLabels | None) -> list[SelectedLabels]:
        """The selected labels of each generation that taught.

        A generation that is in training trains on `next_labels`.
        """
        read = [row for row in report["generations"] if row.get("teacher") is not None and not row["online"]]
        students = {row["teacher"]: row["generation"] for row in read}
        found = {teacher: self._selected(teacher, student) for teacher, student in students.items()}
        if next_labels:
            found[next_labels.generation] = next_labels
        return [found[teacher] for teacher in sorted(found)]

    def _selected(self, teacher: int, student: int) -> SelectedLabels:
        plan = self.session.plans[student]
        return self._once(
            ("selected", teacher, student), lambda: labelling.selected(self.session, teacher, plan)
        )

    def spread(self, labels: SelectedLabels) -> list[Row]:
        """A few images with their labels, spread over all."""
        return self._once(("spread", _key(labels)), lambda: pictures.pseudo_labels(labels))

    def facts(self, labels: SelectedLabels) -> LabelFacts:
        """Shares, drift, confidence and galleries of a teacher's labels."""
        return self._once(
            ("facts", _key(labels)),
            lambda: LabelFacts(
                labels.classes,
                labels.store.histogram(),
                self.session.material.class_pixels,
                labels.floors,
                self._once(("galleries", labels.generation), lambda: self._galleries(labels)),
            ),
        )

    def _galleries(self, labels: SelectedLabels) -> list[Gallery]:
        session, teacher = self.session, labels.generation
        earlier = labelling.earlier_labels(session, teacher)
        if session.plans[teacher].from_tags:  # its labels are not what its network predicts for pixels
            return pictures.galleries(labels, earlier)
        plain = session.labelling(self._network(teacher))
        viewed = plain.with_views(views_of_labels(session.cfg))
        return pictures.galleries(labels, earlier, _labeller(plain), _labeller(viewed))

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


def _key(labels: SelectedLabels) -> Hashable:
    """What tells selections of a run apart."""
    return labels.generation, labels.thresholds.tobytes(), labels.image_weights.tobytes()


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
    }
