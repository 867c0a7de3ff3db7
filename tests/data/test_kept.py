"""Images that an earlier run knew keep their split, and new ones are drawn."""

from dataclasses import asdict, dataclass, replace

import numpy as np
import pytest

from selftrain.config import SplitConfig
from selftrain.data.division import Pool, divided
from selftrain.data.kept import kept_of
from selftrain.data.many import Many
from selftrain.data.sample import Sample, Source
from selftrain.data.spec import SplitSpec
from selftrain.errors import DataError
from selftrain.manifests import Long, Rows


@dataclass(frozen=True)
class Fixed(Source):
    content: str

    name = "fixed"

    def read(self):
        return np.zeros((2, 2), np.uint8)

    def fingerprint(self):
        return self.content


def sample(name, mask="mask", id=""):
    return Sample(id or name, Fixed(f"image {name}"), Fixed(f"{mask} {name}") if mask else None, name=name)


MANIFEST = {
    split: [{"id": name, "image": f"image {name}", "mask": f"mask {name}"} for name in names.split()]
    for split, names in {"labelled": "a1 a2", "unlabelled": "spare", "val": "v1", "test": "t1"}.items()
}
MANIFEST["unlabelled"].append({"id": "bare", "image": "image bare", "mask": None})
KNOWN = [sample(name) for name in ("a1", "a2", "spare", "v1", "t1")]


def division(train, unlabelled=(), val=None, copies=(), **settings):
    splits = replace(SplitSpec(**asdict(SplitConfig())), kept=kept_of(MANIFEST), **settings)
    parts = divided(Pool(list(train), list(unlabelled), val, None), 2, splits, copies)
    return [[one.id for one in part] for part in parts]


@pytest.mark.parametrize("seed", range(5))
def test_known_images_keep_their_split_whatever_their_names_and_the_seed(seed):
    renamed = [replace(one, id=f"new/{one.id}") for one in KNOWN]
    labelled, unlabelled, val, test = division(renamed, [sample("bare", mask="")], seed=seed)
    assert (labelled, val, test) == (["new/a1", "new/a2"], ["new/v1"], ["new/t1"])
    assert unlabelled == ["bare", "new/spare"]  # one without a mask, one whose mask was not used


@pytest.mark.parametrize("seed", range(5))
def test_an_unlabelled_image_that_got_a_mask_never_judges(seed):
    labelled, unlabelled, val, test = division(
        [*KNOWN[:2], sample("spare", mask="better"), *KNOWN[3:], sample("bare")], seed=seed
    )
    assert labelled == ["a1", "a2", "bare", "spare"] and unlabelled == []
    assert (val, test) == (["v1"], ["t1"])


def test_of_new_images_made_splits_get_their_whole_shares():
    new = [sample(f"n{i}") for i in range(10)]
    labelled, _, val, test = division([*KNOWN, *new])
    assert [len(part) for part in (labelled, val, test)] == [2 + 6, 1 + 2, 1 + 2]
    labelled, _, val, test = division([*KNOWN, *new[:4]])  # a fifth of four is less than an image
    assert [len(part) for part in (labelled, val, test)] == [2 + 4, 1, 1]
    labelled, _, val, test = division([*KNOWN, *new], val_fraction=0.1, test_fraction=0.0)
    assert [len(part) for part in (labelled, val, test)] == [2 + 9, 1 + 1, 1]


def test_new_images_of_a_group_or_copies_of_an_image_stay_with_it():
    new = [sample(f"{group}{i}") for group in "avt" for i in (7, 8, 9)]
    labelled, _, val, test = division([*KNOWN, *new], group="^(.)")
    assert labelled == ["a1", "a2", "a7", "a8", "a9"]
    assert val == ["v1", "v7", "v8", "v9"] and test == ["t1", "t7", "t8", "t9"]
    labelled, _, val, test = division(
        [*KNOWN, sample("n1"), sample("n2")], copies=[["n1", "v1"], ["n2", "a1"]]
    )
    assert (labelled, val, test) == (["a1", "a2", "n2"], ["n1", "v1"], ["t1"])
    labelled, *_ = division([*KNOWN, *(sample(f"n{i}") for i in range(10))], group="^(.)")
    assert len(labelled) == 12  # one group cannot be divided


