"""Weights load whole or are refused, and say what they are of; files of other programs are read without running code."""

import argparse
import dataclasses
import json
import os
import pickle
import re
from pathlib import Path

import huggingface_hub.constants
import numpy as np
import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from safetensors.torch import save_file

from selftrain.config import Config, ModelConfig
from selftrain.errors import ConfigError, IntegrityError
from selftrain.files import read_yaml
from selftrain.models.build import build
from selftrain.models.encoders import pretrained
from selftrain.models.foreign import import_weights
from selftrain.models.weights import Taken, check_weights, decoder_names, encoder_names, load_weights
from selftrain.networks import Networks
from selftrain.plan import plans
from selftrain.rundir import RunDir
from selftrain.settings.changes import differences

TINY = {"classes": 3, "decoder_channels": [32, 16, 16, 8]}
ENCODER = "tu-resnet10t"


def tiny():
    return build("unet", ENCODER, **TINY)


def save(path, tensors):
    save_file({name: value.contiguous().clone() for name, value in tensors.items()}, path)
    return path


def load(network, path, **settings):
    return load_weights(
        network, path, whose="generation 3 (encoder=x)", remedy="generations.3.encoder=y", **settings
    )


def bring_in(source, target, network, encoder=ENCODER):
    return import_weights(source, target, network, arch="unet", encoder=encoder)


def same_encoders(one, other):
    theirs = other.state_dict()
    return all(torch.equal(one.state_dict()[name], theirs[name]) for name in encoder_names(one))


def without_counters(tensors):
    return {name: value for name, value in tensors.items() if not name.endswith("num_batches_tracked")}


@pytest.mark.parametrize("part", ["whole", "encoder", "timm's encoder", "no counters"])
def test_a_file_of_the_whole_network_or_of_its_encoder_is_loaded(tmp_path, part):
    source, network = tiny(), tiny()
    tensors = {
        "whole": source.state_dict(),
        "encoder": {
            name: value for name, value in source.state_dict().items() if name.startswith("encoder.")
        },
        "timm's encoder": source.encoder.model.state_dict(),
        "no counters": without_counters(source.state_dict()),
    }[part]
    names = load(network, save(tmp_path / "w.safetensors", tensors))
    assert same_encoders(network, source)
    taken = Taken.of(network, names, "w.safetensors")
    assert taken.encoder == taken.of_encoder == len(encoder_names(network))
    assert taken.decoder == (0 if "encoder" in part else len(decoder_names(network)))


def test_what_was_loaded_is_counted_without_the_counters_of_batch_norm():
    network = torch.nn.ModuleDict({"encoder": torch.nn.BatchNorm2d(2), "decoder": torch.nn.Conv2d(2, 2, 1)})
    every = Taken.of(network, network.state_dict(), "a file")
    assert (every.encoder, every.of_encoder, every.decoder, every.of_decoder) == (4, 4, 2, 2)
    assert str(every) == "4 of 4 encoder tensors from a file; decoder: 2 of 2"
    some = Taken.of(network, {"encoder.weight", "encoder.num_batches_tracked"}, "a file")
    assert str(some) == "1 of 4 encoder tensors from a file; decoder from random weights"


def test_the_classifier_that_a_vision_transformer_keeps_is_not_asked_for(tmp_path):
    network = build("dpt", "tu-test_vit", classes=3)
    own = network.encoder.model.state_dict()
    tensors = {name: torch.ones_like(value) for name, value in own.items() if not name.startswith("head.")}
    load(network, save(tmp_path / "w.safetensors", tensors))
    assert network.encoder.model.blocks[0].attn.qkv.weight.eq(1).all() and "head.weight" in own


