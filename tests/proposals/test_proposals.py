"""`selftrain next`: what counts as uncertain, which images are chosen, and the files that are written."""

import csv
import io
import math
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from runs import ROOT, SMALL
from selftrain.data.mirror import mirrored
from selftrain.data.sample import Sample
from selftrain.data.sources.files import ImageFile
from selftrain.data.spec import StoreSpec
from selftrain.errors import ConfigError, DataError
from selftrain.inference import windows
from selftrain.inference.pixels import PixelScale
from selftrain.inference.predictor import Predictor
from selftrain.proposals import page, survey
from selftrain.proposals.choose import chosen
from selftrain.proposals.features import MOST, Encoder, colours_and_textures
from selftrain.proposals.preannotations import Coding, Drawn, png
from selftrain.proposals.survey import Jury, Surveyor
from selftrain.proposals.uncertainty import (
    UNCERTAINTIES,
    Opinions,
    class_weights,
    entropy,
    levels,
    margin,
    members,
    past,
    summed,
    together,
    zones,
)
from selftrain.proposals.uncertainty import chosen as measures

sys.path.insert(0, str(ROOT / "benchmarks"))
import active

ONE = torch.ones(2)  # weights of two classes that weigh alike


def probs(first):
    """Probabilities (2, H, W) of two classes, from the first one's."""
    first = torch.tensor(first, dtype=torch.float32)
    return torch.stack([first, 1 - first])


def test_each_measure_on_pixels_worked_out_by_hand():
    sure, even, odd = probs([[1.0, 0.5]]), probs([[0.5, 0.5]]), probs([[0.0, 1.0]])
    assert entropy(Opinions(sure)).tolist() == [[0, 1]]
    assert margin(Opinions(probs([[0.9, 0.5]]))).flatten().tolist() == pytest.approx([0.2, 1])
    assert past(Opinions(sure, past=[sure, odd, odd, sure])).tolist() == [[0.5, 0]]
    assert members(Opinions(even, members=[sure, odd]))[0].tolist() == pytest.approx([1, 0.3113], abs=1e-4)
    assert members(Opinions(even, members=[even, even])).tolist() == [[0, 0]]  # ambiguous, but no dispute


@pytest.mark.parametrize("name", UNCERTAINTIES)
def test_a_measure_is_0_where_all_are_sure_and_never_below(name):
    measure, drawn = UNCERTAINTIES[name].measure, torch.rand(5, 4, 6, 7).softmax(dim=1)
    some = measure(Opinions(drawn[0], members=list(drawn[1:3]), past=list(drawn[3:])))
    assert some.shape == (6, 7) and (some >= 0).all() and some.max() > 0
    alone = nn.functional.one_hot(torch.zeros(6, 7, dtype=torch.long), 4).permute(2, 0, 1).float()
    assert measure(Opinions(alone, members=[alone, alone], past=[alone])).max() == 0


def test_measures_that_need_other_networks_are_used_where_there_are_some():
    assert [one.name for one in measures({}, [])] == ["entropy", "margin"]
    both = measures({"past": 0.5, "entropy": 2}, ["past"])
    assert [(one.name, one.amount) for one in both] == [("entropy", 2), ("past", 0.5)]
    for given, said in [
        ({"members": 1}, "single network"),
        ({"doubt": 1}, "no 'doubt'"),
        ({"margin": -1}, "at least 0"),
    ]:
        with pytest.raises(ConfigError, match=said):
            measures(given, [])


def test_zones_are_distances_to_the_nearest_boundary():
    ids = np.zeros((1, 13), np.uint8)
    ids[:, 10:] = 1
    assert zones(ids).tolist() == [[4, 4, 3, 3, 3, 3, 2, 2, 1, 0, 0, 1, 2]]
    assert (zones(np.zeros((4, 4), np.uint8)) == 4).all()


def measured(*images, weights=ONE):
    found = measures({"margin": 1}, [])
    return levels([summed([Opinions(image)], found, weights) for image in images])[:, 0]


