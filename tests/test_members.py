"""Generations of several networks."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from runs import SMALL, fingerprint
from selftrain.data.dataset import DataSet
from selftrain.data.sample import Sample
from selftrain.errors import ConfigError
from selftrain.inference.exported import load_export
from selftrain.labels.store import LabelStore, ids_digest
from selftrain.material import Material
from selftrain.members import of
from selftrain.models import saved
from selftrain.plan import plans
from selftrain.rundir import RunDir
from selftrain.scores import level
from selftrain.settings import compose
from selftrain.strata import folds

FOLDS = [
    *SMALL,
    "recipe=noisy_student",
    "model.encoder=tu-test_resnet",
    "generations=[{members: {folds: 2}}, {members: {seeds: 2}, init: teacher, online: unimatch_v2}, {init: teacher}]",
    "model.decoder_channels=[32,16,16,8]",
    "labels.tta.scales=[1.0]",
    "labels.refiner=none",
    "select.image_share=0.5",
    "select.reliability=agreement",
    "keep_checkpoints=true",
]


def nothing_read():
    raise AssertionError("masks are read to stratify only")


def planned(*settings):
    return plans(compose(["recipe=noisy_student", *settings]))


@pytest.mark.parametrize("groups", [[""] * 10, list("aabbccddee"), list("aaaaaabcde")])
def test_folds_are_disjoint_even_and_divide_no_group(groups):
    fold_of = folds(groups, 3, ("seed",))
    assert len(fold_of) == 10 and set(fold_of) == {0, 1, 2}
    for group in set(groups) - {""}:
        assert len({fold for fold, of in zip(fold_of, groups, strict=True) if of == group}) == 1
    largest = max(groups.count(group) for group in groups) if groups[0] else 1
    sizes = np.bincount(fold_of)
    assert sizes.max() <= max(largest, 4)
    assert fold_of == folds(groups, 3, ("seed",))
    assert largest > 1 or fold_of != folds(groups, 3, ("other",))


def test_fewer_groups_than_folds_are_refused():
    with pytest.raises(ConfigError, match="form only 2 groups"):
        folds(["a", "a", "b"], 3, ())


def test_each_labelled_image_is_left_out_by_one_fold():
    plan = planned("generations.0.members={folds: 3}")[0]
    left_out = [one.left_out([f"image {i}" for i in range(8)], 0, nothing_read) for one in plan.each]
    assert sorted(i for indices in left_out for i in indices) == list(range(8))


def test_folds_have_like_classes_if_they_are_stratified():
    plan = planned("generations.0.members={folds: 2}", "data.splits.stratify=true")[0]
    content = np.array([[1, 0]] * 6 + [[0.5, 0.5]] * 2)
    for seed in range(8):
        left_out = [
            one.left_out([f"image {i}" for i in range(8)], seed, lambda: content) for one in plan.each
        ]
        assert [len({6, 7} & {*places}) for places in left_out] == [1, 1]
        assert sorted(i for places in left_out for i in places) == list(range(8))


def test_seeds_may_train_on_a_share_of_the_images_at_another_size():
    members = "generations.0.members={seeds: {number: 3, share: 0.5, zooms: [1, 1.5]}}"
    plan = planned(members, "train.crop=[128,128]")[0]
    names = [f"image {i}" for i in range(8)]
    left_out = [one.left_out(names, 0, nothing_read) for one in plan.each]
    assert [len(indices) for indices in left_out] == [4, 4, 4] and left_out[0] != left_out[1]
    assert [one.unnoised.crop for one in plan.each] == [(128, 128), (192, 192), (128, 128)]
    assert plan.each[1].unnoised.scale == pytest.approx((1.125, 2.25))
    assert plan.each[1].augmentation.labelled.crop == (192, 192)
    assert [one.name for one in plan.each] == ["gen0", "gen0.1", "gen0.2"]


def test_without_members_a_generation_is_one_network():
    plan = planned()[0]
    assert plan.each == [plan] and plan.home(RunDir(Path("run"))).checkpoints.parts == (
        "run",
        "gen0",
        "checkpoints",
    )


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"seeds": {"number": 2}, "folds": {"number": 2}}, "takes one of seeds, folds"),
        ({"bags": {"number": 2}}, "there is no 'bags'"),
        ({"seeds": {"number": 2, "zooms": [0]}}, "must be positive"),
    ],
)
def test_other_members_are_refused(given, said):
    with pytest.raises(ConfigError, match=said):
        of(given, "generations.0.members")


def test_a_fraction_of_a_network_is_refused():
    with pytest.raises(ConfigError, match=r"generations\.0\.members"):
        compose(["recipe=noisy_student", "generations.0.members={seeds: 2.5}"])


def test_a_generation_of_several_is_compared_by_the_mean_of_its_networks():
    one = {"miou": 0.5, "miou_without": [0.4, 0.6]}
    two = {"miou": 0.7, "miou_without": [0.6, None]}
    together = {"val": {"miou": 0.8, "miou_without": [0.8, 0.8]}, "members": [{"val": one}, {"val": two}]}
    assert level(together) == {"miou": pytest.approx(0.6), "miou_without": pytest.approx([0.5, 0.3])}
    assert level({"val": one}) is one


@pytest.fixture(scope="module")
def whole(run, tmp_path_factory):
    out = tmp_path_factory.mktemp("members") / "run"
    code, _, err = run(*FOLDS, f"out={out}")
    assert code == 0, err
    return out


def test_several_networks_are_trained_and_teach_and_are_exported_as_one(whole):
    report = json.loads((whole / "report.json").read_text())
    first, second = report["generations"][:2]
    assert [len(row["members"]) for row in (first, second)] == [2, 2]
    assert first["model"]["members"] == [1.0, 1.0] and first["out_of_fold"]["miou"] is not None
    assert second["weights"][0]["source"] == "generation 0"
    best = report["generations"][report["best"]]
    network, card = load_export(whole / "export")
    assert card["model"] == best["model"]
    theirs = saved.read(whole / f"gen{report['best']}" / "model").network
    page = (whole / "report.html").read_text()
    assert (
        "2 × unet" in page
        and f"out of fold, on the labelled images: {first['out_of_fold']['miou']:.4f}" in page
    )
    images = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(network(images), theirs(images))


def test_networks_that_start_alike_learn_from_other_images(whole):
    weights = [
        saved.read(whole / "gen0" / "members" / str(m) / "model").network.state_dict() for m in range(2)
    ]
    assert any(not torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_each_labelled_image_has_a_prediction_of_a_network_that_did_not_train_on_it(whole):
    plan = plans(compose([*FOLDS, f"out={whole}"]))[0]
    labelled = json.loads((whole / "data.json").read_text())["labelled"]
    names = [row["id"] for row in labelled]
    for one in plan.each:
        home, held_out = one.home(RunDir(whole)), one.left_out(names, 0, nothing_read)
        store = LabelStore(home.out_of_fold)
        assert store.index.ids_sha256 == ids_digest([names[i] for i in held_out])
        assert store.index.teacher == saved.read(home.model).digest


def test_a_network_trains_without_the_images_that_are_left_out():
    samples = [Sample(name, None, None) for name in "abcd"]
    data = DataSet(["x", "y"], labelled=samples, unlabelled=[], val=samples, test=[])
    material = Material(None, None, data, None, None, None)
    assert [one.id for one in material.without([0, 2]).data.labelled] == ["b", "d"]
    assert material.without([0]).data.val == samples and material.without([]) is material


def test_class_shares_are_of_known_pixels_of_the_data_sets_own_images():
    masks = {"a": [[0, 1], [1, 255]], "b": [[0, 0], [255, 255]], "c": [[255, 255], [255, 255]]}
    samples = [Sample(name, None, None) for name in masks] + [Sample("d", None, None, extra="other")]
    data = DataSet(["x", "y"], labelled=samples, unlabelled=[], val=[], test=[])
    cache = SimpleNamespace(mask=lambda sample: np.array(masks[sample.id], np.uint8))
    shares = Material(None, None, data, None, cache, None).shares
    assert shares == pytest.approx(np.array([[1 / 3, 2 / 3], [1, 0], [0, 0]]))


def test_it_resumes_from_between_and_within_networks_to_the_same_bits(run, whole, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    (out / "report.json").unlink()
    for generation in ("gen1", "gen2"):
        shutil.rmtree(out / generation, ignore_errors=True)
    (out / "gen0" / "report.json").unlink()
    shutil.rmtree(out / "gen0" / "model")
    second = out / "gen0" / "members" / "1"
    (second / "report.json").unlink()
    shutil.rmtree(second / "checkpoints" / "step-000003")
    code, _, err = run(*FOLDS, f"out={out}")
    assert code == 0, err
    assert fingerprint(out) == fingerprint(whole)


def test_more_folds_than_images_end_before_training(run, tmp_path):
    code, _, err = run(*SMALL, "recipe=supervised", "generations.0.members={folds: 9}", f"out={tmp_path}/run")
    assert code == 2 and "members.folds=9" in err
