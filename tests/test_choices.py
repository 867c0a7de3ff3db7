"""The tables from which settings choose: refused entries, and entries in config.yaml."""

from dataclasses import asdict, dataclass, field, replace
from typing import Annotated, Any, get_args, get_origin

import pytest

from selftrain.choices import TABLES, check, completed, table_of
from selftrain.config import Config, GenerationConfig, SelectConfig, TrainConfig
from selftrain.errors import ConfigError
from selftrain.settings.changes import flat
from selftrain.settings.check import settings_in
from selftrain.tables import Bounds, Table
from selftrain.values import Choice, Likely, Weighted, is_entry


def straight(x):
    return x


def bent(x, *, power: Annotated[float, Bounds(0, 3)] = 2.0, turns: int = 1):
    return x**power * turns


CURVES = {"straight": straight, "bent": bent}
OWN = {
    "curve": Table(CURVES),
    "terms": Table(CURVES, main="weight"),
    "generations.noise": Table(CURVES, main="p"),
    "word": Table(CURVES),
}


@dataclass
class Row:
    noise: dict[str, Likely] = field(default_factory=dict)


@dataclass
class Own:
    curve: Annotated[Choice, "how it falls"] = "straight"  # type: ignore[assignment]
    terms: dict[str, Weighted] = field(default_factory=dict)
    word: str = ""
    generations: list[Row] = field(default_factory=list)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (Own(curve="bend"), "curve: there is no 'bend'; there are straight, bent"),
        (Own(curve={"bent": {"power": 4}}), "curve.bent.power=4 must lie between 0 and 3"),
        (
            Own(terms={"bent": {"power": 1}, "flat": {}}),
            "terms: there is no 'flat'; there are straight, bent",
        ),
        (
            Own(terms={"bent": {"sharp": 1}}),
            "terms.bent.sharp: no such setting; bent has weight, power, turns",
        ),
        (
            Own(generations=[Row(), Row({"bent": {"p": 2}})]),
            "generations.1.noise.bent.p=2 must lie between 0 and 1",
        ),
        (Own(word="bend"), "word=bend must be one of straight, bent or empty"),
    ],
)
def test_what_no_table_has_is_refused_by_the_name_of_the_setting(settings, said):
    with pytest.raises(ConfigError) as error:
        check(settings, OWN)
    assert str(error.value) == said


def test_what_the_tables_have_is_taken():
    for taken in (
        Own(),
        Own({"bent": {"power": 1}}, {"bent": {"weight": 2}}, "bent", [Row({"straight": {"p": 0.5}})]),
    ):
        assert check(taken, OWN) is None, taken


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (Config(train=TrainConfig(schedule="stairs")), "schedule"),
        (Config(select=SelectConfig(threshold="some")), "threshold"),
        (Config(generations=[GenerationConfig(), GenerationConfig(online="none")]), "generations.1.online"),
    ],
)
def test_a_word_of_a_run_that_its_table_does_not_have_is_refused(config, said):
    with pytest.raises(ConfigError, match=said):
        check(config)
    check(
        replace(
            config, train=TrainConfig(), select=SelectConfig(), generations=[GenerationConfig(online="cps")]
        )
    )


def test_the_settings_of_chosen_entries_are_filled_in_and_in_the_order_of_the_table():
    settings = {
        "curve": {"bent": {"turns": 3}},
        "terms": {"bent": {"weight": 0.5}, "straight": {"weight": 1}},
        "word": "bent",
        "generations": [{"noise": {"bent": {"p": 0.25}}}, {}],
        "other": {"bent": {}},
    }
    assert completed(settings, Own, OWN) == {
        "curve": {"bent": {"power": 2.0, "turns": 3}},
        "terms": {"straight": {"weight": 1.0}, "bent": {"weight": 0.5, "power": 2.0, "turns": 1}},
        "word": "bent",
        "generations": [{"noise": {"bent": {"p": 0.25, "power": 2.0, "turns": 1}}}, {}],
        "other": {"bent": {}},
    }
    assert list(completed(settings, Own, OWN)["terms"]) == ["straight", "bent"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            {"curve": "bent"},
            {"curve": {"bent": {"power": 2.0, "turns": 1}}},
        ),  # from before an entry had settings
        ({"curve": "straight"}, {"curve": {"straight": {}}}),
        (
            {"terms": {"bent": {"weight": 1.0, "power": 2.0}}},
            {"terms": {"bent": {"weight": 1.0, "turns": 1}}},
        ),
        (
            {"terms": {"bent": {"weight": 1.0}, "straight": {"weight": 0}}},
            {"terms": {"bent": {"weight": 1.0}}},
        ),
    ],
)
def test_two_ways_to_say_the_same_are_equal(before, after):
    assert flat(completed(before, Own, OWN)) == flat(completed(after, Own, OWN))


@pytest.mark.parametrize(
    "damaged", [{"curve": "gone"}, {"terms": {"gone": {"weight": 1}}}, {"terms": 3}, {"generations": [7]}]
)
def test_what_no_table_knows_stays_as_it_is(damaged):
    assert completed(damaged, Own, OWN) == damaged


def test_the_settings_of_a_run_are_completed_without_a_change_to_their_meaning():
    run = asdict(Config(generations=[GenerationConfig(), GenerationConfig()]))
    assert completed(completed(run)) == completed(run)
    assert set(completed(run)) == set(run) and len(completed(run)["generations"]) == 2


def test_every_table_is_of_a_setting_and_every_choice_has_a_table():
    def chooses(kind: Any) -> bool:
        return kind is Choice or (get_origin(kind) is dict and is_entry(get_args(kind)[1]))

    rows = {name: setting for name, _, setting in settings_in(Config())}
    assert {name.replace("generations.0.", "generations.") for name in rows} >= set(TABLES)
    assert not [name for name, setting in rows.items() if chooses(setting.kind) and table_of(name) is None]