@pytest.mark.parametrize("prefix", ["model.", "net.", "_orig_mod.", "module.", "module.model._orig_mod."])
@pytest.mark.parametrize("part", ["whole", "encoder"])
def test_prefixes_of_other_programs_are_left_out(tmp_path, prefix, part):
    source = tiny()
    tensors = source.state_dict() if part == "whole" else source.encoder.state_dict()
    tensors = {prefix + name: value for name, value in tensors.items()}
    plain, brought = tiny(), tiny()
    load(plain, save(tmp_path / "a.safetensors", tensors))
    torch.save(tensors, tmp_path / "b.pth")
    bring_in(tmp_path / "b.pth", tmp_path / "b.safetensors", brought)
    load(brought, tmp_path / "b.safetensors")
    assert same_encoders(plain, source) and same_encoders(brought, source)


def test_timms_own_names_of_stages_are_those_of_a_network_of_features(tmp_path):
    """timm calls a tensor stages.0.x in a classifier and stages_0.x in a network of features."""
    classifier, network = timm.create_model("test_convnext"), build("fpn", "tu-test_convnext", classes=2)
    names = load(network, save(tmp_path / "w.safetensors", classifier.state_dict()))
    assert set(encoder_names(network)) <= names
    assert torch.equal(network.encoder.model.stem_0.weight, classifier.stem[0].weight)


def test_weights_of_another_encoder_are_refused_with_names_of_both_sides(tmp_path):
    """smp's own resnet18: its decoder fits that of timm's resnet18, its encoder has other names."""
    theirs, network = (
        smp.Unet("resnet18", encoder_weights=None, classes=3),
        build("unet", "tu-resnet18", classes=3),
    )
    before = {name: value.clone() for name, value in network.state_dict().items()}
    path = save(tmp_path / "w.safetensors", theirs.state_dict())
    with pytest.raises(ConfigError) as refused:
        load(network, path)
    said = str(refused.value)
    assert f"0 of {len(encoder_names(network))} encoder tensors fit generation 3 (encoder=x)" in said
    assert "the network has encoder.model.conv1.weight (64x3x7x7)" in said
    assert re.search(r"the file has encoder\.(?!model)\S+ \(", said)  # not what fits, nor what is no weight
    assert all(
        word in said for word in ("w.safetensors", "generations.3.encoder=y", "model.partial_weights=true")
    )
    assert "\n" not in said
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_weights_on_rgb_are_adapted_to_other_channels_as_timm_does(tmp_path, channels):
    rgb, other = tiny(), build("unet", ENCODER, **TINY, channels=channels)
    taken = load(other, save(tmp_path / "w.safetensors", rgb.state_dict()))
    assert taken >= set(encoder_names(other))
    name = next(
        name for name, tensor in rgb.state_dict().items() if tensor.dim() == 4 and tensor.shape[1] == 3
    )
    colours, own = rgb.state_dict()[name], other.state_dict()[name]
    wanted = colours.sum(dim=1, keepdim=True) if channels == 1 else colours[:, torch.arange(channels) % 3]
    torch.testing.assert_close(own, wanted * (1 if channels == 1 else 3 / channels))


def test_weights_on_other_channels_are_not_adapted(tmp_path):
    five = build("unet", ENCODER, **TINY, channels=5)
    with pytest.raises(ConfigError, match="encoder tensors fit"):
        load(tiny(), save(tmp_path / "w.safetensors", five.state_dict()))


def test_a_part_of_an_encoder_is_loaded_only_if_that_is_asked_for(tmp_path):
    source, network = tiny(), tiny()
    tensors = source.state_dict()
    left_out = encoder_names(source)[-1]
    tensors["encoder.model.conv1.0.weight"] = torch.zeros(1, 3, 3, 3)  # of another shape
    path = save(
        tmp_path / "w.safetensors", {name: value for name, value in tensors.items() if name != left_out}
    )
    of = len(encoder_names(network))
    with pytest.raises(ConfigError, match=f"{of - 2} of {of} encoder tensors fit") as refused:
        load(network, path)
    assert "encoder.model.conv1.0.weight (24x3x3x3)" in str(refused.value) and left_out in str(refused.value)
    names = load(network, path, partial=True)
    assert Taken.of(network, names, "").encoder == of - 2
    kept = "encoder.model.layer1.0.conv1.weight"
    assert torch.equal(network.state_dict()[kept], source.state_dict()[kept])


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / "torn.safetensors").write_bytes(b"no header")
    with pytest.raises(IntegrityError, match="torn"):
        load(tiny(), tmp_path / "torn.safetensors", partial=True)


