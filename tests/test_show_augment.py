"""`selftrain show-augment`: what its contact sheet shows."""

import re
import sys

import numpy as np
import pytest
from PIL import Image

from selftrain import cli
from selftrain.data.cache import Cache
from selftrain.data.labels import MaskLabels
from selftrain.data.load import load
from selftrain.datasets import spec_of
from selftrain.inspection.augmented import KnownLabels, _cells
from selftrain.plan import plans
from selftrain.settings import compose

PLAIN = [
    "recipe=smoke",
    "train.flip=false",
    "train.jitter=0",
    "train.scale=[1,1]",
    "generations.1.noise.mix={}",
]
QUIET = "labelled: true, rand_n: 0, rand_m: 0, style: 0, colour: 0, cutmix: 0, paste: 0, dropout: 0"


def cells(*settings, unlabelled=True, noise=QUIET):
    cfg = compose([*PLAIN, f"generations=[{{}}, {{noise: {{{noise}}}}}]", *settings])
    data, how = load(spec_of(cfg.data)), plans(cfg)[1].augmentation
    found = list(_cells(data.labelled[:3], data, how, unlabelled=unlabelled, seed=0))
    width = 5 if unlabelled else 3
    return [found[start : start + width] for start in range(0, len(found), width)]


def halves(cell):
    """The image of a cell, and the image with its mask."""
    width = (cell.pixels.shape[1] - 4) // 2
    return cell.pixels[:, :width], cell.pixels[:, width + 4 :]


def test_without_augmentation_each_view_is_the_image_itself_in_its_own_row():
    rows = cells()
    assert [cell.title for cell in rows[1]][1:] == ["labelled"] * 2 + ["unlabelled"] * 2
    assert len(rows) == 3 and not np.array_equal(rows[0][0].pixels, rows[1][0].pixels)
    for row in rows:
        assert all(np.array_equal(one.pixels, row[0].pixels) for one in row)
    assert [len(row) for row in cells(unlabelled=False)] == [3, 3, 3]


def test_images_and_masks_of_both_kinds_move_alike():
    for row in cells(noise=f"{QUIET}, geometry: {{vflip: 1}}"):
        image, painted = halves(row[0])
        for view in row[1:]:
            turned, painted_too = halves(view)
            assert np.array_equal(turned, image[::-1]) and np.array_equal(painted_too, painted[::-1])


def test_erased_pixels_are_striped_and_averaged_labels_have_averaged_colours():
    row = cells(noise=f"{QUIET}, erase: {{gridmask: 1}}")[0]
    image, painted = halves(row[1])
    grey = (image == 128).all(axis=2)
    assert 0.2 < grey.mean() < 0.3 and (painted[grey] == 0).all(axis=1).mean() > 0.3
    plain, mixed = cells()[0], cells(noise=f"{QUIET}, mix: {{mixup: {{alpha: 50}}}}")[0]
    assert np.array_equal(mixed[1].pixels, plain[1].pixels)  # labelled images are not mixed
    for view in mixed[3:]:
        colours = {tuple(colour) for colour in (halves(view)[1] // 16 * 16).reshape(-1, 3)}
        assert not np.array_equal(view.pixels, plain[3].pixels) and len(colours) > 4


def test_masks_stand_for_pseudo_labels():
    cfg = compose(PLAIN)
    data = load(spec_of(cfg.data))
    plan = plans(cfg)[1]
    assert plan.augmentation.unlabelled.crop == (32, 32)
    labels = KnownLabels(MaskLabels(data.labelled, Cache(9).mask), len(data.classes))
    target = labels.target(0, np.array([[0, -1]]))
    first = data.labelled[0].read_mask()[0, 0]
    assert target.hard.tolist() == [[first, 255]] and target.weight.tolist() == [[1, 0]]
    assert target.soft[:, 0, 0].argmax() == first


def show(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["selftrain", "show-augment", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return ended.value.code


def test_the_command_writes_a_picture_and_a_page_that_needs_no_other_file(tmp_path, monkeypatch, capsys):
    file = tmp_path / "sheet" / "noise.png"
    assert show(monkeypatch, "recipe=smoke", "-o", file) == 0
    page = file.with_suffix(".html").read_text()
    sources = re.findall(r'src="([^"]*)"', page)
    assert len(sources) == 4 * 5 and all(one.startswith("data:image/png;base64,") for one in sources)
    assert "smoke" in page and "disc" in page and "1, stored labels" in page
    with Image.open(file) as picture:
        assert picture.width > 5 * 64 and picture.height > 4 * 32
    assert capsys.readouterr().out.count("written: ") == 2
    assert show(monkeypatch, "recipe=smoke", "-o", file, "--generation", 0) == 0
    assert file.with_suffix(".html").read_text().count("<img") == 4 * 3  # its unlabelled images are not used


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-o", "sheet.jpg"], "-o sheet.jpg: the name of the file must end in .png"),
        (["--generation", "2"], "--generation 2: the generations are 0 to 1"),
        (["generations.1.noise.erase.hole=1"], "noise.erase: there is no 'hole'"),
    ],
)
def test_what_cannot_be_shown_is_refused(monkeypatch, tmp_path, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    assert show(monkeypatch, "recipe=smoke", *words) == 2
    assert message in capsys.readouterr().err.splitlines()[-1] and not list(tmp_path.iterdir())


def test_nothing_is_written_among_the_data(monkeypatch, tmp_path, capsys):
    words = ["data=folder", f"data.root={tmp_path}", "data.classes=[a,b]", "-o", tmp_path / "sheet.png"]
    assert show(monkeypatch, "recipe=supervised", *words) == 2
    assert "lies below data.root" in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_a_plan_gives_the_crop_that_a_run_would_have(monkeypatch, tmp_path):
    words = ["recipe=smoke", "data.size=[96,96]", "train.plan=auto", "data.shapes.labelled=4"]
    crops = []
    for given in ([], ["train.crop=[32,32]"]):
        assert show(monkeypatch, *words, *given, "-o", tmp_path / "sheet.png") == 0
        crops.append(re.search(r"crop</td><td>(\[\d+, \d+\])", (tmp_path / "sheet.html").read_text())[1])
    assert crops[1] == "[32, 32]" != crops[0]
