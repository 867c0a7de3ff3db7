"""Which images a rank looks at, and which of them share a forward pass."""

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import TypeVar

import numpy as np
from accelerate import Accelerator

Sample = TypeVar("Sample")


def rank_share(count: int, accelerator: Accelerator) -> range:
    """Which of `count` things this rank works on."""
    return range(accelerator.process_index, count, accelerator.num_processes)


def neighbours(
    samples: Sequence[Sample], batch: int, read: Callable[[Sample], np.ndarray]
) -> Iterator[list[tuple[Sample, np.ndarray]]]:
    """Samples in their order with the images that `read` gives, up to `batch` neighbours of one size together.

    The grouping is part of a label's bits, so it depends on `samples` and `batch` alone.
    """
    for first in range(0, len(samples), batch):
        pairs = [(sample, read(sample)) for sample in samples[first : first + batch]]
        for _, same in groupby(pairs, key=lambda pair: pair[1].shape):
            yield list(same)
