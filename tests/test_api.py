"""The Python interface, on one small run."""

import doctest
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import selftrain
from runs import ROOT
from selftrain import api
from selftrain.errors import ConfigError, DataError, IntegrityError

NOTEBOOK = ROOT / "examples" / "quickstart.ipynb"
rng = np.random.default_rng(0)
PIXELS = rng.integers(0, 256, (50, 41, 3), np.uint8)


@pytest.fixture(scope="module")
def place(run, tmp_path_factory):
    """A folder with a finished run, and images beside it."""
    folder = tmp_path_factory.mktemp("api")
    settings = ["recipe=smoke", "train.threads=1", "train.steps=2", "export.onnx=false"]
    code, _, err = run(*settings, f"out={folder / 'runs' / 'first'}")
    assert code == 0, err
    (folder / "images").mkdir()
    Image.fromarray(PIXELS).save(folder / "images" / "a.png")
    Image.fromarray(PIXELS[:20]).save(folder / "images" / "b.png")
    return folder


@pytest.fixture(scope="module")
def model(place):
    return selftrain.load(place / "runs" / "first")


def test_the_examples_of_the_docstrings_hold(place, model, monkeypatch):
    monkeypatch.chdir(place)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    mask = model.predict(PIXELS)
    told = doctest.testmod(api, extraglobs={"selftrain": selftrain, "model": model, "mask": mask})
    assert told.attempted > 10 and not told.failed


def test_importing_selftrain_imports_no_torch():
    script = "import sys, selftrain; assert 'fit' in dir(selftrain); print('torch' in sys.modules, len(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout.startswith("False")
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = selftrain.nothing


def test_a_prediction_is_that_of_the_command(selftrain_command, place, model, tmp_path):
    code, _, err = selftrain_command(
        "predict", place / "runs" / "first", place / "images", "-o", tmp_path, "--grey"
    )
    assert code == 0, err
    with Image.open(tmp_path / "a.png") as written:
        assert np.array_equal(np.asarray(written), model.predict(place / "images" / "a.png"))


@pytest.fixture
def selftrain_command(request):
    return request.getfixturevalue("selftrain")


def test_files_arrays_and_pil_images_are_one_image(place, model):
    file, picture = place / "images" / "a.png", Image.fromarray(PIXELS)
    masks = [model.predict(one) for one in (file, str(file), PIXELS, picture)]
    assert all(np.array_equal(masks[0], mask) for mask in masks)
    probabilities = model.predict_proba(file)
    assert probabilities.dtype == np.float32 and np.allclose(probabilities.sum(axis=0), 1, atol=1e-5)


@pytest.mark.parametrize("wrong", [PIXELS / 255, PIXELS[..., 0], PIXELS[..., :2]])
def test_arrays_of_another_kind_are_refused(model, wrong):
    with pytest.raises(DataError, match=r"must be \(H, W, 3\) uint8, and this is"):
        model.predict(wrong)


def test_a_directory_without_a_network_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="is not an export"):
        selftrain.load(tmp_path)
    (tmp_path / "MANIFEST.json").write_text("{}")
    with pytest.raises(IntegrityError):
        selftrain.load(tmp_path)


def test_a_stream_reads_ahead_but_not_everything(place, model):
    taken = []

    def images():
        for number in range(20):
            taken.append(number)
            yield PIXELS[: 10 + number]

    stream = model.stream(images())
    assert next(stream).shape == (10, 41) and len(taken) <= api.AHEAD + 1
    assert [mask.shape[0] for mask in stream] == list(range(11, 30))
    with pytest.raises(DataError, match="nowhere"):
        list(model.stream([PIXELS, place / "nowhere.png"]))


def test_threads_get_the_masks_of_one_thread(model):
    images = [rng.integers(0, 256, (40 + k, 37, 3), np.uint8) for k in range(12)]
    expected = [model.predict(image) for image in images]
    with ThreadPoolExecutor(4) as pool:
        single = list(pool.map(model.predict, images))
        streamed = list(pool.map(lambda _: list(model.stream(images)), range(3)))
    for masks in [single, *streamed]:
        assert all(np.array_equal(*pair) for pair in zip(masks, expected, strict=True))


