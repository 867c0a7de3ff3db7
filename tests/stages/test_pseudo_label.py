"""The threads that refine labels while the next images are inferred."""

import threading
import time

import pytest

from selftrain.stages.pseudo_label import Refiners


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
