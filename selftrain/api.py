"""The Python interface: load a trained network and ask it about images, or train one.

Nothing here changes the caller's random generators, signal handlers or thread counts.
"""

import html
import os
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from selftrain import rng
from selftrain.data.images import read_image, resize_image
from selftrain.errors import ConfigError, DataError, SelftrainError
from selftrain.files import read_json
from selftrain.inference.labeller import Labeller
from selftrain.inference.tta import resize_maps
from selftrain.rundir import RunDir

Picture: TypeAlias = "str | os.PathLike[str] | NDArray[np.uint8] | Image.Image"
Ids: TypeAlias = NDArray[np.uint8]
AHEAD = 2  # images that `stream` reads before they are asked for
SAYS = "selftrain: error: "  # begins the last line of a run that fails
# Predictions take turns: an image-level head keeps features between two modules, and the precision of
# convolutions on a GPU is a setting of the whole process.
_TURN = Lock()


@dataclass(frozen=True)
class Model:
    """A trained network that labels images. Threads may share it.

    >>> import selftrain
    >>> model = selftrain.load("runs/first")
    >>> model.classes
    ['background', 'disc', 'ring', 'square', 'triangle', 'star']
    """

    labeller: Labeller

    @property
    def card(self) -> dict[str, Any]:
        """Everything that is known of the network, as card.json of an export."""
        return self.labeller.card

    @property
    def classes(self) -> list[str]:
        """The names of the classes; the place of a name is its id."""
        return list(self.card["classes"])

    def predict(self, image: Picture) -> Ids:
        """Class ids (H, W) uint8 of an image; 255 where a decision leaves a pixel without a class.

        `selftrain predict` writes the same ids. `image` is a file, a PIL image, or an array (H, W, C) uint8
        with the channels of training (RGB). Raises DataError for anything else.

        >>> mask = model.predict("images/a.png")
        >>> mask.shape, mask.dtype
        ((50, 41), dtype('uint8'))
        """
        return self._ids(self._pixels(image))

    def predict_proba(self, image: Picture) -> NDArray[np.float32]:
        """Probabilities (classes, H, W) float32 of an image, as `predict` takes it.

        `predict` takes the class of the largest one, unless thresholds were tuned or small regions are
        removed.

        >>> probabilities = model.predict_proba("images/a.png")
        >>> probabilities.shape
        (6, 50, 41)
        >>> bool((probabilities.argmax(axis=0) == mask).all())
        True
        """
        pixels = self._pixels(image)
        seen = resize_image(pixels, self.labeller.input_size(pixels))
        with _TURN, torch.inference_mode():
            found = self.labeller.predictor.probabilities(seen[None])
            return resize_maps(found, (pixels.shape[0], pixels.shape[1]))[0].cpu().numpy()

    def stream(self, images: Iterable[Picture]) -> Iterator[Ids]:
        """`predict` for many images, in order. The next ones are read while one is predicted.

        Memory use does not depend on the number of images. Raises DataError at an image that cannot be read.

        >>> [mask.shape for mask in model.stream(["images/a.png", "images/b.png"])]
        [(50, 41), (20, 41)]
        """
        with ThreadPoolExecutor(1) as reader:
            ahead = deque[Future[Ids]]()
            for image in images:
                ahead.append(reader.submit(self._pixels, image))
                if len(ahead) > AHEAD:
                    yield self._ids(ahead.popleft().result())
            while ahead:
                yield self._ids(ahead.popleft().result())

    def _ids(self, pixels: Ids) -> Ids:
        with _TURN:
            return self.labeller.label([pixels])[0]

    def _pixels(self, image: Picture) -> Ids:
        """An image (H, W, C) uint8."""
        channels = len(self.card["mean"])
        if isinstance(image, str | os.PathLike):
            return read_image(Path(image), self.labeller.levels, channels)
        if isinstance(image, Image.Image):
            image = np.asarray(image.convert("L" if channels == 1 else "RGB"))
        if image.ndim == 2 and channels == 1:
            image = image[..., None]
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != channels:
            raise DataError(
                f"an image must be (H, W, {channels}) uint8, and this is {image.shape} {image.dtype}"
            )
        return image


