"""Where the first weights of a run come from: told, kept, and refused where they do not fit."""

import json
from pathlib import Path

import pytest
import torch
from tiny_network import ENCODER, TINY, save

from selftrain.config import Config, ModelConfig
from selftrain.files import read_yaml
from selftrain.models.build import build
from selftrain.models.weights import encoder_names
from selftrain.networks import Networks
from selftrain.plan import plans
from selftrain.rundir import RunDir

SMALL = (
    "recipe=smoke", "train.threads=1", "export.onnx=false", "train.steps=2", "train.statistics=1", "model.encoder=tu-test_resnet",
    "data.shapes={labelled:4,unlabelled:4,val:2,test:2}",
)  # fmt: skip


@pytest.fixture(scope="module")
def encoder_only(tmp_path_factory):
    """The encoder of a network for SMALL."""
    network = build("unet", "tu-test_resnet", classes=6, decoder_channels=[32, 16, 16, 8])
    return save(tmp_path_factory.mktemp("weights") / "theirs.safetensors", network.encoder.model.state_dict())


def test_a_run_says_where_its_weights_come_from_and_keeps_that(run, tmp_path, encoder_only):
    """timm trained this encoder with a mean and a standard deviation of 0.5."""
    out, generations = tmp_path / "run", "generations=[{},{init: teacher}]"
    code, said, err = run(*SMALL, generations, f"model.weights={encoder_only}", f"out={out}")
    assert code == 0, err
    of = len(encoder_names(build("unet", "tu-test_resnet", **TINY)))
    counted = f"{of} of {of} encoder tensors from theirs.safetensors"
    assert (
        said.count(f"gen0: {counted}; decoder from random weights\n") == 1 and "gen1: " + counted not in said
    )
    assert said.count("data.mean=[0.5, 0.5, 0.5], as the encoder was pretrained") == 1
    settled = read_yaml(out / "config.yaml")
    assert settled["data"]["mean"] == settled["data"]["std"] == [0.5] * 3
    first, second = (json.loads((out / f"gen{k}" / "report.json").read_text())["weights"] for k in range(2))
    assert [(row["source"], row["encoder"], row["decoder"]) for row in first] == [
        ("theirs.safetensors", of, 0)
    ]
    assert [(row["source"], row["encoder"], row["decoder"] == row["of_decoder"]) for row in second] == [
        ("generation 0", of, True)
    ]
    page = (out / "report.html").read_text()
    assert f"generation 0: {counted}; generation 1: {of} of {of} encoder tensors and" in page


@pytest.mark.slow
def test_random_weights_and_fitting_pixel_scales_are_no_matter_and_others_are_named(
    run, tmp_path, encoder_only
):
    given, fits = f"model.weights={encoder_only}", ("data.mean=[0.5,0.5,0.5]", "data.std=[0.5,0.5,0.5]")
    other = (given, "data.mean=[0.1,0.2,0.3]")
    for name, settings in (("random", ()), ("scaled", (given, *fits)), ("other", other)):
        code, said, err = run(*SMALL, *settings, "generations=[{}]", f"out={tmp_path / name}")
        assert code == 0 and said.count("warning: tu-test_resnet was pretrained") == (name == "other"), err
        assert ("encoder tensors" in said) == (name != "random")
        assert name != "other" or "data.mean=[0.5,0.5,0.5] data.std=[0.5,0.5,0.5]" in said
    assert read_yaml(tmp_path / "random" / "config.yaml")["data"]["mean"] == [0.485, 0.456, 0.406]


def test_a_generation_may_begin_with_weights_of_its_own(run, tmp_path, encoder_only):
    rows = f"generations=[{{}},{{weights: random}},{{weights: {encoder_only}}}]"
    code, _, err = run(*SMALL, rows, f"model.weights={encoder_only}", f"out={tmp_path / 'run'}")
    assert code == 0, err
    reports = [json.loads((tmp_path / "run" / f"gen{k}" / "report.json").read_text()) for k in range(3)]
    assert [[row["source"] for row in report["weights"]] for report in reports] == [
        ["theirs.safetensors"],
        [],
        ["theirs.safetensors"],
    ]
    page = (tmp_path / "run" / "report.html").read_text()
    assert "generation 1: random" in page


def test_weights_that_a_later_generations_encoder_cannot_take_name_its_setting(run, tmp_path, encoder_only):
    settings = ("generations=[{},{encoder: tu-resnet10t}]", f"model.weights={encoder_only}")
    code, _, err = run(*SMALL, *settings, f"out={tmp_path / 'run'}")
    last = err.splitlines()[-1]
    assert code == 2 and "Traceback" not in err
    assert (
        "generation 1 (arch=unet encoder=tu-resnet10t)" in last
        and "generations.1.encoder=tu-test_resnet" in last
    )
    code, said, err = run(*SMALL, *settings, "model.partial_weights=true", f"out={tmp_path / 'run'}")
    assert code == 0 and "gen1: 0 of 55 encoder tensors from theirs.safetensors" in said, err


@pytest.mark.slow
def test_a_run_with_a_vision_transformer_learns_online_from_small_crops(run, tmp_path):
    vit = ("model.arch=dpt", "model.encoder=tu-test_vit", "model.decoder_channels=[]")
    generations = (
        "generations=[{},{init: teacher, online: unimatch_v2, noise: {cutmix: 1.0, drop_path: 0.1}}]"
    )
    code, _, err = run(*SMALL, *vit, generations, f"out={tmp_path / 'run'}")
    assert code == 0, err


def test_a_vision_transformer_of_one_size_is_refused_for_others_before_the_run(run, tmp_path):
    fixed = ("model.arch=dpt", "model.encoder=tu-test_vit_relpos", "model.decoder_channels=[]")
    code, _, err = run(*SMALL, *fixed, "generations=[{}]", f"out={tmp_path / 'fixed'}")
    assert (
        code == 2
        and "cannot take images of 32x32" in err.splitlines()[-1]
        and not (tmp_path / "fixed" / "gen0").exists()
    )


def test_weights_from_a_hub_are_reported_by_their_name_there(monkeypatch):
    """Without a hub: the network is real, its weights are random."""

    def fetched(*names, imagenet, **settings):
        assert imagenet
        return build(*names, **settings)

    monkeypatch.setattr("selftrain.networks.build", fetched)
    cfg = Config(model=ModelConfig(encoder=ENCODER, weights="imagenet"))
    (plan,) = plans(cfg)
    begun = Networks([plan], cfg.model, RunDir(Path("nowhere")), ["a", "b"], torch.device("cpu")).begin(
        plan, None
    )
    assert begun.lines == [
        "gen0: 70 of 70 encoder tensors from timm/resnet10t.c3_in1k; decoder from random weights"
    ]
