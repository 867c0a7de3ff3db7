"""The trial of every network before the first step."""

import random
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch import nn

from selftrain import trial
from selftrain.anatomy import Anatomy
from selftrain.config import Config, GenerationConfig
from selftrain.data.load import load
from selftrain.data.look import Look
from selftrain.data.sources.shapes import CLASSES, Drawing
from selftrain.datasets import spec_of
from selftrain.errors import ConfigError, ResourceError
from selftrain.models.build import ARCHITECTURES
from selftrain.networks import Networks
from selftrain.plan import plans
from selftrain.rng import untouched

SIZES = {"labelled": Counter(), "unlabelled": Counter(), "val": Counter({(64, 64): 2}), "test": Counter()}


def config(**model):
    cfg = Config(generations=[GenerationConfig()])
    cfg.train.crop = [64, 64]
    cfg.model.encoder = "tu-test_resnet"
    for name, value in model.items():
        setattr(cfg.model, name, value)
    return cfg


def try_all(cfg, sizes=SIZES, built=None):
    """Tries networks by the number of their generation; of all generations where none are given."""
    networks = networks_of(cfg)
    built = built or {plan.number: networks.build(plan) for plan in networks.plans}
    pairs = [(networks.plans[number], network) for number, network in built.items()]
    trial.check(cfg, networks, pairs, sizes, Accelerator(cpu=True))


def networks_of(cfg):
    return Networks(plans(cfg), cfg.model, None, list(CLASSES), torch.device("cpu"))


class Probe(nn.Module):
    """Notes the sizes and the mode that it is asked in; fails as it is told."""

    def __init__(self, fail=None):
        super().__init__()
        self.seen, self.fail, self.layer = [], fail, nn.Conv2d(3, 2, 1)

    def forward(self, images):
        self.seen.append((tuple(images.shape), self.training, torch.is_grad_enabled()))
        if self.fail:
            raise self.fail
        return self.layer(images)


def test_a_step_is_made_at_the_crop_and_a_look_at_each_size():
    sizes = SIZES | {
        "val": Counter({(50, 100): 3}),
        "test": Counter({(64, 128): 1}),
        "unlabelled": Counter({(30, 30): 1}),
    }
    probe, cfg = Probe(), config()
    cfg.generations.append(GenerationConfig())
    cfg.labels.tta.scales = [1.0, 2.0]
    try_all(cfg, sizes, {1: probe})
    assert probe.seen[0] == ((2, 3, 64, 64), True, True)
    assert probe.seen[1:] == [((1, 3, *size), False, False) for size in ((64, 128), (32, 32), (64, 64))]


def test_a_network_with_an_image_head_is_tried_with_both_outputs():
    class TwoHeads(Probe):
        def forward(self, images):
            return super().forward(images), self.image(images)

        def image(self, images):
            return Unlearnable.apply(images.mean(dim=(2, 3)) * self.layer.weight.sum())

    with pytest.raises(ConfigError, match="the image head cannot learn"):
        try_all(config(), built={0: TwoHeads()})


class Unlearnable(torch.autograd.Function):
    """Has a forward pass only."""

    @staticmethod
    def forward(ctx, values):
        return values.clone()

    @staticmethod
    def backward(ctx, gradient):
        raise RuntimeError("the image head cannot learn")


def test_what_is_larger_than_a_window_is_seen_in_windows():
    cfg = config()
    cfg.labels.window = 96
    assert trial.places(SIZES | {"val": Counter({(500, 64): 1})}, cfg, labelling=False) == [
        trial.Place((96, 64), "val and test images")
    ]
    cfg.labels.window = 0
    assert trial.places(SIZES | {"val": Counter({(500, 64): 1})}, cfg, labelling=False) == [
        trial.Place((512, 64), "val and test images")
    ]


def test_val_and_test_images_are_seen_in_the_window_of_predictions():
    cfg = config()
    cfg.predict.window = {"slide": {"side": 64}}
    sizes = SIZES | {"val": Counter({(500, 96): 1}), "unlabelled": Counter({(500, 96): 1})}
    assert trial.places(sizes, cfg, labelling=True) == [
        trial.Place((64, 64), "val and test images"),
        trial.Place((512, 96), "unlabelled images"),
    ]


def test_turned_views_are_tried_where_labels_are_stored():
    cfg = config()
    cfg.labels.tta.rotate90 = True
    sizes = SIZES | {"val": Counter(), "unlabelled": Counter({(32, 64): 1})}
    assert trial.places(sizes, cfg, labelling=False) == []
    assert {place.size for place in trial.places(sizes, cfg, labelling=True)} == {(32, 64), (64, 32)}


@pytest.mark.parametrize(
    ("online", "labelling"), [([""], False), (["", ""], True), (["", "fixmatch"], False)]
)
def test_labels_are_stored_for_students_without_a_method_of_their_own(online, labelling):
    cfg = config()
    cfg.generations = [GenerationConfig(online=name) for name in online]
    assert any(plan.needs_labels for plan in plans(cfg)) == labelling


