"""Dense CRF refinement, and the processes that do it while the next images are inferred.

pydensecrf holds the GIL, so threads would not overlap. The workers are plain interpreters that import neither torch nor
the program's `__main__` (multiprocessing's spawn and forkserver import both), end when their pipe closes, however the
program died, and leave Ctrl-C and SIGTERM to it.
"""

import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any, ParamSpec, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray
from pydensecrf.densecrf import DenseCRF2D

from selftrain import memory
from selftrain.errors import ConfigError, ResourceError

NEAR = 3.0  # pixels: a smoothness kernel wider than that is left to the lattice
FLOOR = 1e-5  # no probability is less, or one bad pixel could outweigh any neighbourhood
ALONE = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")  # one thread for each worker
START = "import sys; sys.path[:] = {path!r}; from selftrain.labels.crf import serve; serve({handle})"

Plane = NDArray[np.float32]
P = ParamSpec("P")
R = TypeVar("R")


def refine(
    image: NDArray[np.uint8],
    probs: NDArray[np.float32],
    *,
    iterations: int,
    gaussian_sxy: float,
    gaussian_compat: float,
    bilateral_sxy: float,
    bilateral_srgb: float,
    bilateral_compat: float,
) -> NDArray[np.float32]:
    """Marginals (C, H, W) of a fully connected CRF whose unaries are probs (C, H, W), for an image (H, W, 3).

    Kraehenbuehl & Koltun 2011: mean field with a smoothness kernel (positions / `gaussian_sxy`) and an appearance kernel
    (positions / `bilateral_sxy`, colours / `bilateral_srgb`), each weighted by its compat. The marginals are near 0 or 1
    wherever neighbours agree: good as labels, over-confident as probabilities.

    The mean field and the appearance kernel are pydensecrf's. The smoothness kernel is, up to NEAR pixels, a truncated
    convolution, which is quicker than pydensecrf's lattice and gives the same labels to 0.1 % (docs/performance.md).
    Raises ConfigError for a standard deviation that is not positive (pydensecrf would crash).
    """
    for deviation in (gaussian_sxy, bilateral_sxy, bilateral_srgb):
        if not 0 < deviation < np.inf:
            raise ConfigError(f"a standard deviation of the CRF must be positive, not {deviation}")
    classes, height, width = probs.shape
    field = DenseCRF2D(width, height, classes)
    unary = np.ascontiguousarray(-np.log(np.maximum(probs, FLOOR)).reshape(classes, -1), np.float32)
    field.setUnaryEnergy(unary)
    near = bool(gaussian_compat) and gaussian_sxy <= NEAR
    if gaussian_compat and not near:
        field.addPairwiseGaussian(sxy=gaussian_sxy, compat=gaussian_compat)
    if bilateral_compat:
        colours = np.require(image, np.uint8, ["C", "W"])
        field.addPairwiseBilateral(sxy=bilateral_sxy, srgb=bilateral_srgb, rgbim=colours, compat=bilateral_compat)
    smooth = _smoother((height, width), gaussian_sxy, gaussian_compat) if near else None
    marginals, *scratch = field.startInference()
    for _ in range(iterations):
        if smooth:  # a message of the Potts model is one more unary energy of this step
            field.setUnaryEnergy(unary - smooth(np.asarray(marginals)))
        field.stepInference(marginals, *scratch)
    return np.array(marginals, np.float32).reshape(classes, height, width)


def _smoother(size: tuple[int, int], deviation: float, compat: float) -> Callable[[Plane], Plane]:
    """planes (C, H * W) -> compat times what a Gaussian, normalised as in pydensecrf (D^-1/2 K D^-1/2), makes of them."""

    def blur(plane: Plane) -> Plane:
        return np.asarray(cv2.GaussianBlur(plane, (0, 0), deviation, borderType=cv2.BORDER_CONSTANT), np.float32)

    norm = 1 / np.sqrt(blur(np.ones(size, np.float32)))
    after = compat * norm

    def smooth(planes: Plane) -> Plane:
        found = np.empty(planes.shape, np.float32)
        for plane, place in zip(np.ascontiguousarray(planes), found, strict=True):
            np.multiply(blur(norm * plane.reshape(size)), after, out=place.reshape(size))
        return found

    return smooth


