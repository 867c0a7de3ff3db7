"""A small part of a data set, for `debug=true`."""

from collections.abc import Sequence
from dataclasses import replace

from selftrain import debugging
from selftrain.data.dataset import SPLITS, DataSet
from selftrain.data.sample import Sample
from selftrain.rng import generator


def few(data: DataSet, seed: int) -> DataSet:
    """The data set with a random part of the images of each split, in their order (`debugging.images`).

    Images of data.extra are drawn apart from the others.
    """

    def drawn(split: str, samples: Sequence[Sample], key: str = "") -> list[Sample]:
        count = debugging.images(split, len(samples))
        places = generator(seed, "debug", split, key).permutation(len(samples))[:count]
        return [samples[i] for i in sorted(places.tolist())]

    labelled = drawn("labelled", [one for one in data.labelled if not one.extra])
    unlabelled, val, test = (drawn(split, getattr(data, split)) for split in SPLITS[1:])
    labelled += drawn("labelled", [one for one in data.labelled if one.extra], "extra")
    return replace(data, labelled=labelled, unlabelled=unlabelled, val=val, test=test)
