"""Measure a network against masks."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn

from selftrain.data.labels import Readable
from selftrain.errors import naming_savings
from selftrain.ids import IGNORE
from selftrain.stages.guard import drift
from selftrain.stages.inference import Inference

BINS = 15  # of the calibration error, as in Guo et al. 2017
BLOCKS = 20  # of neighbouring images, frames of one video perhaps: leaving each out tells how sure a score is


class Scores:
    """Counts over a set of images, from which every figure is computed."""

    def __init__(self, classes: int, device: torch.device):
        # Pixels by truth (ignored ones in a row of their own), label and bin of confidence; and sums of confidence by bin.
        self.pixels = torch.zeros(classes + 1, classes, BINS, dtype=torch.float64, device=device)
        self.confidence = torch.zeros(BINS, dtype=torch.float64, device=device)
        self.blocks = torch.zeros(BLOCKS, classes, classes, dtype=torch.float64, device=device)  # rows are truth

    def add(self, probs: torch.Tensor, target: torch.Tensor, blocks: Sequence[int]) -> None:
        """probs (N, C, H, W), target (N, H, W) uint8 with 255 ignored, the block of each image."""
        classes = probs.shape[1]
        confidence, label = probs.max(dim=1)  # (N, H, W)
        where = (confidence * BINS).int().clamp_max_(BINS - 1)
        truth = target.int().clamp_max_(classes)
        place = ((truth * classes + label.int()) * BINS + where).flatten(1)
        for block, places in zip(blocks, place, strict=True):
            pixels = torch.bincount(places, minlength=self.pixels.numel()).view_as(self.pixels)
            self.pixels += pixels
            self.blocks[block] += pixels[:-1].sum(dim=2)
        counting = (confidence * (target != IGNORE)).double().flatten()
        self.confidence += torch.bincount(where.flatten(), weights=counting, minlength=BINS)

    def reduce(self, accelerator: Accelerator) -> None:
        mine = (self.pixels, self.confidence, self.blocks)
        self.pixels, self.confidence, self.blocks = (accelerator.reduce(counts, "sum") for counts in mine)

    def report(self, classes: Sequence[str]) -> dict:
        """{"miou", "per_class": {name: IoU or None where the class is absent}, "pixel_accuracy", "drift", "ece", "miou_without"}

        The last is the mIoU without each block that has a known pixel: what `is_worse` measures its error by.
        """
        blocks = self.blocks.cpu().numpy()
        without = [iou_report(blocks.sum(axis=0) - one, classes)["miou"] for one in blocks if one.any()]
        pixels = self.pixels[:-1].cpu().numpy()
        bins = np.stack([pixels.sum(axis=(0, 1)), self.confidence.cpu().numpy(), np.einsum("ccb->b", pixels)])
        known = iou_report(pixels.sum(axis=2), classes)
        return {**known, "ece": expected_calibration_error(bins), "miou_without": without}


def iou_report(confusion: np.ndarray, classes: Sequence[str]) -> dict:
    """Scores from counts (C, C), rows are truth. A class without a pixel in the truth is None and not part of the mean."""
    hit, truth, said = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    per_class = {name: float(hit[c] / (truth[c] + said[c] - hit[c])) if truth[c] else None for c, name in enumerate(classes)}
    known = [iou for iou in per_class.values() if iou is not None]
    return {
        "miou": float(np.mean(known)) if known else None,
        "per_class": per_class,
        "pixel_accuracy": float(hit.sum() / truth.sum()) if truth.sum() else None,
        "drift": drift(said, truth) if truth.sum() else None,
    }


def is_worse(scores: Mapping, best: Mapping) -> bool:
    """Whether the mIoU of `scores` is more than one standard error of the difference below that of `best`, of the same images.

    The one-standard-error rule (Breiman et al. 1984); the error is that of the jackknife over blocks (Miller 1974), paired.
    """
    without = scores["miou_without"]
    pairs = zip(without, best.get("miou_without", without), strict=True)  # a report of an older version has none: no error
    differences = np.array([(mine or 0.0) - (other or 0.0) for mine, other in pairs])
    count = len(differences)
    error = np.sqrt((count - 1) * differences.var()) if count else 0.0
    return bool((scores["miou"] or 0.0) < (best["miou"] or 0.0) - error)


def expected_calibration_error(bins: np.ndarray) -> float:
    """ECE (Guo et al. 2017, eq. 3) from (pixels, sum of confidence, correct) per bin, shape (3, BINS)."""
    pixels, confidence, correct = bins
    return float(np.abs(confidence - correct).sum() / max(pixels.sum(), 1))


@naming_savings("evaluating")
def evaluate(
    network: nn.Module,
    samples: Sequence[Readable],
    classes: Sequence[str],
    inference: Inference,
    *,
    batch: int,
) -> dict:
    """Scores of `network` over `samples` at their own size, one plain view each; ranks share the work."""
    network.eval()
    scores = Scores(len(classes), inference.accelerator.device)
    block_of = {samples[i].id: i * min(BLOCKS, len(samples)) // len(samples) for i in range(len(samples))}
    for group in inference.neighbours([samples[i] for i in inference.mine(len(samples))], batch):
        masks = np.stack([inference.cache.mask(sample) for sample, _ in group])
        probs = inference.probabilities(network, np.stack([image for _, image in group]))
        scores.add(probs, torch.from_numpy(masks).to(probs.device), [block_of[sample.id] for sample, _ in group])
    scores.reduce(inference.accelerator)
    return scores.report(classes)
