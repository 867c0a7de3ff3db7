"""Making step functions for tests: one process, pixels as they are, two classes."""

import contextlib

from selftrain.config import LossConfig
from selftrain.methods.base import Context
from selftrain.methods.table import METHODS

UNSMOOTHED = {"ce": {"weight": 1.0}}


def method(
    name="",
    *,
    classes=2,
    ranks=1,
    reduce=lambda counts: counts,
    steps=10,
    class_weights=None,
    mixers=(),
    **loss,
):
    cfg = LossConfig(**{"labelled": UNSMOOTHED, **loss})
    return METHODS[name](
        Context(
            cfg, classes, lambda images: images.permute(0, 3, 1, 2).float(), ranks, reduce, contextlib.nullcontext,
            lambda model: model, steps, class_weights, mixers,
        )
    )  # fmt: skip


def result_of(step, model, averaged, batch, counts=None):
    """One step of a single process; `counts` (k,) come from the global batch if it is larger."""
    return step.loss(model, averaged, batch, step.counts(batch) if counts is None else counts)
