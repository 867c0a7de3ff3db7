"""The class ids that `predict` writes for an image."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from exports import with_card
from PIL import Image
from predicting import CLASSES, MEAN, STD, exported, labels, noise, probabilities, save

from selftrain.data.images import read_image, resize_image
from selftrain.errors import ConfigError, DataError
from selftrain.inference import tta
from selftrain.inference.cleanup import CleanUp
from selftrain.inference.decide import DECISIONS
from selftrain.inference.exported import load_export
from selftrain.inference.labeller import FLIP, Changes, Labeller
from selftrain.inference.predictor import Predictor
from selftrain.prediction.predict import predict
from selftrain.report.palette import palette

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(tmp_path_factory.mktemp("model") / "export")


def test_every_image_is_labelled_at_its_own_size(model: Path, tmp_path: Path) -> None:
    images, out = tmp_path / "images", tmp_path / "out"
    sizes = {"a.png": (40, 56), "deep/er/b.jpg": (33, 70), "c.tif": (40, 56), "d.webp": (1, 1)}
    for seed, (name, size) in enumerate(sizes.items()):
        save(images / name, *size, seed)
    assert predict(model, images, out) == 4
    for name, size in sizes.items():
        found = labels((out / name).with_suffix(".png"))
        expected = probabilities(model, read_image(images / name)).argmax(dim=1)[0].numpy()
        assert found.shape == size
        assert (found == expected).mean() > 0.999  # a batch may round otherwise than one image
    assert len(np.unique(labels(out / "a.png"))) > 1, "a map of one class tests nothing"


def test_classes_json_names_ids_and_colours(model: Path, tmp_path: Path) -> None:
    save(tmp_path / "images" / "a.png")
    predict(model, tmp_path / "images", tmp_path / "out")
    listed = json.loads((tmp_path / "out" / "classes.json").read_bytes())
    assert [row["name"] for row in listed["classes"]] == CLASSES
    with Image.open(tmp_path / "out" / "a.png") as picture:
        shown = np.asarray(picture.convert("RGB"))
    colours = np.array([row["colour"] for row in listed["classes"]])
    assert (shown == colours[labels(tmp_path / "out" / "a.png")]).all()
    assert (colours == palette(4)[:4]).all()


def plain(path: Path) -> np.ndarray:
    """As OpenCV reads it."""
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


@pytest.mark.parametrize(
    ("coding", "kind", "table"),
    [
        ({"values": [0, 85, 170, 255]}, np.uint8, [0, 85, 170, 255]),
        ({"values": [7, [300, 2], 1, 0]}, np.uint16, [7, 300, 1, 0]),  # of several values, the first
        (
            {"colours": [[0, 0, 0], [255, 0, 0], [0, 9, 0], [1, 2, 3]]},
            np.uint8,
            [[0] * 3, [0, 0, 255], [0, 9, 0], [3, 2, 1]],
        ),
    ],
)
def test_values_are_those_of_the_training_masks(
    model: Path, tmp_path: Path, coding: dict, kind: type, table: list
) -> None:
    coded = with_card(model, tmp_path / "export", lambda card: card.update(masks=coding))
    save(tmp_path / "images" / "a.png")
    predict(coded, tmp_path / "images", tmp_path / "ids")
    predict(coded, tmp_path / "images", tmp_path / "values", form="values")
    ids, found = labels(tmp_path / "ids" / "a.png"), plain(tmp_path / "values" / "a.png")
    assert found.dtype == kind and len(np.unique(ids)) > 1
    assert np.array_equal(found, np.array(table)[ids])  # OpenCV's order is blue, green, red
    for out in ("ids", "values"):
        assert json.loads((tmp_path / out / "classes.json").read_bytes())["masks"] == coding


def test_grey_holds_ids_for_readers_that_ignore_palettes(model: Path, tmp_path: Path) -> None:
    save(tmp_path / "images" / "a.png")
    predict(model, tmp_path / "images", tmp_path / "ids")
    predict(model, tmp_path / "images", tmp_path / "grey", form="grey")
    assert np.array_equal(plain(tmp_path / "grey" / "a.png"), labels(tmp_path / "ids" / "a.png"))
    notes = [json.loads((tmp_path / out / "classes.json").read_bytes())["note"] for out in ("ids", "grey")]
    assert "palette indices" in notes[0] and "OpenCV" in notes[0] and "grey values" in notes[1]
    assert all("\n" not in note for note in notes)


def test_an_export_that_does_not_know_the_values_says_so(model: Path, tmp_path: Path) -> None:
    save(tmp_path / "images" / "a.png")
    with pytest.raises(ConfigError, match=r"--values: .* use --grey"):
        predict(model, tmp_path / "images", tmp_path / "out", form="values")
    assert not (tmp_path / "out").exists()


def test_pixels_without_a_class_are_ignored_ids_and_no_mask_value(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def left(probs: torch.Tensor) -> torch.Tensor:
        ids = probs.max(dim=1).indices.to(torch.uint8)
        ids[:, :, :10] = 255
        return ids

    monkeypatch.setitem(DECISIONS, "left", left)
    coding = {"values": [0, 85, 170, 255]}
    undecided = with_card(model, tmp_path / "export", lambda card: card.update(masks=coding, decision="left"))
    save(tmp_path / "images" / "a.png")
    predict(undecided, tmp_path / "images", tmp_path / "ids")
    ids = labels(tmp_path / "ids" / "a.png")
    assert (ids[:, :10] == 255).all() and ids[:, 10:].max() < 4
    with pytest.raises(ConfigError, match=r"a\.png has pixels without a class, .*; use --grey"):
        predict(undecided, tmp_path / "images", tmp_path / "values", form="values")


def test_labels_of_an_earlier_version_are_added_to_and_those_of_another_form_are_not(
    model: Path, tmp_path: Path
) -> None:
    save(tmp_path / "images" / "a.png")
    predict(model, tmp_path / "images", tmp_path / "out")
    written = json.loads((tmp_path / "out" / "classes.json").read_bytes())
    before = {name: written[name] for name in ("ignore_index", "classes")}
    (tmp_path / "out" / "classes.json").write_text(json.dumps(before))
    with pytest.raises(ConfigError, match=r"of an earlier version, .*; --again"):
        predict(model, tmp_path / "images", tmp_path / "out")
    assert predict(model, tmp_path / "images", tmp_path / "out", again=True) == 1
    assert json.loads((tmp_path / "out" / "classes.json").read_bytes()) == written
    with pytest.raises(ConfigError, match=r"another form \(palette\)"):
        predict(model, tmp_path / "images", tmp_path / "out", form="grey")


def test_16_bit_images_are_scaled_as_in_training(model: Path, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    dark = noise(40, 56)[..., 0].astype(np.uint16) * 10 + 100
    Image.fromarray(dark).save(tmp_path / "images" / "dark.png")
    scaled = with_card(model, tmp_path / "export", lambda card: card["input"].update(range=[100, 2650]))
    predict(scaled, tmp_path / "images", tmp_path / "out")
    Image.fromarray(noise(40, 56)[..., 0]).save(tmp_path / "bright.png")
    predict(model, tmp_path / "bright.png", tmp_path / "expected")
    assert np.array_equal(labels(tmp_path / "out" / "dark.png"), labels(tmp_path / "expected" / "bright.png"))
    predict(model, tmp_path / "images", tmp_path / "high_bytes")
    assert not np.array_equal(
        labels(tmp_path / "out" / "dark.png"), labels(tmp_path / "high_bytes" / "dark.png")
    )


def test_the_same_command_again_writes_the_same_bytes(model: Path, tmp_path: Path) -> None:
    save(tmp_path / "images" / "a.png")
    predict(model, tmp_path / "images", tmp_path / "out")
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    predict(model, tmp_path / "images", tmp_path / "out", again=True)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


def test_probabilities_and_not_labels_are_brought_back_to_the_size_of_the_image(tmp_path: Path) -> None:
    model = exported(tmp_path / "export", size=[32, 64])
    save(tmp_path / "images" / "a.png", 90, 130)
    predict(model, tmp_path / "images", tmp_path / "out")
    small = resize_image(noise(90, 130), (32, 64))
    wide = F.interpolate(probabilities(model, small), size=(90, 130), mode="bilinear", align_corners=False)
    found = labels(tmp_path / "out" / "a.png")
    assert (found == wide.argmax(dim=1)[0].numpy()).all()
    assert len(np.unique(found)) > 1


@pytest.mark.parametrize(("size", "seen"), [(["longest", 64], (44, 64)), (["shortest", 64], (64, 92))])
def test_an_export_with_one_side_sees_each_image_at_its_own_aspect_ratio(
    tmp_path: Path, size: list, seen: tuple[int, int]
) -> None:
    model = exported(tmp_path / "export", size=size)
    save(tmp_path / "images" / "a.png", 90, 130)
    predict(model, tmp_path / "images", tmp_path / "out")
    small = resize_image(noise(90, 130), seen)
    wide = F.interpolate(probabilities(model, small), size=(90, 130), mode="bilinear", align_corners=False)
    found = labels(tmp_path / "out" / "a.png")
    assert (found == wide.argmax(dim=1)[0].numpy()).all()


def test_images_of_different_input_sizes_do_not_share_a_batch(tmp_path: Path) -> None:
    model = exported(tmp_path / "export", size=["longest", 64])
    files = [save(tmp_path / f"{side}.png", 32, side) for side in (64, 64, 96, 48)]
    found = dict(Labeller.load(model).find_all((file, read_image(file)) for file in files))
    assert [found[file].ids.shape for file in files] == [(32, 64), (32, 64), (32, 96), (32, 48)]


def test_images_of_one_input_size_share_a_batch_whatever_their_own(tmp_path: Path) -> None:
    labeller = Labeller.load(exported(tmp_path / "export", size=[32, 64]))
    found = labeller.label([noise(50, 60), noise(100, 64, 1)])
    assert [one.shape for one in found] == [(50, 60), (100, 64)]


@pytest.mark.parametrize("broken", [0, 7, 8, 15])
def test_what_cannot_be_read_makes_no_batch_larger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: int
) -> None:
    seen = []
    monkeypatch.setattr(
        Predictor,
        "probabilities",
        lambda self, images: seen.append(len(images)) or torch.zeros(len(images), 4, 32, 32),
    )
    for number in range(20):
        save(tmp_path / "images" / f"{number:02}.png", 32, 32)
    (tmp_path / "images" / f"{broken:02}.png").write_bytes(b"broken")
    with pytest.raises(DataError, match="1 of 20"):
        predict(exported(tmp_path / "export"), tmp_path / "images", tmp_path / "out", batch=8)
    assert sum(seen) == 19 and max(seen) <= 8


def test_a_large_image_is_put_together_from_tiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a network that looks at single pixels, tiles cannot be told from the whole."""
    seen = []

    def pointwise(self: Predictor, images: np.ndarray) -> torch.Tensor:
        seen.append(tuple(images.shape[1:3]))
        return F.one_hot(torch.as_tensor(images[..., 0] // 64).long(), 4).permute(0, 3, 1, 2).float()

    monkeypatch.setattr(Predictor, "probabilities", pointwise)
    labeller = Labeller.load(exported(tmp_path / "export", window=32))
    picture = np.random.default_rng(0).integers(0, 256, (150, 300, 3), dtype=np.uint8)
    assert (labeller.label([picture])[0] == picture[..., 0] // 64).all()
    assert len(seen) == 6 and max(max(sides) for sides in seen) == 128 + 2 * 16


def test_windows_agree_with_the_whole_image(tmp_path: Path) -> None:
    picture = noise(200, 330)
    whole = Labeller.load(exported(tmp_path / "whole", window=0)).label([picture])[0]
    parts = Labeller.load(exported(tmp_path / "parts", window=64)).label([picture])[0]
    assert parts.shape == (200, 330)
    assert (whole == parts).mean() > 0.8  # an untrained network sees the rim of a window, too


def test_flips_are_averaged(model: Path) -> None:
    picture = noise(64, 96)
    labeller = Labeller.load(model, Changes(views=FLIP))
    straight, mirrored = labeller.label([picture])[0], labeller.label([picture[:, ::-1].copy()])[0]
    assert (mirrored[:, ::-1] == straight).mean() > 0.999
    plain = Labeller.load(model)
    assert (plain.label([picture[:, ::-1].copy()])[0][:, ::-1] != plain.label([picture])[0]).any()


def test_the_card_says_at_which_size_and_in_which_views_images_are_seen(model: Path, tmp_path: Path) -> None:
    file = save(tmp_path / "images" / "a.png", 40, 56)
    picture = read_image(file)
    card = {"views": "d4", "cleanup": {"min_area": {"rest": 4}, "max_hole": {"rest": 9}}}
    changed = with_card(
        model,
        tmp_path / "export",
        lambda found: found.update(
            card, input={**found["input"], "size": [32, 32], "predicted": ["scale", 2]}
        ),
    )
    predict(changed, tmp_path / "images", tmp_path / "out")
    network, _ = load_export(model)
    scaled = torch.from_numpy(resize_image(picture, (64, 64))).permute(2, 0, 1).float()[None] / 255
    mean, std = (torch.tensor(row).view(1, 3, 1, 1) for row in (MEAN, STD))
    probs = tta.predict(network, (scaled - mean) / std, transforms=tta.of("d4").transforms)
    found = F.interpolate(probs, size=(40, 56), mode="bilinear").argmax(dim=1)[0].byte().numpy()
    expected = CleanUp((4,) * 4, (9,) * 4).cleaned(found)
    assert np.array_equal(labels(tmp_path / "out" / "a.png"), expected)
    assert Labeller.load(changed, Changes(views=FLIP)).predictor.views is not None
    assert (
        len(Labeller.load(changed, Changes(views=FLIP)).predictor.views) == 2
    )  # instead of the eight of the card
