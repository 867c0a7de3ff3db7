import json
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from selftrain.errors import ConfigError
from selftrain.files import read_directory
from selftrain.inference.exported import load_export
from selftrain.inference.labeller import Changes, Labeller, differing_ids
from selftrain.models import onnx as graph
from selftrain.models.build import build, parameters
from selftrain.stages import export as module
from selftrain.stages.export import export

torch.set_num_threads(1)
CLASSES = ["background", "bâtiment", "road"]
WIDTHS = [32, 16, 16, 8]
IMAGES = list(np.random.default_rng(0).integers(0, 256, (2, 50, 70, 3), np.uint8))


def card(network: nn.Module) -> dict[str, Any]:
    return {
        "format": 1,
        "recipe": "smoke",
        "classes": CLASSES,
        "ignore_index": 255,
        "mean": [0.5, 0.5, 0.5],
        "std": [0.25, 0.25, 0.25],
        "input": {"size": None, "multiple": 32, "window": 1024, "rule": "pad to multiples of 32"},
        "model": {
            "arch": "unet",
            "encoder": "tu-resnet10t",
            "decoder_channels": WIDTHS,
            "params": parameters(network),
        },
        "metrics": {"miou": None},
    }


@pytest.fixture(scope="module")
def network() -> nn.Module:
    """In training mode and with all its noise, as training leaves it."""
    torch.manual_seed(0)
    network = build("unet", "tu-resnet10t", classes=3, decoder_channels=WIDTHS, dropout=0.5, drop_path=0.2)
    network.train()(torch.rand(2, 3, 64, 64))  # statistics of their own
    return network


