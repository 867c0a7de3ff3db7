"""The labeller: an exported network with its card, which labels images of any size."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from selftrain.config import CRFConfig
from selftrain.data.images import Levels, resize_image
from selftrain.errors import ConfigError
from selftrain.files import read_directory
from selftrain.inference import windows
from selftrain.inference.decide import Cleaned, confidence, judged_at_size
from selftrain.inference.exported import ONNX, load_export, predictor_of, seen_size
from selftrain.inference.predictor import Predictor
from selftrain.inference.tta import resize_maps
from selftrain.labels.crf import crf_of
from selftrain.models.runtime import TORCH, Graph
from selftrain.values import Choice

Key = TypeVar("Key")
BACKENDS = ("torch", "onnx")
FLIP: Choice = {"product": {"hflip": True}}


@dataclass(frozen=True)
class Changes:
    """Changes to the settings of a card; None leaves a setting as it is."""

    views: Choice | None = None
    crf: bool | None = None  # True: as val chose it, else with the default settings
    least: float | None = None  # pixels whose class is less probable have none
    size: Sequence[Any] | None = None  # by the rule of `sizes.seen_size`; []: images as they are

    def of(self, card: dict[str, Any]) -> dict[str, Any]:
        """The card with these changes. Raises ConfigError for a size that nothing defines."""
        new = dict(card)
        if self.views is not None:
            new["views"] = self.views
        if self.crf is not None:
            new["refine"] = (card.get("refine") or {"crf": asdict(crf_of(CRFConfig()))}) if self.crf else None
        if self.least is not None:
            new["least"] = self.least
        if self.size is not None:
            kept = {"size": card["input"]["size"]} if self.size else {"size": None}
            new["input"] = {**card["input"], **kept, "predicted": list(self.size) or None}
        return new


UNCHANGED = Changes()


class Found(NamedTuple):
    """What is found in an image, or in a part of one."""

    ids: np.ndarray  # (H, W) uint8, 255: no class
    confidence: np.ndarray  # (H, W) float32, as `decide.confidence`; before a clean-up of the ids
    probabilities: np.ndarray | None = None  # (K, H, W) float16, if they are wanted


@dataclass(frozen=True)
class Labeller:
    """An exported network with its card, which labels images."""

    predictor: Predictor
    card: dict[str, Any]

    @classmethod
    def load(
        cls, directory: Path, changes: Changes = UNCHANGED, *, batch: int = 8, backend: str = "torch"
    ) -> "Labeller":
        """The labeller of an export. Raises the errors of `load_export`; ConfigError for a missing graph."""
        network, card = load_export(directory)
        card = changes.of(card)
        if backend == "torch":
            device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
            return cls(predictor_of(network, card, batch=batch, device=device), card)
        content = read_directory(directory).get(ONNX)
        if content is None:
            because = card.get("onnx_reason") or "it was left out"
            raise ConfigError(
                f"--backend onnx: {directory} has no {ONNX} ({because}); "
                f"write one by selftrain export RUN -o DIR, or {TORCH}"
            )
        return cls(predictor_of(Graph(content), card, batch=batch, device=torch.device("cpu")), card)

    @property
    def resizes(self) -> bool:
        """Whether the network sees images at another size than their own."""
        return bool(self.card["input"]["size"] or self.card["input"].get("predicted"))

    @property
    def channels(self) -> int:
        """Channels of the images."""
        return len(self.card["mean"])

    @property
    def levels(self) -> Levels | None:
        """The values of 16-bit images that became 0 and 255 in training.

        None (older exports): the high bytes were used.
        """
        found = self.card["input"].get("range")
        return (found[0], found[1]) if found else None

    def input_size(self, picture: np.ndarray) -> tuple[int, int]:
        """(height, width) at which the network sees a picture (H, W, C)."""
        return seen_size(self.card, (picture.shape[0], picture.shape[1]))

    def label(self, pictures: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Class ids (H, W) uint8 for images (H, W, C) uint8 of one input size."""
        return [found.ids for found in self.find(pictures)]

    def find(self, pictures: Sequence[np.ndarray], *, probabilities: bool = False) -> list[Found]:
        """What is found in images (H, W, C) uint8 of one input size, each at its own size.

        If the card has an input size, images are resized to it.
        """
        if not self.resizes:
            return self._in_blocks(np.stack(pictures), probabilities)
        sizes = [(picture.shape[0], picture.shape[1]) for picture in pictures]
        probs = self.predictor.probabilities(
            np.stack([resize_image(one, self.input_size(one)) for one in pictures])
        )
        return [self._resized(one, own, probabilities) for one, own in zip(probs, sizes, strict=True)]

    @property
    def cleans(self) -> bool:
        """Whether label maps are cleaned up."""
        return isinstance(self.predictor.decision, Cleaned)

    def cleaned(self, ids: np.ndarray) -> np.ndarray:
        """Ids (H, W) of a whole image, after the clean-up of the card, if there is one."""
        decision = self.predictor.decision
        return (
            decision.after(torch.from_numpy(ids[None]))[0].numpy() if isinstance(decision, Cleaned) else ids
        )

    def blocks(
        self,
        size: tuple[int, int],
        read: Callable[[slice, slice], np.ndarray],
        *,
        probabilities: bool,
        side: int = 0,
    ) -> Iterator[tuple[windows.Block, list[Found]]]:
        """What is found in images of one `size` (height, width), block by block and before a clean-up.

        `read` returns the images' pixels (N, h, w, C) uint8 of some rows and columns. If the network sees
        whole images, blocks are made as for windows of `side` pixels; 0: a single block.
        """
        decision = self._decision
        for block in windows.blocks(*size, self.predictor.side or side):
            probs = self.predictor.probabilities(read(*block.seen))[:, :, *block.inner]
            ids = decision(probs)
            sure = confidence(probs, ids)
            rows = zip(ids, sure, probs, strict=True)
            yield block, [_found(*row, probabilities) for row in rows]

    @property
    def _decision(self) -> Callable[[Tensor], Tensor]:
        """The decision without a clean-up: a region may lie in several blocks."""
        decision = self.predictor.decision
        return decision.decision if isinstance(decision, Cleaned) else decision

    def _in_blocks(self, images: np.ndarray, probabilities: bool) -> list[Found]:
        count, height, width, _ = images.shape
        ids, sure = np.empty((count, height, width), np.uint8), np.empty((count, height, width), np.float32)
        shape = (count, len(self.card["classes"]), height, width)
        probs = np.empty(shape, np.float16) if probabilities else None
        for block, each in self.blocks(
            (height, width), lambda *part: images[:, *part], probabilities=probabilities
        ):
            for number, one in enumerate(each):
                ids[number, *block.place], sure[number, *block.place] = one.ids, one.confidence
                if probs is not None:
                    probs[number][:, *block.place] = one.probabilities
        return [
            Found(self.cleaned(ids[number]), sure[number], None if probs is None else probs[number])
            for number in range(count)
        ]

    def _resized(self, probs: Tensor, size: tuple[int, int], probabilities: bool) -> Found:
        ids, sure = judged_at_size(self._decision, probs, size)
        whole = resize_maps(probs[None], size)[0] if probabilities else probs
        found = _found(ids, sure, whole, probabilities)
        return found._replace(ids=self.cleaned(found.ids))

    def find_all(
        self, pictures: Iterable[tuple[Key, np.ndarray | Any]], *, probabilities: bool = False
    ) -> Iterator[tuple[Key, Found | Any]]:
        """`find` for a stream: each key in order, with what is found in its picture.

        What is no picture, such as a fault, is passed on.
        """
        for group in self._groups(pictures):
            seen = [one for _, one in group if isinstance(one, np.ndarray)]
            found = iter(self.find(seen, probabilities=probabilities)) if seen else iter(())
            for key, one in group:
                yield key, next(found) if isinstance(one, np.ndarray) else one

    def _groups(
        self, pictures: Iterable[tuple[Key, np.ndarray | Any]]
    ) -> Iterator[list[tuple[Key, np.ndarray | Any]]]:
        """Group neighbours for one forward pass: one input size, at most `batch` images.

        An image that is larger than a window is alone in its group.
        """
        group: list[tuple[Key, np.ndarray | Any]] = []
        size: tuple[int, ...] | None = None
        for key, picture in pictures:
            new = self.input_size(picture) if isinstance(picture, np.ndarray) else None
            other = new is not None and size is not None and (new != size or self._exceeds(new))
            if group and (other or len(group) >= self.predictor.batch):
                yield group
                group, size = [], None
            size = new or size
            group.append((key, picture))
        if group:
            yield group

    def _exceeds(self, size: tuple[int, ...]) -> bool:
        return 0 < self.predictor.side < max(size)


def _found(ids: Tensor, sure: Tensor, probs: Tensor, probabilities: bool) -> Found:
    kept = probs.half().cpu().numpy() if probabilities else None
    return Found(ids.cpu().numpy(), sure.float().cpu().numpy(), kept)


def differing_ids(one: "Labeller", other: "Labeller", images: Sequence[np.ndarray]) -> float:
    """The share of pixels of images (H, W, C) uint8 to which two labellers give different ids."""
    wrong = [np.count_nonzero(one.label([image])[0] != other.label([image])[0]) for image in images]
    return sum(wrong) / max(1, sum(image.shape[0] * image.shape[1] for image in images))
