"""How far a teacher's earlier selves agree with it on an image: a measure of how well it knows that image."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn

from selftrain.data.labels import Readable
from selftrain.errors import naming_savings
from selftrain.labels.refine import confusion_of
from selftrain.log import progress
from selftrain.stages.inference import Inference


@naming_savings("labelling")
def agreement(
    snapshots: Sequence[nn.Module],
    teacher: nn.Module,
    samples: Sequence[Readable],
    inference: Inference,
    *,
    classes: int,
    batch: int,
    stage: str,
    check: Callable[[], None],
) -> np.ndarray:
    """The mean over `snapshots` of the mIoU between their labels and the teacher's, 0 to 1, per image (N,) float32.

    The stability score of Yang et al. 2022 (ST++, section 3.3), divided by the number of snapshots; plain views. Ranks share
    the images. `check` is called between batches and may raise to stop.
    """
    accelerator, mine, done = inference.accelerator, inference.mine(len(samples)), 0
    found = torch.zeros(len(samples), device=accelerator.device)
    with progress(f"{stage} reliability", len(mine), show=accelerator.is_main_process) as show:
        for group in inference.neighbours([samples[i] for i in mine], batch):
            check()
            images = np.stack([image for _, image in group])
            last = inference.labels(teacher, images)
            scores = np.mean([_ious(inference.labels(earlier, images), last, classes) for earlier in snapshots], axis=0)
            found[list(mine[done : done + len(group)])] = torch.from_numpy(scores).to(found)
            done += len(group)
            show(done)
    return accelerator.reduce(found, "sum").cpu().numpy()


def _ious(said: np.ndarray, truth: np.ndarray, classes: int) -> list[float]:
    """mIoU of each pair of labels (N, H, W), over the classes that either of the two knows in it."""
    scores = []
    for one, other in zip(said, truth, strict=True):
        counts = confusion_of(one, other, classes)
        hit, union = np.diag(counts), counts.sum(axis=0) + counts.sum(axis=1) - np.diag(counts)
        scores.append(float((hit[union > 0] / union[union > 0]).mean()))
    return scores
