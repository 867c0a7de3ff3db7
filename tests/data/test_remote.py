"""Images on a real S3 server, through a proxy that injects faults; other stores through fsspec's memory."""

import os
import shutil
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from drawn_folders import NAMED, ids, pairs, picture, spec
from object_store import BUCKET, Fault, running
from six_images import check, six_images
from test_shards import packed

from selftrain.data import ahead, mirror, places, remote
from selftrain.data.blocks import Blocks
from selftrain.data.images import read_image
from selftrain.data.load import load, manifest
from selftrain.data.shards import _index
from selftrain.data.sources.files import ImageFile
from selftrain.data.spec import StoreSpec
from selftrain.data.storage import fingerprint, open_regular
from selftrain.errors import ConfigError, DataError, StorageError
from selftrain.inspection.init import init

pytestmark = pytest.mark.promise(
    "object storage that fails, is slow or cuts connections: the same bits, or an error that says what to check"
)
SETTINGS = StoreSpec(cache="", cache_mb=64, tries=4, options={})


@pytest.fixture(scope="module")
def server():
    with running() as store:
        yield store


@pytest.fixture
def store(server, tmp_path, monkeypatch):
    """The server, without faults and requests, read by a process that knows nothing of it."""
    server.faults.clear()
    server.requests.clear()
    server.together = 0
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(remote, "SHORTEST", 0.01)
    fresh()
    yield server
    fresh()


def fresh() -> None:
    for remembered in (mirror._tree, remote.filesystem, remote.blocks_of, _index):
        remembered.cache_clear()
    places._URLS.clear()


def tree_of(store, folder: Path, prefix: str, **settings) -> Path:
    return mirrored(store.upload(folder, prefix), **settings)


def mirrored(url: str, **settings) -> Path:
    fresh()
    return mirror.mirrored(url, replace(SETTINGS, **settings))


def test_a_data_set_is_read_like_the_folder(store, tmp_path):
    url = store.upload(six_images(tmp_path / "six"), "like")
    here, there = check(tmp_path / "six"), check(url)
    assert (there.faults, there.warnings, there.rows()) == (here.faults, here.warnings, here.rows())
    assert [one.digest for one in there.seen] == [one.digest for one in here.seen]
    assert [one.sample.id for one in there.seen] == [one.sample.id for one in here.seen]


def test_messages_name_the_url(store, tmp_path):
    pairs(tmp_path / "some", ["a", "b", "c"], "train")
    url = store.upload(tmp_path / "some", "named")
    with pytest.raises(DataError, match=f"no folder {url}/images/none"):
        load(spec(url, splits={"train": "train", "val": "none"}))
    store.put("named/images/train/a.png", b"damaged")
    fresh()
    sample = load(spec(url)).labelled[0]
    with pytest.raises(DataError, match=f"^{url}/images/train/a.png: is not a PNG"):
        sample.read_image()


def test_preflight_of_data_that_it_knows_reads_no_object(store, tmp_path):
    url = store.upload(six_images(tmp_path / "six"), "known")
    check(url)
    assert store.reads()
    store.requests.clear()
    fresh()
    assert not check(url).faults
    facts = manifest(load(spec(url, splits=NAMED)))
    assert not store.reads()
    assert facts["labelled"][0]["image"].startswith("etag ")


def test_a_changed_object_is_another_manifest(store, tmp_path):
    pairs(tmp_path / "some", ["a", "b", "c"])
    url = store.upload(tmp_path / "some", "changing")
    splits = {"val_fraction": 0.34, "test_fraction": 0.0}
    before = manifest(load(spec(url, splits=splits)))
    store.put("changing/images/b.png", picture(tmp_path / "new.png", 7).read_bytes())
    fresh()
    after = manifest(load(spec(url, splits=splits)))
    rows = {row["id"]: row for split in ("labelled", "val") for row in before[split]}
    changed = [row["id"] for split in ("labelled", "val") for row in after[split] if row != rows[row["id"]]]
    assert changed == ["images/b"]


