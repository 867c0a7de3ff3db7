"""What each setting takes, as its field declares it."""

from dataclasses import asdict, dataclass, field, replace
from typing import Annotated

import pytest

from selftrain import choices
from selftrain.config import Config, GenerationConfig, LabelConfig, NoiseConfig, TrainConfig
from selftrain.errors import ConfigError
from selftrain.settings import compose
from selftrain.settings.check import check, declared, settings_in
from selftrain.tables import Bounds, Must, OneOf, Place, parameter


@pytest.mark.parametrize(
    ("rule", "value", "fault"),
    [
        (Bounds(0, 1), 1, ""),
        (Bounds(0, 1), 1.5, "lie between 0 and 1"),
        (Bounds(above=0), 0.1, ""),
        (Bounds(above=0), 0, "be above 0"),
        (Bounds(above=0, most=1), 2, "be above 0 and at most 1"),
        (Bounds(2), [3, 1], "be at least 2"),
        (Bounds(), [[1.0, float("nan")]], "be a finite number"),
        (Bounds(0), {"a": 1, "b": -1}, "be at least 0"),
        (Bounds(5), None, ""),
        (Bounds(5), True, ""),
        (OneOf({"early": "before", "late": "after"}), "late", ""),
        (OneOf({"early": "before", "late": "after"}), "never", "be one of early, late"),
        (Must("be even", lambda number: number % 2 == 0), 3, "be even"),
        (Must("be even", lambda number: number % 2 == 0), 4, ""),
    ],
)
def test_a_rule_says_what_a_value_must_do(rule, value, fault):
    assert rule.fault(value) == fault


def test_a_field_declares_range_rules_and_meaning():
    found = parameter(
        Annotated[int, Bounds(0, 9), Must("be even", lambda number: number % 2 == 0), "how many"], 4
    )
    assert (found.kind, found.default, found.bounds, found.meaning) == (int, 4, Bounds(0, 9), "how many")
    assert [found.fault(value) for value in (4, 3, 10)] == ["", "be even", "lie between 0 and 9"]
    assert parameter(float, 1.0).fault(float("inf")) == "be a finite number"


def test_every_setting_of_a_run_is_found_with_its_full_name():
    run = Config(generations=[GenerationConfig(), GenerationConfig(noise=NoiseConfig(cutmix=0.5))])
    rows = {name: value for name, value, _ in settings_in(run)}
    assert rows["generations.1.noise.cutmix"] == 0.5 and rows["labels.crf.iterations"] == 5
    assert rows["generations"] is run.generations and "labels.crf" not in rows


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (Config(seed=-1), "seed=-1 must be at least 0"),
        (Config(train=TrainConfig(scale=[2.0, 1.0])), "train.scale=.* must be .least, most., both above 0"),
        (Config(train=TrainConfig(lr=float("nan"))), "train.lr=nan must be at least 0"),
        (Config(labels=LabelConfig(teacher="best")), "labels.teacher=best must be one of leader, last"),
        (Config(train=TrainConfig(crop=[64])), r"train.crop=\[64\] must be \[height, width\], both above 0"),
        (Config(generations=[]), "generations=.. must have at least one entry"),
        (
            Config(generations=[GenerationConfig(), GenerationConfig(noise=NoiseConfig(rand_m=31))]),
            "generations.1.noise.rand_m=31 must lie between 0 and 30",
        ),
        (
            Config(generations=[GenerationConfig(init="best")]),
            "generations.0.init=best must be one of random, teacher",
        ),
    ],
)
def test_a_setting_that_its_field_does_not_allow_is_refused_by_its_name(config, said):
    with pytest.raises(ConfigError, match=said):
        check(config)


def test_what_is_composed_has_been_checked():
    with pytest.raises(ConfigError, match=r"train\.ema=2\.0 must lie between 0 and 1"):
        compose(["train.ema=2"])


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (
            Config(train=TrainConfig(schedule="stairs")),
            "train.schedule: there is no 'stairs'; there are cosine, poly, plateau",
        ),
        (
            Config(generations=[GenerationConfig(online="none")]),
            "generations.0.online=none must be one of .*cps.* or empty",
        ),
    ],
)
def test_a_word_that_a_table_does_not_have_is_refused_with_its_words(config, said):
    with pytest.raises(ConfigError, match=said):
        choices.check(config)
    choices.check(
        replace(config, train=TrainConfig(schedule="poly"), generations=[GenerationConfig(online="cps")])
    )


def test_every_setting_says_what_it_means():
    @dataclass
    class Silent:
        told: Annotated[int, "something"] = 0
        untold: list[int] = field(default_factory=list)

    assert [name for name, one in declared(Silent).items() if not one.meaning] == ["untold"]
    assert not [name for name, _, one in settings_in(Config()) if not one.meaning and name != "generations"]


def test_the_defaults_of_every_setting_are_allowed():
    assert [name for name, value, one in settings_in(Config()) if one.fault(value)] == []
    completed = choices.completed(asdict(Config()))
    assert completed == choices.completed(completed)
    check(Config())
    choices.check(Config())


def test_a_tilde_is_the_home_folder_in_every_path(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    paths = [
        name for name, _, one in settings_in(Config()) if any(isinstance(rule, Place) for rule in one.rules)
    ]
    assert {"out", "data.root", "data.unlabelled", "data.splits.val", "model.weights"} <= set(paths)
    given = {
        name: value
        for name, value, _ in settings_in(compose(["recipe=smoke", *(f"{name}=~/x" for name in paths)]))
    }
    assert {given[name] for name in paths} == {f"{tmp_path}/x"}
    assert compose(["recipe=smoke", "data.classes=[~/x]", "out=a/~"]).data.classes == ["~/x"]


def test_a_tilde_without_a_home_is_refused():
    with pytest.raises(ConfigError, match=r"model\.weights=~nobody-of-this-name/w must be a whole path"):
        compose(["model.weights=~nobody-of-this-name/w"])
    with pytest.raises(ConfigError, match="--config-dir ~nobody-of-this-name must be a whole path"):
        compose([], "~nobody-of-this-name")


def test_recipes_of_ones_own_may_lie_in_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine" / "recipe").mkdir(parents=True)
    (tmp_path / "mine" / "recipe" / "own.yaml").write_text(
        "# @package _global_\nrecipe: own\ntrain: {lr: 0.5}\n"
    )
    assert compose(["recipe=own"], "~/mine").train.lr == 0.5
