"""Unlabelled images in tar shards: as from a folder of the same images, and what is said of bad shards."""

import gzip
import json
import os
import pickle
import shutil
import subprocess
import sys
import tarfile
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from drawn_folders import fault, ids, pairs, picture, spec
from test_own_images import OWN, folder

from runs import bits
from selftrain.data import shards
from selftrain.data.dataset import with_channels, with_levels
from selftrain.data.faults import FaultsError
from selftrain.data.load import load, manifest
from selftrain.data.look import Look
from selftrain.data.many import Many, Picked, changed, finder, ids_of, joined, without
from selftrain.data.sample import Sample
from selftrain.data.sources.files import ImageFile
from selftrain.data.storage import fingerprint
from selftrain.data.verify import Matters, divide, verify
from selftrain.errors import ConfigError, DataError
from selftrain.manifests import entries_of

pytestmark = pytest.mark.promise(
    "tar shards: the bits of a folder with the same images; bad and changed shards are named"
)
SHARDS = {"a.tar": ["b/1", "b/2", "z", "Z1", "b-1"], "a-1.tar": ["x", "y"], "deep/c.tar": ["q"]}


def packed(place: Path) -> Path:
    """Replace a folder by a tar file of the same name."""
    aside = place.rename(place.with_name("aside"))
    with tarfile.open(place, "w", format=tarfile.USTAR_FORMAT) as tar:  # as webdataset does
        for file in sorted(aside.rglob("*"), reverse=True):
            tar.add(file, file.relative_to(aside), recursive=False)
        tar.addfile(tarfile.TarInfo("notes.json"))
    shutil.rmtree(aside)
    return place


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Four masks, and images in folders that are called like shards."""
    pairs(tmp_path, ["m", "n", "o", "p"])
    for value, name in enumerate(f"{shard}/{image}" for shard in SHARDS for image in SHARDS[shard]):
        picture(tmp_path / "unlabelled" / f"{name}.png", 10 + value)
    return tmp_path


def pack(root: Path) -> list[Path]:
    return [packed(root / "unlabelled" / name) for name in SHARDS]


@pytest.mark.parametrize("unlabelled", ["unlabelled", "unlabelled/**/*.tar"])
def test_images_of_shards_are_those_of_folders_of_the_same_names(root: Path, unlabelled: str):
    before = load(
        spec(root, unlabelled="unlabelled", splits={"labels": 1})
    )  # a mask that is not used is among them
    plain = [(one.id, one.name, one.image.name, one.read_image().tolist()) for one in before.unlabelled]
    told = manifest(before)
    pack(root)
    after = load(spec(root, unlabelled=unlabelled, splits={"labels": 1}))
    found = [(one.id, one.image.name, one.read_image().tolist()) for one in after.unlabelled]
    assert found == [(name, path, pixels) for name, _, path, pixels in plain]
    assert str(root / "unlabelled/deep/c.tar/q.png") in [path for _, path, _ in found]
    assert manifest(after) == told and after.warnings == []


def test_one_shard_is_named_by_itself(root: Path):
    pack(root)
    data = load(spec(root, unlabelled="unlabelled/a-1.tar"))
    assert ids(data)["unlabelled"] == ["unlabelled/a-1.tar/x", "unlabelled/a-1.tar/y"]
    assert data.unlabelled[1].image.size == (4, 6)
    assert fingerprint(data.unlabelled[1].image.path) == data.unlabelled[1].image.fingerprint()


def test_shards_beside_images_are_left_out_and_said(root: Path):
    pack(root)
    picture(root / "unlabelled" / "loose.png")
    data = load(spec(root, unlabelled="unlabelled"))
    assert ids(data)["unlabelled"] == ["unlabelled/loose"]
    assert data.warnings == ["files that are not images were left out: 3 .tar"]


def test_a_shard_is_read_once_and_again_if_it_changes(root: Path, monkeypatch: pytest.MonkeyPatch):
    path = pack(root)[1]
    data = load(spec(root, unlabelled="unlabelled"))
    copied = pickle.loads(pickle.dumps(data.unlabelled[0]))
    made = []
    monkeypatch.setattr(
        shards, "index_of", lambda *facts, own=shards.index_of: made.append(facts[0]) or own(*facts)
    )
    shards._index.cache_clear()
    load(spec(root, unlabelled="unlabelled"))
    assert made == []
    os.utime(path, ns=(1, 1))
    with pytest.raises(DataError, match=r"a-1\.tar: has changed since it was indexed"):
        data.unlabelled[0].read_image()
    with pytest.raises(DataError, match="has changed"):
        copied.read_image()
    again = load(spec(root, unlabelled="unlabelled"))
    assert made == [path] and again.unlabelled[0].read_image().shape == (4, 6, 3)
    shards.kept_at(path).write_bytes(b"damaged")
    shards._index.cache_clear()
    assert len(load(spec(root, unlabelled="unlabelled")).unlabelled) == 8
    assert made == [path, path]
    shards._index.cache_clear()
    kept = set(shards.kept_at(path).parent.iterdir())
    assert len(load(spec(root, unlabelled="unlabelled", remember=False)).unlabelled) == 8
    assert len(made) == 5 and set(shards.kept_at(path).parent.iterdir()) == kept


def cut(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


def compressed(path: Path) -> None:
    path.write_bytes(gzip.compress(path.read_bytes()))


def without_images(path: Path) -> None:
    with tarfile.open(path, "w") as tar:
        tar.addfile(tarfile.TarInfo("a.json"))


def beside(path: Path) -> None:
    files = [picture(path.parent.parent / "more" / f"x.{end}") for end in ("png", "seg.png", "jpg")]
    with tarfile.open(path, "w") as tar:
        for file in files:
            tar.add(file, file.name)


def damaged_header(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[1024 + 148] ^= 1  # the checksum of the second header
    path.write_bytes(content)


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda path: cut(path, 700), "is cut off"),
        (lambda path: cut(path, 520), "is cut off: y.png ends after its end"),
        (lambda path: cut(path, 1024), "is cut off: it lacks the mark at the end"),  # between two members
        (damaged_header, "has a damaged header at byte 1,024"),
        (compressed, "is compressed, so single images cannot be read; unpack it with gunzip"),
        (lambda path: path.write_bytes(b"\x89PNG" * 300), "is not a tar file but PNG"),
        (lambda path: path.write_bytes(b""), "is empty"),
        (without_images, "contains no image but 1 .json"),
        (lambda path: path.write_bytes(2 * path.read_bytes()), "has more after the mark of its end at byte"),
        (beside, "a-1.tar/x.png: shares its name with x.jpg"),
        (beside, "a-1.tar/x.seg.png: lies in the shard beside the image x and belongs to it"),
    ],
)
def test_a_bad_shard_is_named(root: Path, change, said: str):
    change(pack(root)[1])
    with pytest.raises(FaultsError) as caught:
        load(spec(root, unlabelled="unlabelled"))
    texts = [str(one) for one in caught.value.faults]
    assert any(text.startswith("unlabelled/a-1.tar") and said in text for text in texts), texts


def test_a_pattern_without_a_file_is_refused(root: Path):
    assert "data.unlabelled=un*/*.tar matches no file" in fault(root, unlabelled="un*/*.tar")


def test_a_pattern_that_python_refuses_is_refused_in_one_line(root: Path):
    with pytest.raises(ConfigError, match=r"data\.unlabelled=unlabelled/\*\*\.tar: \*\* must stand alone"):
        load(spec(root, unlabelled="unlabelled/**.tar"))


def test_hidden_and_system_folders_are_left_out_as_from_a_folder(root: Path):
    for place in (".cache/x", "b/@eaDir/y", "b/.w", "..x/v"):
        picture(root / "unlabelled" / "a.tar" / f"{place}.png")
    before = load(spec(root, unlabelled="unlabelled"))
    shards = pack(root)
    for hidden in (root / ".Trash-0", root / "unlabelled" / ".old"):
        hidden.mkdir()
        shutil.copy(shards[0], hidden / "c.tar")
    after = load(spec(root, unlabelled="**/*.tar"))
    assert ids(after) == ids(before) and len(after.unlabelled) == 8
    named = load(spec(root, unlabelled=".Trash-0/*.tar"))
    assert named.unlabelled[0].id == ".Trash-0/c.tar/Z1" and len(named.unlabelled) == 5


@pytest.mark.parametrize("kind", [tarfile.LNKTYPE, tarfile.SYMTYPE])
def test_an_image_that_a_shard_contains_as_a_link_is_named(root: Path, kind: bytes):
    link = tarfile.TarInfo("again.png")
    link.type, link.linkname = kind, "x.png"
    with tarfile.open(pack(root)[1], "a") as tar:
        tar.addfile(link)
    said = fault(root, unlabelled="unlabelled")
    assert (
        "unlabelled/a-1.tar/again.png: is a link or a sparse file in the shard; write the file itself" in said
    )


def test_an_unreadable_image_of_a_shard_is_set_aside_by_its_name(tmp_path: Path):
    pairs(tmp_path, ["m", "n", "o"])
    for number in range(101):
        picture(tmp_path / "u.tar" / f"{number:03}.png", 10 + number)
    (tmp_path / "u.tar" / "007.png").write_bytes(b"no picture")
    packed(tmp_path / "u.tar")
    asked = spec(tmp_path, unlabelled="u.tar")
    report = verify(load(asked, strict=False), asked, workers=2)
    assert [one.id for one in report.set_aside] == ["u.tar/007"]
    assert any(line.startswith("set aside: u.tar/007.png: is not") for line in report.warnings)


def test_of_many_images_those_that_matter_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("selftrain.data.verify.MANY", 50)
    monkeypatch.setattr("selftrain.data.verify.SEEN", 5)
    pairs(tmp_path, ["m", "n", "o", "p"])
    rng = np.random.default_rng(0)
    for number in range(103):
        picture(tmp_path / "u.tar" / f"{number:03}.png", 100 + number, (4, 8) if number == 50 else (4, 6))
    picture(tmp_path / "u.tar" / "copy.png", 1)  # shows what n shows
    (tmp_path / "u.tar" / "007.png").write_bytes(rng.bytes(99))
    packed(tmp_path / "u.tar")
    asked = spec(tmp_path, unlabelled="u.tar", splits={"val": "val.txt"})
    (tmp_path / "val.txt").write_text("images/n.png\n")
    _, report = divide(load(asked, strict=False), asked, workers=2)
    assert report.copies == [["images/n", "u.tar/copy"]]
    seen = {one.sample.id: one for one in report.seen}
    assert seen["u.tar/050"].size == (4, 8) and [one.id for one in report.set_aside] == ["u.tar/007"]
    assert report.rows()[1] == ("images", "2", "104", "1", "1")
    assert len(report.seen) < 20 and any("104 unlabelled images, about 5" in line for line in report.warnings)


def test_of_many_sizes_few_are_kept(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("selftrain.data.verify.SEEN", 5)
    asked, sample = Matters(step=1000), Sample("u", ImageFile(Path("u.png")), None)
    sizes = [*((4, 60 - number % 50) for number in range(99)), (9, 99), (9, 98)]
    kept = [size for size in sizes if asked.to_report(Look(sample, "unlabelled", size=size))]
    assert kept == [*sizes[:5], (9, 99)]  # the first five, and one that is larger than all before it


def test_many_samples_behave_like_a_list(root: Path):
    pack(root)
    many = load(spec(root, unlabelled="unlabelled")).unlabelled
    others = load(spec(root)).labelled
    assert isinstance(many, Many)
    plain, rng = list(many), np.random.default_rng(0)
    for _ in range(20):
        gone = {one.id for one in plain if rng.random() < 0.2} | {"nothing"}
        many, plain = without(many, gone), without(plain, gone)
        if rng.random() < 0.2 and others:
            many, plain = joined(many, others[:1]), joined(plain, others[:1])
            others = others[1:]
        assert [one.id for one in many] == [one.id for one in plain] and len(many) == len(plain)
        assert list(chain.from_iterable(ids_of(many))) == [one.id for one in plain]
        places = np.flatnonzero(rng.random(len(plain)) < 0.5)
        for samples in (many, Picked(many, places)):
            find = finder(samples)
            assert [find(one.id) for one in samples] == list(range(len(samples)))
            assert find("nothing") is None and find("unlabelled/a.tar/b") is None
        assert [one.id for one in many[::-2]] == [one.id for one in plain[::-2]]
        if not plain:
            break
    with pytest.raises(IndexError):
        many[len(many)]


def test_a_change_reaches_samples_when_they_are_made(root: Path):
    pack(root)
    data = load(spec(root, unlabelled="unlabelled"))
    grey = with_levels(with_channels(data, 1), (0, 100))
    assert grey.unlabelled[0].read_image().shape == (4, 6, 1) and grey.unlabelled[0].image.levels == (0, 100)
    assert changed(data.unlabelled, lambda one: one)[0] == data.unlabelled[0]


def test_arrays_and_bands_are_read_from_shards(tmp_path: Path):
    import tifffile

    pairs(tmp_path, ["m", "n", "o"])
    pixels = np.arange(6 * 8 * 5, dtype=np.uint8).reshape(6, 8, 5)
    (tmp_path / "u.tar").mkdir()
    np.save(tmp_path / "u.tar" / "a.npy", pixels)
    tifffile.imwrite(tmp_path / "u.tar" / "b.tif", pixels, photometric="minisblack")
    packed(tmp_path / "u.tar")
    data = load(spec(tmp_path, unlabelled="u.tar", channels=5))
    assert [one.read_image().tolist() for one in data.unlabelled] == [pixels.tolist()] * 2
    assert data.unlabelled[1].image.size == (6, 8)


@pytest.mark.parametrize("settings", [{}, {"tags": "tags.csv"}, {"splits": {"labels": 1}}])
def test_a_long_manifest_is_the_same_from_shards_and_from_samples(
    root: Path, monkeypatch: pytest.MonkeyPatch, settings: dict
):
    pack(root)
    (root / "tags.csv").write_text("image,classes\nunlabelled/a.tar/z.png,thing\n")
    data = load(spec(root, unlabelled="unlabelled", **settings))
    plain = manifest(data)["unlabelled"]
    monkeypatch.setattr("selftrain.data.load.MANY", 3)
    monkeypatch.setattr("selftrain.manifests.PART", 3)
    from_shards = manifest(data)["unlabelled"]
    one_by_one = manifest(replace(data, unlabelled=list(data.unlabelled)))["unlabelled"]
    assert from_shards.hashes() == one_by_one.hashes() and len(from_shards.hashes()) >= 3
    assert list(entries_of(from_shards)) == list(entries_of(one_by_one)) == plain


def test_a_run_on_shards_has_the_bits_of_a_run_on_a_folder(run, tmp_path: Path):
    asked = folder(tmp_path / "data")
    unlabelled = tmp_path / "data" / "unlabelled"
    unlabelled.rename(tmp_path / "u.tar")
    unlabelled.mkdir()
    place = (tmp_path / "u.tar").rename(unlabelled / "u.tar")
    settings = [*OWN, *asked, "data.unlabelled=unlabelled", "generations=[{},{}]"]
    for out in ("plain", "shards"):
        code, _, err = run(*settings, f"out={tmp_path / out}")
        assert code == 0, err
        if out == "plain":
            packed(place)
    assert bits(tmp_path / "plain") == bits(tmp_path / "shards")
    told = [json.loads((tmp_path / out / "data.json").read_text()) for out in ("plain", "shards")]
    assert told[0] == told[1] and told[1]["unlabelled"][0]["id"] == "unlabelled/u.tar/0"
    assert "unlabelled/u.tar/0" in (tmp_path / "shards" / "report.html").read_text()


LONG = """
import sys

