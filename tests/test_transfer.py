"""Weights of an earlier run, and features of a frozen encoder that are kept."""

import hashlib
import json
import shutil

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file

from runs import SMALL, fingerprint
from selftrain.base import begun_from
from selftrain.config import TrainConfig
from selftrain.data.examples import Batch
from selftrain.errors import ConfigError
from selftrain.methods.base import StepResult
from selftrain.models.build import build
from selftrain.models.weights import decoder_names, encoder_names, load_whole
from selftrain.optim.features import Features, check_called, remember
from selftrain.preflight.settings import check
from selftrain.settings import compose
from selftrain.stages.train import Learner
from selftrain.targets import Target

OWN = [
    *SMALL, "recipe=supervised", "model.encoder=tu-resnet10t", "model.decoder_channels=[8,8]",
    "labels.refiner=none", "train.eval_every=0", "train.statistics=0",
]  # fmt: skip
STILL = [
    "train.freeze=always", "train.scale=[1,1]", "train.flip=false", "train.jitter=0",
]  # fmt: skip


@pytest.fixture(scope="module")
def earlier(run, tmp_path_factory):
    out = tmp_path_factory.mktemp("transfer") / "run"
    code, _, err = run(*OWN, "generations.0.members={epochs: {number: 2, last: 1}}", f"out={out}")
    assert code == 0, err
    return out


def test_a_teacher_begins_with_the_leader_of_an_earlier_run(run, earlier, tmp_path):
    moved = shutil.copytree(earlier, tmp_path / "earlier")
    begins = ["train.lr=0", "train.average=none", f"model.weights=run:{moved}"]
    code, _, err = run(*OWN, *begins, "seed=5", f"out={tmp_path / 'run'}")
    assert code == 0, err
    theirs = moved / "gen0" / "model" / "model.safetensors"
    ours = load_file(tmp_path / "run" / "gen0" / "model" / "model.safetensors")
    first = {name.removeprefix("members.0."): value for name, value in load_file(theirs).items() if name.startswith("members.0.")}  # fmt: skip
    assert ours.keys() == first.keys()
    assert all(torch.equal(ours[name], first[name]) for name in ours if "running" not in name and "num_" not in name)  # fmt: skip
    recorded = json.loads((tmp_path / "run" / "weights.json").read_text())
    assert recorded == {"model.weights": hashlib.sha256(theirs.read_bytes()).hexdigest()}
    taken = json.loads((tmp_path / "run" / "gen0" / "report.json").read_text())["weights"][0]
    assert taken["source"] == "gen0 of earlier"
    assert taken["encoder"] == taken["of_encoder"] and taken["decoder"] == taken["of_decoder"]
    # the same command goes on, also after the earlier run was moved, but not with other weights
    other = shutil.move(moved, tmp_path / "moved")
    begins[-1] = f"model.weights=run:{other}"
    assert run(*OWN, *begins, "seed=5", f"out={tmp_path / 'run'}")[0] == 0
    begins[-1] = f"model.weights=run:{shutil.copytree(tmp_path / 'run', tmp_path / 'other')}"
    code, _, err = run(*OWN, *begins, "seed=5", f"out={tmp_path / 'run'}")
    assert code == 2 and "was started with other settings (model.weights" in err


def test_a_network_of_another_shape_is_refused_before_the_run(run, earlier, tmp_path):
    words = [f"model.weights=run:{earlier}", "model.decoder_channels=[16,8]", f"out={tmp_path / 'run'}"]
    code, _, err = run(*OWN, *words)
    assert code == 2 and "gen0 of run is arch=unet encoder=tu-resnet10t" in err
    assert "decoder.blocks.0.conv1.0.weight (8x" in err and "generations.0.weights=random" in err
    assert not (tmp_path / "run").exists()
    with pytest.raises(ConfigError, match="is not a run directory"):
        begun_from(f"run:{tmp_path}")


def test_other_classes_keep_a_random_head_with_partial_weights():
    theirs = build("unet", "tu-resnet10t", classes=5, decoder_channels=[8, 8]).state_dict()
    own = build("unet", "tu-resnet10t", classes=3, decoder_channels=[8, 8])
    words = {"whose": "generation 0", "source": "model.weights=run:x: gen0 of x", "remedy": "another"}
    with pytest.raises(ConfigError, match=r"segmentation_head.0.weight \(5x8x3x3, here 3x8x3x3\)"):
        load_whole(own, theirs, partial=False, **words)
    found = load_whole(own, theirs, partial=True, **words)
    lacking = {*encoder_names(own), *decoder_names(own)} - found
    assert lacking == {"segmentation_head.0.weight", "segmentation_head.0.bias"}
    with pytest.raises(ConfigError, match="of another shape"):
        load_whole(own, {"x": torch.zeros(1)}, partial=True, **words)


