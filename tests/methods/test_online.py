import math
from dataclasses import replace

import pytest
import segmentation_models_pytorch as smp
import torch
from online_views import BOXES, Says, batch, views_of

from methods import method as step
from methods import result_of
from selftrain.data.examples import Batch
from selftrain.data.mixing import MIXES, Mixer
from selftrain.ids import IGNORE
from selftrain.methods.base import Mixture
from selftrain.methods.cps import Pair
from selftrain.models.build import build
from selftrain.targets import Target


def mixed(batch, labelled, mixers=BOXES):
    """The noisy views of a batch, mixed with each other or with `labelled` (L, h, w, 3)."""
    hard = torch.tensor([0, 1])[:, None, None].expand(2, 4, 4)
    known = Target(torch.zeros(labelled.shape[:3], dtype=torch.uint8))
    mixture = Mixture.of(batch.views, Batch(labelled, known), hard, mixers)
    return mixture.mixed(batch.views.images[1:], labelled)


def test_boxes_take_pixels_of_the_next_image():
    seen = mixed(batch(box=(1, 3, 0, 2)), batch().images)
    assert (seen[0, 0, 1:3, :2] == 255).all() and (seen[0, 0] == 255).sum() == 12
    assert (seen[0, 1, 1:3, :2] == 0).all() and (seen[0, 1] == 0).sum() == 12
    assert torch.equal(mixed(batch(), batch().images), batch().views.images[1:])


def test_a_batch_in_which_no_image_drew_a_mixing_is_not_mixed():
    """So no number was drawn either. Small batches of recipe=unimatch_v2, with a probability of 0.5, have this."""
    views = replace(batch().views, numbers=torch.zeros(1, 2, 0, dtype=torch.float64))
    seen = mixed(replace(batch(), views=views), batch().images)
    assert torch.equal(seen, batch().views.images[1:])


def test_classmix_takes_the_pixels_of_half_of_the_partners_classes():
    """The partner of the black image has one class, and one is the half of it, rounded up."""
    mixer = Mixer("classmix", 1.0, MIXES["classmix"].draw, MIXES["classmix"].mask)
    there = batch(box=(0.1, 0.2, 0.3, 0.4))  # the numbers that are drawn for the classes
    seen = mixed(there, batch().images, (mixer,))
    assert (seen[0, 0] == 255).all() and (seen[0, 1] == 0).all()


def test_pasted_boxes_are_of_labelled_images_another_for_each_view():
    there = batch(box=(1, 3, 0, 2), strong=2, pasted=(True, False))
    labelled = torch.arange(10, 14, dtype=torch.uint8)[:, None, None, None].expand(4, 4, 4, 3)
    seen = mixed(there, labelled)
    box = seen[:, :, 1:3, :2]
    assert (box[0, 0] == 10).all() and (box[1, 0] == 12).all() and (box[:, 1] == 0).all()
    assert (seen[:, 0, 0] == 0).all() and (seen[:, 1, 0] == 255).all()


def test_a_pasted_box_is_learnt_by_its_mask_however_unsure_the_average_is():
    there = batch(box=(0, 2, 0, 4), pasted=(True, True))  # half of each image, of class 0
    result = result_of(step("fixmatch", threshold=0.95, mixers=BOXES), Says(0.6), Says(0.9).eval(), there)
    assert result.logs["accepted"].item() == 0  # of the average's own labels
    assert math.isclose(result.logs["pseudo_loss"].item(), -0.5 * math.log(0.6), abs_tol=1e-6)
    there.known.hard[:] = IGNORE
    result = result_of(step("fixmatch", threshold=0.95, mixers=BOXES), Says(0.6), Says(0.9).eval(), there)
    assert result.logs["pseudo_loss"].item() == 0


@pytest.mark.parametrize(("threshold", "share"), [(0.85, 1.0), (0.95, 0.0)])
def test_fixmatch_learns_what_the_average_is_sure_of(threshold, share):
    model = Says(0.6)
    result = result_of(
        step("fixmatch", threshold=threshold, mixers=BOXES), model, Says(0.9).eval(), batch(box=(0, 2, 0, 4))
    )
    assert result.logs["accepted"].item() == share
    assert math.isclose(
        result.logs["pseudo_loss"].item(), -share * math.log(0.6), abs_tol=1e-6
    )  # labels move with the pixels
    assert math.isclose(result.loss.item(), -(1 + share) * math.log(0.6) / 2, abs_tol=1e-6)
    result.loss.backward()
    assert len(model.seen) == 1 and len(model.seen[0]) == 3  # one pass


def test_labelled_pixels_weigh_by_their_class():
    plain = step("fixmatch")
    heavy = step("fixmatch", class_weights=torch.tensor([3.0, 1.0]))
    one, other = (
        result_of(one, Says(0.6), Says(0.9).eval(), batch()).logs["labelled_loss"].item()
        for one in (plain, heavy)
    )
    assert math.isclose(other, 3 * one, rel_tol=1e-6)


