"""The refiner that the settings choose, and the threads that refine while the next images are inferred."""

import threading
import time
from dataclasses import asdict

import numpy as np
import pytest

from selftrain.config import CRFConfig, LabelConfig
from selftrain.errors import ConfigError
from selftrain.labels import refiners
from selftrain.labels.crf import CRF, marginals
from selftrain.stages.pseudo_label import Refiners, check_refiner, refiner_of

IMAGE = np.repeat(np.array([[[0], [0], [255], [255]]], np.uint8), 3, axis=2)
PROBS = np.array([[[0.9, 0.4, 0.2, 0.1]], [[0.1, 0.6, 0.8, 0.9]]], np.float32)


def test_the_crf_refines_by_its_settings_and_can_be_turned_off():
    settings = {
        name: value for name, value in asdict(CRFConfig()).items() if name not in ("enabled", "workers")
    }
    expected = marginals(IMAGE, PROBS, crf=CRF(**settings))
    assert (refiner_of(LabelConfig())(IMAGE, PROBS) == expected).all() and (expected != PROBS).any()
    stronger = refiner_of(LabelConfig(crf=CRFConfig(iterations=9)))(IMAGE, PROBS)
    assert (stronger == marginals(IMAGE, PROBS, crf=CRF(**settings | {"iterations": 9}))).all() and (
        stronger != expected
    ).any()
    for off in (LabelConfig(crf=CRFConfig(enabled=False)), LabelConfig(refiner="none")):
        assert refiner_of(off)(IMAGE, PROBS) is PROBS


def test_a_refiner_that_does_not_exist_is_refused_with_those_that_do():
    with pytest.raises(ConfigError, match=r"labels\.refiner: there is no 'median'; there are none, crf"):
        refiner_of(LabelConfig(refiner="median"))
    with pytest.raises(ConfigError, match=r"labels\.crf\.backend=gpu must be one of lattice, pydensecrf"):
        refiner_of(LabelConfig(crf=CRFConfig(backend="gpu")))


def test_a_refiner_that_changes_the_shape_is_refused_before_the_run(monkeypatch):
    check_refiner(LabelConfig())
    monkeypatch.setitem(refiners.REFINERS, "argmax", lambda image, probs: probs.argmax(axis=0))
    with pytest.raises(
        ConfigError, match=r"labels\.refiner=argmax makes \(32, 32\) of probabilities \(2, 32, 32\)"
    ):
        check_refiner(LabelConfig(refiner="argmax"))


def test_no_more_than_two_calls_a_thread_are_taken():
    gate, taken = threading.Event(), []
    with Refiners(1) as refiners:
        filler = threading.Thread(target=lambda: [taken.append(refiners.submit(gate.wait)) for _ in range(6)])
        filler.start()
        filler.join(0.5)
        waiting, before = filler.is_alive(), len(taken)
        gate.set()
        filler.join()
    assert waiting and before == 2  # the third waited for room
    assert all(future.result() for future in taken) and len(taken) == 6


def test_what_a_call_raises_arrives():
    with Refiners(2) as refiners:
        future = refiners.submit(int, "no number")
        with pytest.raises(ValueError, match="no number"):
            future.result()


def test_an_exception_drops_what_waits():
    began = time.perf_counter()
    with pytest.raises(KeyError), Refiners(1) as refiners:
        futures = [refiners.submit(time.sleep, 0.5) for _ in range(2)]
        raise KeyError
    assert time.perf_counter() - began < 1.5 and all(future.cancelled() for future in futures[1:])
