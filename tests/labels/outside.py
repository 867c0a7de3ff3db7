"""A program beside selftrain: adds an entry to each table of labels and scores, and runs with what its words set.

python outside.py recipe=smoke 'labels.refiner={flattened: {mass: 0.6}}' out=run
"""

import sys
from typing import Annotated

import numpy as np

from selftrain.errors import exit_code_of
from selftrain.labels.refiners import REFINERS
from selftrain.labels.thresholds import THRESHOLDS
from selftrain.run import main
from selftrain.scores import SCORES
from selftrain.stages.reliability import RELIABILITIES, Reliability
from selftrain.tables import Bounds


def dice(confusion):
    """The mean Dice coefficient over the classes that the truth has."""
    hit, truth, predicted = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    return float((2 * hit / np.maximum(truth + predicted, 1))[truth > 0].mean())


def flattened(image, probs, *, mass: Annotated[float, Bounds(0.5, 1), "of the most probable class"] = 0.9):
    """The same labels, all equally sure."""
    winner = np.arange(len(probs))[:, None, None] == probs.argmax(axis=0)
    return np.where(winner, mass, (1 - mass) / (len(probs) - 1)).astype(np.float32)


def lenient(histogram, *, confidence, alpha: Annotated[float, Bounds(0, 1)] = 0.5):
    """A part of `select.confidence` for every class."""
    return np.full(len(histogram), alpha * confidence)


def brightness(subject, *, dark: bool = False):
    """How bright an image is, or how dark."""
    grey = np.array([sample.read_image().mean() / 255 for sample in subject.samples], np.float32)
    return 1 - grey if dark else grey


SCORES["dice"] = dice
REFINERS["flattened"] = flattened
THRESHOLDS["lenient"] = lenient
RELIABILITIES["brightness"] = Reliability(brightness, looks=True)

if __name__ == "__main__":
    sys.exit(exit_code_of(main))
