"""The review that a generation trains on (data.reviewed): decided when it begins, and then kept."""

from dataclasses import dataclass
from pathlib import Path

from selftrain import preflight, verdicts
from selftrain.data import reviewed
from selftrain.data.labels import Labels
from selftrain.errors import DataError
from selftrain.log import say
from selftrain.material import Material
from selftrain.plan import Plan
from selftrain.session import Session
from selftrain.verdicts import Review


@dataclass(frozen=True)
class Corrections:
    """The review of a generation, and the folder of its masks; None: it uses none."""

    review: Review | None
    folder: Path

    def material(self, material: Material) -> Material:
        """What the generation learns from."""
        return material.reviewed(self.review, self.folder)

    def labels(self, labels: Labels, classes: int) -> Labels | None:
        """Its pseudo-labels; None if no image is left that has one."""
        if self.review is None:
            return labels
        return reviewed.corrected(labels, self.review, self.folder, classes)

    @property
    def facts(self) -> dict:
        """Its part of the generation's report."""
        if self.review is None:
            return {}
        return {"reviewed": {"sha256": self.review.sha256, **self.review.counts}}


def settle(session: Session, plan: Plan) -> None:
    """Copy the review of the settings to the directory of a generation whose training has not begun.

    From here on the generation follows the copy, whatever the settings and the reviewers do.
    """
    gen, setting = session.run.generation(plan.number), session.cfg.data.reviewed
    if session.accelerator.is_main_process and setting and not gen.reviewed.exists():
        if gen.begun:
            say(f"{plan.name} began without data.reviewed={setting}; a later generation uses it")
        else:
            review = preflight.review_of(session.cfg, session.data)
            _refuse_nothing_left(session, plan, review, gen.reviewed)
            verdicts.keep(review, gen.reviewed)
            say(f"{plan.name} trains on {setting}: {_told(review.counts)}")
    session.accelerator.wait_for_everyone()


def _refuse_nothing_left(session: Session, plan: Plan, review: Review, folder: Path) -> None:
    """Raises DataError if the generation needs unlabelled images, and the review leaves none."""
    left = session.material.reviewed(review, folder).data.unlabelled
    if not left and (plan.online or plan.augmentation.style):
        raise DataError(
            f"data.reviewed={session.cfg.data.reviewed} leaves no unlabelled image, but {plan.name} needs "
            f"some (generations.{plan.number}.online or noise.style); add images, or train without them"
        )


def _told(counts: dict[str, int]) -> str:
    return (
        f"{counts['accept']} accepted images, {counts['correct']} corrected ones "
        f"({counts['partial']} in part), {counts['reject']} rejected ones"
    )


def of(session: Session, plan: Plan) -> Corrections:
    """The review that a generation trains on. A student that is distilled from it follows the same one."""
    folder = session.run.generation(plan.number).reviewed
    return Corrections(verdicts.kept(folder) if folder.exists() else None, folder)
