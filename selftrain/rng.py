"""Randomness as a pure function of where we are: (seed, stage, step, ...) names every draw.

No generator or sampler state is saved: a resumed run uses the same keys and gets the same numbers.
"""

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import numpy as np

Key = int | str


def seed_of(*keys: Key) -> int:
    """A 63-bit seed from any keys, the same on every machine and Python."""
    text = "\x1f".join(f"{type(key).__name__}:{key}" for key in keys)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def generator(*keys: Key) -> np.random.Generator:
    """A NumPy generator that depends only on the keys."""
    return np.random.Generator(np.random.PCG64(seed_of(*keys)))


def rekey(*keys: Key) -> None:
    """Seed Python's, NumPy's and torch's global generators from the keys (dropout and drop path use them)."""
    import torch

    seed = seed_of(*keys)
    random.seed(seed)
    np.random.seed(seed & 0xFFFFFFFF)
    torch.manual_seed(seed)


def batch_ids(count: int, batch: int, step: int, *keys: Key) -> list[int]:
    """The `batch` samples of a step out of `count`: permutations laid end to end, cut into batches.

    A pure function of its arguments. A batch larger than the data set repeats samples.
    """
    ids = []
    for position in range(step * batch, (step + 1) * batch):
        epoch, place = divmod(position, count)
        ids.append(int(_permutation(count, epoch, keys)[place]))
    return ids


@lru_cache(maxsize=4)  # labelled and unlabelled images, each in the middle of a batch at the end of an epoch
def _permutation(count: int, epoch: int, keys: tuple[Key, ...]) -> np.ndarray:
    order = generator(*keys, "order", epoch).permutation(count)
    return order.astype(np.int32) if count < 2**31 else order  # half the memory: 40 MB for ten million


@contextmanager
def untouched() -> Iterator[None]:
    """Restore the global generators of Python, NumPy and torch after the block."""
    import torch

    states = random.getstate(), np.random.get_state()
    devices = range(torch.cuda.device_count())
    with torch.random.fork_rng(devices):
        yield
    random.setstate(states[0])
    np.random.set_state(states[1])
