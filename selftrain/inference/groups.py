"""Division of images among ranks, and among forward passes."""

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import TypeVar

import numpy as np
from accelerate import Accelerator

from selftrain.data.ahead import ahead

Sample = TypeVar("Sample")


def rank_share(count: int, accelerator: Accelerator) -> range:
    """Indices of the items, out of `count`, that this rank works on."""
    return range(accelerator.process_index, count, accelerator.num_processes)


def neighbours(
    samples: Sequence[Sample], batch: int, read: Callable[[Sample], np.ndarray]
) -> Iterator[list[tuple[Sample, np.ndarray]]]:
    """Groups of up to `batch` neighbouring samples whose images have one size, with the images from `read`.

    The order of the samples is kept. The grouping affects the bits of labels, so it depends only on `samples`
    and `batch`.
    """
    batches = (samples[first : first + batch] for first in range(0, len(samples), batch))
    for some in ahead(batches, list):
        pairs = [(sample, read(sample)) for sample in some]
        for _, same in groupby(pairs, key=lambda pair: pair[1].shape):
            yield list(same)