@pytest.fixture(scope="module")
def exported(network: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("run") / "export"
    export(network, directory, card=card(network), onnx=True, images=IMAGES)
    assert network.training, "the caller's network is left as it was"
    return directory


@pytest.fixture
def plain(network: nn.Module, tmp_path: Path) -> Path:
    """An export without ONNX, which takes no time."""
    export(network, tmp_path / "export", card=card(network), onnx=False)
    return tmp_path / "export"


def logits(network: nn.Module, images: Tensor) -> Tensor:
    with torch.inference_mode():
        return network(images)


def test_an_export_is_whole_and_its_hashes_hold(exported: Path) -> None:
    assert read_directory(exported).keys() == {"model.safetensors", "model.onnx", "card.json"}
    assert [path.name for path in exported.parent.iterdir()] == ["export"]


def test_a_loaded_export_gives_the_same_logits(exported: Path, network: nn.Module) -> None:
    loaded, read = load_export(exported)
    images = torch.randn(2, 3, 64, 96)
    training = network.training
    assert torch.equal(logits(loaded, images), logits(network.eval(), images))
    network.train(training)
    assert read["classes"] == CLASSES and read["selftrain"]


def test_onnx_gives_the_ids_of_torch_and_the_card_says_to_what_share(exported: Path) -> None:
    _, read = load_export(exported)
    assert read["onnx"]["ids"] == {"images": 2, "share": pytest.approx(0, abs=1e-3), "share_resized": None}
    sized = {**read, "input": {**read["input"], "size": [32, 64]}}
    network, files = load_export(exported)[0], read_directory(exported)
    assert module._ids(network, files["model.onnx"], sized, IMAGES)["share_resized"] < 1e-3
    one, other = (Labeller.load(exported, Changes(views="d4"), backend=name) for name in ("torch", "onnx"))
    assert differing_ids(one, other, IMAGES) < 1e-3
    assert differing_ids(one, Labeller.load(exported, backend="onnx"), IMAGES) > 1e-3  # other views


@pytest.mark.parametrize("size", [(1, 3, 32, 416), (3, 3, 224, 96)])
def test_onnx_gives_the_logits_of_torch_at_sizes_that_it_was_not_made_with(
    exported: Path, size: tuple[int, ...]
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    network, read = load_export(exported)
    assert list(size) not in read["onnx"]["compared_sizes"]
    images = torch.randn(size)
    session = onnxruntime.InferenceSession(exported / "model.onnx", providers=["CPUExecutionProvider"])
    found = session.run(["logits"], {"image": images.numpy()})[0]
    expected = logits(network, images)
    assert found.shape == (size[0], 3, *size[2:])
    assert (torch.from_numpy(found) - expected).abs().max() < 1e-4 * expected.abs().max()


def test_the_card_says_what_the_graph_takes_and_how_near_it_is(exported: Path) -> None:
    compared = json.loads((exported / "card.json").read_bytes())["onnx"]
    assert compared["input"] == {"name": "image", "shape": ["batch", 3, "height", "width"], "multiple": 32}
    sizes = compared["compared_sizes"]
    assert len(sizes) == 3 and any(height != width for _, _, height, width in sizes)
    assert 0 <= compared["largest_difference"] <= compared["tolerance"] == 1e-4


def test_the_graph_has_no_noise(exported: Path) -> None:
    onnx = pytest.importorskip("onnx")
    operators = {node.op_type for node in onnx.load(exported / "model.onnx").graph.node}
    assert "Conv" in operators
    assert not {name for name in operators if name == "Dropout" or name.startswith("Random")}


def test_no_exported_file_tells_of_the_machine(exported: Path) -> None:
    content = b"".join(read_directory(exported).values())
    telling = [
        str(Path.home()),
        str(Path.cwd()),
        str(exported.parent),
        str(Path(torch.__file__).parent.parent),
    ]
    host = (
        [socket.gethostname()] if len(socket.gethostname()) > 4 else []
    )  # shorter ones are found in any noise
    for text in [*telling, *host, ".py", "site-packages", "Traceback", "line "]:
        assert text.encode() not in content, text


def test_a_network_of_one_size_exports_without_onnx_and_says_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Placed(nn.Conv2d):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images) + torch.ones(1, 2, 128, 160)

    network = Placed(3, 2, 1)
    written = export(network, tmp_path / "export", card=card(network), onnx=True)
    assert written["onnx"] is None and "cannot be exported" in written["onnx_reason"]
    assert read_directory(tmp_path / "export").keys() == {"model.safetensors", "card.json"}
    out, err = capsys.readouterr()
    assert out.count("\n") == 1 and written["onnx_reason"] in out and not err


def test_a_missing_library_leaves_onnx_out_with_the_way_to_get_it(
    network: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph, "LIBRARIES", ("onnx", "no_such_library"))
    written = export(network, tmp_path / "export", card=card(network), onnx=True)
    assert written["onnx_reason"] == "no_such_library not installed: pip install 'selftrain[export]'"
    load_export(tmp_path / "export")


def test_an_export_replaces_an_earlier_one(plain: Path, network: nn.Module) -> None:
    other = card(network) | {"recipe": "another"}
    export(network, plain, card=other, onnx=False)
    assert load_export(plain)[1]["recipe"] == "another"
    assert [path.name for path in plain.parent.iterdir()] == ["export"]


def test_the_same_network_exports_to_the_same_bytes(plain: Path, network: nn.Module) -> None:
    before = read_directory(plain)
    export(network, plain, card=card(network), onnx=False)
    assert read_directory(plain) == before


def test_a_failed_export_leaves_the_earlier_one(
    plain: Path, network: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "commit_directory", full)
    with pytest.raises(OSError, match="No space"):
        export(network, plain, card=card(network) | {"recipe": "another"}, onnx=False)
    assert load_export(plain)[1]["recipe"] == "smoke"


def test_a_directory_of_something_else_is_not_replaced(tmp_path: Path, network: nn.Module) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"precious")
    with pytest.raises(ConfigError, match="is not an export"):
        export(network, tmp_path, card=card(network), onnx=False)
    assert (tmp_path / "photo.jpg").read_bytes() == b"precious"
