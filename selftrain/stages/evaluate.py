"""Score a network against masks."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from accelerate import Accelerator

from selftrain.data.cache import Cache
from selftrain.data.labels import Readable
from selftrain.errors import naming_savings
from selftrain.ids import IGNORE
from selftrain.inference.groups import neighbours, rank_share
from selftrain.inference.predictor import Predictor
from selftrain.log import progress
from selftrain.scores import expected_calibration_error, miou, report

BINS = 15  # bins of the calibration error, as in Guo et al. 2017
# blocks of neighbouring images (perhaps frames of one video); leaving each out estimates the error of a score
BLOCKS = 20


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
        block that has a known pixel; `is_worse` estimates the standard error from it. "miou_halves" has the
        mIoU of the first and of the second half of these blocks; it is empty for a single block.
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


def is_worse(scores: Mapping, best: Mapping) -> bool:
    """Whether `scores` is more than one standard error below `best`; both measure the same images.

    It compares mIoUs: the one-standard-error rule (Breiman et al. 1984). The standard error of the difference
    is a paired jackknife over blocks (Miller 1974).
    """
    without = scores["miou_without"]
    # Reports of older versions have no "miou_without". They get a standard error of 0.
    pairs = zip(without, best.get("miou_without", without), strict=True)
    differences = np.array([(mine or 0.0) - (other or 0.0) for mine, other in pairs])
    count = len(differences)
    error = np.sqrt((count - 1) * differences.var()) if count else 0.0
    return bool((scores["miou"] or 0.0) < (best["miou"] or 0.0) - error)


def level(report: Mapping) -> Mapping:
    """The scores by which a generation is compared with others: "miou" and "miou_without".

    Of several networks it is the mean of their own scores. Their joint score would be beyond the reach of a
    single student.
    """
    each = [member["val"] for member in report.get("members") or []]
    if not each:
        return report["val"]
    without = np.mean([[value or 0.0 for value in one["miou_without"]] for one in each], axis=0)
    return {"miou": float(np.mean([one["miou"] or 0.0 for one in each])), "miou_without": without.tolist()}


@naming_savings("evaluating")
def evaluate(
    parts: Sequence[tuple[Predictor, Sequence[Readable]]],
    classes: Sequence[str],
    *,
    batch: int,
    cache: Cache,
    accelerator: Accelerator,
    stage: str = "",
) -> dict:
    """Score each predictor on its samples, at their own size, and all of them together as one set.

    Ranks share the work. Progress is shown if `stage` has a name.
    """
    scores, total = Scores(len(classes), accelerator.device), sum(len(samples) for _, samples in parts)
    block_of: dict[str, int] = {}
    for _, samples in parts:
        for one in samples:
            block_of[one.id] = len(block_of) * min(BLOCKS, total) // total
    shares = [
        (predictor, [samples[i] for i in rank_share(len(samples), accelerator)])
        for predictor, samples in parts
    ]
    done, mine = 0, sum(len(share) for _, share in shares)
    with progress(stage, mine, show=bool(stage) and accelerator.is_main_process) as show:
        for predictor, share in shares:
            for group in neighbours(share, batch, cache.image):
                masks = torch.from_numpy(np.stack([cache.mask(sample) for sample, _ in group]))
                probs = predictor.probabilities(np.stack([image for _, image in group]))
                blocks = [block_of[sample.id] for sample, _ in group]
                scores.add(probs, predictor.decision(probs), masks.to(probs.device), blocks)
                done += len(group)
                show(done)
    scores.reduce(accelerator)
    return scores.report(classes)