class CRFPool:
    """Runs functions in `workers` processes, at most `in_flight` at a time: `submit` waits for room.

    A context manager. Left by an exception, it drops what is not done and kills the workers.
    """

    def __init__(self, workers: int, *, in_flight: int = 0) -> None:
        self._count = workers
        self._room = threading.Semaphore(in_flight or 4 * workers)

    def __enter__(self) -> "CRFPool":
        self._workers = [Worker() for _ in range(self._count)]  # they import while the caller goes on
        self._idle: queue.SimpleQueue[Worker] = queue.SimpleQueue()
        for worker in self._workers:
            self._idle.put(worker)
        self._threads = ThreadPoolExecutor(self._count, thread_name_prefix="crf")  # each waits for one worker
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
            for worker in self._workers:
                worker.kill()
        self._threads.shutdown()
        for worker in self._workers:
            worker.close()

    def submit(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Have a worker call `function`, which it must be able to import. Arguments and result are pickled.

        The future raises what the function raises, and ResourceError where its worker died.
        """
        self._room.acquire()
        future = self._threads.submit(self._run, function, args, kwargs)
        future.add_done_callback(lambda _: self._room.release())
        return future

    def result(self, future: Future[R]) -> R:
        return future.result()

    def _run(self, function: Callable[..., R], args: tuple, kwargs: dict[str, Any]) -> R:
        worker = self._idle.get()
        try:
            return worker.call(function, args, kwargs)
        finally:
            self._idle.put(worker)


class Worker:
    """A process that answers one call after the other."""

    def __init__(self) -> None:
        self._connection, theirs = Pipe()
        handle = theirs.fileno()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})  # the child inherits this
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-c", START.format(path=sys.path, handle=handle)],
                pass_fds=[handle],
                stdin=subprocess.DEVNULL,
                env=os.environ | dict.fromkeys(ALONE, "1"),
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            theirs.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    def call(self, function: Callable[..., R], args: tuple, kwargs: dict[str, Any]) -> R:
        """Raises what the function raises, or ResourceError where the process is no more."""
        request = pickle.dumps((function, args, kwargs), protocol=5)
        try:
            self._connection.send_bytes(request)
            fine, answer = self._connection.recv()
        except (EOFError, OSError):
            raise ResourceError(self._death()) from None
        if not fine:
            raise answer
        return answer

    def kill(self) -> None:
        self._process.kill()

    def close(self) -> None:
        self._connection.close()  # its sign to end
        self._process.wait()

    def _death(self) -> str:
        code = self._process.wait()
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return f"label worker {self.pid} {how}; if memory ran out, lower labels.crf.workers, then run the same command"


def serve(handle: int) -> None:
    """The life of a worker: calls come in through `handle` and answers go out, until the other end closes."""
    cv2.setNumThreads(0)
    memory.keep_freed()
    connection = Connection(handle)
    while True:
        try:
            request = connection.recv_bytes()
        except (EOFError, OSError):
            return
        answer = _answer(request)
        try:
            connection.send_bytes(answer)
        except OSError:
            return


def _answer(request: bytes) -> bytes:
    try:
        function, args, kwargs = pickle.loads(request)
        return pickle.dumps((True, function(*args, **kwargs)), protocol=5)
    except Exception as error:
        error.add_note(f"in a label worker:\n{traceback.format_exc()}")
        try:
            return pickle.dumps((False, error))
        except Exception:  # an exception that cannot travel
            return pickle.dumps((False, RuntimeError(f"{type(error).__name__}: {error}")))