@dataclass(frozen=True)
class Run:
    """The directory of a run.

    >>> run = selftrain.Run(Path("runs/first"))
    >>> run.report["best"] in (0, 1)
    True
    """

    path: Path

    @property
    def report(self) -> dict[str, Any]:
        """report.json: generations, scores and what leads. Raises ConfigError if the run is not finished."""
        file = RunDir(self.path).report
        if not file.is_file():
            raise ConfigError(
                f"{self.path} has no {file.name}: it is not finished (selftrain status {self.path})"
            )
        return read_json(file)

    @cached_property
    def model(self) -> Model:
        """The exported network; of an unfinished run, the leader so far."""
        return load(self.path)

    def show(self, height: int = 700) -> None:
        """Show the report, `height` pixels high, in a notebook; elsewhere, print its table."""
        run, shell = RunDir(self.path), _kernel()
        if shell is None:
            from selftrain.report.summary import print_table

            print_table(self.report, run.page, run.export, run.student_export(self.report))
            return
        from IPython.display import display

        page, name = html.escape(run.page.read_text()), html.escape(f"Report of {self.path}")
        style = f"width: 100%; height: {height}px; border: 0"
        framed = f'<iframe title="{name}" style="{style}" srcdoc="{page}"></iframe>'
        display({"text/html": framed}, raw=True)


def load(path: str | os.PathLike[str]) -> Model:
    """The network of a run, of `selftrain folds` or of an export, in a directory.

    Of an unfinished run, it is the leader so far. It is on a GPU if there is one. Raises ConfigError for a
    directory without a network, IntegrityError for a damaged one.

    >>> selftrain.load("runs/first/export").classes == model.classes
    True
    """
    place = Path(path).expanduser()
    with rng.untouched(), _exported(place) as directory:
        return Model(Labeller.load(directory))


def fit(
    *,
    data: str | os.PathLike[str],
    out: str | os.PathLike[str],
    recipe: str = "noisy_student",
    settings: Mapping[str, object] | None = None,
    quiet: bool = False,
) -> Run:
    """Train as `selftrain train` does, in a child process, and return the run when it is finished.

    `data` is a data set of selftrain (`shapes`, `camvid`, …) or the YAML file that `selftrain init` wrote,
    and `settings` are any of docs/settings.md. The same call resumes a run that was stopped; if the run is
    finished, the call returns it. The output of the run is printed, unless `quiet`. An interrupt stops the
    run at its next step, and everything is saved.

    Raises the error of the run: ConfigError, DataError, and so on.

    >>> few = {"train.steps": 2, "train.threads": 1, "export.onnx": False}
    >>> run = selftrain.fit(data="shapes", recipe="smoke", out="runs/second", settings=few, quiet=True)
    >>> run.report["recipe"]
    'smoke'
    >>> run.model.predict("images/a.png").shape
    (50, 41)
    """
    words = {"recipe": recipe, "data": os.fspath(data), "out": os.fspath(out)}
    words |= {name: _written(value) for name, value in (settings or {}).items()}
    command = [sys.executable, "-m", "selftrain.run", *(f"{name}={text}" for name, text in words.items())]
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="backslashreplace",
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        start_new_session=True,  # an interrupt reaches the run through `_ended` only, once
    )
    with child:
        said = _ended(child, quiet)
    if child.returncode:
        raise _error(child.returncode, said)
    return Run(Path(out).expanduser())


def _written(value: object) -> str:
    """A setting as on the command line; a text stays as it is."""
    from selftrain.settings import flow

    return value if isinstance(value, str) else flow(list(value) if isinstance(value, tuple) else value)


def _ended(child: "subprocess.Popen[str]", quiet: bool) -> deque[str]:
    """Pass on what a run says until it ends; returns its last lines. An exception here ends the run."""
    said = deque[str](maxlen=20)
    assert child.stdout is not None
    try:
        for line in child.stdout:
            said.append(line.rstrip("\n"))
            if not quiet:
                print(line, end="", flush=True)
    except BaseException:
        child.terminate()  # it saves its work and ends
        for _ in child.stdout:  # unread, its next line would end it before it saves
            pass
        raise
    return said


def _error(code: int, said: Iterable[str]) -> SelftrainError:
    """The error that a run ended with, by its exit code and its last words."""
    lines = list(said)
    message = next((line.removeprefix(SAYS) for line in reversed(lines) if line.startswith(SAYS)), "")
    kinds = {kind.exit_code: kind for kind in SelftrainError.__subclasses__()}
    told = message or f"the run ended with exit code {code}: {' '.join(lines[-1:])}"
    return kinds.get(code, SelftrainError)(told)


@contextmanager
def _exported(path: Path) -> Iterator[Path]:
    """The export to load from a directory. Of an unfinished run, it is written to a temporary folder."""
    run = RunDir(path)
    if not run.config.is_file() or run.report.is_file():
        yield run.export if run.export.is_dir() else path
        return
    from selftrain.commands.leader import export_unfinished

    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "export"
        export_unfinished(run, directory, onnx=False)
        yield directory


def _kernel() -> object | None:
    """The shell of the notebook that this process belongs to, or None."""
    if "IPython" not in sys.modules:
        return None
    from IPython import get_ipython

    shell = get_ipython()
    return shell if hasattr(shell, "kernel") else None