@pytest.mark.parametrize("kind", [500, 503, "cut"])
def test_a_request_that_fails_twice_is_repeated(store, tmp_path, kind):
    file = picture(tmp_path / "one" / "a.png", 9, (40, 50))
    root = tree_of(store, tmp_path / "one", f"twice{kind}")
    store.faults.append(Fault(kind, ("a.png",), times=2))
    assert read_bytes(root / "a.png") == file.read_bytes()
    assert np.array_equal(read_image(root / "a.png"), read_image(file))


def read_bytes(path: Path) -> bytes:
    with open_regular(path) as file:
        return file.read()


def test_a_slow_answer_is_given_up_and_asked_for_again(store, tmp_path):
    file = picture(tmp_path / "one" / "a.png", 9)
    root = tree_of(store, tmp_path / "one", "slow", options={"config_kwargs": {"read_timeout": 0.3}})
    store.faults.append(Fault("slow", ("a.png",), seconds=10.0))
    began = time.monotonic()
    assert read_bytes(root / "a.png") == file.read_bytes()
    assert 0.3 < time.monotonic() - began < 10


def test_a_store_that_stays_down_ends_with_the_url_the_tries_and_what_to_check(store, tmp_path):
    picture(tmp_path / "one" / "a.png")
    root = tree_of(store, tmp_path / "one", "down", tries=3)
    store.faults.append(Fault(503, ("a.png",), times=99))
    with pytest.raises(StorageError) as caught:
        read_image(root / "a.png")
    said = str(caught.value)
    assert f"s3://{BUCKET}/down/a.png cannot be read after 3 tries" in said
    assert all(word in said for word in ("AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION", "network", "SlowDown"))
    assert len(store.requests) - 1 == 3  # the listing, then one request for each try


def test_a_connection_that_is_always_cut_never_gives_a_part(store, tmp_path):
    picture(tmp_path / "one" / "a.png", 9, (40, 50))
    root = tree_of(store, tmp_path / "one", "cut", tries=2)
    store.faults.append(Fault("cut", ("a.png",), times=99))
    with pytest.raises(StorageError, match="after 2 tries"):
        read_image(root / "a.png")


def test_a_listing_is_repeated_too(store, tmp_path):
    url = store.upload(six_images(tmp_path / "six"), "listing")
    store.faults.append(Fault(500, ("list-type",), times=2))
    assert (mirrored(url) / "images" / "val" / "8.png").is_file()
    store.faults.append(Fault(500, ("list-type",), times=99))
    with pytest.raises(StorageError, match=f"{url} cannot be read after 4 tries"):
        mirrored(url)


def test_a_missing_bucket_and_an_empty_prefix_are_faults_of_the_data(store):
    for url in ("s3://nosuch/x", f"s3://{BUCKET}/none"):
        with pytest.raises(DataError, match=f"{url}: no object is below it; check the bucket and the prefix"):
            mirrored(url)


def test_wrong_credentials_are_not_tried_again(store, tmp_path):
    url = store.upload(six_images(tmp_path / "six"), "keys")
    store.ask("POST", "/moto-api/reset-auth", b"0")  # from now on the server checks keys
    try:
        with pytest.raises(StorageError) as caught:
            mirrored(url)
    finally:
        store.ask("POST", "/moto-api/reset-auth", b"inf")
    assert f"{url} was refused" in str(caught.value) and "AWS_ACCESS_KEY_ID" in str(caught.value)
    assert len(store.requests) == 1


def test_an_object_that_changes_or_goes_after_the_listing_is_a_fault(store, tmp_path):
    for name in "ab":
        picture(tmp_path / "two" / f"{name}.png", 9)
    root = tree_of(store, tmp_path / "two", "later")
    store.put("later/a.png", picture(tmp_path / "new.png", 7).read_bytes())
    store.ask("DELETE", f"/{BUCKET}/later/b.png")
    with pytest.raises(DataError, match=r"later/a.png: has changed since the store was listed \(ETag"):
        read_image(root / "a.png")
    with pytest.raises(DataError, match=r"later/b.png: is gone since the store was listed"):
        read_image(root / "b.png")


