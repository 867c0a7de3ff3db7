"""Files of other programs are read by name, shape and order, without running code."""

import argparse
import os
import pickle

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from tiny_network import ENCODER, bring_in, load, same_encoders, tiny, without_counters

from selftrain.errors import ConfigError, IntegrityError
from selftrain.models.build import build
from selftrain.models.weights import decoder_names, encoder_names


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
