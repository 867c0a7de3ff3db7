"""What a resume may change, and the settings of earlier versions."""

from dataclasses import asdict, fields

import pytest

from selftrain.choices import completed
from selftrain.config import Config, ExtraConfig, GenerationConfig, LossConfig
from selftrain.errors import ConfigError
from selftrain.settings import changes, compose
from selftrain.settings.changes import Renamed, differences, flat, refused, renewed
from selftrain.settings.names import WORDS, today

TABLE = {
    "train.rate": Renamed("train.lr"),
    "train.decay_percent": Renamed("train.ema", lambda percent, _: percent / 100),
    "loss.share": Renamed(
        "loss.terms",
        lambda share, loss: {"soft": {"weight": share, "t": loss["t"]}, "hard": {"weight": 1 - share}},
    ),
    "loss.sharpness": Renamed("loss.terms.hard.sharpness"),
    "generations.begin": Renamed("generations.init"),
    "mode": Renamed("train.mode"),
}


def without(tree, name):
    """A copy of settings without one of them."""
    section, _, last = name.rpartition(".")
    rest = {key: value for key, value in tree.items() if key != (section or last)}
    return (
        {**rest, section: {key: value for key, value in tree[section].items() if key != last}}
        if section
        else rest
    )


def test_differences_name_what_changes_results_only():
    new = asdict(Config(out="elsewhere", seed=3))
    assert differences(asdict(Config()), new) == ["seed: 0 -> 3"]


def test_settings_that_an_older_version_did_not_have_were_at_their_defaults():
    old = without(asdict(Config()), "loss.adaptive")
    old["generations"] = [{name: value for name, value in old["generations"][0].items() if name != "online"}]
    assert differences(old, asdict(Config())) == []
    del old["data"], old["generations"][0]["noise"]
    assert differences(old, asdict(Config())) == []
    two = asdict(Config(loss=LossConfig(adaptive=True), generations=[GenerationConfig(), GenerationConfig()]))
    rows = differences(old, two)
    assert rows[0] == "loss.adaptive: False -> True" and "generations.1.online: absent -> " in rows


def test_a_setting_whose_default_was_another_one_had_that():
    old = without(asdict(Config()), "loss.balance")  # nothing weighed by its class in those days
    assert differences(old, asdict(Config())) == ["loss.balance: 0.0 -> 0.5"]
    assert differences(old, asdict(Config(loss=LossConfig(balance=0.0)))) == []


def test_what_a_setting_of_many_names_lacks_has_no_default():
    """An entry that only the new settings have is a difference, though it has the value that the default gives it."""
    old = asdict(Config())
    old["data"] = {**old["data"], "shapes": {"val": 3}}
    assert "data.shapes.test: absent -> 60" in differences(old, asdict(Config()))


def test_settings_of_earlier_versions_get_the_names_and_values_of_today():
    old = {
        "mode": "slow",
        "train": {"rate": 0.1, "steps": 3, "decay_percent": 99},
        "loss": {"share": 0.25, "t": 2.0, "sharpness": 5},
        "generations": [{"begin": "teacher"}, {"steps": 2}],
    }
    kept = {**old, "train": dict(old["train"])}
    assert renewed(old, TABLE) == {
        "train": {"steps": 3, "lr": 0.1, "ema": 0.99, "mode": "slow"},
        "loss": {
            "t": 2.0,
            "terms": {"soft": {"weight": 0.25, "t": 2.0}, "hard": {"weight": 0.75, "sharpness": 5}},
        },
        "generations": [{"init": "teacher"}, {"steps": 2}],
    }
    assert old == kept


def test_two_old_settings_may_become_settings_of_one_entry():
    table = {
        "loss.heat": Renamed("loss.terms.soft.heat"),
        "loss.share": Renamed(
            "loss.terms", lambda share, _: {"soft": {"weight": share}, "hard": {"weight": 1 - share}}
        ),
    }
    soft = {"heat": 2.0, "weight": 0.75}
    for order in (table, dict(reversed(table.items()))):
        tree = renewed({"loss": {"share": 0.75, "heat": 2.0}}, order)
        assert tree == {"loss": {"terms": {"soft": soft, "hard": {"weight": 0.25}}}}