def test_kept_features_are_looked_up_by_the_pixels_of_an_image():
    calls = []

    def forward(images):
        calls.append(len(images))
        return [images, (images * 2, None)]

    features, images = (
        Features(forward, 2**20),
        torch.randn(4, 3, 8, 8).contiguous(memory_format=torch.channels_last),
    )
    features(images[:2]), features(images[2:])
    again, (twice, nothing) = features(images[[1, 3]])
    assert (
        calls == [2, 2]
        and torch.equal(again, images[[1, 3]])
        and torch.equal(twice, 2 * again)
        and nothing is None
    )
    assert again.is_contiguous(memory_format=torch.channels_last)
    features(images[:2] + 1e-6)
    assert calls == [2, 2, 2] and features.hits == 1


def test_features_take_no_more_memory_than_they_may(capsys):
    features, images = Features(lambda images: images, 5 * 3 * 8 * 8 * 4), torch.randn(8, 3, 8, 8)
    for _ in range(2):
        features(images)
    assert len(features.kept) == 5 and features.hits == 0
    assert capsys.readouterr().out.count("is full after 5 images") == 1


def test_an_encoder_that_is_not_called_as_a_whole_is_refused():
    network = build("segnet", "tu-vgg16_bn", classes=2, decoder_channels=[])
    with pytest.raises(ConfigError, match="SegNet uses parts of its encoder"):
        check_called(network, lambda: None)
    assert len(remember(build("unet", "tu-resnet10t", classes=2), 1)) == 1


class Step:
    """A step function whose loss is the mean square of the logits."""

    def counts(self, batch):
        return torch.zeros(0)

    def loss(self, model, averaged, batch, counts):
        images = batch.images.permute(0, 3, 1, 2).float() / 255
        return StepResult(model(images).square().mean(), {})


def test_steps_on_kept_features_have_the_bits_of_steps_that_compute_them():
    images, weights, hits = torch.randint(0, 256, (6, 32, 32, 3), dtype=torch.uint8), [], []
    for megabytes in (0, 100):
        torch.manual_seed(0)
        network = build("unet", "tu-resnet10t", classes=2, decoder_channels=[8, 8])
        cfg = TrainConfig(freeze="always", feature_mb=megabytes, ema=0.5)
        learner = Learner(network, cfg, Accelerator(cpu=True), steps=9)
        for t, order in enumerate([[0, 1, 2], [3, 4, 5], [5, 0, 3], [1, 4, 2]]):
            learner.step(t, 0.1, Step(), [Batch(images[order], Target(images[order][..., 0]))])
        weights.append([*network.parameters(), *learner.averaged().parameters()])
        hits.append([one.hits for one in learner.features])
    assert all(torch.equal(*pair) for pair in zip(*weights, strict=True)) and hits == [[], [2]]


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["supervised", "pseudo_label"])
def test_a_run_that_keeps_features_has_the_same_bits(run, tmp_path, recipe):
    found = []
    for megabytes in (0, 100):
        out = tmp_path / str(megabytes)
        noise = ["generations.1.noise={}", "train.steps=4"] if recipe == "pseudo_label" else ["train.steps=4"]
        own = [f"recipe={recipe}" if one.startswith("recipe=") else one for one in OWN]
        settings = [*own, *STILL, *noise, f"train.feature_mb={megabytes}", f"out={out}"]
        code, _, err = run(*settings)
        assert code == 0, err
        found.append(fingerprint(out))
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (STILL[1:], "set train.freeze=always$"),
        ([one for one in STILL if "flip" not in one], "set train.flip=false$"),
        ([*STILL, "data.size=[64,64]"], r"set data.size=\[32,32\], the size of train.crop$"),
        ([*STILL, "generations.0.noise.labelled=true", "generations.0.noise.rand_n=1"], "0.noise without"),
        ([*STILL, "generations.0.noise.colours={blur: 0.5}"], "0.noise without"),
        ([*STILL, "generations.0.members={seeds: {number: 2, zooms: [1, 2]}}"], "0.members without zooms$"),
    ],
)
def test_features_are_not_kept_where_images_change(settings, said):
    with pytest.raises(ConfigError, match=said):
        check(compose([*OWN, *settings, "train.feature_mb=10", "data=shapes", "out=x"]))
    check(compose([*OWN, *STILL, "train.feature_mb=10", "data=shapes", "out=x"]))


def test_a_slim_dpt_can_have_a_narrower_decoder():
    whole, half = (
        build({"slim_dpt": {"width": width}}, "tu-test_vit", classes=3).eval() for width in (1.0, 0.5)
    )

    def count(network):
        return sum(len(one.flatten()) for one in network.decoder.parameters())

    assert 0.2 < count(half) / count(whole) < 0.5
    assert half(torch.rand(1, 3, 32, 64)).shape == (1, 3, 32, 64)
