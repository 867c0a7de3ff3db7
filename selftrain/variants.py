"""Variants of an export, on request: made, compared with torch on val images, and listed in its card."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from selftrain.config import ExportConfig
from selftrain.data.images import resize_image
from selftrain.data.sample import Sample
from selftrain.errors import ConfigError
from selftrain.files import read_directory
from selftrain.inference import windows
from selftrain.inference.exported import ONNX, load_export, predictor_of, seen_size
from selftrain.inference.labeller import Labeller
from selftrain.inference.usage import left_out, thresholds_of
from selftrain.log import progress, say
from selftrain.models import complete, forms
from selftrain.models.onnx import OnnxError, in_short, missing_libraries, onnx_graph, session_of
from selftrain.models.runtime import Graph
from selftrain.scores import confusion, miou
from selftrain.stages.export import VARIANTS_OF, replace

COMPARED = 50  # val images that variants are compared on
CALIBRATED = 32  # val images that the ranges of 8-bit activations come from
Answer = Callable[[np.ndarray], np.ndarray]  # from an image (H, W, C) uint8 to class ids (H, W) uint8


@dataclass(frozen=True)
class Material:
    """What the variants of an export are made from."""

    network: nn.Module  # on the CPU, in fp32 and in eval mode
    card: dict[str, Any]
    files: dict[str, bytes]
    asked: ExportConfig
    val: Sequence[Sample]  # with the images as they are stored

    @property
    def graph(self) -> bytes:
        """The content of model.onnx. Raises OnnxError if there is none."""
        if ONNX not in self.files:
            raise OnnxError(f"there is no {ONNX}: {self.card['onnx_reason']}")
        return self.files[ONNX]

    @property
    def shape(self) -> dict[str, int]:
        """What the network says of its input: the multiple of its sides, and its channels."""
        return {"multiple": self.card["input"]["multiple"], "channels": len(self.card["mean"])}

    def answer(self, network: nn.Module, **changed: Any) -> Answer:
        """How a network labels an image by the card, of which `changed` takes the place of some parts."""
        card = {**self.card, **changed}
        labeller = Labeller(predictor_of(network, card, device=torch.device("cpu")), card)
        return lambda image: labeller.label([image])[0]


@dataclass(frozen=True)
class Variant:
    """A variant that was made: its file, what the card says of it, and how it labels an image."""

    file: str
    content: bytes
    answer: Answer
    facts: dict[str, Any]


def whole(made: Material) -> Variant:
    """The graph with everything around the network: pixels as they are stored in, class ids out."""
    card = made.card
    around = complete.Around(
        card["mean"],
        card["std"],
        len(card["classes"]),
        made.shape["multiple"],
        card["input"]["size"],
        card["input"].get("predicted"),
        thresholds_of(card),
    )
    content = complete.complete(made.graph, around)
    session = session_of(content)
    facts = {
        "opset": card["onnx"]["opset"],
        "input": {"name": "image", "shape": ["height", "width", made.shape["channels"]], "type": "uint8"},
        "output": {"name": "ids", "shape": ["height", "width"], "type": "uint8"},
        "left_out": left_out(card),
    }
    return Variant("complete.onnx", content, lambda image: session.run(["ids"], {"image": image})[0], facts)


def static(made: Material) -> Variant:
    """The graph for one size, without dynamic sides: for programs that take no others."""
    size = made.asked.size
    if not size:
        image = made.val[0].read_image()
        size = list(seen_size(made.card, (image.shape[0], image.shape[1])))
    multiple = made.shape["multiple"]
    padded = [side + -side % multiple for side in size]
    content, facts = onnx_graph(made.network, **made.shape, opset=made.asked.opset, size=padded)
    seen = {**made.card["input"], "size": size, "predicted": None, "window": 0}
    answer = made.answer(Graph(content), input=seen, views="plain")
    return Variant("static.onnx", content, answer, {**facts, "size": size})


def fp16(made: Material) -> Variant:
    """The graph in half precision: half the size, and faster on GPUs."""
    content = forms.half(made.graph)
    return Variant("fp16.onnx", content, made.answer(Graph(content)), made.card["onnx"])


def int8(made: Material) -> Variant:
    """The graph in 8-bit integers: a quarter of the size, faster on CPUs with instructions for them."""
    images = _spread(made.val, CALIBRATED)
    content = forms.quantised(made.graph, (_input_of(made, sample) for sample in images))
    facts = {**made.card["onnx"], "calibrated_on": f"{len(images)} val images"}
    return Variant("int8.onnx", content, made.answer(Graph(content)), facts)


def pt2(made: Material) -> Variant:
    """The network as a program of torch.export, which PyTorch loads without selftrain."""
    content = forms.program(made.network, **made.shape)
    facts = {"torch": torch.__version__.partition("+")[0], "least_side": 2 * made.shape["multiple"]}
    return Variant("model.pt2", content, made.answer(forms.program_network(content)), facts)


VARIANTS: dict[str, Callable[[Material], Variant]] = {
    "complete": whole,
    "static": static,
    "fp16": fp16,
    "int8": int8,
    "pt2": pt2,
}
OF_GRAPH = ("complete", "fp16", "int8")  # made from model.onnx
# What the card says of an onnx graph's comparison with torch holds for model.onnx and static.onnx only.
OF_FP32 = ("compared_sizes", "largest_difference", "tolerance", "meaning", "ids")


def check(asked: ExportConfig) -> None:
    """Raises ConfigError for variants that cannot be made, and for settings without effect."""
    missing, of_graph = missing_libraries(), [one for one in asked.variants if one in OF_GRAPH]
    if of_graph and not asked.onnx:
        raise ConfigError(f"export.variants: {of_graph[0]} is made from {ONNX}; set export.onnx=true")
    if missing and any(name != "pt2" for name in asked.variants):
        raise ConfigError(f"export.variants={asked.variants}: {missing}")
    if asked.size and "static" not in asked.variants:
        raise ConfigError(f"export.size={asked.size} acts only with export.variants=[static]; add it")


def add(
    directory: Path, asked: ExportConfig, val: Sequence[Sample], check: Callable[[], object] = bool
) -> dict[str, Any]:
    """Add the variants that are asked for to an export; returns its card.

    Each is compared with torch on val images as they are stored. A variant that cannot be made has its
    "reason" in the card, which is also printed. `check` is called after each image and may raise.
    """
    network, card = load_export(directory)
    if not asked.variants:
        return card
    stored = [sample.at_own_size() for sample in val]
    made = Material(network, card, read_directory(directory), asked, stored)
    first, rows, variants = stored[0].read_image(), dict[str, dict[str, Any]](), dict[str, Variant]()
    for name in dict.fromkeys(asked.variants):
        try:
            variants[name] = VARIANTS[name](made)
            variants[name].answer(first)
        except MemoryError:
            raise
        except Exception as error:  # exporters raise many types
            variants.pop(name, None)
            rows[name] = {"reason": str(error) if isinstance(error, OnnxError) else in_short(error)}
            say(f"{directory}: no variant {name}: {rows[name]['reason']}")
        check()
    answers = {name: one.answer for name, one in variants.items()}
    found = compared({"": made.answer(network), **answers}, _spread(stored, COMPARED), card["classes"], check)
    torch_ = found.pop("")
    for name, one in variants.items():
        facts = {key: value for key, value in one.facts.items() if name == "static" or key not in OF_FP32}
        lost = (torch_["miou"] or 0.0) - (found[name]["miou"] or 0.0)
        mb = round(len(one.content) / 1e6, 2)
        rows[name] = {"file": one.file, "mb": mb, **found[name], "miou_lost": lost, **facts}
        say(
            f"{one.file}: {mb} MB, mIoU lost {lost:+.4f}, {found[name]['same_ids']:.3%} same ids, "
            f"{found[name]['images_per_second']} images/s (torch {torch_['images_per_second']})"
        )
    del torch_["same_ids"]
    about = {"images": min(len(stored), COMPARED), "threads": torch.get_num_threads(), "device": "cpu"}
    mb = round(len(made.files["model.safetensors"]) / 1e6, 2)
    card = {**card, "compared": {**about, "mb": mb, **torch_}, VARIANTS_OF: rows}
    replace(directory, {**made.files, **{one.file: one.content for one in variants.values()}}, card)
    return card


def compared(
    answers: dict[str, Answer],
    samples: Sequence[Sample],
    classes: Sequence[str],
    check: Callable[[], object] = bool,
) -> dict[str, dict[str, Any]]:
    """How each answer does on samples with masks: "miou", "same_ids" and "images_per_second".

    "same_ids" is the share of pixels that get the class of the first answer. Images are labelled one by one.
    Reading them is not counted.
    """
    number = len(classes)
    counts = {name: np.zeros((number, number + 1), np.int64) for name in answers}  # the last column: no class
    same, seconds, pixels = dict.fromkeys(answers, 0), dict.fromkeys(answers, 0.0), 0
    with progress("variants", len(samples)) as show:
        for done, sample in enumerate(samples, start=1):
            image, mask = sample.read_image(), sample.read_mask()
            assert mask is not None
            first = None
            for name, answer in answers.items():
                begun = time.perf_counter()
                ids = answer(image)
                seconds[name] += time.perf_counter() - begun
                first = ids if first is None else first
                counts[name] += confusion(np.minimum(ids, number), mask, number + 1)[:number]
                same[name] += int((ids == first).sum())
            pixels += mask.size
            show(done)
            check()
    return {
        name: {
            "miou": miou(counts[name]),
            "same_ids": same[name] / pixels,
            "images_per_second": float(f"{len(samples) / seconds[name]:.3g}"),
        }
        for name in answers
    }


def _input_of(made: Material, sample: Sample) -> np.ndarray:
    """What the network sees of a sample, (1, C, H, W) float32; of a large image, the first window."""
    predictor, image = predictor_of(made.network, made.card), sample.read_image()
    seen = resize_image(image, seen_size(made.card, (image.shape[0], image.shape[1])))
    side = predictor.side or max(seen.shape)
    return windows.pad(predictor.pixels(seen[None, :side, :side]), predictor.multiple).numpy()


def _spread(samples: Sequence[Sample], most: int) -> list[Sample]:
    """At most `most` of the samples, spread evenly over them."""
    places = np.linspace(0, len(samples) - 1, min(most, len(samples))).round().astype(int)
    return [samples[place] for place in places]
