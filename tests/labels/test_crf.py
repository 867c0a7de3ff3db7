import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from pydensecrf.densecrf import DenseCRF2D

from selftrain.errors import ConfigError, LearningError, ResourceError
from selftrain.labels.crf import CRFPool, refine

SETTINGS: dict[str, Any] = {
    "iterations": 5,
    "gaussian_sxy": 3.0,
    "gaussian_compat": 3.0,
    "bilateral_sxy": 30.0,
    "bilateral_srgb": 10.0,
    "bilateral_compat": 5.0,
}


def scene(height: int = 24, width: int = 40) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Black left, white right; probabilities that know the halves, but see their border five pixels too far left."""
    image = np.zeros((height, width, 3), np.uint8)
    image[:, width // 2 :] = 255
    right = np.where(np.arange(width) < width // 2 - 5, 0.2, 0.8) * np.ones((height, 1))
    return image, np.stack([1 - right, right]).astype(np.float32)


def test_the_border_moves_to_the_edge_of_the_image() -> None:
    image, probs = scene()
    refined = refine(image, probs, **SETTINGS)
    truth = (image[..., 0] > 0).astype(int)
    assert refined.shape == probs.shape and refined.dtype == np.float32
    np.testing.assert_allclose(refined.sum(axis=0), 1, atol=1e-5)
    assert (probs.argmax(axis=0) != truth).mean() == 5 / 40
    assert (refined.argmax(axis=0) != truth).mean() == 0


def test_without_kernels_or_iterations_the_probabilities_stay() -> None:
    image, probs = scene()
    for off in ({"gaussian_compat": 0.0, "bilateral_compat": 0.0}, {"iterations": 0}):
        np.testing.assert_allclose(refine(image, probs, **SETTINGS | off), probs, atol=1e-4)


@pytest.mark.parametrize("near", [(1.0, 1.0), (2.0, 3.0), (3.0, 3.0), (8.0, 3.0)], ids=str)
def test_the_labels_are_those_of_pydensecrf(near: tuple[float, float]) -> None:
    """Noisy probabilities of a noisy picture: what the kernels change, they change alike."""
    rng = np.random.default_rng(0)
    coarse = rng.random((5, 6, 8), dtype=np.float32)
    truth = np.stack([cv2.resize(plane, (160, 120), interpolation=cv2.INTER_CUBIC) for plane in coarse]).argmax(axis=0)
    image = np.clip(40 + 40 * truth[..., None] + rng.normal(0, 12, (120, 160, 3)), 0, 255).astype(np.uint8)
    logits = 2.0 * (np.arange(5)[:, None, None] == truth) + rng.normal(0, 1.5, (5, 120, 160))
    probs = (np.exp(logits) / np.exp(logits).sum(axis=0)).astype(np.float32)
    settings = SETTINGS | dict(zip(("gaussian_sxy", "gaussian_compat"), near, strict=True))
    field = DenseCRF2D(160, 120, 5)
    field.setUnaryEnergy(np.ascontiguousarray(-np.log(probs).reshape(5, -1)))
    field.addPairwiseGaussian(sxy=near[0], compat=near[1])
    field.addPairwiseBilateral(sxy=30, srgb=10, rgbim=image, compat=5)
    theirs = np.array(field.inference(5)).reshape(5, 120, 160).argmax(axis=0)
    ours = refine(image, probs, **settings).argmax(axis=0)
    assert (theirs != probs.argmax(axis=0)).mean() > 0.05
    assert (ours == theirs).mean() >= 0.995


def test_equal_input_gives_equal_bits() -> None:
    image, probs = scene()
    assert (refine(image, probs, **SETTINGS) == refine(image, probs, **SETTINGS)).all()


def test_any_memory_layout_will_do() -> None:
    image, probs = scene()
    expected = refine(image, probs, **SETTINGS)
    flipped = np.ascontiguousarray(image[:, ::-1])[:, ::-1]
    flipped.flags.writeable = False
    channels_last = np.ascontiguousarray(np.moveaxis(probs, 0, -1))
    assert (refine(flipped, np.moveaxis(channels_last, -1, 0), **SETTINGS) == expected).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (7, 1)])
def test_tiny_images_are_refined(size: tuple[int, int]) -> None:
    refined = refine(np.zeros((*size, 3), np.uint8), np.full((3, *size), 1 / 3, np.float32), **SETTINGS)
    assert refined.shape == (3, *size) and np.isfinite(refined).all()


@pytest.mark.parametrize("name", ["gaussian_sxy", "bilateral_sxy", "bilateral_srgb"])
@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_a_deviation_that_would_crash_is_refused(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match="must be positive"):
        refine(*scene(), **SETTINGS | {name: value})


# processes; the functions they call are those of this module, imported there


def nap_and_tell(seconds: float, value: int) -> tuple[int, int]:
    time.sleep(seconds)
    return os.getpid(), value


def whats_loaded() -> tuple[bool, bool, str | None]:
    return "torch" in sys.modules, "pytest" in sys.modules, os.environ.get("OMP_NUM_THREADS")


def fail() -> None:
    raise LearningError("no good")


def fail_strangely() -> None:
    class Local(Exception):
        pass

    raise Local("cannot be pickled")


def die(number: int) -> None:
    os.kill(os.getpid(), number)
    time.sleep(60)


def test_a_worker_refines_as_here() -> None:
    image, probs = scene()
    with CRFPool(1) as pool:
        there = pool.result(pool.submit(refine, image, probs, **SETTINGS))
    assert (there == refine(image, probs, **SETTINGS)).all()


def test_results_belong_to_their_calls_and_all_workers_work() -> None:
    with CRFPool(2) as pool:
        futures = [pool.submit(nap_and_tell, 0.05 if i % 3 else 0.15, i) for i in range(12)]
        results = [pool.result(future) for future in futures]
    assert [value for _, value in results] == list(range(12))
    assert len({pid for pid, _ in results}) == 2


def test_submit_waits_for_room() -> None:
    with CRFPool(1, in_flight=2) as pool:
        pool.result(pool.submit(nap_and_tell, 0, 0))
        start = time.perf_counter()
        for i in range(4):
            pool.submit(nap_and_tell, 0.2, i)
        assert time.perf_counter() - start > 0.35  # the last of four enters when the second is done


def test_what_a_function_raises_arrives_and_the_worker_lives_on() -> None:
    with CRFPool(1) as pool:
        with pytest.raises(LearningError, match="no good") as caught:
            pool.result(pool.submit(fail))
        assert "in fail" in caught.value.__notes__[0]
        with pytest.raises(RuntimeError, match="Local: cannot be pickled"):
            pool.result(pool.submit(fail_strangely))
        assert pool.result(pool.submit(nap_and_tell, 0, 7))[1] == 7


def test_an_argument_that_cannot_travel_is_an_error_of_its_call() -> None:
    with CRFPool(1) as pool:
        with pytest.raises((AttributeError, TypeError, Exception), match="pickle"):
            pool.result(pool.submit(nap_and_tell, 0, lambda: 0))  # type: ignore[arg-type]
        assert pool.result(pool.submit(nap_and_tell, 0, 7))[1] == 7


def test_a_killed_worker_is_named() -> None:
    with pytest.raises(ResourceError, match=r"label worker \d+ was killed by SIGKILL.*labels\.crf\.workers"), CRFPool(2) as pool:
        pool.result(pool.submit(die, signal.SIGKILL))


def test_workers_leave_ctrl_c_and_sigterm_to_the_program() -> None:
    with CRFPool(1) as pool:
        pid, _ = pool.result(pool.submit(nap_and_tell, 0, 0))
        future = pool.submit(nap_and_tell, 0.3, 1)
        os.kill(pid, signal.SIGINT)
        os.kill(pid, signal.SIGTERM)
        assert pool.result(future) == (pid, 1)
        assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == set()  # and the program goes on listening


def test_an_exception_ends_the_workers_at_once() -> None:
    start = time.perf_counter()
    with pytest.raises(KeyError), CRFPool(2) as pool:
        pids = [pool.result(pool.submit(nap_and_tell, 0.1, i))[0] for i in range(2)]
        for i in range(8):
            pool.submit(nap_and_tell, 60, i)
        raise KeyError
    assert time.perf_counter() - start < 60
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_workers_start_without_torch_and_compute_alone() -> None:
    with CRFPool(1) as pool:
        torch_loaded, _, threads = pool.result(pool.submit(whats_loaded))
    assert not torch_loaded and threads == "1"


def test_workers_do_not_outlive_a_killed_program(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent("""
            import time
            from tests.labels.test_crf import nap_and_tell
            from selftrain.labels.crf import CRFPool
            print("main", flush=True)  # once: workers do not run the program again
            with CRFPool(1) as pool:
                print(pool.result(pool.submit(nap_and_tell, 0, 0))[0], flush=True)
                time.sleep(60)
        """)
    )
    root = Path(__file__).parents[2]
    environment = os.environ | {"PYTHONPATH": str(root)}
    with subprocess.Popen([sys.executable, program], stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "main\n"
        pid = int(process.stdout.readline())
        process.kill()
    assert _gone(pid, seconds=30)


def _gone(pid: int, *, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":  # ended; whoever adopted it has not looked yet
            return True
        time.sleep(0.05)
    return False