def state():
    """What belongs to the caller: random generators, signal handlers, threads, flags of torch, environment."""
    import cv2

    handlers = [
        signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGCHLD)
    ]
    threads = torch.get_num_threads(), torch.get_num_interop_threads(), cv2.getNumThreads()
    flags = torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark, torch.is_inference_mode_enabled()
    numpy = np.random.get_state()[1].tolist()
    seeds = random.getstate(), numpy, torch.get_rng_state().tolist()
    return handlers, threads, flags, seeds, dict(os.environ), os.sched_getaffinity(0), Path.cwd()


def test_nothing_of_the_caller_changes(place):
    torch.set_num_threads(2)
    torch.backends.cudnn.allow_tf32 = True
    before = state()
    model = selftrain.load(place / "runs" / "first")
    model.predict(PIXELS)
    model.predict_proba(PIXELS)
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda _: list(model.stream([PIXELS] * 3)), range(3)))
    with pytest.raises(ConfigError, match="recipe"):
        selftrain.fit(data="shapes", recipe="no_such_recipe", out=place / "runs" / "none", quiet=True)
    assert state() == before
    torch.set_num_threads(1)


def test_a_run_shows_its_table_and_in_a_notebook_its_page(place, capsys, monkeypatch):
    run = selftrain.Run(place / "runs" / "first")
    run.show()
    assert "val mIoU" in capsys.readouterr().out
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda data, raw: shown.append(data["text/html"]))
    monkeypatch.setattr(api, "_kernel", lambda: object())
    run.show(height=300)
    (page,) = shown
    assert "height: 300px" in page and 'srcdoc="&lt;!doctype html&gt;' in page
    with pytest.raises(ConfigError, match="is not finished"):
        _ = selftrain.Run(place).report


@pytest.mark.slow
def test_an_interrupt_stops_a_fit_at_its_next_step_and_the_same_call_resumes(place, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    out, few = place / "runs" / "stopped", {"train.threads": 1, "export.onnx": False, "train.steps": 400}
    begun = out / "gen0" / "checkpoints"
    threading.Thread(target=interrupt_when, args=(begun,), daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        selftrain.fit(data="shapes", recipe="smoke", out=out, settings=few, quiet=True)
    said = (out / "run.log").read_text()
    assert "the same command resumes" in said and not (out / "report.json").exists()


def interrupt_when(path):
    """Send this process an interrupt as soon as `path` exists."""
    while not path.exists():
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGINT)


def cells():
    tree = json.loads(NOTEBOOK.read_text())
    return ["".join(cell["source"]) for cell in tree["cells"] if cell["cell_type"] == "code"]


def test_the_cells_of_the_notebook_run(place, monkeypatch):
    """With a run that is finished: training is what the slow test adds."""
    import matplotlib

    monkeypatch.chdir(place)
    monkeypatch.setattr(selftrain, "fit", lambda **_: selftrain.Run(place / "runs" / "first"), raising=False)
    backend, names = matplotlib.get_backend(), {}
    matplotlib.use("agg")
    for source in cells():
        exec(source, names)
    matplotlib.use(backend)
    assert names["mask"].shape == (60, 80) and names["sure"].max() <= 1


def test_the_notebook_is_stored_without_outputs():
    tree = json.loads(NOTEBOOK.read_text())
    assert all(not cell.get("outputs") for cell in tree["cells"])


@pytest.mark.slow
def test_the_notebook_runs(tmp_path, monkeypatch):
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    book = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(book, timeout=200, resources={"metadata": {"path": str(tmp_path)}}).execute()
    kinds = [out.output_type for cell in book.cells for out in cell.get("outputs", [])]
    assert "error" not in kinds and "display_data" in kinds
    page = next(
        out.data["text/html"]
        for cell in book.cells
        for out in cell.get("outputs", [])
        if "text/html" in out.get("data", {})
    )
    assert "srcdoc" in page
