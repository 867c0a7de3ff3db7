"""Micro-batches add up to the batch that they are parts of."""

import json
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accumulating import STEPS, learnt

from harness import of_two
from selftrain.data.batches import places
from selftrain.errors import ConfigError
from selftrain.plan import plans
from selftrain.preflight import check_processes
from selftrain.settings import compose

SCRIPT = Path(__file__).with_name("accumulating.py")


@pytest.fixture(autouse=True)
def a_process_of_its_own():
    """accelerate keeps one state for each process: the precision of tests before this one would round otherwise."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.parametrize("accumulate", [3, 8])
@pytest.mark.parametrize(
    ("method", "losses"),
    [
        ("", {}),
        ("", {"labelled": {"ce": {}, "dice": {}}, "pseudo": {"kl": {}, "ce": {}}}),
        ("mean_teacher", {}),
        ("fixmatch", {"threshold": 0.25}),
    ],
)
def test_micro_batches_learn_what_the_whole_batch_teaches(accumulate, method, losses):
    """8 and 8 images, in 3 unequal parts or one by one; another number of pixels counts in each part."""
    (whole, expected, _), (weights, logs, _) = (
        learnt(count, Accelerator(cpu=True), method, **losses) for count in (1, accumulate)
    )
    assert torch.allclose(weights, whole, rtol=1e-3, atol=1e-6)
    assert logs == pytest.approx(expected, rel=1e-3, abs=1e-6) and logs["accepted"] > 0
    supervised, _, _ = learnt(1, Accelerator(cpu=True), method, **{**losses, "unlabelled_weight": 0.0})
    assert (weights - supervised).abs().max() > 1e-3  # the unlabelled images have a part in it


def test_two_ranks_with_micro_batches_learn_the_same_and_exchange_gradients_once_a_step(zygote):
    ranks = [zygote.start("2", door=str(SCRIPT), **environment) for environment in of_two()]
    first, second = (rank.wait() for rank in ranks)
    assert (first.code, second.code) == (0, 0), first.err + second.err
    said = json.loads(first.out.splitlines()[-1])
    whole, expected, _ = learnt(1, Accelerator(cpu=True))
    assert torch.allclose(torch.tensor(said["weights"]), whole, rtol=1e-3, atol=1e-6)
    assert said["logs"] == pytest.approx(expected, rel=1e-3, abs=1e-6)
    assert said["exchanged"] == STEPS  # a small network: all its gradients travel together


def test_the_parts_of_a_batch_are_disjoint_and_each_has_images_of_both_kinds():
    parts = list(places(4, 6, (4, 8), rank=1, world=2, parts=2))
    assert parts[:2] == [[(4, 1), (4, 5), (4, 9)], [(4, 3), (4, 7), (4, 11)]]
    whole = list(places(4, 6, (4, 8), rank=1, world=2))
    assert [sorted(parts[i] + parts[i + 1]) for i in (0, 2)] == whole


@pytest.mark.parametrize(
    ("recipe", "processes", "accumulate", "sound"),
    [("supervised", 1, 8, True), ("supervised", 1, 9, False), ("supervised", 2, 4, True), ("supervised", 2, 5, False),
     ("mean_teacher", 1, 8, True), ("fixmatch", 1, 4, True), ("fixmatch", 1, 5, False)],
)  # fmt: skip
def test_a_micro_batch_without_an_image_or_without_a_partner_to_mix_is_refused(
    recipe, processes, accumulate, sound
):
    cfg = compose(
        [
            f"recipe={recipe}",
            "train.labelled_batch=8",
            "train.unlabelled_batch=8",
            f"train.accumulate={accumulate}",
        ]
    )
    if sound:
        return check_processes(cfg, plans(cfg), processes)
    with pytest.raises(ConfigError, match=rf"train\.accumulate={accumulate} leaves a micro-batch without"):
        check_processes(cfg, plans(cfg), processes)


@pytest.mark.parametrize(("own", "sound"), [(8, True), (4, False)])
def test_the_partner_to_mix_is_looked_for_among_the_images_of_the_generation_itself(own, sound):
    """Both have an image for each of four micro-batches."""
    words = ["train.labelled_batch=8", "train.unlabelled_batch=16", "train.accumulate=4"]
    cfg = compose(["recipe=fixmatch", *words, f"generations.0.unlabelled_batch={own}"])
    if sound:
        return check_processes(cfg, plans(cfg), 1)
    with pytest.raises(ConfigError, match="without a second one to mix"):
        check_processes(cfg, plans(cfg), 1)