def test_neither_size_nor_boundaries_make_an_image_uncertain():
    def stripes(period, side=48, far=0.9):
        """Stripes of two classes: every network is unsure beside their edges, here at 0.6."""
        edge = zones(np.tile(np.arange(side) // period % 2, (side, 1)).astype(np.uint8)) == 0
        value = np.where(edge, 0.6, far)
        return probs(np.where(np.tile(np.arange(side) // period % 2, (side, 1)), 1 - value, value))

    few, many = stripes(24), stripes(6)
    assert margin(Opinions(many)).mean() > 1.5 * margin(Opinions(few)).mean()
    large, small = stripes(24, side=96), stripes(24)
    assert measured(few, many, large, small).tolist() == pytest.approx([1, 1, 1, 1], abs=1e-5)
    doubtful = stripes(24, far=0.7)  # unsure inside of its regions
    assert measured(few, many, doubtful).argmax() == 2


def test_doubts_about_rare_classes_count_more():
    weights = class_weights(np.array([90, 10, 0]))
    assert weights[1] / weights[0] == pytest.approx(3) and weights[2] == weights[1]
    assert (0.9 * weights[0] + 0.1 * weights[1]).item() == pytest.approx(1)
    common, rare = (torch.full((3, 4, 4), 0.05) for _ in range(2))
    common[0], rare[1] = 0.9, 0.9
    assert measured(common, rare, weights=weights).argmax() == 1
    assert np.ptp(measured(common, rare, weights=torch.ones(3))) < 1e-6


def test_ranks_of_several_measures_are_averaged_by_weight():
    found = measures({"entropy": 3, "margin": 1}, [])
    ranks = together(np.array([[5, 1], [90, 1], [7, 2.0]], np.float32), found)
    assert ranks.tolist() == pytest.approx([(1 + 2 / 3) / 4, (3 + 2 / 3) / 4, (2 + 1) / 4])
    assert together(np.zeros((2, 0), np.float32), []).tolist() == [1, 1]


def test_the_farthest_image_is_chosen_and_uncertainty_shortens_distances():
    line, centre = np.array([[0], [1], [9], [10], [5.0]], np.float32), np.array([[0.0]], np.float32)
    even = np.ones(5, np.float32)
    assert chosen(line, centre, even, 3) == [(3, 10), (4, 5), (1, 1)]
    assert [place for place, _ in chosen(line, centre, np.array([1, 1, 1, 0.5, 0.1], np.float32), 3)] == [
        2,
        1,
        3,
    ]
    alone = chosen(line, np.zeros((0, 1), np.float32), even, 9)
    assert (
        alone[0].place == 4
        and np.isnan(alone[0].distance)
        and sorted(one.place for one in alone) == list(range(5))
    )


def test_copies_of_an_image_are_chosen_last():
    same = np.array([[3, 4], [3, 4], [0, 1], [3, 4.0]], np.float32)
    found = chosen(same, np.array([[0, 0.0]], np.float32), np.ones(4, np.float32), 4)
    assert [one.place for one in found] == [0, 2, 1, 3] and found[2].distance == 0


def test_colours_and_textures_tell_pictures_apart_at_any_size():
    rng = np.random.default_rng(0)
    flat = np.full((80, 60, 3), 120, np.uint8)
    grainy = (flat + rng.integers(-60, 60, flat.shape)).astype(np.uint8)
    large = np.kron(flat, np.ones((4, 4, 1), np.uint8))
    red = flat.copy()
    red[..., 1:] = 40
    seen = [colours_and_textures(image) for image in (flat, large, grainy, red, grainy[..., :1])]
    away = [float(np.linalg.norm(seen[0] - one)) for one in seen[1:]]
    assert away[0] < 1e-6 and min(away[1:]) > 0.2


class Plain(nn.Module):
    """An encoder whose features are the channels, each repeated; class 1 is as probable as red is bright."""

    def __init__(self, repeats=1):
        super().__init__()
        self.encoder = Repeat(repeats)

    def forward(self, images):
        return torch.stack(
            [torch.zeros_like(images[:, 0]), torch.logit(images[:, 0].clamp(0.01, 0.99))], dim=1
        )


class Repeat(nn.Module):
    def __init__(self, repeats):
        super().__init__()
        self.repeats = repeats

    def forward(self, images):
        return [images, images.repeat(1, self.repeats, 1, 1)]


def predictor(repeats=1):
    scale = PixelScale(torch.zeros(1, 3, 1, 1), torch.full((1, 3, 1, 1), 255.0))
    return Predictor((Plain(repeats),), scale, windows.of(0), multiple=1)


def test_features_of_an_encoder_are_means_of_length_1_and_keep_distances_when_there_are_many():
    first, second = np.full((5, 400, 3), (60, 80, 0), np.uint8), np.full((9, 7, 3), (0, 0, 9), np.uint8)
    assert Encoder(predictor())(first).tolist() == pytest.approx([0.6, 0.8, 0])
    encoder = Encoder(predictor(400))  # 1200 features
    one, other = encoder(first), encoder(second)
    assert len(one) == MOST and np.linalg.norm(one) == pytest.approx(1)
    assert np.linalg.norm(one - other) == pytest.approx(2**0.5, rel=0.15)


def pictures(folder: Path, count: int, rng) -> list[Sample]:
    folder.mkdir(parents=True)
    for number in range(count):
        Image.fromarray(rng.integers(0, 255, (12, 16, 3), np.uint8)).save(folder / f"{number}.png")
    return [Sample(f"a/{file.stem}", ImageFile(file), None) for file in sorted(folder.iterdir())]


def test_tiles_of_a_large_image_count_as_the_image_and_unreadable_images_are_left_out(
    tmp_path, monkeypatch, capsys
):
    samples = pictures(tmp_path / "images", 5, np.random.default_rng(0))
    (tmp_path / "images" / "3.png").write_bytes(b"no picture")
    one = Jury([predictor()], [1.0], [predictor()])
    asked = Surveyor(colours_and_textures, one, measures({"margin": 1}, []), ONE, batch=2)
    whole = survey.survey(samples, asked, "images")
    assert [sample.id for sample in whole.samples] == ["a/0", "a/1", "a/2", "a/4"] and whole.features.shape[
        0
    ] == 4
    said = capsys.readouterr().out
    assert "3.png" in said and "5/5" in said and one.parts == ["past"]
    monkeypatch.setattr(survey, "TILE", 8)
    tiled = survey.survey(samples, asked, "images")
    for ours, theirs in zip(whole.sums, tiled.sums, strict=True):
        assert theirs.plain.sum() == pytest.approx(
            ours.plain.sum(), rel=1e-5
        ) and theirs.pixels.sum() == pytest.approx(1)


def proposals(samples):
    names = page.names_of(samples)
    return [page.Proposal(one, name, 1, 1.0, 1.0) for one, name in zip(samples, names, strict=True)]


def test_copies_never_replace_a_file(tmp_path):
    samples = pictures(tmp_path / "images", 2, np.random.default_rng(0))
    goal, found = tmp_path / "copies", proposals(samples)
    for _ in range(2):  # the same files again are no conflict
        page.copy(page.copies_of(found, goal))
    assert [
        (goal / file.name).read_bytes() == file.read_bytes() for file in (tmp_path / "images").iterdir()
    ] == [True] * 2
    (goal / "1.png").write_text("mine")
    with pytest.raises(ConfigError, match=r"1\.png exists with another content"):
        page.copies_of(found, goal)
    assert (goal / "1.png").read_text() == "mine"


def test_names_of_files_are_short_and_unique():
    samples = [Sample(name, ImageFile(Path(name)), None) for name in ("a/1", "b/1", "b/2", "c/I", "c/i")]
    assert page.names_of(samples) == ["a__1", "b__1", "2", "c__I", "c__i"]


def test_masks_to_start_from_have_the_values_of_the_data_and_are_never_replaced(tmp_path):
    drawn = [Drawn("one", "one.jpg", np.array([[0, 1]], np.uint8))]
    coding = Coding(["ground", "nucleus"], {"values": [0, 255]})
    assert png(tmp_path, drawn, coding) == 1
    assert np.asarray(Image.open(tmp_path / "one.png")).tolist() == [[0, 255]]
    (tmp_path / "one.png").write_text("corrected")
    assert png(tmp_path, drawn, coding) == 0 and (tmp_path / "one.png").read_text() == "corrected"


@pytest.fixture(scope="module")
def finished(run, tmp_path_factory):
    """A finished run of two networks, on a few images as files."""
    where, rng = tmp_path_factory.mktemp("next"), np.random.default_rng(0)
    pictures(where / "data" / "images", 10, rng)
    (where / "data" / "masks").mkdir()
    for number in range(10):
        Image.fromarray(rng.integers(0, 2, (12, 16), np.uint8) * 255).save(
            where / "data" / "masks" / f"{number}.png"
        )
    small = [text for text in SMALL if not text.startswith("data.shapes")]
    code, _, err = run(
        "recipe=supervised", "data=folder", f"data.root={where}/data", "data.unlabelled=''", "data.classes=[a,b]",
        "data.values=[0,255]", "data.splits.labels=2", "generations.0.members={epochs: {number: 2, last: 0.6}}", *small,
        "model.encoder=tu-resnet10t", "model.decoder_channels=[16,8,8,8,8]", f"out={where}/run",
    )  # fmt: skip
    assert code == 0, err
    return where


def rows(folder):
    with (folder / "next.csv").open(newline="") as lines:
        return list(csv.DictReader(lines))


def test_next_lists_images_with_their_scores_masks_and_copies(finished, selftrain, tmp_path):
    before = {file: file.read_bytes() for file in (finished / "data").rglob("*.png")}
    words = ("next", finished / "run", "-n", 3, "--preannotate", "png")
    code, out, err = selftrain(*words, "--copy", tmp_path / "copies", "-o", tmp_path / "first")
    assert code == 0, err
    found = rows(tmp_path / "first")
    assert [row["rank"] for row in found] == ["1", "2", "3"] and "unlabelled images  4/4" in out
    assert list(found[0])[3:] == ["score", "distance", "uncertainty", "entropy", "margin", "members"]
    for row in found:
        score, distance, uncertainty = (float(row[name]) for name in ("score", "distance", "uncertainty"))
        assert score == pytest.approx(distance * uncertainty, rel=1e-4)
    files = [Path(line) for line in (tmp_path / "first" / "next.txt").read_text().splitlines()]
    assert [str(file) for file in files] == [row["file"] for row in found]
    for file in files:
        assert (tmp_path / "copies" / file.name).read_bytes() == file.read_bytes()
        mask = np.asarray(Image.open(tmp_path / "first" / "masks" / f"{file.stem}.png"))
        assert mask.shape == (12, 16) and set(np.unique(mask)) <= {0, 255}
    text = (tmp_path / "first" / "next.html").read_text()
    assert text.count('<img src="data:image/png') == 3 and "http" not in text and found[0]["id"] in text
    assert (tmp_path / "first" / "next.png").stat().st_size > 1000
    assert before == {file: file.read_bytes() for file in (finished / "data").rglob("*.png")}
    code, _, err = selftrain(*words, "-o", tmp_path / "second")
    assert code == 0, err
    same = ("next.csv", "next.txt", "next.html", "next.png")
    assert all(
        (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes() for name in same
    )


def test_next_without_a_model_goes_by_diversity(finished, selftrain, tmp_path):
    code, out, err = selftrain("next", finished / "data" / "images", "-n", 2, cwd=tmp_path)
    assert code == 0 and "2 images to label next" in out, err
    found = rows(tmp_path / "next")
    assert (
        found[0]["distance"] == ""
        and float(found[1]["distance"]) > 0
        and re.match(r"\d\.png", found[0]["id"])
    )
    described = [
        "data=folder",
        f"data.root={finished}/data",
        "data.unlabelled=''",
        "data.classes=[a,b]",
        "data.values=[0,255]",
    ]
    code, _, err = selftrain("next", *described, "data.splits.labels=2", "-n", 99, "-o", tmp_path / "more")
    assert code == 0 and len(rows(tmp_path / "more")) == 4, err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["{run}", "-n", "0"], 2, "propose at least one image"),
        (["{run}", "--uncertainty", "past"], 2, "the run keeps no earlier network"),
        (["{run}", "--uncertainty", "margin=much"], 2, "'much' is not a number"),
        (["{run}", "--preannotate", "crayon"], 2, "must be one of png"),
        (["{run}", "-o", "{data}/here"], 2, "lies below data.root"),
        (["{data}/images", "--preannotate", "png"], 2, "needs a model"),
        (["{data}/nothing"], 2, "no such run, folder"),
    ],
)
def test_next_refuses_what_it_cannot_do(finished, words, code, said):
    from argparse import ArgumentParser

    from selftrain.commands import propose

    parser = ArgumentParser()
    propose.add(parser.add_subparsers())
    given = [text.format(run=finished / "run", data=finished / "data") for text in words]
    arguments = parser.parse_args(["next", *given])
    with pytest.raises((ConfigError, DataError), match=said) as refused:
        arguments.run(arguments)
    assert refused.value.exit_code == code


def test_proposals_of_object_storage_are_named_by_their_url_and_copied(tmp_path):
    import fsspec

    content = io.BytesIO()
    Image.new("RGB", (6, 4)).save(content, "PNG")
    fsspec.filesystem("memory").pipe("/proposed/a.png", content.getvalue())
    root = mirrored("memory://proposed", StoreSpec(str(tmp_path / "cache"), cache_mb=64, tries=1, options={}))
    found = [page.Proposal(Sample("a", ImageFile(root / "a.png"), None), "a", 1, math.nan, 1.0)]
    page.write(tmp_path / "next", "Images", [], found, ["x"], None)
    assert (tmp_path / "next" / "next.txt").read_text() == "memory://proposed/a.png\n"
    assert rows(tmp_path / "next")[0]["file"] == "memory://proposed/a.png"
    for _ in range(2):  # then the copy is there
        page.copy(page.copies_of(found, tmp_path / "copies"))
    assert (tmp_path / "copies" / "a.png").read_bytes() == content.getvalue()


def test_the_study_pairs_differences_by_seed():
    first, random, ours = ({"val": v, "test": v + 0.1} for v in (0.2, 0.3, 0.4))
    cells = {
        "nuclei": {"random": {0: [first, random], 1: [first, ours]}, "next": {0: [first, ours], 1: [first]}}
    }
    lines = active.table(cells, (8, 8))
    assert "| nuclei | 8 | all | 0.2000 ± 0.0000 (2) | 0.3000 ± 0.0000 (2) |  |  |" in lines
    assert "| nuclei | 16 | next | 0.4000 (1) | 0.5000 (1) | 0.1000 (1) | 0.1000 (1) |" in lines
    assert len(lines) == 2 + 1 + 2 + 2
