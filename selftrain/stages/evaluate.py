"""Score a network against masks."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from accelerate import Accelerator

from selftrain.data.cache import Cache
from selftrain.data.labels import Readable
from selftrain.diagnosis import Diagnosis
from selftrain.errors import naming_savings
from selftrain.ids import IGNORE
from selftrain.inference.groups import neighbours, rank_share
from selftrain.inference.predictor import Predictor
from selftrain.log import progress
from selftrain.scores import BINS, BLOCKS, blocks, expected_calibration_error, miou, report

HALF = 0.5  # the probability from which on an image-level head says that a class is there, without a gate


@dataclass
class TagScores:
    """Counts of images by class, to score the image-level head.

    A class counts as found if its probability is at least `threshold`.
    """

    threshold: float
    counts: torch.Tensor  # (3, C) float64: images with the class in truth and prediction, truth, prediction

    def add(self, probs: torch.Tensor, target: torch.Tensor) -> None:
        """Add probs (N, C) and masks (N, H, W) uint8, where 255 is ignored.

        An image contains the classes of its mask.
        """
        classes = torch.arange(probs.shape[1], device=target.device, dtype=target.dtype)
        truth = torch.stack([torch.isin(classes, mask) for mask in target])
        found = probs >= self.threshold
        self.counts += torch.stack([rows.sum(dim=0) for rows in (truth & found, truth, found)])

    def report(self, classes: Sequence[str]) -> dict:
        """{"threshold", "precision", "recall"}, both by class name; None where nothing is found, or true."""
        both, truth, found = self.counts.cpu().tolist()
        shares = {"precision": zip(both, found, strict=True), "recall": zip(both, truth, strict=True)}
        named = {name: [hits / of if of else None for hits, of in pairs] for name, pairs in shares.items()}
        return {
            "threshold": self.threshold,
            **{name: dict(zip(classes, row, strict=True)) for name, row in named.items()},
        }


class Scores:
    """Counts over a set of images, from which all scores are computed."""

    def __init__(self, classes: int, device: torch.device):
        # Pixels by truth (the last row: ignored), label (the last column: none) and confidence bin.
        self.pixels = torch.zeros(classes + 1, classes + 1, BINS, dtype=torch.float64, device=device)
        # sums of confidence by bin
        self.confidence = torch.zeros(BINS, dtype=torch.float64, device=device)
        # rows are truth
        self.blocks = torch.zeros(BLOCKS, classes, classes + 1, dtype=torch.float64, device=device)

    def add(
        self, probs: torch.Tensor, label: torch.Tensor, target: torch.Tensor, blocks: Sequence[int]
    ) -> None:
        """Add probs (N, C, H, W), label (N, H, W) uint8 and target (N, H, W) uint8, where 255 is ignored.

        A label of 255 means no class: a miss without a confidence. `blocks` contains each image's block.
        """
        classes = probs.shape[1]
        given = label.long().clamp_max_(classes)
        confidence = probs.gather(1, given.clamp_max(classes - 1)[:, None])[:, 0]  # (N, H, W), of the label
        where = (confidence * BINS).int().clamp_max_(BINS - 1)
        truth = target.int().clamp_max_(classes)
        place = ((truth * (classes + 1) + given) * BINS + where).flatten(1)
        for block, places in zip(blocks, place, strict=True):
            pixels = torch.bincount(places, minlength=self.pixels.numel()).view_as(self.pixels)
            self.pixels += pixels
            self.blocks[block] += pixels[:-1].sum(dim=2)
        counting = (confidence * (target != IGNORE) * (label != IGNORE)).double().flatten()
        self.confidence += torch.bincount(where.flatten(), weights=counting, minlength=BINS)

    def reduce(self, accelerator: Accelerator) -> None:
        mine = (self.pixels, self.confidence, self.blocks)
        self.pixels, self.confidence, self.blocks = (accelerator.reduce(counts, "sum") for counts in mine)

    def report(self, classes: Sequence[str]) -> dict:
        """{"miou", "per_class", "pixel_accuracy", "drift", "ece", "miou_without", "miou_halves"}.

        "per_class" maps names to IoUs, None for absent classes. "miou_without" lists the mIoU without each
        block that has a known pixel; `scores.paired` estimates the standard error from it. "miou_halves" has
        the mIoU of the first and of the second half of these blocks; it is empty for a single block.
        """
        blocks = self.blocks.cpu().numpy()
        filled = [one for one in blocks if one.any()]
        without = [miou(blocks.sum(axis=0) - one) for one in filled]
        middle = len(filled) // 2
        halves = [miou(sum(half)) for half in (filled[:middle], filled[middle:])] if middle else []
        pixels = self.pixels[:-1].cpu().numpy()
        known = pixels[:, :-1]  # with a class
        bins = np.stack([known.sum(axis=(0, 1)), self.confidence.cpu().numpy(), np.einsum("ccb->b", known)])
        scores = report(pixels.sum(axis=2), classes)
        apart = {"miou_without": without, "miou_halves": halves}
        return {**scores, "ece": expected_calibration_error(bins), **apart}


@naming_savings("evaluating")
def evaluate(
    parts: Sequence[tuple[Predictor, Sequence[Readable]]],
    classes: Sequence[str],
    *,
    batch: int,
    cache: Cache,
    accelerator: Accelerator,
    stage: str = "",
    closely: bool = False,
) -> dict:
    """Score each predictor on its samples, at their own size, and all of them together as one set.

    Ranks share the work. Progress is shown if `stage` has a name. With `closely`, the report also has what
    `Diagnosis` finds. The scores of image-level heads, if there are any, are in "tags", at the predictors'
    gate, or at a probability of one half.
    """
    scores, total = Scores(len(classes), accelerator.device), sum(len(samples) for _, samples in parts)
    diagnosis = Diagnosis(total, len(classes)) if closely else None
    gate = max(predictor.gate for predictor, _ in parts) or HALF
    tags = TagScores(gate, torch.zeros(3, len(classes), dtype=torch.float64, device=accelerator.device))
    heads = all(predictor.tells_tags for predictor, _ in parts)
    ids = [one.id for _, samples in parts for one in samples]
    number_of = {one: number for number, one in enumerate(ids)}
    block_of = blocks(total)
    shares = [
        (predictor, [samples[i] for i in rank_share(len(samples), accelerator)])
        for predictor, samples in parts
    ]
    done, mine = 0, sum(len(share) for _, share in shares)
    with progress(stage, mine, show=bool(stage) and accelerator.is_main_process) as show:
        for predictor, share in shares:
            for group in neighbours(share, batch, cache.image):
                masks = torch.from_numpy(np.stack([cache.mask(sample) for sample, _ in group]))
                images = np.stack([image for _, image in group])
                probs = predictor.probabilities(images)
                if heads:
                    tags.add(predictor.tags(images), masks.to(probs.device))
                numbers, label = [number_of[sample.id] for sample, _ in group], predictor.decision(probs)
                scores.add(probs, label, masks.to(probs.device), [block_of[number] for number in numbers])
                if diagnosis:
                    _look(diagnosis, numbers, probs, label, masks)
                done += len(group)
                show(done)
    scores.reduce(accelerator)
    found = scores.report(classes)
    if heads:
        tags.counts = accelerator.reduce(tags.counts, "sum")
        found["tags"] = tags.report(classes)
    if diagnosis is None:
        return found
    diagnosis.reduce(lambda mine: _added(mine, accelerator))
    return {**found, **diagnosis.report(classes, list(number_of))}


def _look(
    diagnosis: Diagnosis,
    numbers: Sequence[int],
    probs: torch.Tensor,
    label: torch.Tensor,
    masks: torch.Tensor,
) -> None:
    """Add images to the diagnosis: their numbers, probs (N, C, H, W), labels and masks (N, H, W)."""
    given = label.long().clamp_max(probs.shape[1] - 1)
    sure = probs.gather(1, given[:, None])[:, 0].float().cpu().numpy()  # (N, H, W), of the label
    for number, *image in zip(numbers, label.cpu().numpy(), masks.numpy(), sure, strict=True):
        diagnosis.add(number, *image)


def _added(mine: np.ndarray, accelerator: Accelerator) -> np.ndarray:
    """The sum of an array over the ranks."""
    return np.asarray(accelerator.reduce(torch.from_numpy(mine).to(accelerator.device), "sum").cpu())
