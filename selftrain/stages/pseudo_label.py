"""A teacher labels the unlabelled images: views averaged, refined by a CRF, stored unfiltered, shard by shard, index last."""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numpy as np
from torch import nn

from selftrain import process
from selftrain.config import LabelConfig
from selftrain.data.labels import Readable
from selftrain.errors import IntegrityError, naming_savings
from selftrain.labels import store, tta
from selftrain.labels.refine import Refined, refine
from selftrain.log import progress, say
from selftrain.stages.inference import Inference

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Labeller:
    """A frozen teacher with all that it takes to label an image. A mask, if there is one, only measures the labels."""

    network: nn.Module
    classes: int
    cfg: LabelConfig
    inference: Inference

    @naming_savings("labelling")
    def label(
        self, samples: Sequence[Readable], directory: Path, *, stage: str, teacher: str, check: Callable[[], None]
    ) -> store.LabelStore:
        """The finished label store of `samples` under `directory`; what of it is already there and sound is kept.

        `teacher` is the sha256 of the network's weights. `check` is called between batches and may raise to stop.
        Ranks share the shards; a shard's bits do not depend on who makes it.
        Raises IntegrityError where another teacher's labels lie there.
        """
        if self.inference.accelerator.is_main_process:
            _forget_damaged(directory)
        self.inference.accelerator.wait_for_everyone()
        if not (directory / store.INDEX).exists():
            self._fill(samples, directory, stage, teacher, check)
        found = store.LabelStore(directory)
        if found.index.teacher != teacher or found.index.ids_sha256 != store.ids_digest(_ids(samples)):
            raise IntegrityError(f"{directory} holds the labels of another teacher or data set; remove it to label again")
        return found

    def _fill(self, samples: Sequence[Readable], directory: Path, stage: str, teacher: str, check: Callable[[], None]) -> None:
        facts: dict[str, Any] = {
            "classes": self.classes,
            "soft_classes": min(self.cfg.soft_classes, self.classes),
            "teacher": teacher,
        }
        size = self.cfg.shard
        shards = {n: samples[first : first + size] for n, first in enumerate(range(0, len(samples), size))}
        missing = [n for n in shards if not store.shard_is_sound(store.shard_path(directory, n), ids=_ids(shards[n]), **facts)]
        self.inference.accelerator.wait_for_everyone()  # all ranks have seen the same shards before anybody writes
        mine = [missing[i] for i in self.inference.mine(len(missing))]
        network = self.inference.quickest(self.network, self.inference.cache.image(samples[0]))
        images, done = sum(len(shards[n]) for n in mine), 0
        with self._pool() as pool, progress(f"{stage} labels", images, show=self.inference.accelerator.is_main_process) as show:
            waiting: deque[tuple[int, list[Future[Refined]]]] = deque()
            for place, number in enumerate(mine, start=1):
                waiting.append((number, self._infer(network, shards[number], pool, check)))
                while len(waiting) > 1 or (waiting and place == len(mine)):  # one shard is refined while the next is inferred
                    ready, futures = waiting.popleft()
                    self._write(directory, ready, [future.result() for future in futures], _ids(shards[ready]), facts)
                    done += len(futures)
                    show(done)
        self.inference.accelerator.wait_for_everyone()
        if self.inference.accelerator.is_main_process:
            store.finish(directory, ids=_ids(samples), shard=size, **facts)
        self.inference.accelerator.wait_for_everyone()

    def _pool(self) -> "Refiners":
        cores = process.cores() // self.inference.accelerator.num_processes
        return Refiners(self.cfg.crf.workers or max(cores, 1))

    def _infer(
        self, network: nn.Module, samples: Sequence[Readable], pool: "Refiners", check: Callable[[], None]
    ) -> list[Future[Refined]]:
        """Average the views of a shard's images and hand each on to be refined."""
        cfg, views = self.cfg, tta.views(**asdict(self.cfg.tta))
        settings = {name: value for name, value in asdict(cfg.crf).items() if name not in ("enabled", "workers")}
        refining: list[Future[Refined]] = []
        for batch in self.inference.neighbours(samples, cfg.batch):
            check()
            masks = [sample.read_mask() for sample, _ in batch]
            images = np.stack([image for _, image in batch])
            probs = self.inference.probabilities(network, images, views).cpu().numpy()
            raw = self.inference.labels(network, images) if any(mask is not None for mask in masks) else None
            for i, mask in enumerate(masks):
                job: dict[str, Any] = {"mask": mask, "raw": None if mask is None or raw is None else raw[i]}
                job |= {"soft_classes": cfg.soft_classes, "settings": settings if cfg.crf.enabled else None}
                refining.append(pool.submit(refine, images[i], probs[i], **job))
            if self.inference.accelerator.device.type == "cpu":
                wait(refining)  # on the same cores the threads of both would wait for each other
        return refining

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


class Refiners(ThreadPoolExecutor):
    """Threads with at most two calls each at a time: `submit` waits for room. Left by an exception, what waits is dropped."""

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
    """Take back the index of a label store with shards that are gone or changed, so that those are made again."""
    index = directory / store.INDEX
    bad = store.LabelStore(directory).verify() if index.exists() else []
    if bad:
        say(f"{len(bad)} label shards are gone or damaged, e.g. {bad[0]}: they are made again")
        index.unlink()


def _ids(samples: Sequence[Readable]) -> list[str]:
    return [sample.id for sample in samples]
