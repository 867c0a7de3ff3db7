"""Runs with an architecture that has settings: composed, grown by width, killed and resumed."""

import json
import signal

import pytest

from runs import SMOKE, fingerprint, kill_when, run_command
from selftrain.choices import check
from selftrain.errors import ConfigError
from selftrain.plan import plans
from selftrain.settings import compose

PLAIN = ["recipe=smoke", "model.encoder=tu-vgg16_bn", "model.decoder_channels=[]"]
SETTINGS = [
    *SMOKE,
    *PLAIN[1:],
    "model.arch={segnet: {width: 0.0625}}",
    "generations.1.arch={segnet: {width: 0.125}}",
    "generations.1.init=teacher",
    "generations.1.noise.drop_path=0",
]


def test_an_architecture_and_its_width_are_settings():
    def archs(*settings):
        cfg = compose([*PLAIN, *settings])
        check(cfg)
        return [plan.arch for plan in plans(cfg)]

    half = {"fcn8s": {"width": 0.5}}
    assert archs("model.arch=fcn8s") == ["fcn8s", "fcn8s"]
    assert archs("model.arch.fcn8s.width=0.5") == [half, half]
    assert archs("model.arch={fcn8s: {width: 0.5}}", "generations.1.arch=segnet") == [half, "segnet"]
    assert archs("generations.1.arch={segnet: {width: 2}}", "generations.1.arch=null") == ["unet", "unet"]
    narrow, wide = "generations.1.arch={segnet: {width: 2}}", "generations.1.arch={fcn8s: {width: 0.5}}"
    assert archs(narrow, wide) == ["unet", half]  # the later choice replaces the earlier one


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        (
            "model.arch=deeplab",
            "model.arch: there is no 'deeplab'; similar names: deeplabv3, deeplabv2, deeplabv1",
        ),
        ("generations.1.arch=segnett", "generations.1.arch: there is no 'segnett'; similar names: segnet"),
        ("model.arch.unet.width=2", "model.arch.unet.width: no such setting; unet has none"),
        ("model.arch.fcn8s.width=wide", "model.arch.fcn8s.width=wide: expected float, e.g. 1.0"),
        ("generations.1.arch.fcn8s.width=-1", r"generations.1.arch.fcn8s.width=-1 must be above 0"),
    ],
)
def test_wrong_architectures_are_refused_by_the_name_of_the_setting(setting, said):
    with pytest.raises(ConfigError) as error:
        check(compose([*PLAIN, setting]))
    assert str(error.value).startswith(said)


@pytest.mark.slow
def test_a_run_with_a_classic_grows_and_resumes_to_the_same_bits(run, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    code, said, err = run(*SETTINGS, f"out={whole}")
    assert code == 0, err
    models = [one["model"] for one in json.loads((whole / "report.json").read_text())["generations"]]
    assert [model["arch"] for model in models] == [
        {"segnet": {"width": 0.0625}},
        {"segnet": {"width": 0.125}},
    ]
    assert 3 * models[0]["params"] < models[1]["params"] and "segnet width=0.125" in said
    assert "random" not in said  # the student takes all of its teacher's tensors
    place = killed / "gen1" / "checkpoints" / "step-000006"
    assert kill_when(place, *SETTINGS, f"out={killed}") == -signal.SIGKILL
    assert not (killed / "report.json").exists()
    code, _, err = run_command(*SETTINGS, f"out={killed}")
    assert code == 0, err
    assert fingerprint(killed) == fingerprint(whole)