@pytest.mark.parametrize("name", ["weights.pth", "w.ckpt", "my weights.pt", "w.bin"])
def test_a_pickle_as_weights_leads_to_the_command_that_converts_it(tmp_path, name):
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(ConfigError) as refused:
        check_weights(str(tmp_path / name), arch="fpn", encoder="tu-resnet18")
    quote = "'" if " " in name else ""
    source, target = (tmp_path / name, (tmp_path / name).with_suffix(".safetensors"))
    command = f"{quote}{source}{quote} -o {quote}{target}{quote} --arch fpn --encoder tu-resnet18"
    assert str(refused.value).endswith(f"selftrain import-weights {command}")


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match="no such file"):
        check_weights(str(tmp_path / "w.safetensors"), arch="unet", encoder=ENCODER)


def test_foreign_weights_are_imported_by_name_and_shape(tmp_path):
    network, target = tiny(), tmp_path / "w.safetensors"
    state = {f"module.{name}": tensor for name, tensor in network.state_dict().items()}
    state["module.segmentation_head.0.weight"] = torch.zeros(7, 7)  # another number of classes
    torch.save({"epoch": 3, "state_dict": state, "optimizer": {"state": {}}}, tmp_path / "theirs.pth")
    imported = bring_in(tmp_path / "theirs.pth", target, network)
    assert not imported.by_order and imported.missing == {"segmentation_head": 1}
    again = tiny()
    assert load(again, target) == network.state_dict().keys() - {"segmentation_head.0.weight"}
    assert same_encoders(again, network)


@pytest.mark.parametrize("keys", [("model",), ("whatever",), ("a", "b")])
def test_weights_are_found_below_any_key(tmp_path, keys):
    network, content = tiny(), tiny().state_dict()
    for key in keys:
        content = {key: content, "optimizer": {"state": {0: {"exp_avg": torch.zeros(2)}}}}
    torch.save(content, tmp_path / "theirs.pth")
    assert bring_in(tmp_path / "theirs.pth", tmp_path / "w.safetensors", network).taken.encoder == len(
        encoder_names(network)
    )


@pytest.mark.parametrize("known", ["network", "encoder", "timm's classifier"])
def test_renamed_tensors_are_matched_by_order_and_shape(tmp_path, known):
    source, network = tiny(), tiny()
    classifier = timm.create_model(ENCODER.removeprefix("tu-"))
    tensors = {"network": source, "encoder": source.encoder, "timm's classifier": classifier}[
        known
    ].state_dict()
    renamed = {f"theirs_{i}": value for i, value in enumerate(without_counters(tensors).values())}
    torch.save(renamed, tmp_path / "theirs.pth")
    imported = bring_in(tmp_path / "theirs.pth", tmp_path / "w.safetensors", network)
    of = len(encoder_names(network))
    assert imported.by_order and imported.taken.encoder == of
    assert imported.taken.decoder == (len(decoder_names(network)) if known == "network" else 0)
    assert f"{of} of {of} encoder tensors" in imported.lines()[0] and "order and shape" in imported.lines()[0]
    load(network, tmp_path / "w.safetensors")
    expected = (
        tensors["conv1.0.weight"]
        if known == "timm's classifier"
        else source.state_dict()["encoder.model.conv1.0.weight"]
    )
    assert torch.equal(network.encoder.model.conv1[0].weight, expected)
    assert known == "timm's classifier" or same_encoders(network, source)


