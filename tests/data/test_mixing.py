import numpy as np
import pytest
import torch

from selftrain.data.examples import Example
from selftrain.data.mixing import MIXES, Mixer, beta, box, drawn, emphasis, in_box, of_classes, share_of
from selftrain.ids import IGNORE
from selftrain.targets import Target, blend


def test_a_box_comes_from_the_partner_in_every_plane_and_the_rest_stays():
    mine, other = (
        Example(
            np.full((6, 8, 3), value, np.uint8),
            Target(
                np.full((6, 8), value, np.uint8),
                np.full((6, 8), value, np.float32),
                np.full((2, 6, 8), value, np.float32),
            ),
            known=False,
        )
        for value in (0, 9)
    )
    share = share_of(
        Mixer("cutmix", 1.0, *vars(MIXES["cutmix"]).values()), np.array([1.0, 3, 2, 6]), other.target.hard
    )
    mixed = mine.blended(other, share)
    planes = (mixed.image[..., 0], mixed.target.hard, mixed.target.weight, *mixed.target.soft)
    assert all(plane.sum() == 9 * 8 and (plane[1:3, 2:6] == 9).all() for plane in planes)
    assert not mine.image.any()


def test_boxes_lie_inside_and_vary():
    areas = []
    for seed in range(200):
        top, bottom, left, right = box(np.random.default_rng(seed), (20, 30))
        assert 0 <= top <= bottom and 0 <= left <= right
        areas.append(in_box(torch.tensor([top, bottom, left, right]), torch.zeros(20, 30)).float().mean())
    assert min(areas) < 0.1 and max(areas) > 0.5


def test_classmix_takes_half_of_the_classes_those_with_the_lowest_numbers():
    hard = torch.tensor([[[0, 1, 2, IGNORE]], [[3, 3, 3, 3]]], dtype=torch.uint8)
    numbers = torch.tensor([0.5, 0.1, 0.2, 0.9])
    assert of_classes(numbers, hard).tolist() == [[[False, True, True, False]], [[True] * 4]]


def test_at_most_one_mixing_acts_as_often_as_its_probability_says():
    chances = {"cutmix": 0.5, "classmix": 0.3}
    mixers = tuple(Mixer(name, p, MIXES[name].draw, MIXES[name].mask) for name, p in chances.items())
    which = [drawn(mixers, np.random.default_rng(seed), (8, 8)).which for seed in range(1000)]
    shares = [which.count(one) / 1000 for one in (0, 1, -1)]
    assert shares == pytest.approx([0.5, 0.3, 0.2], abs=0.05)
    assert drawn((), np.random.default_rng(0), (8, 8)).which == -1


@pytest.mark.parametrize("library", [np.array, torch.tensor])
def test_blending_is_the_same_for_arrays_and_tensors(library):
    ours, theirs = library([0.0, 2.0]), library([4.0, 8.0])
    assert blend(library([True, False]), ours, theirs).tolist() == [4, 2]
    assert blend(library([0.25, 0.5]), ours, theirs).tolist() == [1, 5]


def test_integers_are_rounded_and_keep_their_type():
    ours, theirs = np.array([10, 10], np.uint8), np.array([20, 21], np.uint8)
    mixed = blend(np.array([0.25, 0.5]), ours, theirs)
    assert mixed.dtype == np.uint8 and mixed.tolist() == [12, 16]


def test_mixup_takes_one_share_of_all_pixels_from_a_beta_distribution():
    mixer = Mixer("mixup", 1.0, MIXES["mixup"].draw, MIXES["mixup"].mask)
    assert share_of(mixer, np.array([0.25]), np.zeros((2, 3), np.uint8)).tolist() == [[0.25] * 3] * 2
    for alpha in (0.2, 1.0, 5.0):
        shares = [beta(np.random.default_rng(seed), (2, 3), alpha=alpha)[0] for seed in range(2000)]
        assert np.mean(shares) == pytest.approx(0.5, abs=0.03)
        assert np.var(shares) == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.1)  # of Beta(alpha, alpha)
    assert MIXES["mixup"].soft and not MIXES["cutmix"].soft


def test_both_parts_weigh_as_much_as_their_share_of_the_activation():
    """As rho_a and rho_b of SnapMix: the weights of a part add up to its share of the activation, times the area."""
    rng = torch.Generator().manual_seed(0)
    ours, theirs = torch.rand(6, 8, generator=rng), torch.rand(6, 8, generator=rng)
    share = torch.zeros(6, 8, dtype=torch.bool)
    share[1:4, 2:7] = True
    weights = emphasis(share, ours, theirs)
    assert weights[share].sum() == pytest.approx(48 * (theirs[share].sum() / theirs.sum()).item(), rel=1e-5)
    assert weights[~share].sum() == pytest.approx(48 * (ours[~share].sum() / ours.sum()).item(), rel=1e-5)
    assert len(weights[share].unique()) == len(weights[~share].unique()) == 1
    empty = emphasis(torch.zeros(6, 8, dtype=torch.bool), ours, torch.zeros(6, 8))
    assert torch.allclose(empty, torch.ones(6, 8))


def test_pixels_without_a_label_add_nothing_to_averaged_labels():
    """Weights 1 and 0: the label of the known image, at the weight of its share. Weights 1 and 3: by share and weight."""
    soft = np.eye(2, dtype=np.float32)[:, :, None]
    for weights, expected, weight, hard in (
        ((1.0, 0.0), [1, 0], 0.25, 0),
        ((0.0, 0.5), [0, 1], 0.375, 1),
        ((0.0, 0.0), [1, 0], 0, 0),
        ((3.0, 1.0), [0.5, 0.5], 1.5, 0),
    ):
        ours, theirs = (
            Target(np.full((1, 1), one, np.uint8), np.full((1, 1), of_one, np.float32), soft[one][:, None])
            for one, of_one in enumerate(weights)
        )
        mixed = ours.blended(theirs, np.full((1, 1), 0.75))
        assert mixed.soft.ravel().tolist() == expected and mixed.soft.dtype == np.float32
        assert mixed.weight.item() == weight and mixed.hard.item() == hard


def test_mixed_soft_labels_are_the_mean_and_the_hard_label_is_of_the_larger_part():
    soft = np.eye(2, dtype=np.float32)[:, :, None]
    ours, theirs = (
        Target(np.full((1, 1), one, np.uint8), np.ones((1, 1), np.float32), soft[one][:, None])
        for one in (0, 1)
    )
    mixed = ours.blended(theirs, np.full((1, 1), 0.75))
    assert mixed.soft.ravel().tolist() == [0.25, 0.75] and mixed.hard.item() == 1
