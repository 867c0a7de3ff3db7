"""data.reviewed: how a review enters the training of the next generation."""

import json
from pathlib import Path

import numpy as np
import pytest

from runs import SMOKE, fingerprint
from selftrain import preflight, verdicts
from selftrain.data.dataset import DataSet
from selftrain.data.labels import MaskLabels
from selftrain.data.load import load
from selftrain.data.reviewed import check, corrected, reviewed_id, with_review
from selftrain.data.sample import Sample, Source
from selftrain.datasets import spec_of
from selftrain.errors import ConfigError, DataError
from selftrain.review.store import Change, Store
from selftrain.rundir import RunDir
from selftrain.settings import compose
from selftrain.targets import Target

CLASSES, SIDE = ["ground", "thing", "other"], 4


class Plain(Source):
    """A grey picture."""

    name = "plain"

    def read(self):
        return np.zeros((SIDE, SIDE, 3), np.uint8)

    def fingerprint(self):
        return None


def sample(name):
    return Sample(name, Plain(), None)


def planes(ids, known):
    return np.full((SIDE, SIDE), ids, np.uint8), np.tile(np.array(known, bool), (SIDE, 1))


LEFT = planes(2, [1, 1, 0, 0])  # the left half is painted


@pytest.fixture
def reviewed(tmp_path):
    """A review of the images accepted, partial, rejected, open and left, of which nothing was decided."""
    store = Store(tmp_path / "review", CLASSES, ["accepted", "partial", "rejected", "open"], "teacher")
    store.save(Change("accepted", 0, "accept", "a", planes(1, [1, 1, 1, 1])))
    store.save(Change("partial", 0, "correct", "b", LEFT))
    store.save(Change("rejected", 0, "reject", "c"))
    store.save(Change("open", 0, "correct", "d", LEFT))
    store.save(Change("open", 1, "open", "e"))  # undone
    return verdicts.read(tmp_path / "review"), tmp_path / "review" / verdicts.MASKS


def data(**more):
    names = ["accepted", "partial", "rejected", "open", "left"]
    splits = {"labelled": [sample("own")], "unlabelled": list(map(sample, names)), "val": [], "test": []}
    return DataSet(CLASSES, **{**splits, **more})


def test_accepted_and_corrected_images_are_labelled_and_rejected_ones_are_gone(reviewed):
    found = with_review(data(), *reviewed)
    assert [reviewed_id(one) for one in found.labelled] == ["own", "accepted", "partial"]
    assert [one.id for one in found.unlabelled] == ["partial", "open", "left"]
    whole, part = (one.read_mask() for one in found.labelled[1:])
    assert (whole == 1).all()
    assert part.tolist() == [[2, 2, 255, 255]] * SIDE
    assert all(one.extra for one in found.labelled[1:])  # in no fold, and in no statistics of the data set


def test_a_painted_pixel_is_known_and_the_rest_stays_a_pseudo_label(reviewed):
    class Guessed(MaskLabels):
        def target(self, i, index):
            hard, weight = np.zeros(index.shape, np.uint8), np.full(index.shape, 0.3, np.float32)
            return Target(hard, weight, np.full((3, *index.shape), 1 / 3, np.float32))

    labels = corrected(Guessed(data().unlabelled, lambda one: None), *reviewed, len(CLASSES))
    assert [one.id for one in labels.samples] == ["partial", "open", "left"]
    seen = labels.target(0, np.array([[1, 2, -1]]))  # painted, not painted, outside of the image
    assert seen.hard.tolist() == [[2, 0, 0]] and np.allclose(seen.weight, [[1, 0.3, 0.3]])
    assert seen.soft[:, 0, 0].tolist() == [0, 0, 1] and np.allclose(seen.soft[:, 0, 1], 1 / 3)
    assert labels.target(1, np.array([[1]])).hard.tolist() == [[0]]
    nothing = corrected(Guessed([sample("rejected")], lambda one: None), *reviewed, len(CLASSES))
    assert nothing is None


def test_reviews_of_val_test_and_other_data_are_refused(reviewed):
    review = reviewed[0]
    check(review, data(), "data.reviewed=x")
    for wrong, said in [
        (data(val=[sample("accepted")]), "accepted, an image of val"),
        (data(test=[sample("rejected")]), "rejected, an image of test"),
        (data(unlabelled=[]), "no image of the data set"),
        (DataSet(["a"], [], [], [], []), "classes"),
    ]:
        with pytest.raises(DataError, match=said):
            check(review, wrong, "data.reviewed=x")


def a_review(folder: Path) -> list[str]:
    """A review of SMOKE's drawn images: one accepted, one corrected in part, one rejected; returns their ids."""
    found, side = load(spec_of(compose(SMOKE).data)), (32, 32)
    names = [one.id for one in found.unlabelled]
    store = Store(folder, found.classes, names, "teacher")
    ids, known = np.zeros(side, np.uint8), np.zeros(side, bool)
    known[:9] = True
    store.save(Change(names[0], 0, "accept", "a", (ids, np.ones(side, bool))))
    store.save(Change(names[1], 0, "correct", "b", (ids, known)))
    store.save(Change(names[2], 0, "reject", "c"))
    return names


