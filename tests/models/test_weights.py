"""Weights load whole or are refused, and say what they are of."""

import dataclasses
import json
import re

import huggingface_hub.constants
import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from tiny_network import ENCODER, TINY, bring_in, load, same_encoders, save, tiny, without_counters

from selftrain.config import Config, ModelConfig
from selftrain.errors import ConfigError, IntegrityError
from selftrain.models.build import build
from selftrain.models.encoders import pretrained
from selftrain.models.weights import Taken, check_weights, decoder_names, encoder_names
from selftrain.settings.changes import differences


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


def test_permission_for_partial_weights_may_be_given_to_a_run_that_began_without():
    whole, lenient = Config(), Config(model=ModelConfig(partial_weights=True))
    old = dataclasses.asdict(whole)
    del old["model"]["partial_weights"]
    assert not differences(old, dataclasses.asdict(lenient))
    assert differences(old, dataclasses.asdict(Config(model=ModelConfig(weights="w.safetensors"))))