import selftrain.data.load, selftrain.data.verify, selftrain.manifests, selftrain.stages.select
from selftrain.errors import exit_code_of
from selftrain.run import main

selftrain.data.load.MANY = selftrain.data.verify.MANY = selftrain.stages.select.MANY = 3
selftrain.manifests.PART, selftrain.data.verify.SEEN = 5, 2
if __name__ == "__main__":
    sys.exit(exit_code_of(main))
"""


@pytest.mark.slow
def test_a_run_with_long_lists_has_the_same_bits_and_resumes(run, selftrain, tmp_path: Path):
    settings = [
        *OWN,
        *folder(tmp_path / "data", unlabelled=13),
        "data.unlabelled=*.tar",
        "data.splits.labels=4",
    ]
    for number in range(2):
        images = sorted((tmp_path / "data" / "unlabelled").iterdir())[number::2]
        with tarfile.open(tmp_path / "data" / f"{number}.tar", "w") as tar:
            for image in images:
                tar.add(image, image.name)
    code, _, err = run(*settings, f"out={tmp_path / 'plain'}")
    assert code == 0, err
    code, _, err = selftrain(
        "next", tmp_path / "plain", "-n", 1, "-o", tmp_path / "next", "--copy", tmp_path / "copies"
    )
    assert code == 0, err
    named = Path((tmp_path / "next" / "next.txt").read_text().strip())
    assert named.parent.parent == tmp_path / "data"
    with tarfile.open(named.parent) as tar:
        assert (tmp_path / "copies" / named.name).read_bytes() == tar.extractfile(named.name).read()
    script, out = tmp_path / "long.py", tmp_path / "long"
    script.write_text(LONG)
    command = [sys.executable, script, *settings, f"out={out}"]
    subprocess.run(command, check=True, capture_output=True)
    assert len(list((out / "data").iterdir())) == 3 and bits(out) == bits(tmp_path / "plain")
    for path in (out / "gen1", out / "export"):
        shutil.rmtree(path)
    (out / "report.json").unlink()
    os.utime(tmp_path / "data" / "1.tar", ns=(1, 1))  # indexed again: the same images
    subprocess.run(command, check=True, capture_output=True)
    assert bits(out) == bits(tmp_path / "plain")
    shutil.copyfile(tmp_path / "data" / "0.tar", tmp_path / "data" / "1.tar")
    (out / "report.json").unlink()
    refused = subprocess.run(command, capture_output=True, text=True)
    assert (
        refused.returncode == 3
        and "the data of" in refused.stderr
        and "missing, e.g. 1.tar/1" in refused.stderr
    )