SHORT = [*SMOKE, "train.steps=4", "train.checkpoint_every=1", "keep_checkpoints=true"]


def test_a_run_trains_on_a_review_and_says_so(run, tmp_path):
    out = tmp_path / "run"
    a_review(tmp_path / "review")
    small = [*SMOKE, "train.steps=2", "generations=[{}]", f"out={out}"]
    code, said, err = run(*small, f"data.reviewed={tmp_path / 'review'}")
    assert code == 0, err
    assert "1 accepted images, 1 corrected ones (1 in part), 1 rejected ones" in said
    used = json.loads((out / "gen0/report.json").read_text())["reviewed"]
    counts = {"accept": 1, "correct": 1, "partial": 1, "reject": 1}
    assert used == {"sha256": verdicts.kept(out / "gen0/reviewed").sha256, **counts}


@pytest.mark.slow
def test_the_next_generation_keeps_the_review_that_it_began_with(zygote, run, tmp_path):
    out, plain = tmp_path / "run", tmp_path / "plain"
    assert run(*SHORT, f"out={out}", "generations=[{}]")[0] == 0
    names = a_review(out / "review")
    second = [*SHORT, f"out={out}", "generations=[{},{}]"]
    commit = ["rename", "gen1/checkpoints/step-000002"]
    fault = {"do": "kill", "at": commit, "when": "after"}
    killed = zygote.run(*second, f"data.reviewed={out / 'review'}", fault=fault)
    assert killed.code == -9, killed.err
    assert "1 accepted images, 1 corrected ones (1 in part), 1 rejected ones" in killed.out
    before = verdicts.read(out / "review").sha256
    Store(out / "review", verdicts.classes_of(out / "review"), names, "t").save(
        Change(names[3], 0, "reject", "d")
    )
    assert verdicts.read(out / "review").sha256 != before
    code, _, err = run(*second)  # without the setting: the generation has begun
    assert code == 0, err
    used = json.loads((out / "gen1/report.json").read_text())["reviewed"]
    assert used == {"sha256": before, "accept": 1, "correct": 1, "partial": 1, "reject": 1}
    # the same review in a run that nothing interrupts
    assert run(*SHORT, f"out={plain}", "generations=[{}]")[0] == 0
    a_review(plain / "review")
    assert run(*SHORT, f"out={plain}", "generations=[{},{}]", f"data.reviewed={plain / 'review'}")[0] == 0
    assert fingerprint(plain) == fingerprint(out)
    # a new run of the same data begins with the masks; a run that began without them says so
    new = tmp_path / "new"
    assert run(*SHORT, f"out={new}", "generations=[{}]", f"data.reviewed={out / 'review'}")[0] == 0
    assert json.loads((new / "gen0/report.json").read_text())["reviewed"]["reject"] == 2


@pytest.mark.slow
def test_online_methods_and_distilled_labels_train_on_a_review(run, tmp_path):
    out = tmp_path / "run"
    assert run(*SHORT, f"out={out}", "generations=[{}]")[0] == 0
    a_review(out / "review")
    reviewed = f"data.reviewed={out / 'review'}"
    for more in (["generations=[{online: fixmatch}]"], ["generations=[{},{}]", "loss.distill={kl: {weight: 1}}"],
                 ["generations=[{members: {seeds: 2}},{members: {folds: 2}}]"], ["generations=[{},{}]", "data.tile=[32,32]"]):  # fmt: skip
        new = tmp_path / f"new{len(list(tmp_path.iterdir()))}"
        code, _, err = run(*SHORT, f"out={new}", *more, reviewed)
        assert code == 0, (more, err)
        assert json.loads((new / "gen0/report.json").read_text())["reviewed"]["partial"] == 1


@pytest.mark.parametrize(
    ("review", "more", "error", "said"),
    [
        (None, [], ConfigError, "no review is there; selftrain review RUN writes RUN/review"),
        (["a", "b"], [], DataError, "reviews the classes a, b, but the data set has background"),
        (
            ["a", "b"],
            ["loss.image={bce: 1}"],
            ConfigError,
            "loss.image trains on the classes that an image lacks",
        ),
    ],
)
def test_wrong_reviews_are_refused_before_a_run_begins(tmp_path, review, more, error, said):
    if review:
        Store(tmp_path / "review", review, [], "teacher")
    cfg = compose([*SHORT, f"data.reviewed={tmp_path / 'review'}", *more])
    with pytest.raises(error, match=said):
        preflight.check_review(RunDir(tmp_path / "run"), cfg, load(spec_of(cfg.data)))
