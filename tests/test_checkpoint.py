import pytest
import torch

from selftrain import checkpoint
from selftrain.checkpoint import Checkpoint
from selftrain.errors import IntegrityError


def save(directory, step):
    checkpoint.write(directory, Checkpoint({"model": {"w": torch.full((2,), float(step))}}, {"step": step}))


def test_the_newest_two_are_kept_and_the_newest_is_read(tmp_path):
    for step in (3, 6, 9):
        save(tmp_path, step)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000006", "step-000009"]
    found = checkpoint.newest(tmp_path)
    assert found.state["step"] == 9 and torch.equal(found.tensors["model"]["w"], torch.full((2,), 9.0))


def test_the_millionth_step_is_later_than_the_one_before(tmp_path):
    for step in (999_998, 999_999, 1_000_000):
        save(tmp_path, step)
    assert checkpoint.newest(tmp_path).state["step"] == 1_000_000


def test_nothing_saved_is_no_checkpoint(tmp_path):
    assert checkpoint.newest(tmp_path) is None


@pytest.mark.parametrize("damage", ["truncate", "flip", "manifest"])
def test_a_damaged_one_is_set_aside_and_the_one_before_is_used(tmp_path, damage):
    save(tmp_path, 3)
    save(tmp_path, 6)
    newest = tmp_path / "step-000006"
    weights = newest / "model.safetensors"
    content = weights.read_bytes()
    if damage == "truncate":
        weights.write_bytes(content[:-1])
    elif damage == "flip":
        weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    else:
        (newest / "MANIFEST.json").unlink()
    assert checkpoint.newest(tmp_path).state["step"] == 3
    assert (tmp_path / "step-000006.corrupt").is_dir()


def test_only_damaged_ones_are_an_error_now_and_later_and_nothing_is_deleted(tmp_path):
    save(tmp_path, 3)
    (tmp_path / "step-000003" / "state.json").write_text("{}")
    for _ in range(2):
        with pytest.raises(IntegrityError, match="no intact checkpoint"):
            checkpoint.newest(tmp_path)
    assert (tmp_path / "step-000003.corrupt" / "model.safetensors").exists()


@pytest.mark.parametrize("fused", [False, True])
def test_an_optimizer_goes_on_with_the_same_bits_in_any_layout(tmp_path, fused):
    def make():
        torch.manual_seed(0)
        layer = torch.nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
        return layer, torch.optim.AdamW(layer.parameters(), lr=0.1, fused=fused)

    def step(layer, optimizer, seed):
        torch.manual_seed(seed)
        layer(torch.rand(1, 3, 5, 5)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    straight, optimizer = make()
    for seed in range(4):
        step(straight, optimizer, seed)
    layer, optimizer = make()
    for seed in range(2):
        step(layer, optimizer, seed)
    tensors = {"model": layer.state_dict(), "optimizer": checkpoint.optimizer_tensors(optimizer)}
    checkpoint.write(
        tmp_path, Checkpoint(tensors, {"step": 2, "optimizer": checkpoint.optimizer_numbers(optimizer)})
    )
    found = checkpoint.newest(tmp_path)
    layer, optimizer = make()
    layer.load_state_dict(found.tensors["model"])
    checkpoint.load_optimizer(optimizer, found.tensors["optimizer"], found.state["optimizer"])
    for seed in range(2, 4):
        step(layer, optimizer, seed)
    assert torch.equal(layer.weight, straight.weight)
