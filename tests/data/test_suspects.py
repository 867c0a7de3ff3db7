"""A list of suspicious masks: what training does with them."""

import tarfile

import numpy as np
import pytest
from PIL import Image

from selftrain.data.load import load, manifest
from selftrain.data.many import Many
from selftrain.data.suspects import COLUMNS, Suspect, read_list, written
from selftrain.data.verify import divide
from selftrain.datasets import spec_of
from selftrain.errors import ConfigError, DataError
from selftrain.manifests import manifest_differences
from selftrain.report.palette import save_palette_png, save_plain_png
from selftrain.settings import compose

MASK = np.array([[0, 0, 1, 1], [0, 255, 1, 1]], np.uint8)
AGREED = np.array([[1, 255, 255, 255], [255, 1, 255, 255]], np.uint8)
WANTED = np.array([[1, 0, 1, 1], [0, 255, 1, 1]], np.uint8)


@pytest.fixture
def folder(tmp_path):
    """Three labelled images a, b, c and a val image; the list beside them suspects b."""
    root = tmp_path / "data"
    for split, names in (("train", "abc"), ("val", "v")):
        for n, name in enumerate(names):
            for part, pixels in (
                ("images", np.full((2, 4, 3), 40 * n + len(names), np.uint8)),
                ("masks", MASK),
            ):
                (root / part / split).mkdir(parents=True, exist_ok=True)
                save_plain_png(root / part / split / f"{name}.png", pixels)
    save_palette_png(tmp_path / "relabelled" / "b.png", AGREED)
    (tmp_path / "list.csv").write_bytes(written([Suspect("images/train/b", relabelled="relabelled/b.png")]))
    return tmp_path


def spec(folder, *further):
    named = ["data=folder", f"data.root={folder}/data", "data.unlabelled=''", "data.classes=[x,y]"]
    splits = [f"data.splits.{name}={name}" for name in ("train", "val")]
    return spec_of(
        compose(["recipe=supervised", *named, *splits, "data.splits.test_fraction=0", *further]).data
    )


def treated(folder, suspicion, *further):
    return load(spec(folder, f"data.suspects={folder}/list.csv", f"data.suspicion={suspicion}", *further))


def names(samples):
    return [sample.id.rpartition("/")[2] for sample in samples]


@pytest.mark.parametrize("suspicion, dropped", [("weight", []), ("drop", ["images/train/b"])])
def test_images_of_shards_are_not_made_into_a_list(folder, suspicion, dropped):
    with tarfile.open(folder / "data" / "u.tar", "w") as tar:
        tar.add(folder / "data" / "images" / "train" / "a.png", "1.png")
    found = treated(folder, suspicion, "data.unlabelled=u.tar").unlabelled
    assert isinstance(found, Many) and [one.id for one in found] == [*dropped, "u.tar/1"]


def test_a_list_is_read_as_it_was_written(tmp_path):
    suspects = [
        Suspect("a, b", "7.10", "shifted, about 3 px up", "car;road", "relabelled/0.png"),
        Suspect("c"),
    ]
    (tmp_path / "list.csv").write_bytes(written(suspects))
    assert read_list(tmp_path / "list.csv") == suspects


def test_a_dropped_mask_is_not_used_and_its_image_becomes_an_unlabelled_one(folder):
    data = treated(folder, "drop")
    assert names(data.labelled) == ["a", "c"] and names(data.unlabelled) == ["b"]
    assert data.unlabelled[0].mask is None and "1 of the 1 masks" in data.warnings[-1]


def test_a_weighed_mask_counts_less(folder):
    assert [one.weight for one in treated(folder, "weight").labelled] == [1, 0.25, 1]
    assert [one.weight for one in treated(folder, "{weight: {factor: 0.5}}").labelled] == [1, 0.5, 1]


def test_a_relabelled_mask_changes_where_the_folds_agree_and_stays_ignored_elsewhere(folder):
    masks = [one.read_mask() for one in treated(folder, "relabel").labelled]
    assert np.array_equal(masks[0], MASK) and np.array_equal(masks[1], WANTED)
    file = folder / "data" / "masks" / "train" / "b.png"
    assert np.array_equal(np.asarray(Image.open(file)), MASK)  # the file itself stays


def test_a_relabelled_mask_fits_images_of_another_size(folder):
    larger = treated(folder, "relabel", "data.size=[4,8]").labelled[1].read_mask()
    assert np.array_equal(larger, WANTED.repeat(2, axis=0).repeat(2, axis=1))


def test_verify_reads_the_relabelled_mask(folder):
    chosen = spec(folder, f"data.suspects={folder}/list.csv", "data.suspicion=relabel")
    _, report = divide(load(chosen), chosen, workers=1, crop=[])
    looks = {look.sample.id[-1]: look.counts.tolist() for look in report.seen if look.counts is not None}
    assert not report.faults and looks["b"] == [2, 5, 1] and looks["a"] == [3, 4, 1]


@pytest.mark.parametrize("suspicion", ["drop", "weight", "relabel"])
def test_the_record_of_a_run_tells_the_treatments_apart(folder, suspicion):
    plain, other = manifest(load(spec(folder))), manifest(treated(folder, suspicion))
    assert manifest_differences(plain, other)


def test_the_record_of_a_run_follows_the_content_of_the_list(folder):
    before = manifest(treated(folder, "relabel"))
    save_palette_png(folder / "relabelled" / "b.png", np.zeros_like(AGREED))
    assert "other content" in manifest_differences(before, manifest(treated(folder, "relabel")))


def test_masks_of_val_stay_as_they_are(folder):
    (folder / "list.csv").write_bytes(written([Suspect("images/val/v")]))
    data = treated(folder, "drop")
    assert (
        names(data.val) == ["v"] and names(data.labelled) == list("abc") and "0 of the 1" in data.warnings[-1]
    )


def test_a_treatment_without_a_list_is_refused(folder):
    with pytest.raises(ConfigError, match=r"set data\.suspects"):
        load(spec(folder, "data.suspicion=weight"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (f"{','.join(COLUMNS)}\nimages/train/z,,,,\n", "no image of the data set"),
        ("a,b\n1,2\n", "without the column image"),
        (None, "cannot be read"),
    ],
)
def test_a_wrong_list_is_refused(folder, content, said):
    path = folder / "list.csv"
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(DataError, match=said):
        treated(folder, "drop")


def test_a_missing_or_wrong_mask_of_the_list_is_refused(folder):
    path = folder / "relabelled" / "b.png"
    save_palette_png(path, np.full_like(AGREED, 7))
    with pytest.raises(DataError, match="classes that the data set lacks"):
        treated(folder, "relabel").labelled[1].read_mask()
    Image.new("RGB", (4, 2)).save(path)
    with pytest.raises(DataError, match="mode RGB"):
        treated(folder, "relabel").labelled[1].read_mask()
    path.unlink()
    with pytest.raises(DataError, match="cannot be opened"):
        manifest(treated(folder, "relabel"))