@pytest.mark.parametrize(
    ("ends", "doubt"),
    [
        ((), ""),
        (("bn1.weight", "bn1.bias"), "theirs_bn1.bias would become encoder.model.bn1.weight"),
        (("running_mean", "running_var"), "running_var would become"),
        (("blocks.2.norm1.weight", "blocks.10.norm1.weight"), "is numbered neither upwards nor downwards"),
    ],
)
def test_an_order_that_names_speak_against_is_refused(tmp_path, ends, doubt):
    """The kinds of tensors in batch norm, and the blocks of a vision transformer, have the same shapes."""
    encoder = "tu-vit_tiny_patch16_224" if "blocks" in doubt + "".join(ends) else ENCODER
    network = build("dpt", encoder, classes=3) if encoder != ENCODER else tiny()
    own = without_counters(network.encoder.model.state_dict())
    names = list(own)
    if ends:
        first, second = (next(i for i, name in enumerate(names) if name.endswith(end)) for end in ends)
        names[first], names[second] = names[second], names[first]
    torch.save({f"theirs_{name}": own[name] for name in names}, tmp_path / "theirs.pth")
    if not doubt:
        assert bring_in(tmp_path / "theirs.pth", tmp_path / "w.safetensors", network, encoder).by_order
        return
    with pytest.raises(ConfigError) as refused:
        bring_in(tmp_path / "theirs.pth", tmp_path / "w.safetensors", network, encoder)
    assert "its names fit nothing, its shapes fit in their order, but" in str(refused.value)
    assert doubt in str(refused.value) and not (tmp_path / "w.safetensors").exists()


@pytest.mark.parametrize("spoilt", ["one shape", "one too many", "a name that fits elsewhere"])
def test_order_counts_only_where_every_shape_agrees_and_no_name_speaks_against_it(tmp_path, spoilt):
    network = tiny()
    tensors = without_counters(network.encoder.model.state_dict())
    renamed = {f"theirs_{i}": value for i, value in enumerate(tensors.values())}
    if spoilt == "one shape":
        renamed["theirs_3"] = torch.zeros(5)
    if spoilt == "one too many":
        renamed["theirs_x"] = torch.zeros(5)
    if spoilt == "a name that fits elsewhere":
        place = list(tensors).index("layer1.0.bn1.weight")
        renamed = {
            "layer1.0.bn1.bias" if i == place else name: value
            for i, (name, value) in enumerate(renamed.items())
        }
    torch.save(renamed, tmp_path / "theirs.pth")
    if spoilt == "a name that fits elsewhere":
        imported = bring_in(tmp_path / "theirs.pth", tmp_path / "w.safetensors", network)
        assert not imported.by_order and imported.taken.encoder == 1
        assert "model.partial_weights=true" in imported.lines()[-1]
    else:
        with pytest.raises(
            ConfigError, match=r"0 of \d+ encoder tensors fit.*theirs_0.*encoder\.model\.conv1"
        ):
            bring_in(tmp_path / "theirs.pth", tmp_path / "w.safetensors", network)
        assert not (tmp_path / "w.safetensors").exists()


def test_a_file_for_another_encoder_is_not_imported_though_its_decoder_fits(tmp_path):
    torch.save(smp.Unet("resnet18", encoder_weights=None, classes=3).state_dict(), tmp_path / "theirs.pth")
    network = build("unet", "tu-resnet34", classes=3)
    with pytest.raises(ConfigError, match=r"0 of \d+ encoder tensors fit arch=unet encoder=tu-resnet34"):
        bring_in(tmp_path / "theirs.pth", tmp_path / "w.safetensors", network, "tu-resnet34")