def test_large_objects_are_read_in_blocks_of_which_only_the_needed_ones_arrive(store, tmp_path, monkeypatch):
    monkeypatch.setattr(remote, "BLOCK", 1000)
    content = np.random.default_rng(0).bytes(10_500)
    store.put("blocks/large.bin", content)
    path = mirrored(f"s3://{BUCKET}/blocks") / "large.bin"
    with open_regular(path) as file:
        file.seek(-300, os.SEEK_END)
        assert file.read() == content[-300:]
        file.seek(1_999)
        assert file.read(2) == content[1_999:2_001]
    assert sum(sent for *_, sent in store.reads("large")) == 500 + 2 * 1000 + 1000
    assert read_bytes(path) == content
    reads = len(store.reads("large"))
    assert read_bytes(path) == content and len(store.reads("large")) == reads == 11


def test_arrays_and_tiffs_of_bands_are_read(store, tmp_path):
    import tifffile

    bands = np.random.default_rng(0).integers(0, 256, (12, 14, 5), np.uint8)
    (tmp_path / "bands").mkdir()
    np.save(tmp_path / "bands" / "a.npy", bands)
    tifffile.imwrite(tmp_path / "bands" / "b.tif", bands, photometric="minisblack", planarconfig="contig")
    root = tree_of(store, tmp_path / "bands", "bands")
    for name in ("a.npy", "b.tif"):
        assert np.array_equal(read_image(root / name, channels=5), bands)
        assert ImageFile(root / name, channels=5).size == (12, 14)


def test_what_comes_next_is_fetched_by_threads_before_it_is_read(store, tmp_path):
    for number in range(24):
        picture(tmp_path / "many" / f"{number}.png", number)
    root = tree_of(store, tmp_path / "many", "many")
    samples = [ImageFile(root / f"{number}.png") for number in range(24)]
    store.faults.append(Fault("slow", (".png",), times=24, seconds=0.2))
    for batch in ahead.ahead((samples[first : first + 4] for first in range(0, 24, 4)), list):
        for one in batch:
            one.read()
    assert store.together >= 4  # one after the other: 1
    assert len(store.reads()) == 24  # none twice


def shards(folder: Path, images: int) -> Path:
    """Masks, and two tar shards of some images each."""
    pairs(folder, ["a", "b", "c"])
    for shard in "01":
        for number in range(images):
            picture(folder / "shards" / f"{shard}.tar" / f"{number:02}.png", 100 * int(shard) + number)
        packed(folder / "shards" / f"{shard}.tar")
    return folder


def test_shards_whose_index_is_known_are_not_read_before_they_are_needed(store, tmp_path, monkeypatch):
    monkeypatch.setattr(remote, "BLOCK", 2048)  # of an image, its header and the end
    folder = shards(tmp_path / "data", 5)
    url = store.upload(folder, "shards")
    here, there = (load(spec(place, unlabelled="shards")) for place in (folder, url))
    assert manifest(there)["unlabelled"] == manifest(here)["unlabelled"]
    shutil.rmtree(tmp_path / "cache" / "selftrain" / "store" / "blocks")
    store.requests.clear()
    fresh()
    there = load(spec(url, unlabelled="shards"))
    assert manifest(there)["unlabelled"] == manifest(here)["unlabelled"] and not store.reads()
    assert np.array_equal(there.unlabelled[9].read_image(), here.unlabelled[9].read_image())
    assert len(store.reads("1.tar")) <= 2 and not store.reads("0.tar")


def test_images_of_shards_are_fetched_before_they_are_read(store, tmp_path, monkeypatch):
    url = store.upload(shards(tmp_path / "data", 12), "ahead")
    samples = load(spec(url, unlabelled="shards")).unlabelled
    monkeypatch.setattr(remote, "BLOCK", 1024)  # a header and an image
    store.faults.append(Fault("slow", (".tar",), times=99, seconds=0.2))
    for batch in ahead.ahead((samples[first : first + 4] for first in range(0, 24, 4)), list):
        for one in batch:
            one.read_image()
    assert store.together >= 4


def test_processes_that_begin_at_the_same_time_do_not_disturb_one_another(store, monkeypatch):
    store.put("both/a.bin", b"0123456789")
    own, others = os.replace, [lambda: mirrored(f"s3://{BUCKET}/both")]

    def replace(*paths):
        while others:  # another process writes the same file before ours has its name
            others.pop()()
        own(*paths)

    monkeypatch.setattr(os, "replace", replace)
    root = mirrored(f"s3://{BUCKET}/both")
    assert not others and read_bytes(root / "a.bin") == b"0123456789"


