"""A small review for tests: three drawn images with a bright square, and a pseudo-label that misses it."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import uvicorn

from selftrain.data.sample import Sample, Source
from selftrain.labels.crf import CRF
from selftrain.labels.labelled import label_image
from selftrain.labels.record import Label, decode
from selftrain.labels.refiners import unrefined
from selftrain.review.server import Reviewing, application
from selftrain.review.store import Store

CLASSES = ["ground", "thing", "other"]
IMAGES = ["raw/a", "raw/b", "raw/c"]
HEIGHT, WIDTH = 30, 40
SQUARE = (slice(8, 22), slice(12, 28))
TOKEN = "secret"
EDGES = CRF("lattice", 5, 1, 3, 20, 10, 8)


class Drawn(Source):
    name = "drawn"

    def read(self) -> np.ndarray:
        image = np.full((HEIGHT, WIDTH, 3), 40, np.uint8)
        image[SQUARE] = 220
        return image

    def fingerprint(self) -> None:
        return None


def ground(sample: Sample, image: np.ndarray) -> Label:
    """The pseudo-label: all of it is the first class, with little confidence."""
    probs = np.full((3, HEIGHT, WIDTH), 0.2, np.float32)
    probs[0] = 0.6
    return decode(label_image(image, probs, refiner=unrefined, soft_classes=3).record)


def drawn(folder: Path) -> Reviewing:
    samples = [Sample(name, Drawn(), None) for name in IMAGES]
    return Reviewing(
        "Three images", samples, CLASSES, Store(folder, CLASSES, IMAGES, "teacher"), ground, EDGES
    )


@contextlib.contextmanager
def served(reviewing: Reviewing, port: int = 0) -> Iterator[tuple[str, int]]:
    """The server in a thread: (address with the token, port)."""
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind(("127.0.0.1", port))
    config = uvicorn.Config(
        application(reviewing, TOKEN), log_level="error", lifespan="off", timeout_graceful_shutdown=1
    )
    server, port = uvicorn.Server(config), listening.getsockname()[1]
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.005)
    yield f"http://127.0.0.1:{port}/{TOKEN}/", port
    server.should_exit = True
    thread.join(timeout=10)
