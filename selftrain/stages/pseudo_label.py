"""A teacher labels the unlabelled images: views averaged, refined by a CRF, stored unfiltered, shard by shard, index last."""

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn

from selftrain.config import LabelConfig
from selftrain.data.batches import Cache
from selftrain.errors import IntegrityError
from selftrain.labels import store, tta
from selftrain.labels.crf import CRFPool
from selftrain.labels.refine import Refined, refine
from selftrain.log import progress, say
from selftrain.stages.steps import normalised


class Unlabelled(Protocol):
    """An image to label. A mask, if there is one, only measures the labels."""

    @property
    def id(self) -> str: ...

    def read_image(self) -> np.ndarray: ...

    def read_mask(self) -> np.ndarray | None: ...


@dataclass(frozen=True)
class Labeller:
    """A frozen teacher with all that it takes to label an image."""

    network: nn.Module
    classes: int
    cfg: LabelConfig
    mean: torch.Tensor
    std: torch.Tensor
    accelerator: Accelerator
    cache: Cache

    def label(
        self, samples: Sequence[Unlabelled], directory: Path, *, stage: str, teacher: str, check: Callable[[], None]
    ) -> store.LabelStore:
        """The finished label store of `samples` under `directory`; what of it is already there and sound is kept.

        `teacher` is the sha256 of the network's weights. `check` is called between batches and may raise to stop.
        Ranks share the shards; a shard's bits do not depend on who makes it.
        Raises IntegrityError where another teacher's labels lie there.
        """
        if self.accelerator.is_main_process:
            _forget_damaged(directory)
        self.accelerator.wait_for_everyone()
        if not (directory / store.INDEX).exists():
            self._fill(samples, directory, stage, teacher, check)
        found = store.LabelStore(directory)
        if found.index.teacher != teacher or found.index.ids_sha256 != store.ids_digest(_ids(samples)):
            raise IntegrityError(f"{directory} holds the labels of another teacher or data set; remove it to label again")
        return found

    def _fill(self, samples: Sequence[Unlabelled], directory: Path, stage: str, teacher: str, check: Callable[[], None]) -> None:
        facts: dict[str, Any] = {
            "classes": self.classes,
            "soft_classes": min(self.cfg.soft_classes, self.classes),
            "teacher": teacher,
        }
        size = self.cfg.shard
        shards = {n: samples[first : first + size] for n, first in enumerate(range(0, len(samples), size))}
        missing = [n for n in shards if not store.shard_is_sound(store.shard_path(directory, n), ids=_ids(shards[n]), **facts)]
        self.accelerator.wait_for_everyone()  # all ranks have seen the same shards before anybody writes
        mine = missing[self.accelerator.process_index :: self.accelerator.num_processes]
        images, done = sum(len(shards[n]) for n in mine), 0
        with self._pool() as pool, progress(f"{stage} labels", images, show=self.accelerator.is_main_process) as show:
            waiting: deque[tuple[int, list[Future[Refined]]]] = deque()
            for place, number in enumerate(mine, start=1):
                waiting.append((number, self._infer(shards[number], pool, check)))
                while len(waiting) > 1 or (waiting and place == len(mine)):  # one shard is refined while the next is inferred
                    ready, futures = waiting.popleft()
                    self._write(directory, ready, [pool.result(future) for future in futures], _ids(shards[ready]), facts)
                    done += len(futures)
                    show(done)
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            store.finish(directory, ids=_ids(samples), shard=size, **facts)
        self.accelerator.wait_for_everyone()

    def _pool(self) -> CRFPool:
        cores = len(os.sched_getaffinity(0)) // self.accelerator.num_processes
        return CRFPool(self.cfg.crf.workers or max(cores, 1))

    def _infer(self, samples: Sequence[Unlabelled], pool: CRFPool, check: Callable[[], None]) -> list[Future[Refined]]:
        """Average the views of a shard's images and hand each on to be refined."""
        cfg = self.cfg
        settings = {name: value for name, value in asdict(cfg.crf).items() if name not in ("enabled", "workers")}
        refining: list[Future[Refined]] = []
        for batch in neighbours(samples, cfg.batch, self.cache):
            check()
            masks = [sample.read_mask() for sample, _ in batch]
            images = np.stack([image for _, image in batch])
            raw, probs = self._views(images, measured=any(mask is not None for mask in masks))
            for i, mask in enumerate(masks):
                job: dict[str, Any] = {"mask": mask, "raw": raw[i] if mask is not None else None}
                job |= {"soft_classes": cfg.soft_classes, "settings": settings if cfg.crf.enabled else None}
                refining.append(pool.submit(refine, images[i], probs[i], **job))
        return refining

    def _views(self, images: np.ndarray, *, measured: bool) -> tuple[np.ndarray, np.ndarray]:
        """Labels (N, H, W) of the plain view, where they are measured, and probabilities (N, C, H, W) of all views."""
        pixels = normalised(torch.from_numpy(images).to(self.accelerator.device), self.mean, self.std)
        views = tta.views(**asdict(self.cfg.tta))
        with self.accelerator.autocast():
            probs = tta.predict(self.network, pixels, transforms=views, window=self.cfg.window)
            plain = tta.predict(self.network, pixels, window=self.cfg.window) if measured else probs
        return plain.argmax(dim=1).to(torch.uint8).cpu().numpy(), probs.cpu().numpy()

    def _write(self, directory: Path, number: int, refined: list[Refined], ids: list[str], facts: dict) -> None:
        confusions = [one.confusion for one in refined if one.confusion is not None]
        store.write_shard(
            directory,
            number,
            [one.record for one in refined],
            ids=ids,
            soft_classes=facts["soft_classes"],
            teacher=facts["teacher"],
            confidence=np.array([one.confidence for one in refined], np.float32),
            histogram=np.sum([one.histogram for one in refined], axis=0),
            confusion=np.sum(confusions, axis=0) if confusions else None,
        )


def _forget_damaged(directory: Path) -> None:
    """Take back the index of a label store with shards that are gone or changed, so that those are made again."""
    index = directory / store.INDEX
    bad = store.LabelStore(directory).verify() if index.exists() else []
    if bad:
        say(f"{len(bad)} label shards are gone or damaged, e.g. {bad[0]}: they are made again")
        index.unlink()


def _ids(samples: Sequence[Unlabelled]) -> list[str]:
    return [sample.id for sample in samples]


def neighbours(samples: Sequence[Unlabelled], batch: int, cache: Cache) -> Iterator[list[tuple[Unlabelled, np.ndarray]]]:
    """Samples with their images, in their order, up to `batch` neighbours of one size together.

    The grouping is part of a label's bits, so it depends on the shard alone.
    """
    for first in range(0, len(samples), batch):
        pairs = [(sample, cache.image(sample)) for sample in samples[first : first + batch]]
        for _, same in groupby(pairs, key=lambda pair: pair[1].shape):
            yield list(same)
