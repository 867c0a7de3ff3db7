import os
import pickle
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import save_file

from selftrain.errors import ConfigError, IntegrityError
from selftrain.models.build import build, parameters
from selftrain.models.weights import grown, import_weights, load_weights

TINY = {"classes": 3, "decoder_channels": [32, 16, 16, 8]}


def test_logits_have_the_images_size():
    network = build("unet", "tu-resnet10t", **TINY).eval()
    assert network(torch.zeros(2, 3, 32, 64)).shape == (2, 3, 32, 64)


def test_students_grow():
    small, large = (build("unet", encoder, **TINY) for encoder in ("tu-resnet10t", "tu-resnet18"))
    assert parameters(small) < parameters(large)


@pytest.mark.parametrize(("teacher", "student"), [("tu-resnet10t", "tu-resnet18d"), ("tu-resnet18", "tu-resnet34")])
def test_a_deeper_student_says_what_its_teacher_says(teacher, student):
    """The first pair is that of recipe=noisy_student: its stems differ in width."""
    small, large = (build("unet", encoder, **TINY) for encoder in (teacher, student))
    images = torch.randn(4, 3, 64, 64)
    small.train()(images)  # statistics of batch norm that are not the first ones
    found = grown(large, small.state_dict())
    assert len(found) == len(small.state_dict())
    large.load_state_dict(found, strict=False)
    small.eval(), large.eval()
    assert torch.allclose(small(images), large(images), atol=1e-4)


def test_what_is_narrower_or_of_another_kernel_is_not_taken():
    wide, narrow = (torch.nn.Conv2d(inputs, 4, size) for inputs, size in ((3, 3), (2, 3)))
    assert set(grown(narrow, wide.state_dict())) == {"bias"}
    assert set(grown(torch.nn.Conv2d(3, 4, 5), wide.state_dict())) == {"bias"}


def test_dropout_acts_in_training_only_and_names_no_parameter():
    plain, noisy = build("unet", "tu-resnet10t", **TINY), build("unet", "tu-resnet10t", dropout=0.5, **TINY)
    noisy.load_state_dict(plain.state_dict())
    image = torch.rand(2, 3, 32, 32)
    assert torch.equal(plain.eval()(image), noisy.eval()(image))
    noisy.train()
    for module in noisy.modules():  # statistics of the batch aside, dropout alone makes two passes differ
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    assert not torch.equal(noisy(image), noisy(image))


def test_stochastic_depth_reaches_the_encoder():
    network = build("unet", "tu-resnet10t", drop_path=0.2, **TINY)
    rates = [module.drop_prob for module in network.modules() if type(module).__name__ == "DropPath"]
    assert rates == sorted(rates) and rates[-1] > 0.1  # grows with the depth (Huang et al. 2016)


@pytest.mark.parametrize("encoder", ["resnet18", "tu-vgg11"])
def test_an_encoder_without_stochastic_depth_is_refused(encoder):
    with pytest.raises(ConfigError, match="drop_path"):
        build("unet", encoder, classes=2, drop_path=0.1)


@pytest.mark.parametrize(("arch", "encoder"), [("unett", "tu-resnet10t"), ("unet", "tu-resnet1000"), ("unet", "nonsense")])
def test_unknown_names_are_a_config_error(arch, encoder):
    with pytest.raises(ConfigError, match="cannot build"):
        build(arch, encoder, classes=2)


def test_a_local_file_is_loaded_into_encoder_and_whole(tmp_path):
    source = build("unet", "tu-resnet10t", **TINY)
    whole, encoder = tmp_path / "whole.safetensors", tmp_path / "encoder.safetensors"
    save_file({name: value.clone() for name, value in source.state_dict().items()}, whole)
    save_file({name: value.clone() for name, value in source.encoder.model.state_dict().items()}, encoder)
    for path in (whole, encoder):
        network = build("unet", "tu-resnet10t", weights=str(path), **TINY)
        pairs = zip(network.encoder.state_dict().values(), source.encoder.state_dict().values(), strict=True)
        assert all(torch.equal(ours, theirs) for ours, theirs in pairs)


def test_foreign_files_are_refused_by_name(tmp_path):
    network = build("unet", "tu-resnet10t", **TINY)
    pth, torn, other = tmp_path / "w.pth", tmp_path / "torn.safetensors", tmp_path / "other.safetensors"
    torch.save({}, pth)
    torn.write_bytes(b"no header")
    save_file({"unknown": torch.zeros(1)}, other)
    for path, error, said in (
        (pth, ConfigError, "pickle"),
        (torn, IntegrityError, "torn"),
        (other, ConfigError, "no tensor fits"),
    ):
        with pytest.raises(error, match=said):
            load_weights(network, path)


def test_foreign_weights_are_imported_by_name_and_shape_on_request_only(tmp_path):
    network, target = build("unet", "tu-resnet10t", **TINY), tmp_path / "w.safetensors"
    state = {f"module.{name}": tensor for name, tensor in network.state_dict().items()}
    state["module.segmentation_head.0.weight"] = torch.zeros(7, 7)  # another number of classes
    torch.save({"epoch": 3, "state_dict": state, "optimizer": {"state": {}}}, tmp_path / "theirs.pth")
    count, missing = import_weights(tmp_path / "theirs.pth", target, network)
    assert count == len(state) - 1 and missing == ["segmentation_head.0.weight"]
    again = build("unet", "tu-resnet10t", weights=str(target), **TINY)
    assert torch.equal(again.encoder.model.conv1[0].weight, network.encoder.model.conv1[0].weight)


def test_a_foreign_file_that_holds_code_is_refused_and_not_run(tmp_path):
    class Canary:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "canary"),)

    network, target = build("unet", "tu-resnet10t", **TINY), tmp_path / "w.safetensors"
    torch.save({"state_dict": Canary()}, tmp_path / "evil.pth")
    (tmp_path / "torn.pth").write_bytes(b"PK\x03\x04 torn")
    (tmp_path / "old.pth").write_bytes(pickle.dumps(Canary()))
    torch.save({"unknown": torch.zeros(1)}, tmp_path / "other.pth")
    for name, error in (("evil", IntegrityError), ("torn", IntegrityError), ("old", IntegrityError), ("other", ConfigError)):
        with pytest.raises(error, match=name):
            import_weights(tmp_path / f"{name}.pth", target, network)
    assert not target.exists() and not (tmp_path / "canary").exists()


def test_imagenet_without_a_network_fails_at_once_with_the_way_out(tmp_path):
    """The hub's name resolves to nothing here or is unreachable; where it can be reached there is nothing to see."""
    import socket

    try:
        socket.create_connection(("huggingface.co", 443), timeout=2).close()
        pytest.skip("the hub is reachable")
    except OSError:
        pass
    began = time.monotonic()
    command = [sys.executable, "-m", "selftrain.run", "recipe=smoke", "model.weights=imagenet", f"out={tmp_path / 'run'}"]
    done = subprocess.run(command, capture_output=True, text=True, env={"HF_HOME": str(tmp_path), "PATH": "/usr/bin:/bin"})
    assert done.returncode == 2 and "model.weights=null" in done.stderr.splitlines()[-1], done.stderr
    assert time.monotonic() - began < 60 and not (tmp_path / "run").exists()
