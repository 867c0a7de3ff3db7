"""Which files predict reads, and which it writes."""

from pathlib import Path, PurePath

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from predicting import exported, labels, noise, save

from selftrain.errors import ConfigError, DataError, IntegrityError
from selftrain.inference.labeller import Labeller
from selftrain.prediction.inputs import output_names
from selftrain.prediction.predict import predict


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(tmp_path_factory.mktemp("model") / "export")


def test_files_that_are_no_images_are_counted(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(tmp_path / "images" / "a.png")
    for name in ("notes.txt", "more.TXT", "deep/scan.mat", "README"):
        (tmp_path / "images" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "images" / name).write_bytes(b"x")
    predict(model, tmp_path / "images", tmp_path / "out")
    assert "skipped, since they are not images: 1 without suffix, 1 .mat, 2 .txt\n" in capsys.readouterr().out


def test_masks_beside_images_and_thumbnails_are_left_out_and_it_is_said(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("u0.jpg", "u1.jpg", "@eaDir/u0.png", "deep/thumbs/u1.jpg"):
        save(tmp_path / "images" / name)
    for name in ("u0_mask.png", "u1_mask.png"):
        Image.fromarray(np.eye(40, 56, dtype=np.uint8)).save(tmp_path / "images" / name)
    assert predict(model, tmp_path / "images", tmp_path / "out") == 2
    assert sorted(path.name for path in (tmp_path / "out").rglob("*.png")) == ["u0.png", "u1.png"]
    said = capsys.readouterr().out.splitlines()
    assert "skipped, since they are masks beside their images: 2 files, such as u0_mask.png of u0.jpg" in said
    assert "folders of thumbnails or of a system were left out: @eaDir, deep/thumbs" in said


def test_a_folder_of_other_files_says_which_are_read(model: Path, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for name in ("a.xyz", "b.xyz"):
        (tmp_path / "images" / name).write_bytes(b"x")
    with pytest.raises(DataError, match=r"holds 2 \.xyz, which are not read; images may be \.bmp, .*\.webp"):
        predict(model, tmp_path / "images", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_images_that_share_a_stem_keep_their_suffix(model: Path, tmp_path: Path) -> None:
    for seed, name in enumerate(["a.png", "a.jpg", "b.png"]):
        save(tmp_path / "images" / name, seed=seed)
    assert predict(model, tmp_path / "images", tmp_path / "out") == 3
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {"a.png.png", "a.jpg.png", "b.png", "classes.json"}


@given(st.sets(st.from_regex(r"([ab]/)?[ab](\.(png|jpg)){1,3}", fullmatch=True), max_size=8))
def test_no_two_images_are_written_to_one_file(names: set[str]) -> None:
    found = output_names([PurePath(name) for name in sorted(names)])
    assert len(set(found.values())) == len(names)
    assert all(name.suffix == ".png" and name.parent == file.parent for file, name in found.items())


def test_what_cannot_be_read_is_listed_and_the_rest_is_labelled(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = tmp_path / "images"
    whole = save(images / "a.png").read_bytes()
    save(images / "d.png", seed=1)
    (images / "b.png").write_bytes(whole[: len(whole) // 2])
    (images / "c.jpg").write_bytes(b"")
    with pytest.raises(DataError, match="2 of 4 images could not be labelled"):
        predict(model, images, tmp_path / "out", batch=2)
    out = capsys.readouterr().out
    assert "b.png: cannot be decoded" in out and "c.jpg: is empty" in out
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"a.png", "d.png", "classes.json"}
    assert (
        labels(tmp_path / "out" / "d.png") == Labeller.load(model).label([noise(40, 56, 1)])[0]
    ).mean() > 0.999


def test_a_name_too_long_for_its_labels_is_listed_too(model: Path, tmp_path: Path) -> None:
    save(tmp_path / "images" / f"{'x' * 249}.png")
    save(tmp_path / "images" / "a.png")
    with pytest.raises(DataError, match="1 of 2"):
        predict(model, tmp_path / "images", tmp_path / "out")
    assert (tmp_path / "out" / "a.png").is_file()


def test_one_file_is_labelled_whatever_its_suffix(model: Path, tmp_path: Path) -> None:
    save(tmp_path / "images" / "a.png").rename(tmp_path / "images" / "photo")
    save(tmp_path / "images" / "other.png")
    assert predict(model, tmp_path / "images" / "photo", tmp_path / "images" / "out") == 1
    assert {path.name for path in (tmp_path / "images" / "out").iterdir()} == {"photo.png", "classes.json"}


def test_grey_and_16_bit_images_are_labelled(model: Path, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    Image.fromarray(noise(40, 56)[..., 0]).save(tmp_path / "images" / "grey.png")
    Image.fromarray(noise(40, 56)[..., 0].astype(np.uint16) * 256).save(tmp_path / "images" / "deep.png")
    predict(model, tmp_path / "images", tmp_path / "out")
    assert (labels(tmp_path / "out" / "grey.png") == labels(tmp_path / "out" / "deep.png")).all()


@pytest.mark.parametrize("out", ["images", "images/out", ".", "images/../images/deep"])
def test_labels_never_go_among_the_images(model: Path, tmp_path: Path, out: str) -> None:
    file = save(tmp_path / "images" / "a.png")
    before = file.read_bytes()
    with pytest.raises(ConfigError, match="choose"):
        predict(model, tmp_path / "images", tmp_path / out)
    with pytest.raises(ConfigError, match="choose"):
        predict(model, file, file.parent)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [file] and file.read_bytes() == before


def test_a_link_to_the_folder_of_the_images_is_seen_through(model: Path, tmp_path: Path) -> None:
    save(tmp_path / "images" / "a.png")
    (tmp_path / "out").symlink_to(tmp_path / "images")
    with pytest.raises(ConfigError, match="folder of the images"):
        predict(model, tmp_path / "images", tmp_path / "out")


def test_files_of_others_are_not_overwritten(model: Path, tmp_path: Path) -> None:
    save(tmp_path / "images" / "a.png")
    theirs = save(tmp_path / "out" / "a.png", seed=9)
    before = theirs.read_bytes()
    with pytest.raises(ConfigError, match="not written by selftrain predict"):
        predict(model, tmp_path / "images", tmp_path / "out")
    (tmp_path / "out" / "classes.json").write_text('{"ignore_index": 255, "classes": []}')
    with pytest.raises(ConfigError, match="other classes"):
        predict(model, tmp_path / "images", tmp_path / "out")
    assert theirs.read_bytes() == before


def test_nothing_to_label_is_an_error_that_leaves_nothing(model: Path, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    with pytest.raises(DataError, match="contains no image"):
        predict(model, tmp_path / "images", tmp_path / "out")
    with pytest.raises(DataError, match="neither a folder nor a file"):
        predict(model, tmp_path / "nowhere", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_damaged_export_labels_nothing(tmp_path: Path) -> None:
    model = exported(tmp_path / "export")
    save(tmp_path / "images" / "a.png")
    with open(model / "model.safetensors", "r+b") as file:
        file.seek(-4, 2)
        file.write(b"\0\1\2\3")
    with pytest.raises(IntegrityError, match="damaged"):
        predict(model, tmp_path / "images", tmp_path / "out")
    assert not (tmp_path / "out").exists()