def test_an_adaptive_threshold_falls_with_the_mean_confidence_of_a_class():
    """Class 0 at 0.9 and 0.8, class 1 at 0.6 (mean confidences 0.85 and 0.6): 0.85 and 0.6 of the largest mean."""
    confidence, hard = torch.tensor([0.9, 0.8, 0.6, 0.6]), torch.tensor([0, 0, 1, 1])
    fixed = step("fixmatch", threshold=0.95).thresholds(confidence, hard, classes=3)
    assert torch.allclose(fixed, torch.tensor([0.95, 0.95, 0.95]))
    floors = step("fixmatch", threshold=0.95, adaptive=True).thresholds(confidence, hard, classes=3)
    assert torch.allclose(floors, torch.tensor([0.95, 0.95 * 0.6 / 0.85, 0.0]))


class HalfSure(Says):
    """Half as sure of white pixels as of black ones."""

    def forward(self, images):
        logits = super().forward(images)
        return torch.where(images[:, :1] < 128, logits, logits / 2)


@pytest.mark.parametrize(("adaptive", "share"), [(False, 0.5), (True, 1.0)])
def test_an_adaptive_threshold_lets_a_class_in_that_is_less_sure(adaptive, share):
    """Confidences 0.99 and 0.91 (half of the logit); 0.95 times 0.91 / 0.99 is 0.87. Padding counts for nothing."""
    result = result_of(
        step("fixmatch", threshold=0.95, adaptive=adaptive),
        Says(0.6),
        HalfSure(0.99).eval(),
        batch(padding=1),
    )
    assert result.logs["accepted"].item() == share


def test_two_ranks_of_an_online_method_average_to_the_loss_of_the_global_batch():
    """A rank without padding and one with: 32 and 24 pixels of unlabelled images, 16 labelled ones each."""
    parts = [batch(), batch(padding=1)]
    counts = sum(step("fixmatch").counts(part) for part in parts)
    assert counts.tolist() == [32, 56, 56]
    sure = (0.6, 0.8)  # the ranks' pixels cost differently
    found = [
        result_of(step("fixmatch", ranks=2), Says(p), Says(0.99).eval(), part, counts)
        for p, part in zip(sure, parts, strict=True)
    ]
    labelled = -(math.log(0.6) + math.log(0.8)) / 2
    unlabelled = -(32 * math.log(0.6) + 24 * math.log(0.8)) / 56
    assert math.isclose(sum(one.loss.item() for one in found) / 2, (labelled + unlabelled) / 2, rel_tol=1e-5)


def test_padding_counts_for_nothing():
    result = result_of(step("fixmatch"), Says(0.6), Says(0.99).eval(), batch(padding=2))
    assert (
        math.isclose(result.logs["pseudo_loss"].item(), -math.log(0.6), abs_tol=1e-6)
        and result.logs["accepted"].item() == 1
    )


def test_the_mean_teacher_compares_probabilities_and_ramps_up():
    result = result_of(step("mean_teacher"), Says(0.6), Says(0.9).eval(), batch())
    assert math.isclose(result.logs["pseudo_loss"].item(), 0.3**2, abs_tol=1e-6)
    early = result_of(step("mean_teacher", ramp_up=0.5), Says(0.6), Says(0.9).eval(), batch())
    assert math.isclose(early.loss.item(), (-math.log(0.6) + math.exp(-5) * 0.3**2) / 2, abs_tol=1e-6)


def test_each_network_of_cps_learns_the_labels_of_the_other():
    pair = Pair(Says(0.7), Says(0.2))  # the second says the opposite
    result = result_of(step("cps", unlabelled_weight=1.0), pair, pair, batch())
    assert math.isclose(result.logs["pseudo_loss"].item(), -math.log(0.3) - math.log(0.2), abs_tol=1e-5)
    assert math.isclose(result.logs["labelled_loss"].item(), -math.log(0.7) - math.log(0.2), abs_tol=1e-5)
    assert pair.training and pair.eval()(torch.zeros(1, 3, 2, 2)).dim() == 4