def test_new_images_of_a_named_split_belong_to_it_and_known_ones_do_not_move():
    labelled, _, val, _ = division([*KNOWN[1:]], val=[KNOWN[0], sample("n1")])
    assert labelled == ["a1", "a2"] and val == ["n1", "v1"]


def test_the_number_of_labels_is_that_of_new_masks():
    new = [sample(f"n{i}") for i in range(4)]
    labelled, unlabelled, _, _ = division([*KNOWN, *new], labels=3, test_fraction=0.0, val_fraction=0.1)
    assert len(labelled) == 2 + 3 and len(unlabelled) == 1 + 1


def test_a_val_image_that_lost_its_mask_is_told_and_not_learnt_from():
    with pytest.raises(
        DataError, match="1 images that were in val or test have no mask any more, such as v1"
    ):
        division([one for one in KNOWN if one.id != "v1"], [sample("v1", mask="")])
    labelled, unlabelled, _, _ = division(KNOWN[1:], [sample("a1", mask="")])
    assert labelled == ["a2"] and "a1" in unlabelled


def hashed(number):
    return f"{number:064x}"


def test_a_long_list_of_an_earlier_run_tells_the_same():
    entries = [
        {"id": f"{n:03}", "image": hashed(n << 200), "mask": "m" if n == 7 else None} for n in range(1, 51)
    ]
    whole = {
        "labelled": [],
        "unlabelled": entries,
        "val": [{"id": "v", "image": hashed(3), "mask": "m"}],
        "test": [],
    }
    plain = kept_of(whole)
    many = kept_of(
        {**whole, "unlabelled": Long(50, lambda: iter([Rows.of(entries[:20]), Rows.of(entries[20:])]))}
    )
    for image in (*plain, hashed(1 << 100), hashed((1 << 200) * 60), "", "etag 0123456789 12", "s3://b/a 1"):
        assert many.get(image) == plain.get(image) and (image in many) == (image in plain)
    assert set(many.items()) == {(hashed(7 << 200), ("unlabelled", "m")), (hashed(3), ("val", "m"))}


@dataclass(frozen=True)
class Few:
    """Samples without masks, as a part of `Many`."""

    names: tuple[str, ...]

    def __len__(self):
        return len(self.names)

    def ids(self):
        return list(self.names)

    def sample(self, i):
        return sample(self.names[i], mask="")

    def id(self, i):
        return self.names[i]

    def below(self, name):
        return sum(one < name for one in self.names)

    @property
    def hashes(self):
        content = b"".join(bytes.fromhex(hashed(int(name))) for name in self.names)
        return np.frombuffer(content, np.uint8).reshape(-1, 32)


def test_images_of_shards_stay_unlabelled_unless_they_were_in_val():
    train = [sample(f"{number}") for number in range(10, 20)]
    splits = replace(
        SplitSpec(**asdict(SplitConfig())), kept={hashed(1): ("unlabelled", None), hashed(2): ("val", "m")}
    )
    found = divided(Pool(train, Many((Few(("1", "3")),)), None, None), 2, splits, ())
    assert [one.id for one in found[1]] == ["1", "3"] and len(found[0]) == 6
    with pytest.raises(DataError, match="2 was an image of val or test"):
        divided(Pool(train, Many((Few(("1", "2")),)), None, None), 2, splits, ())


def test_an_image_beside_shards_that_was_in_val_and_lost_its_mask_is_told():
    kept = {"image v": ("val", "m"), "image u": ("unlabelled", None)}
    splits = replace(SplitSpec(**asdict(SplitConfig())), kept=kept)
    train = [sample(f"{number}") for number in range(10, 20)]
    shards = Many((Few(("1", "3")),))
    found = divided(Pool(train, shards.joined([sample("u", mask="")]), None, None), 2, splits, ())
    assert [one.id for one in found[1]] == ["1", "3", "u"]
    with pytest.raises(DataError, match="1 images that were in val or test have no mask any more, such as v"):
        divided(Pool(train, shards.joined([sample("v", mask="")]), None, None), 2, splits, ())
