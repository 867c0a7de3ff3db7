"""An export is read back: its card, its network, and how the network is asked."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from exports import with_card

from selftrain.errors import ConfigError, IntegrityError
from selftrain.files import commit_directory
from selftrain.inference.asking import Asked
from selftrain.inference.decide import DECISIONS
from selftrain.inference.exported import Input, Origin, Output, card, load_export, predictor_of
from selftrain.labels.crf import CRF, marginals
from selftrain.models.build import build
from selftrain.models.saved import describe, weights_of

torch.set_num_threads(1)
NAMES = {"arch": "unet", "encoder": "tu-resnet10t", "decoder_channels": [32, 16, 16, 8]}


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    network = build("unet", "tu-resnet10t", classes=3, decoder_channels=[32, 16, 16, 8])
    written = card(
        Origin("smoke", "shapes", generation=2, seed=7, metrics={"val": None}),
        Input(mean=[0.4, 0.5, 0.6], std=[0.2, 0.25, 0.3], size=[], multiple=32, levels=(0, 4095)),
        Output(["sky", "road", "tree"], {"values": [0, 1, 2]}, Asked(64)),
        model=describe(network, **NAMES),
    )
    files = {**weights_of(network), "card.json": json.dumps(written).encode()}
    commit_directory(tmp_path / "export", files)
    return tmp_path / "export"


def test_a_card_has_all_that_a_reader_needs(plain: Path) -> None:
    _, found = load_export(plain)
    assert found["input"].items() >= {"size": None, "multiple": 32, "window": 64, "range": [0, 4095]}.items()
    assert (found["format"], found["ignore_index"], found["generation"]) == (1, 255, 2)
    assert found["model"]["decoder_channels"] == [32, 16, 16, 8] and found["classes"] == [
        "sky",
        "road",
        "tree",
    ]


def test_the_predictor_of_an_export_follows_its_card(plain: Path) -> None:
    network, found = load_export(plain)
    asked = predictor_of(network, found)
    flipped = predictor_of(network, {**found, "views": {"product": {"hflip": True}}}, batch=3)
    assert (asked.side, asked.multiple, asked.batch, flipped.batch) == (64, 32, 8, 3)
    image = np.random.default_rng(0).integers(0, 256, (1, 32, 64, 3), np.uint8)
    pixels = torch.from_numpy(image).permute(0, 3, 1, 2) / 255 - torch.tensor([0.4, 0.5, 0.6]).view(
        1, 3, 1, 1
    )
    pixels = pixels / torch.tensor([0.2, 0.25, 0.3]).view(1, 3, 1, 1)
    with torch.inference_mode():
        straight, mirrored = network(pixels).softmax(dim=1), network(pixels.flip(3)).softmax(dim=1).flip(3)
    torch.testing.assert_close(asked.probabilities(image), straight, atol=1e-5, rtol=0)
    torch.testing.assert_close(flipped.probabilities(image), (straight + mirrored) / 2, atol=1e-5, rtol=0)


def test_a_card_may_name_another_window_and_decision(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(DECISIONS, "last", lambda probs: torch.full_like(probs[:, 0], 2).to(torch.uint8))

    def change(found: dict) -> None:
        found["decision"] = "last"
        found["input"]["window"] = {"slide": {"side": 96, "overlap": 0.5}}

    asked = predictor_of(*load_export(with_card(plain, tmp_path / "other", change)))
    assert asked.side == 96 and asked.window.settings["overlap"] == 0.5
    assert (asked.labels(np.zeros((1, 32, 32, 3), np.uint8)) == 2).all()


def test_a_decision_that_nobody_knows_is_refused(plain: Path, tmp_path: Path) -> None:
    other = with_card(plain, tmp_path / "other", lambda found: found.update(decision="median"))
    with pytest.raises(ConfigError, match="there is no 'median'"):
        predictor_of(*load_export(other))


@pytest.mark.parametrize("name", ["model.safetensors", "card.json"])
def test_a_damaged_export_is_refused(plain: Path, name: str) -> None:
    content = bytearray((plain / name).read_bytes())
    content[len(content) // 2] ^= 1
    (plain / name).write_bytes(content)
    with pytest.raises(IntegrityError, match=f"{name} is damaged"):
        load_export(plain)


def test_an_incomplete_export_is_refused(plain: Path) -> None:
    (plain / "model.safetensors").unlink()
    with pytest.raises(IntegrityError, match=r"model\.safetensors"):
        load_export(plain)


def test_a_card_of_another_network_is_refused(plain: Path, tmp_path: Path) -> None:
    other = with_card(
        plain, tmp_path / "other", lambda found: found["model"].update(decoder_channels=[16, 16, 16, 8])
    )
    with pytest.raises(IntegrityError, match=r"does not contain the network of card\.json"):
        load_export(other)


def test_a_later_format_is_refused_with_the_way_out(plain: Path, tmp_path: Path) -> None:
    later = with_card(plain, tmp_path / "later", lambda found: found.update(format=2, selftrain="9.0"))
    with pytest.raises(ConfigError, match="update selftrain"):
        load_export(later)


def test_a_path_that_is_not_an_export_is_refused_with_the_way_out(plain: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not a directory; give a run or an export"):
        load_export(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match=r"not an export: .*; give a run or an export"):
        load_export(tmp_path)
    commit_directory(tmp_path / "model", {"model.safetensors": (plain / "model.safetensors").read_bytes()})
    with pytest.raises(ConfigError, match=r"not an export: .*; give a run or an export"):
        load_export(tmp_path / "model")


def test_an_export_that_lost_its_manifest_is_refused_as_incomplete(plain: Path) -> None:
    (plain / "MANIFEST.json").unlink()
    with pytest.raises(IntegrityError, match=r"has no MANIFEST\.json"):
        load_export(plain)


def test_a_card_may_have_tuned_thresholds_and_a_crf(plain: Path, tmp_path: Path) -> None:
    crf = CRF("lattice", 5, 1.0, 1.0, 20.0, 8.0, 2.0)

    def change(found: dict) -> None:
        found["decision"] = {"thresholds": {"each": [0.9, 0.05, 0.05]}}
        found["refine"] = {"crf": asdict(crf)}

    asked, before = (
        predictor_of(*load_export(place)) for place in (with_card(plain, tmp_path / "other", change), plain)
    )
    image = np.random.default_rng(0).integers(0, 256, (1, 32, 64, 3), np.uint8)
    refined = marginals(image[0], before.probabilities(image)[0].numpy(), crf=crf)
    np.testing.assert_array_equal(asked.probabilities(image)[0].numpy(), refined)
    each = np.array([0.9, 0.05, 0.05])[:, None, None]
    assert (asked.labels(image)[0] == (refined / each.astype(np.float32)).argmax(axis=0)).all()