@pytest.mark.parametrize(
    ("beside", "named"),
    [(np.float64(0.7), "numpy._core.multiarray.scalar"), (argparse.Namespace(lr=1), "argparse.Namespace")],
)
def test_what_a_foreign_file_holds_beside_weights_is_named_in_one_plain_line(tmp_path, beside, named):
    torch.save({"model": tiny().state_dict(), "beside": beside}, tmp_path / "theirs.pth")
    with pytest.raises(IntegrityError) as refused:
        bring_in(tmp_path / "theirs.pth", tmp_path / "w.safetensors", tiny())
    said = str(refused.value)
    assert named in said and "save the state_dict alone" in said and "theirs.pth" in said
    assert said.isprintable()  # neither escape codes nor a second line


def test_a_foreign_file_that_holds_code_is_refused_and_not_run(tmp_path):
    class Canary:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "canary"),)

    network, target = tiny(), tmp_path / "w.safetensors"
    torch.save({"state_dict": Canary()}, tmp_path / "evil.pth")
    (tmp_path / "torn.pth").write_bytes(b"PK\x03\x04 torn")
    (tmp_path / "old.pth").write_bytes(pickle.dumps(Canary()))
    torch.save({"unknown": torch.zeros(1)}, tmp_path / "other.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    errors = dict.fromkeys(("evil", "torn", "old"), IntegrityError) | dict.fromkeys(
        ("other", "list"), ConfigError
    )
    for name, error in errors.items():
        with pytest.raises(error, match=name) as refused:
            bring_in(tmp_path / f"{name}.pth", target, network)
        assert str(refused.value).isprintable()
    assert not target.exists() and not (tmp_path / "canary").exists()


@pytest.mark.parametrize(
    ("encoder", "source", "mean", "std"),
    [
        ("tu-resnet18", "timm/resnet18.a1_in1k", [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ("tu-tf_efficientnet_lite0", "timm/tf_efficientnet_lite0.in1k", [0.5] * 3, [0.5] * 3),
        ("tu-mobilevitv2_050", "timm/mobilevitv2_050.cvnets_in1k", [0.0] * 3, [1.0] * 3),
    ],
)
def test_timm_knows_what_an_encoder_was_pretrained_with(encoder, source, mean, std):
    known = pretrained(encoder)
    assert (known.source, known.mean, known.std) == (source, mean, std)
    assert known.fits(mean, std) and not known.fits([0.3] * 3, std) and not known.fits(mean, [0.3] * 3)


@pytest.mark.parametrize(
    "encoder", ["nonsense", "tu-nonsense", "tu-resnet18.no_such_tag", "resnext101_32x4d"]
)
def test_an_encoder_without_imagenet_weights_has_no_pixel_scale(encoder):
    assert pretrained(encoder) is None


def test_the_pixel_scale_of_smps_own_encoder_is_read_where_fetching_its_weights_left_it(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    known = pretrained("inceptionv4")
    assert known.source == "smp-hub/inceptionv4.imagenet" and known.fits(
        [0.1] * 3, [0.2] * 3
    )  # not known, so not judged
    revision = smp.encoders.encoders["inceptionv4"]["pretrained_settings"]["imagenet"]["revision"]
    kept = tmp_path / "models--smp-hub--inceptionv4.imagenet" / "snapshots" / revision
    kept.mkdir(parents=True)
    (kept / "config.json").write_text(json.dumps({"mean": [0.5] * 3, "std": [0.25] * 3}))
    known = pretrained("inceptionv4")
    assert (known.mean, known.std) == ([0.5] * 3, [0.25] * 3) and not known.fits([0.1] * 3, [0.2] * 3)


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


def test_permission_for_partial_weights_may_be_given_to_a_run_that_began_without():
    whole, lenient = Config(), Config(model=ModelConfig(partial_weights=True))
    old = dataclasses.asdict(whole)
    del old["model"]["partial_weights"]
    assert not differences(old, dataclasses.asdict(lenient))
    assert differences(old, dataclasses.asdict(Config(model=ModelConfig(weights="w.safetensors"))))


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