@pytest.mark.parametrize(
    "damaged", [{}, {"train": None}, {"train": [1], "generations": 3}, {"generations": [None, {}]}]
)
def test_settings_that_are_damaged_are_left_as_they_are(damaged):
    assert renewed(damaged, TABLE) == damaged


def test_a_run_goes_on_with_settings_that_were_renamed(monkeypatch):
    monkeypatch.setattr(changes, "RENAMED", {"train.rate": Renamed("train.lr")})
    old = asdict(Config())
    old["train"]["rate"] = old["train"].pop("lr")
    assert differences(old, asdict(Config())) == []
    old["train"]["rate"] = 0.5
    assert differences(old, asdict(Config())) == ["train.lr: 0.5 -> 0.001"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("train.rate=3", "train.rate: this setting is train.lr now"),
        ("generations.1.begin=x", "generations.1.begin: this setting is generations.1.init now"),
        ("generations=[{begin: x}]", "generations.0.begin: this setting is generations.0.init now"),
        ("mode=slow", "mode: this setting is train.mode now"),
    ],
)
def test_an_old_name_is_answered_with_the_new_one(monkeypatch, given, said):
    monkeypatch.setattr("selftrain.settings.names.RENAMED", TABLE)
    with pytest.raises(ConfigError) as error:
        compose(["recipe=smoke", given])
    assert str(error.value) == said


def test_what_was_renamed_has_a_name_of_today_and_the_old_one_is_free():
    known = [name.replace("generations.0.", "generations.") for name in flat(Config())]
    for old, new in changes.RENAMED.items():
        assert old not in known and not [name for name in known if name.startswith(f"{old}.")]
        assert any(f"{new.name}.".startswith(f"{name}.") or name.startswith(f"{new.name}.") for name in known)
    assert today("train.lr") == ""


def test_words_of_other_programs_lead_to_settings_that_are_there():
    assert not set(WORDS.values()) - {*flat(Config()), "generations"}


def test_what_may_change_is_a_setting():
    known = set(flat(Config())) | {f"data.extra.{field.name}" for field in fields(ExtraConfig)}
    assert known >= changes.HARMLESS and known >= changes.ROUNDING and known >= set(changes.EARLIER)


def test_more_generations_and_until_labels_are_used_another_choice_are_no_reason_to_refuse():
    old, longer = (
        asdict(Config()),
        asdict(Config(generations=[GenerationConfig(), GenerationConfig(steps=5)])),
    )
    assert refused(old, longer, labels_are_used=True) == []
    longer["select"] = {**longer["select"], "keep": 0.5}
    assert refused(old, longer, labels_are_used=False) == []
    assert refused(old, longer, labels_are_used=True) == ["select.keep: 0.6 -> 0.5"]
    other = {**longer, "seed": 1}
    assert refused(old, other, labels_are_used=False) == ["seed: 0 -> 1", "select.keep: 0.6 -> 0.5"]


@pytest.mark.parametrize(
    ("old", "now"),
    [
        ({"smoothing": 0.1, "distillation": 1.0, "temperature": 1.0}, []),
        (
            {"smoothing": 0.0, "distillation": 1.0, "temperature": 2.0},
            ["loss.labelled.ce.smoothing=0", "loss.pseudo.kl.temperature=2"],
        ),
        ({"smoothing": 0.1, "distillation": 0.25, "temperature": 1.0}, ["loss.pseudo={kl: 0.25, ce: 0.75}"]),
        ({"smoothing": 0.1, "distillation": 0.0, "temperature": 1.0}, ["loss.pseudo={kl: 0, ce: 1}"]),
    ],
)
def test_losses_of_runs_from_before_there_was_a_table_of_them_are_known(old, now):
    before, after = asdict(Config()), asdict(compose([*now, "data=shapes", "recipe=smoke"]))
    kept = {
        name: value for name, value in before["loss"].items() if name not in ("labelled", "pseudo", "online")
    }
    before = {**after, "loss": {**kept, **old}}
    assert differences(before, after, completed) == []
    before["loss"]["smoothing"] = 0.3
    assert [row.partition(":")[0] for row in differences(before, after, completed)] == [
        "loss.labelled.ce.smoothing"
    ]
