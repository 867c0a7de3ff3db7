"""Suspicious masks: which are found, what seems wrong with them, and `selftrain clean`."""

import shutil
import sys

import numpy as np
import pytest
from suspects_drawn import CLASSES, data_set, settings

from runs import ROOT, fingerprint
from selftrain import cli
from selftrain.commands.clean import LEAST
from selftrain.data.suspects import read_list
from selftrain.suspects.confident import confident, measured, of_images, suspicions, thresholds
from selftrain.suspects.kinds import kind_of
from selftrain.suspects.search import Doubtful, agreed

sys.path.insert(0, str(ROOT / "benchmarks"))
import noise
from corruption import CORRUPTIONS, corrupted, write_folder


def guess(mask, rng, sure=0.6):
    """Probabilities (C, H, W) of a network that is mostly right, with errors of whole 4x4 blocks."""
    wrong = rng.random((mask.shape[0] // 4, mask.shape[1] // 4)).repeat(4, 0).repeat(4, 1) < 0.1
    seen = np.where(wrong, rng.integers(len(CLASSES), size=mask.shape), mask)
    probs = np.full((len(CLASSES), *mask.shape), (1 - sure) / (len(CLASSES) - 1), np.float32)
    np.put_along_axis(probs, seen[None].astype(int), np.float32(sure), axis=0)
    return probs


@pytest.fixture(scope="module")
def made_up():
    """Masks, a fifth of them corrupted, with made-up predictions, and the kinds of corruption by index."""
    rng, masks = np.random.default_rng(1), [one.read_mask() for one in data_set(60, 0).labelled]
    bad = corrupted(masks, 0.2, seed=1)
    given = [bad[i][1] if i in bad else mask for i, mask in enumerate(masks)]
    return list(zip(given, [guess(mask, rng) for mask in masks], strict=True)), {
        i: kind for i, (kind, _) in bad.items()
    }


def test_corruptions_change_masks_as_they_say():
    mask = data_set(1, 0).labelled[0].read_mask()
    rng = np.random.default_rng(0)
    moved, exchanged, bare = (
        CORRUPTIONS[kind](mask, rng) for kind in ("shifted", "swapped classes", "missing object")
    )
    assert (moved != mask).mean() > 0.1
    counts = lambda ids: np.bincount(ids.ravel(), minlength=4).tolist()  # noqa: E731
    assert counts(exchanged) != counts(mask) and sorted(counts(exchanged)) == sorted(counts(mask))
    assert 0 < (bare > 0).sum() < (mask > 0).sum() and (bare[bare > 0] == mask[bare > 0]).all()


def test_thresholds_are_the_mean_confidence_of_each_label():
    mask = np.array([[0, 0, 1, 255]], np.uint8)
    probs = np.array([[[0.9, 0.5, 0.2, 0.0]], [[0.1, 0.5, 0.8, 1.0]], [[0, 0, 0, 0]]], np.float32)
    least = thresholds([(mask, probs)], 3)
    assert least.tolist() == pytest.approx([0.7, 0.8, 1.0])
    assert confident(probs, least).tolist() == [[0, 255, 1, 1]]
    found = measured(mask, probs, least)
    assert found.joint.tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 0]] and found.pixels.tolist() == [2, 1, 0]
    assert found.faults[:, 0].tolist() == pytest.approx([0, 0.3, 0]) and np.isnan(found.faults[:, 2]).all()


def test_suspicion_is_relative_to_the_class_in_the_other_images():
    mask = np.array([[0, 0, 0, 0, 1, 1, 1, 1]], np.uint8)

    def probs(first, second):  # how sure the network is of the pixels of class 0, and of class 1
        one = np.repeat([1 - first, second], 4)
        return np.stack([1 - one, one])[:, None].astype(np.float32)

    images = [(mask, probs(0.9, 0.3))] * 8 + [(mask, probs(0.3, 0.3))]
    least = thresholds(images, 2)
    found = suspicions([measured(*one, least) for one in images])
    assert np.abs(found[:8]).max() == 0  # class 1 is wrong everywhere: hard, not suspicious
    assert found[8].argmax() == 0 and found[8, 0] > 5


def test_corrupted_masks_are_most_suspicious_and_their_kind_is_named(made_up):
    images, bad = made_up
    least = thresholds(images, len(CLASSES))
    found = suspicions([measured(*one, least) for one in images])
    together = of_images(found)
    assert {*np.flatnonzero(together >= LEAST).tolist()} == {*bad} and len(bad) == 12
    named = {i: kind_of(*images[i], found[i]).name for i in bad}
    right = [named[i] == bad[i].split()[0] for i in bad]
    assert sum(right) >= 11, (named, bad)


def test_the_kind_names_shift_and_classes():
    mask = np.zeros((40, 40), np.uint8)
    mask[10:20, 10:20], mask[25:33, 22:34] = 1, 2
    rng, alike = np.random.default_rng(0), np.ones(4)

    def told(given):
        return kind_of(given, guess(mask, rng), alike).told(CLASSES)

    assert told(np.roll(mask, (5, -3), (0, 1))) == "shifted, about 5 px down and 3 px left"
    large = [
        np.kron(np.roll(mask, 5, 1), np.ones((8, 8), np.uint8)),
        guess(np.kron(mask, np.ones((8, 8), np.uint8)), rng),
    ]
    assert kind_of(*large, alike).told(CLASSES) == "shifted, about 40 px right"  # at half the size
    assert told(np.array([0, 2, 1, 3], np.uint8)[mask]) == "disc and square are swapped"
    assert told(np.where(mask == 2, 0, mask)) == "square is missing"
    assert told(np.where(mask == 2, 3, mask)) == "bar instead of square"
    more = mask.copy()
    more[3:9, 28:36] = 3
    assert told(more) == "bar where none is seen"


