"""A network of one convolution, and its ONNX graph written by hand: quicker than an export."""

from typing import Any

import torch
from torch import nn

CLASSES = ["sky", "road", "tree", "car"]
MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]


def one_by_one(opset: int = 17) -> tuple[nn.Module, bytes]:
    """A network that decides by the colour of each pixel, and its graph."""
    import onnx

    torch.manual_seed(0)
    network = nn.Conv2d(3, len(CLASSES), 1)
    weights = ", ".join(map(repr, network.weight.flatten().tolist()))
    bias = ", ".join(map(repr, network.bias.tolist()))
    text = f"""
    <ir_version: 8, opset_import: ["" : {opset}]>
    network (float[batch, 3, height, width] image) => (float[batch, 4, height, width] logits) {{
      weight = Constant <value = float[4, 3, 1, 1] {{{weights}}}> ()
      bias = Constant <value = float[4] {{{bias}}}> ()
      logits = Conv (image, weight, bias)
    }}
    """
    return network.eval(), onnx.parser.parse_model(text).SerializeToString()


def card(
    size: list | None = None, predicted: list | None = None, thresholds: list[float] | None = None
) -> dict[str, Any]:
    """The card of `one_by_one`, with sides that are multiples of 32."""
    return {
        "classes": CLASSES,
        "mean": MEAN,
        "std": STD,
        "input": {"size": size, "predicted": predicted, "multiple": 32, "window": 0, "range": None},
        "decision": {"thresholds": {"each": thresholds}} if thresholds else "argmax",
    }


CARDS = [  # with every way to say the size of the network's input
    card(),
    card(size=[20, 30]),
    card(size=[72, 96]),
    card(size=["longest", 40], thresholds=[0.9, 0.2, 0.5, 0.4]),
    card(size=["shortest", 48], predicted=["scale", 1.5]),
    card(predicted=["scale", 0.7]),
]
