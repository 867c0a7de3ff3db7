"""A teacher labels the unlabelled images: it averages views, refines them, and stores them unfiltered.

Labels are written shard by shard, and the index last.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import ParamSpec, TypeVar

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from selftrain import process
from selftrain.config import LabelConfig
from selftrain.data.cache import Cache
from selftrain.data.labels import Readable
from selftrain.data.likeness import Unlikeness
from selftrain.data.many import ids_of
from selftrain.errors import ConfigError, IntegrityError, naming_savings
from selftrain.inference.groups import neighbours, rank_share
from selftrain.inference.predictor import Predictor
from selftrain.labels import numbers, refiners, store
from selftrain.labels.crf import crf_of
from selftrain.labels.labelled import label_image
from selftrain.labels.record import Labelled
from selftrain.log import progress, say
from selftrain.tables import bound, handed

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Labeller:
    """A frozen teacher with everything that labelling needs. Masks, if any, only measure the labels."""

    predictor: Predictor  # averages the probabilities of its views
    classes: int
    cfg: LabelConfig
    cache: Cache
    accelerator: Accelerator
    # probabilities (N, C, H, W) of these samples from what the predictor returns for their images
    finished: Callable[[Sequence[Readable], Tensor], Tensor] = lambda samples, probs: probs
    # For `labels.numbers`: the label (H, W) of an earlier generation, and the labelled images.
    earlier: Callable[[Readable], np.ndarray | None] = lambda sample: None
    labelled: Callable[[], Iterable[np.ndarray]] = tuple

    @naming_savings("labelling")
    def label(
        self,
        samples: Sequence[Readable],
        directory: Path,
        *,
        stage: str,
        teacher: str,
        check: Callable[[], None],
    ) -> store.LabelStore:
        """The finished label store of `samples` in `directory`; intact shards that exist are kept.

        `teacher` is the sha256 of the network's weights. `check` is called between batches and may raise to
        stop. Ranks share the shards. A shard's bits do not depend on the rank that makes it.

        Raises IntegrityError if `directory` contains another teacher's labels.
        """
        if self.accelerator.is_main_process:
            _forget_damaged(directory)
        self.accelerator.wait_for_everyone()
        if not (directory / store.INDEX).exists():
            origin = store.Origin(teacher, self.classes, min(self.cfg.soft_classes, self.classes))
            self._fill(_Unfinished(samples, directory, origin, self.cfg.shard), stage, check)
        found = store.LabelStore(directory)
        if found.index.teacher != teacher or found.index.ids_sha256 != store.ids_digest(_ids(samples)):
            raise IntegrityError(
                f"{directory} contains the labels of another teacher or data set; remove it to label again"
            )
        return found

    def _fill(self, labels: "_Unfinished", stage: str, check: Callable[[], None]) -> None:
        missing = labels.missing()
        self.accelerator.wait_for_everyone()  # all ranks have seen the same shards before any rank writes
        mine = [missing[i] for i in rank_share(len(missing), self.accelerator)]
        predictor = self.predictor.quickest(self.cache.image(labels.samples[0]))
        unlike = Unlikeness(self.labelled() if mine else ())
        images, done = sum(labels.count(n) for n in mine), 0
        with (
            self._pool() as pool,
            progress(f"{stage} labels", images, show=self.accelerator.is_main_process) as show,
        ):
            waiting: deque[tuple[int, list[Future[Labelled]]]] = deque()
            for place, number in enumerate(mine, start=1):
                waiting.append((number, self._infer(predictor, unlike, labels.shard(number), pool, check)))
                # one shard is refined while the next is inferred
                while len(waiting) > 1 or (waiting and place == len(mine)):
                    ready, futures = waiting.popleft()
                    labels.write(ready, [future.result() for future in futures])
                    done += len(futures)
                    show(done)
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            labels.finish()
        self.accelerator.wait_for_everyone()

    def _pool(self) -> "Refiners":
        cores = process.cores() // process.beside(self.accelerator.num_processes)
        return Refiners(self.cfg.crf.workers or max(cores, 1))

    def _infer(
        self,
        predictor: Predictor,
        unlike: Unlikeness,
        samples: Sequence[Readable],
        pool: "Refiners",
        check: Callable[[], None],
    ) -> list[Future[Labelled]]:
        """Average the views of a shard's images, and submit each image for refinement."""
        plain = predictor.plain()
        label = partial(
            label_image,
            refiner=refiner_of(self.cfg),
            soft_classes=self.cfg.soft_classes,
            unlike=unlike,
        )
        refining: list[Future[Labelled]] = []
        for batch in neighbours(samples, self.cfg.batch, self.cache.image):
            check()
            masks = [sample.read_mask() for sample, _ in batch]
            images, own = np.stack([image for _, image in batch]), [sample for sample, _ in batch]
            averaged, views = _seen(predictor, images)
            probs = self.finished(own, averaged).cpu().numpy()
            raw = None
            if any(mask is not None for mask in masks):
                raw = plain.decision(self.finished(own, plain.probabilities(images))).cpu().numpy()
            for i, mask in enumerate(masks):
                seen = None if mask is None or raw is None else raw[i]
                told = {"views": views[i]} if views else {}
                before = partial(self.earlier, own[i])
                refining.append(
                    pool.submit(label, images[i], probs[i], mask=mask, raw=seen, earlier=before, numbers=told)
                )
            if self.accelerator.device.type == "cpu":
                wait(refining)  # on shared cores, inference and refinement threads would block each other
        return refining


