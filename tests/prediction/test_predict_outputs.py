"""What predict writes beside the masks, and how it continues."""

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from exports import with_card
from PIL import Image
from predicting import CLASSES, exported, labels, noise, save

from selftrain import quality
from selftrain.errors import ConfigError, DataError
from selftrain.inference.labeller import Changes, Labeller
from selftrain.inference.predictor import Predictor
from selftrain.prediction import inputs, predict, tiffs
from selftrain.prediction.outputs import EXTRAS

GEO = [
    (33550, 12, 3, (0.5, 0.5, 0.0), True),
    (33922, 12, 6, (0.0, 0.0, 0.0, 10.0, 20.0, 0.0), True),
    (34735, 3, 8, (1, 1, 0, 1, 1024, 0, 1, 2), True),
    (34737, 2, 7, "WGS 84|", True),
]
LINE = {"slope": 0.5, "intercept": 1.0}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    return with_card(exported(folder / "plain"), folder / "export", lambda card: card.update(quality=LINE))


def rows(out: Path) -> dict[str, dict[str, str]]:
    with open(out / "predictions.csv", newline="") as file:
        return {row["image"]: row for row in csv.DictReader(file)}


def content(out: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()
    }


def test_confidence_probabilities_overlay_and_table_agree_with_the_masks(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    save(tmp_path / "images" / "deep" / "a.png")
    predict.predict(model, tmp_path / "images", out, extras=EXTRAS, csv=True)
    ids, probs = labels(out / "deep" / "a.png"), np.load(out / "_probabilities" / "deep" / "a.npy")
    assert probs.shape == (4, 40, 56) and (probs.argmax(axis=0) == ids).mean() > 0.99
    sure = probs.max(axis=0).astype(float)
    with Image.open(out / "_confidence" / "deep" / "a.png") as grey:
        assert np.abs(np.asarray(grey) / 255 - sure).max() < 0.003
    with Image.open(out / "_overlay" / "deep" / "a.jpg") as shown:
        assert shown.size == (56, 40)
    row = rows(out)["deep/a.png"]
    assert [int(row[f"pixels of {name}"]) for name in CLASSES] == np.bincount(
        ids.ravel(), minlength=4
    ).tolist()
    assert float(row["confidence"]) == pytest.approx(sure.mean(), abs=1e-3)
    assert float(row["confidence of tree"]) == pytest.approx(sure[ids == 2].mean(), abs=1e-3)
    assert float(row["score"]) == pytest.approx(quality.expected(LINE, sure.mean()), abs=1e-3)


def test_a_stopped_command_continues_with_what_is_missing(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed, name in enumerate("abc"):
        save(tmp_path / "images" / f"{name}.png", seed=seed)
    how = {"extras": EXTRAS[:1], "csv": True, "batch": 1}
    predict.predict(model, tmp_path / "images", tmp_path / "whole", **how)
    genuine, asked = Predictor.probabilities, []

    def stopping(self: Predictor, images: np.ndarray):
        asked.append(images)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return genuine(self, images)

    monkeypatch.setattr(Predictor, "probabilities", stopping)
    with pytest.raises(KeyboardInterrupt):
        predict.predict(model, tmp_path / "images", tmp_path / "out", **how)
    (tmp_path / "out" / "predictions.csv").open("a").write("c.png,4")  # torn by a kill
    assert predict.predict(model, tmp_path / "images", tmp_path / "out", **how) == 3
    assert len(asked) == 4 and content(tmp_path / "out") == content(tmp_path / "whole")
    assert predict.predict(model, tmp_path / "images", tmp_path / "out", **how) == 3
    assert len(asked) == 4  # all of them are there
    save(tmp_path / "images" / "b.png", seed=7)
    predict.predict(model, tmp_path / "images", tmp_path / "out", **how)
    assert len(asked) == 5 and len(rows(tmp_path / "out")) == 3
    predict.predict(model, tmp_path / "images", tmp_path / "out", **how, again=True)
    assert len(asked) == 8 and len((tmp_path / "out" / "predictions.csv").read_text().splitlines()) == 4
    predict.predict(model, tmp_path / "images", tmp_path / "out", **{**how, "extras": EXTRAS[:2]})
    assert len(asked) == 11  # the probabilities were missing


def test_predictions_of_other_settings_are_not_mixed(model: Path, tmp_path: Path) -> None:
    save(tmp_path / "images" / "a.png")
    predict.predict(model, tmp_path / "images", tmp_path / "out")
    before = content(tmp_path / "out")
    for changes, name in ((Changes(least=0.4), "--threshold"), (Changes(size=["scale", 2]), "--size")):
        with pytest.raises(ConfigError, match=rf"made otherwise \({name}\); --again"):
            predict.predict(model, tmp_path / "images", tmp_path / "out", changes=changes)
    assert content(tmp_path / "out") == before
    predict.predict(model, tmp_path / "images", tmp_path / "out", changes=Changes(least=0.3), again=True)
    assert (labels(tmp_path / "out" / "a.png") == 255).any()


def test_options_take_the_place_of_what_the_card_says(model: Path) -> None:
    picture = noise(64, 96)
    plain = Labeller.load(model).find([picture])[0]
    unsure = Labeller.load(model, Changes(least=0.3)).find([picture])[0]
    assert np.array_equal(unsure.ids, np.where(plain.confidence < 0.3, 255, plain.ids))
    assert np.array_equal(unsure.confidence, plain.confidence) and len(np.unique(unsure.ids)) > 2
    smooth = Labeller.load(model, Changes(crf=True))
    assert (smooth.find([picture])[0].ids != plain.ids).any()
    assert smooth.card["refine"]["crf"]["backend"] == "lattice"
    assert Changes(crf=False).of(smooth.card)["refine"] is None
    assert Labeller.load(model, Changes(size=["scale", 2])).input_size(picture) == (128, 192)
    sized = {"input": {"size": [32, 32], "predicted": ["scale", 2]}}
    assert Changes(size=[]).of(sized)["input"] == {"size": None, "predicted": None}
    assert len(Labeller.load(model, Changes(views="d4")).predictor.views or ()) == 8


def test_a_georeference_reaches_the_mask_and_what_is_beside_it(model: Path, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    tifffile.imwrite(tmp_path / "images" / "a.tif", noise(40, 56), photometric="rgb", extratags=GEO)
    save(tmp_path / "plain" / "a.png")
    predict.predict(model, tmp_path / "images", tmp_path / "out", extras=EXTRAS)
    predict.predict(model, tmp_path / "plain", tmp_path / "expected")
    for folder in ("", "_confidence", "_probabilities", "_overlay"):
        with tifffile.TiffFile(tmp_path / "out" / folder / "a.tif") as file:
            tags = file.pages[0].tags
            assert [tags[code].value for code, *_ in GEO] == [value for *_, value, _ in GEO]
    with Image.open(tmp_path / "out" / "a.tif") as mask:
        assert mask.mode == "P" and mask.tag_v2[42113] == "255"
        assert np.array_equal(np.asarray(mask), labels(tmp_path / "expected" / "a.png"))
    assert tifffile.imread(tmp_path / "out" / "_probabilities" / "a.tif").shape == (40, 56, 4)


def test_the_pages_of_a_tiff_become_pages_and_frames_of_a_video_a_folder(model: Path, tmp_path: Path) -> None:
    pages = np.stack([noise(40, 56, seed) for seed in range(3)])
    tifffile.imwrite(tmp_path / "pages.tif", pages, photometric="rgb")
    video = cv2.VideoWriter(str(tmp_path / "clip.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 5, (64, 48))
    for seed in range(3):
        video.write(noise(48, 64, seed))
    video.release()
    both, out = [tmp_path / "pages.tif", tmp_path / "clip.avi"], tmp_path / "out"
    assert predict.predict(model, both, out, csv=True) == 2
    found = tifffile.imread(out / "pages.tif")
    expected = [Labeller.load(model).label([page])[0] for page in pages]
    assert found.shape == (3, 40, 56) and (found == np.stack(expected)).mean() > 0.999
    frames = ["000000.png", "000001.png", "000002.png", "frames.json"]
    assert sorted(path.name for path in (out / "clip.avi").iterdir()) == frames
    assert {"pages.tif#2", "clip.avi/000002"} < rows(out).keys() and len(rows(out)) == 6
    before = content(out)
    predict.predict(model, both, out, csv=True)
    assert content(out) == before
    (tmp_path / "broken.mp4").write_bytes(b"x" * 100)
    with pytest.raises(DataError, match="1 of 1"):
        predict.predict(model, tmp_path / "broken.mp4", out)


@pytest.mark.parametrize("parts", [{"tile": (64, 64)}, {"rowsperstrip": 16}])
def test_a_large_tiff_is_read_part_by_part_and_written_in_tiles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parts: dict
) -> None:
    model = exported(tmp_path / "export", window=32)
    (tmp_path / "images").mkdir()
    picture, kept = noise(140, 150), []
    tifffile.imwrite(tmp_path / "images" / "a.tif", picture, photometric="rgb", compression="zlib", **parts)
    save(tmp_path / "expected" / "a.png", 140, 150)
    how = {"extras": EXTRAS, "csv": True}
    predict.predict(model, tmp_path / "expected", tmp_path / "whole", **how)
    monkeypatch.setattr(tiffs, "LARGE", 1000)
    monkeypatch.setattr(tiffs, "KEPT", 64 * 64 * 3)
    monkeypatch.setattr("selftrain.data.images.MAX_PIXELS", 1000)  # no other way reads it
    genuine = tiffs.Plane.read

    def read(self: tiffs.Plane, rows: slice, columns: slice) -> np.ndarray:
        found = genuine(self, rows, columns)
        kept.append(max(found.size, self.bytes))
        return found

    monkeypatch.setattr(tiffs.Plane, "read", read)
    predict.predict(model, tmp_path / "images", tmp_path / "out", **how)
    assert len(kept) == 5 and max(kept) <= 144 * 144 * 3 < picture.size  # a block with its margin
    with tifffile.TiffFile(tmp_path / "out" / "a.tif") as file:
        assert file.pages[0].is_tiled and np.array_equal(file.asarray(), labels(tmp_path / "whole" / "a.png"))
    probs = tifffile.imread(tmp_path / "out" / "_probabilities" / "a.tif")
    assert np.array_equal(np.moveaxis(probs, 2, 0), np.load(tmp_path / "whole" / "_probabilities" / "a.npy"))
    one, other = rows(tmp_path / "out")["a.tif"], rows(tmp_path / "whole")["a.png"]
    assert {**one, "image": ""} == {**other, "image": ""}


def test_a_tiff_with_smaller_copies_of_itself_is_one_image(model: Path, tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(noise(40, 56), photometric="rgb", extratags=GEO)
        file.write(noise(20, 28), photometric="rgb", subfiletype=1)
    predict.predict(model, tmp_path / "a.tif", tmp_path / "out")
    assert tifffile.imread(tmp_path / "out" / "a.tif").shape == (40, 56)


def test_several_paths_keep_their_folders_apart(model: Path, tmp_path: Path) -> None:
    given = [tmp_path / "one", tmp_path / "two" / "deep" / "..", tmp_path / "c.jpg"]
    (tmp_path / "two" / "deep").mkdir(parents=True)
    save(given[0] / "a.png"), save(given[1] / "a.png", seed=1), save(given[2])
    assert predict.predict(model, given, tmp_path / "out") == 3
    found = {path for path in content(tmp_path / "out") if path.endswith(".png")}
    assert found == {"one/a.png", "two/a.png", "c.png"}
    save(tmp_path / "deep" / "one" / "a.png")
    with pytest.raises(ConfigError, match="two of the paths are called one"):
        predict.predict(model, [given[0], tmp_path / "deep" / "one"], tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_folder_too_large_to_be_listed_first_has_the_same_images_and_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["a.png", "a.jpg", "b.PNG", "c.jpg", "deep/a.png", "deep/d.tif", "e.jpg.png", "e.jpg", "u.jpg"]
    for name in names:
        save(tmp_path / "images" / name)
    Image.fromarray(np.eye(40, 56, dtype=np.uint8)).save(tmp_path / "images" / "u_mask.png")
    (tmp_path / "images" / "notes.txt").write_bytes(b"x")
    listed = inputs.Inputs.of([tmp_path / "images"])
    before = dict(listed.files)
    monkeypatch.setattr(inputs, "AT_ONCE", 2)
    found = inputs.Inputs.of([tmp_path / "images"])
    assert (listed.count, found.count) == (9, None)
    after = dict(found.files)
    odd = tmp_path / "images" / "e.jpg.png"  # keeps its suffix, since nobody looks whether e.jpg keeps it
    assert str(after.pop(odd)) == "e.jpg.png.png" and str(before.pop(odd)) == "e.jpg.png"
    assert after == before and len(set(after.values())) == 8
    assert list(found.remarks()) == list(listed.remarks())