def test_unimatch_drops_complementary_channels_and_leaves_labelled_images_alone():
    torch.manual_seed(0)
    network = build("unet", "tu-resnet10t", classes=2, decoder_channels=[16, 16, 8, 8]).train()
    features = []
    network.decoder.register_forward_pre_hook(lambda module, inputs: features.append(inputs[0]))
    plain = []
    network.encoder.register_forward_hook(
        lambda module, inputs, output: plain.append([one.clone() for one in output])
    )
    images = torch.rand(3, 16, 32, 32, 3).mul(255).byte()
    many = Batch(images[0, :1], Target(torch.zeros(1, 32, 32, dtype=torch.uint8)), views=views_of(images))
    averaged = build("unet", "tu-resnet10t", classes=2, decoder_channels=[16, 16, 8, 8]).eval()
    result_of(step("unimatch_v2"), network, averaged, many)
    (seen,), (before,) = features, plain
    for depth in range(1, len(seen)):
        scale = seen[depth].sum(dim=(2, 3)) / before[depth].sum(dim=(2, 3)).clamp_min(1e-9)
        live = before[depth].sum(dim=(2, 3)) > 1e-3
        first, second = scale[1:17], scale[17:]
        both = live[1:17] & live[17:]
        assert torch.allclose(scale[0][live[0]], torch.ones(()), atol=1e-3)
        assert torch.allclose((first + second)[both], torch.tensor(2.0), atol=1e-2)
        kept = ((first - 1).abs() < 1e-2)[both].float().mean()
        assert 0.1 < kept < 0.9  # about half of the images are left alone
    assert not any(
        module._forward_hooks for module in network.encoder.modules() if module is not network.encoder
    )


def of_side(side, unlabelled=3):
    """A labelled image and unlabelled ones in two strong views, all noise."""
    images = torch.rand(3, unlabelled, side, side, 3).mul(255).byte()
    return Batch(images[0, :1], Target(torch.zeros(1, side, side, dtype=torch.uint8)), views=views_of(images))


def ones(module, inputs, output):
    """In place of what an encoder computes: a vision transformer gives maps and tokens, all others maps."""
    if isinstance(output, tuple):
        return [torch.ones_like(feature) for feature in output[0]], output[1]
    return [torch.ones_like(feature) for feature in output]


def scales_of(network, noise):
    """What `noise`, of one labelled and 8 unlabelled images, multiplies the channels of each depth by, (17, C) each.

    The first map is the image, which has no noise, save those of vision transformers.
    """
    after = []
    replaced = network.encoder.register_forward_hook(ones)
    with noise:
        seen = network.encoder.register_forward_hook(lambda module, inputs, output: after.append(output))
        network.encoder(torch.rand(17, 3, 64, 64))
    replaced.remove(), seen.remove()
    (output,) = after
    if not isinstance(output, tuple):
        assert output[0].eq(1).all()
    depths = output[0] if isinstance(output, tuple) else output[1:]
    return [depth.mean(dim=(2, 3)) for depth in depths]


def tiny_of(arch, encoder=None):
    return build(arch, encoder or ("tu-test_vit" if arch == "dpt" else "tu-test_resnet"), classes=2)


@pytest.mark.parametrize("arch", smp.MODEL_ARCHITECTURES_MAPPING)
def test_the_feature_noise_acts_in_every_network_and_a_step_of_unimatch_runs(arch):
    torch.manual_seed(0)
    network, method = tiny_of(arch).train(), step("unimatch_v2", threshold=0.0)
    acting = scales_of(network, method.noise(network, 1, 8))
    assert len(acting) >= 3
    for scale in acting:
        labelled, first, second = scale.split((1, 8, 8))
        assert labelled.eq(1).all() and (first + second).eq(2).all()
        assert (first == 2).any() and (first == 0).any()
    result = result_of(
        method, network, tiny_of(arch).eval(), of_side(128 if arch == "pan" else 64)
    )  # pan pools down to nothing
    result.loss.backward()
    assert math.isfinite(result.loss.item())
    assert not network.encoder._forward_hooks


def test_the_depths_of_a_vision_transformer_share_one_mask_and_those_of_others_have_their_own():
    torch.manual_seed(0)
    vit, cnn = tiny_of("dpt").train(), tiny_of("unet").train()
    of_vit, of_cnn = (scales_of(network, step("unimatch_v2").noise(network, 1, 8)) for network in (vit, cnn))
    assert len(of_vit) == 4 and all(torch.equal(scale, of_vit[0]) for scale in of_vit)
    one, other = [scale for scale in of_cnn if scale.shape == of_cnn[0].shape][:2]
    assert not torch.equal(one, other)


def test_vision_transformers_of_several_widths_have_a_mask_for_each():
    torch.manual_seed(1)
    network = tiny_of("dpt", "tu-pvt_v2_b0")
    found = scales_of(network, step("unimatch_v2").noise(network, 1, 8))
    assert [scale.shape[1] for scale in found] == [32, 64, 160, 256]


def test_tokens_that_a_vision_transformer_puts_before_its_map_have_no_noise():
    network, tokens = tiny_of("dpt").train(), []
    network.encoder.register_forward_hook(lambda module, inputs, output: tokens.append(output[1]))
    images = torch.rand(7, 3, 64, 64)
    network.encoder(images)
    with step("unimatch_v2").noise(network, 1, 3):
        _, noisy = network.encoder(images)
    assert all(torch.equal(one, other) for one, other in zip(tokens[0], noisy, strict=True))
