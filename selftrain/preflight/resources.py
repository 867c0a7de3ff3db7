"""Checks that a run fits on its machine: processes, shared memory and disk."""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass

from selftrain import checkpoint
from selftrain.config import Config
from selftrain.data import loading
from selftrain.data.dataset import DataSet
from selftrain.data.sample import Sample
from selftrain.errors import ConfigError, StorageError
from selftrain.labels import record
from selftrain.plan import Plan
from selftrain.rundir import RunDir

CHECKPOINT = 4  # copies of the weights in a checkpoint: the weights, their average, two moments


def check_processes(cfg: Config, planned: list[Plan], processes: int) -> None:
    """Raises ConfigError if a batch has fewer images than processes or micro-batches."""
    least = min(size for plan in planned for size in (plan.labelled_batch, plan.unlabelled_batch) if size)
    if least < processes:
        raise ConfigError(
            f"a batch of {least} cannot be shared by {processes} processes; "
            "raise train.labelled_batch and train.unlabelled_batch"
        )
    parts = processes * cfg.train.accumulate
    mixed = [plan.unlabelled_batch for plan in planned if plan.method.views and plan.augmentation.mixers]
    if least < parts or (processes < parts and min(mixed, default=2 * parts) < 2 * parts):
        raise ConfigError(
            f"train.accumulate={cfg.train.accumulate} leaves a micro-batch without an image, "
            "or without a second one to mix; lower it, "
            "or raise train.labelled_batch and train.unlabelled_batch"
        )


def check_shared_memory(cfg: Config, planned: list[Plan], classes: int, processes: int) -> None:
    """Raises ResourceError if the batches of the loader processes do not fit into shared memory."""
    needed = [
        loading.most_shared(
            _images_of_a_part(
                plan,
                classes,
                processes * cfg.train.accumulate,
                distil=bool(cfg.loss.distill) or plan.distilled,
            ),
            cfg.train.crop,
            cfg.train.workers,
            cfg.train.accumulate,
        )
        for plan in planned
    ]
    if cfg.train.workers:
        loading.check_shared(max(needed) * int(os.environ.get("LOCAL_WORLD_SIZE", 1)))


def _images_of_a_part(plan: Plan, classes: int, parts: int, *, distil: bool) -> list[tuple[int, int]]:
    """The largest numbers of labelled and unlabelled images in one of `parts`, with their bytes per pixel.

    To `distil`, labelled images have soft labels as well.
    """
    counts, each = (
        (plan.labelled_batch, plan.unlabelled_batch),
        loading.bytes_per_pixel(
            classes, channels=plan.channels, views=plan.method.views, soft=plan.augmentation.softens
        ),
    )
    if distil:
        each = (each[0] + loading.FLOAT * classes, each[1])
    return [(-(-count // parts), of_one) for count, of_one in zip(counts, each, strict=True)]


@dataclass(frozen=True)
class Space:
    """The most bytes of a run directory: networks and checkpoints that stay, one in passing, and labels."""

    kept: int
    passing: int  # the largest file that is written before an older one is removed
    labels: int

    @property
    def needed(self) -> int:
        return self.kept + self.passing + self.labels + 2**24


def space_of(
    cfg: Config, planned: list[Plan], sizes: list[int], data: DataSet, *, snapshots: int = 0
) -> Space:
    """The space that a run with networks of `sizes` parameters needs at most.

    `snapshots` is the number of networks that each generation keeps besides its result.
    """
    kept = sum(size * 4 * (1 + snapshots) for size in sizes)
    kept += sum(max(sizes) * 4 for _ in range(3 * cfg.export.distill))  # a student and its export
    kept += (sum(sizes) if cfg.keep_checkpoints else max(sizes)) * 4 * checkpoint.KEEP * CHECKPOINT
    # a checkpoint being written, or two forms of the export and its predecessor
    passing = max(sizes) * 4 * (CHECKPOINT + 3)
    stores = sum(plan.needs_labels for plan in planned) + cfg.export.distill
    bytes_each = record.most_bytes(min(cfg.labels.soft_classes, len(data.classes))) * _pixels(data.unlabelled)
    labels = stores * len(data.unlabelled) * bytes_each
    if cfg.loss.distill or cfg.export.distill:
        labels += stores * len(data.labelled) * bytes_each
    return Space(kept, passing, labels)


def check_space(run: RunDir, planned: list[Plan], space: Space) -> None:
    """Raises StorageError, with the estimate, if the disk is too small for a run."""
    if run.report.exists() and run.generations_begun() == len(planned):
        return
    needed = space.needed
    there = sum(path.stat().st_size for path in run.path.rglob("*") if path.is_file())
    free = shutil.disk_usage(run.path).free
    if needed - there > free:
        raise StorageError(
            f"{run.path} has {free / 2**20:.0f} MiB free, and this run may need "
            f"{(needed - there) / 2**20:.0f} MiB more ({needed / 2**20:.0f} in all); "
            "free space or choose another out="
        )


def _pixels(samples: Sequence[Sample]) -> int:
    """The number of pixels of the largest of a few images."""
    looked_at = samples[:: max(len(samples) // 8, 1)]
    return max(
        (image.shape[0] * image.shape[1] for image in (sample.read_image() for sample in looked_at)),
        default=0,
    )