@dataclass(frozen=True)
class _Unfinished:
    """A label store that is being filled, `size` images to a shard."""

    samples: Sequence[Readable]
    directory: Path
    origin: store.Origin
    size: int

    def shard(self, number: int) -> Sequence[Readable]:
        return self.samples[number * self.size : (number + 1) * self.size]

    def count(self, number: int) -> int:
        """The number of images of a shard."""
        return min(self.size, len(self.samples) - number * self.size)

    def missing(self) -> list[int]:
        """The shards that are not there, or not intact."""
        numbers = range(-(-len(self.samples) // self.size))
        return [n for n in numbers if not self._is_sound(n)]

    def _is_sound(self, number: int) -> bool:
        path = self._path(number)
        return path.is_file() and store.shard_is_sound(path, list(_ids(self.shard(number))), self.origin)

    def write(self, number: int, labels: Sequence[Labelled]) -> None:
        numbers.write(numbers.file_of(self.directory, number), labels)
        store.write_shard(self._path(number), labels, list(_ids(self.shard(number))), self.origin)

    def finish(self) -> None:
        store.finish(self.directory, _ids(self.samples), self.origin, shard=self.size)

    def _path(self, number: int) -> Path:
        return store.shard_path(self.directory, number)


def _seen(predictor: Predictor, images: np.ndarray) -> tuple[Tensor, list[float]]:
    """The averaged probabilities of images, and what averaging takes from the confidence of single views.

    The second part is a number for each image, or [] if there is one view. By Jensen's inequality it is at
    least 0, up to rounding. It is 0 where all views have the same class.
    """
    if predictor.views is None or len(predictor.views) < 2:
        return predictor.probabilities(images), []
    single = list[Tensor]()
    averaged = predictor.probabilities(images, single)
    sure = averaged.amax(dim=1).flatten(1).mean(dim=1)
    return averaged, (torch.stack(single).mean(dim=0) - sure).clamp_min(0).tolist()


def refiner_of(cfg: LabelConfig) -> refiners.Refiner:
    """The refiner that the settings choose, with its settings.

    `labels.crf.enabled=false` replaces the CRF with "none". Raises ConfigError for unknown settings.
    """
    chosen = refiners.TABLE.one(cfg.refiner, "labels.refiner")
    if chosen.name == "crf" and not cfg.crf.enabled:
        chosen = refiners.TABLE.one("none", "labels.refiner")
    return partial(
        bound(chosen), **handed(chosen.entry, f"labels.refiner={chosen.name}", crf=crf_of(cfg.crf))
    )


def check_refiner(cfg: LabelConfig, channels: int = 3) -> None:
    """Try the refiner on a small grey image of `channels` channels.

    Raises ConfigError if it refuses the image, or if it returns another shape.
    """
    image, probs = np.full((32, 32, channels), 128, np.uint8), np.full((2, 32, 32), 0.5, np.float32)
    try:
        refined = refiner_of(cfg)(image, probs)
    except ValueError as error:
        raise ConfigError(
            f"labels.refiner={cfg.refiner} refuses images with data.channels={channels} ({error}); "
            "set labels.refiner=none"
        ) from None
    if refined.shape != probs.shape:
        raise ConfigError(
            f"labels.refiner={cfg.refiner} makes {refined.shape} of probabilities {probs.shape}; "
            "they must agree"
        )


class Refiners(ThreadPoolExecutor):
    """Threads with at most two calls each at a time: `submit` waits for room.

    If an exception leaves the block, waiting calls are dropped.
    """

    def __init__(self, threads: int) -> None:
        super().__init__(threads, thread_name_prefix="refiner", initializer=process.unpin)
        self._room = threading.Semaphore(2 * threads)

    def submit(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        self._room.acquire()
        future = super().submit(function, *args, **kwargs)
        future.add_done_callback(lambda _: self._room.release())
        return future

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.shutdown(cancel_futures=kind is not None)


def _forget_damaged(directory: Path) -> None:
    """Remove the index of a label store with missing or changed shards, so that those are made again."""
    index = directory / store.INDEX
    bad = store.LabelStore(directory).verify() if index.exists() else []
    if bad:
        say(f"{len(bad)} label shards are missing or damaged, e.g. {bad[0]}: they are labelled again")
        index.unlink()


def _ids(samples: Sequence[Readable]) -> Iterator[str]:
    return chain.from_iterable(ids_of(samples))