def test_processes_share_the_cache_and_read_after_a_fork(store, tmp_path):
    file = picture(tmp_path / "one" / "a.png", 9)
    root = tree_of(store, tmp_path / "one", "forked")
    for _ in range(2):  # the parent's connection is of no use to a child
        pid = os.fork()
        if not pid:
            os._exit(0 if read_bytes(root / "a.png") == file.read_bytes() else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert read_bytes(root / "a.png") == file.read_bytes()
    assert len(store.reads()) == 1


def test_the_cache_is_bounded_and_keeps_what_was_used_last(tmp_path):
    blocks = Blocks(tmp_path, 1)
    block = bytes(50_000)
    for number in range(40):
        blocks.put(f"{number:02}", block)
        assert blocks.get("00") is not None
    left = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    assert left <= 1.02 * 2**20
    assert "00" in blocks and "39" in blocks and "05" not in blocks


def test_a_damaged_block_is_fetched_again(store, tmp_path):
    file = picture(tmp_path / "one" / "a.png", 9)
    root = tree_of(store, tmp_path / "one", "damaged")
    read_bytes(root / "a.png")
    (block,) = [path for path in (tmp_path / "cache").rglob("blocks/*/*") if path.is_file()]
    block.write_bytes(bytes(block.stat().st_size))  # as after a power cut
    assert read_bytes(root / "a.png") == file.read_bytes()


def test_several_writers_leave_whole_blocks(tmp_path):
    blocks, contents = Blocks(tmp_path, 1), [bytes([number]) * 30_000 for number in range(8)]

    def work(number: int) -> None:
        for _ in range(20):
            blocks.put("same", contents[number])
            found = blocks.get("same")
            assert found is None or found in contents

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert blocks.get("same") in contents
    assert not [path for path in tmp_path.rglob(".same*")]


def test_any_file_system_of_fsspec_is_a_store(store, tmp_path):
    import fsspec

    pairs(tmp_path / "some", ["a", "b", "c", "d"])
    files = fsspec.filesystem("memory")
    files.put(f"{tmp_path / 'some'}/", "/sets/some/", recursive=True)
    here, there = load(spec(tmp_path / "some")), load(spec("memory://sets/some"))
    assert ids(there) == ids(here)
    first = there.labelled[0]
    assert np.array_equal(first.read_image(), here.labelled[0].read_image())
    assert fingerprint(first.image.path).startswith("memory://sets/some/images/")
    files.pipe("/sets/some/images/a.png", b"x")
    files.pipe("/sets/some/images/b.png", b"x")
    with pytest.raises(DataError, match="has changed"):
        [read_image(path) for path in sorted(first.image.path.parent.iterdir()) if path.stem in "ab"]


def test_a_part_that_comes_without_an_error_is_asked_for_again(store, monkeypatch):
    import fsspec

    files = fsspec.filesystem("memory")
    files.pipe("/parts/a.bin", b"0123456789")
    root, whole, parts = mirrored("memory://parts"), files.cat_file, [b"", b"01234"]
    own, _ = remote.filesystem(places.behind(root / "a.bin").store, os.getpid())
    monkeypatch.setattr(own, "cat_file", lambda *given, **how: parts.pop() if parts else whole(*given, **how))
    assert read_bytes(root / "a.bin") == b"0123456789"
    assert not parts


def test_names_that_are_no_files_are_refused(store, tmp_path):
    store.put("odd/a", b"1")
    store.put("odd/a/b.png", b"1")
    with pytest.raises(DataError, match=f"^s3://{BUCKET}/odd/a"):
        mirrored(f"s3://{BUCKET}/odd")
    assert not list((tmp_path / "cache").rglob("*.objects*"))


def test_missing_packages_are_named(store, monkeypatch):
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "s3", raising=False)
    for package in ("s3fs", "fsspec.core"):
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(ConfigError, match=r"pip install 'selftrain\[cloud\]'"):
            mirrored("s3://bucket/x")


def test_init_says_that_it_reads_folders(tmp_path):
    with pytest.raises(DataError, match="is a URL, and selftrain init reads folders"):
        init(Path("s3://bucket/road"), tmp_path / "road.yaml", first=True)