def test_only_pixels_on_which_all_folds_agree_are_relabelled():
    sample = data_set(1, 0).labelled[0]
    mask = sample.read_mask()
    mask[0] = 255
    first, second = np.full((2, *mask.shape), 3, np.uint8)
    second[:, :20] = 1

    class Image:
        def __init__(self):
            self.sample = sample

        def labelled(self):
            return mask, None

    class Fold:
        def __init__(self, ids):
            self.ids = ids

        def labels_in_tiles(self, images):
            return self.ids[None]

    found = agreed(Doubtful(Image(), 1.0, np.ones(4), np.zeros((3, 4))), [Fold(first), Fold(second)])
    there = np.ones(mask.shape, bool)
    there[:, :20] = there[0] = False
    assert (found[there & (mask != 3)] == 3).all() and (found[~there | (mask == 3)] == 255).all()


def test_the_table_of_the_study_pairs_gains_by_seed():
    first = noise.numbers({"all": 0.5, "shifted": 1.0}, {"all masks": 0.5, "drop": 0.6, "weight": None})
    second = noise.numbers({"all": 1.0}, {"all masks": 0.4, "drop": 0.6, "relabel": 0.4})
    lines = noise.table({16: [first, second], 32: []})
    assert (
        "| recall: all | 0.7500 ± 0.3536 (2) | – |" in lines
        and "| recall: shifted | 1.0000 (1) | – |" in lines
    )
    assert (
        "| gain: drop | 0.1500 ± 0.0707 (2) | – |" in lines and "| gain: relabel | 0.0000 (1) | – |" in lines
    )
    assert "| gain: weight | – | – |" in lines


def command(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["selftrain", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr()
    return ended.value.code or 0, said.out + said.err


@pytest.fixture(scope="module")
def whole(run, tmp_path_factory):
    """A finished run of two folds on drawn images, some of them with corrupted masks."""
    where = tmp_path_factory.mktemp("suspects")
    write_folder(where / "data", data_set(6, 2), 0.5, seed=0)
    code, _, err = run(*settings(where / "data", 4), "generations.0.members={folds: 2}", f"out={where}/run")
    assert code == 0, err
    return where


def test_clean_lists_masks_on_a_page_and_a_run_learns_from_the_list(
    whole, run, monkeypatch, capsys, tmp_path
):
    before = {path: path.read_bytes() for path in (whole / "data").rglob("*.png")}
    code, said = command(monkeypatch, capsys, "clean", whole / "run", "--count", 3)
    assert code == 0 and "3 of 6 masks are suspicious" in said
    listed, page = (whole / "run" / "suspects" / name for name in ("suspects.csv", "suspects.html"))
    rows = read_list(listed)
    assert len(rows) == 3 and all(row.image.startswith("images/train/") and row.kind for row in rows)
    assert [float(row.suspicion) for row in rows] == sorted(
        (float(row.suspicion) for row in rows), reverse=True
    )
    text = page.read_text()
    assert text.count('<img src="data:image/png') == 3 and "http" not in text and rows[0].kind in text

    out, used = (
        tmp_path / "run",
        [f"data.suspects={listed}", "data.suspicion=relabel", "keep_checkpoints=true"],
    )
    code, said, err = run(*settings(whole / "data", 4), *used, "train.checkpoint_every=2", f"out={out}")
    assert code == 0 and f"3 of the 3 masks of {listed}" in said, err
    first = fingerprint(out)
    for path in (out / "report.json", out / "gen0" / "report.json"):
        path.unlink()
    shutil.rmtree(out / "gen0" / "model")
    shutil.rmtree(out / "gen0" / "checkpoints" / "step-000004")
    code, _, err = run(f"out={out}")
    assert code == 0 and fingerprint(out) == first, err
    assert before == {path: path.read_bytes() for path in (whole / "data").rglob("*.png")}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--generation", "1"], "has no folds; with folds: 0"),
        (["--count", "0"], "must have at least one mask"),
        (["-o", "{whole}/data/here"], "lies below data.root"),
    ],
)
def test_clean_refuses_what_it_cannot_do(whole, monkeypatch, capsys, arguments, said):
    given = [text.format(whole=whole) for text in arguments]
    code, told = command(monkeypatch, capsys, "clean", whole / "run", *given)
    assert code == 2 and said in told


@pytest.mark.slow
def test_folds_that_are_trained_find_corrupted_masks(run, monkeypatch, capsys, tmp_path):
    kinds = write_folder(tmp_path / "data", data_set(30, 6), 0.2, seed=0)
    out = tmp_path / "run"
    code, _, err = run(*settings(tmp_path / "data", 60), "generations.0.members={folds: 3}", f"out={out}")
    assert code == 0, err
    assert command(monkeypatch, capsys, "clean", out, "--count", len(kinds))[0] == 0
    found = {row.image for row in read_list(out / "suspects" / "suspects.csv")}
    assert len(found & kinds.keys()) >= 5, (found, kinds)