def test_of_many_sizes_the_extremes_and_the_most_frequent_are_tried():
    many = Counter({(32 * (1 + i % 9), 32 * (1 + i // 9)): 1 for i in range(81)} | {(96, 96): 5})
    found = trial.places(SIZES | {"val": many}, config(), labelling=False)
    assert [place.size for place in found] == [
        (96, 96),
        (32, 32),
        (288, 288),
    ]


@pytest.mark.parametrize(
    ("encoder", "crop", "val", "said"),
    [
        (
            "tu-swin_tiny_patch4_window7_224",
            [64, 64],
            (224, 224),
            r"64x64 \(train.crop\).*224x224: set train.crop=\[224,224\]",
        ),
        (
            "tu-swin_tiny_patch4_window7_224",
            [224, 224],
            (64, 300),
            r"64x320 \(val.*set data.size=\[224,224\]$",
        ),
        (
            "tu-swin_tiny_patch4_window7_224",
            [224, 224],
            (300, 300),
            r"320x320 \(val.*data.size=\[224,224\] or labels.window=224",
        ),
    ],
)
def test_an_encoder_of_one_size_is_told_with_the_setting(encoder, crop, val, said):
    cfg = config(encoder=encoder)
    cfg.train.crop = crop
    with pytest.raises(
        ConfigError, match=rf"generation 0: arch=unet encoder={encoder}: cannot take images of {said}"
    ):
        try_all(cfg, SIZES | {"val": Counter({val: 1})})


@pytest.fixture
def small_pan(monkeypatch):
    """PAN as if it took multiples of 32; its decoder fails below 128."""
    monkeypatch.setitem(ARCHITECTURES, "pan", replace(ARCHITECTURES["pan"], anatomy=Anatomy()))


def test_images_that_are_too_small_for_a_decoder_are_told(small_pan):
    with pytest.raises(
        ConfigError,
        match=r"arch=pan .* cannot take images of 96x128 \(val and test images\): .*too small; set ano",
    ):
        cfg = config(arch="pan")
        cfg.train.crop = [128, 128]
        try_all(cfg, SIZES | {"val": Counter({(90, 128): 1})})


def test_a_later_generation_is_tried_and_named(small_pan):
    cfg = config()
    cfg.generations.append(GenerationConfig(arch="pan"))
    with pytest.raises(ConfigError, match="generation 1: arch=pan"):
        try_all(cfg)


def test_memory_that_does_not_suffice_is_7():
    error = RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes.")
    with pytest.raises(
        ResourceError, match=r"no memory for images of 64x64 \(train.crop\); lower train.crop"
    ):
        try_all(config(), built={0: Probe(error)})


def test_one_image_a_step_is_told_where_batch_norm_needs_two():
    cfg = config(arch="deeplabv3plus")
    cfg.train.labelled_batch = 1
    with pytest.raises(
        ConfigError, match=r"cannot train with one image per step and process .* raise train.labelled_batch"
    ):
        try_all(cfg)
    cfg.train.labelled_batch = 2
    try_all(cfg)


def test_networks_that_are_alike_are_tried_once():
    cfg = config()
    cfg.generations += [GenerationConfig(), GenerationConfig()]
    probes = {number: Probe() for number in range(3)}
    try_all(cfg, built=probes)
    assert [bool(probe.seen) for probe in probes.values()] == [True, False, False]


def test_the_random_state_is_left_as_it_was():
    def states():
        return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()

    before = states()
    cfg = config()
    cfg.generations[0].noise.dropout = cfg.generations[0].noise.drop_path = 0.5
    cfg.model.encoder = "tu-resnet10t"
    networks = networks_of(cfg)
    with untouched():
        built = {0: networks.build(networks.plans[0])}
    try_all(cfg, built=built)
    assert states() == before
    with untouched():
        random.random(), np.random.rand(), torch.rand(1)
    assert states() == before


def test_the_sizes_are_those_of_the_files_or_of_data_size():
    cfg = config()
    looks = [Look(None, "val", (10, 20)), Look(None, "val", (10, 20)), Look(None, "test", None)]
    assert trial.sizes_seen(looks, cfg)["val"] == {(10, 20): 2} and not trial.sizes_seen(looks, cfg)["test"]
    cfg.data.size = [32, 64]
    assert trial.sizes_seen(looks, cfg)["val"] == {(32, 64): 2}
    cfg.data.size = ["longest", 64]
    assert trial.sizes_seen(looks, cfg)["val"] == {(32, 64): 2}
    cfg.data.size = ["shortest", 64]
    assert trial.sizes_seen(looks, cfg)["val"] == {(64, 128): 2}


def test_the_sizes_of_drawn_images_are_known_without_reading(monkeypatch: pytest.MonkeyPatch):
    data = load(spec_of(Config().data))
    height, width = data.val[0].read_image().shape[:2]
    monkeypatch.delattr(Drawing, "read")
    assert set(trial.sizes_sampled(data)["val"]) == {(height, width)}


def test_a_resume_tries_new_generations_only(run, tmp_path):
    """The real thing: a network that fails is refused before the run is settled, and again as a further generation."""
    small = [
        "recipe=smoke",
        "train.threads=1",
        "export.onnx=false",
        "train.steps=3",
        f"out={tmp_path / 'run'}",
    ]
    small += ["model.encoder=tu-test_resnet"]
    code, _, err = run(*small, "generations=[{encoder: tu-swinv2_tiny_window8_256}]")
    assert code == 2 and "cannot take images of 32x32" in err and not (tmp_path / "run").exists()
    assert run(*small, "generations=[{}]")[0] == 0
    code, _, err = run(*small, "generations=[{}, {encoder: tu-swinv2_tiny_window8_256}]")
    assert (
        code == 2
        and "generation 1: arch=unet encoder=tu-swinv2" in err
        and (tmp_path / "run" / "report.json").exists()
    )
