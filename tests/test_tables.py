"""Tables of functions and the settings that choose from them."""

from typing import Annotated

import pytest

from selftrain.errors import ConfigError
from selftrain.tables import Bounds, Table, bound, handed
from selftrain.values import Choice, Entry, Likely, Weighted, fit, parse


def plain(x):
    return x


def steep(x, *, power: Annotated[float, Bounds(0, 3)] = 2.0, turns: list[int] = [0]):  # noqa: B006
    return x**power


def asking(x, *, classes, name: str = "a", on: bool = False):
    return x, classes, name, on


TABLE = Table({"plain": plain, "asking": asking}, main="weight")


def test_the_settings_of_an_entry_are_its_annotated_keywords_with_a_default():
    def function(x, *, given, power: Annotated[float, Bounds(0, 3), "how steep"] = 2.0):
        return x

    (name, one), *rest = Table({"f": function}).parameters("f").items()
    assert (name, one.kind, one.default, one.bounds, one.meaning) == (
        "power",
        float,
        2.0,
        Bounds(0, 3),
        "how steep",
    )
    assert not rest


def test_entries_come_in_the_order_of_the_table_with_their_weight_and_every_setting():
    table = Table({"plain": plain, "steep": steep}, main="weight")
    chosen = table.chosen({"steep": {"weight": 0.5, "power": 3}, "plain": {}}, "loss.x")
    assert [(one.name, one.amount, one.settings) for one in chosen] == [
        ("plain", 1.0, {}),
        ("steep", 0.5, {"power": 3.0, "turns": [0]}),
    ]
    assert bound(chosen[1])(2) == 8


def test_an_amount_of_zero_leaves_an_entry_out():
    assert not Table({"plain": plain}, main="weight").chosen({"plain": {"weight": 0}}, "loss.x")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"stepe": {}}, "loss.x: there is no 'stepe'; there are plain, steep"),
        ({"steep": {"powr": 1}}, "loss.x.steep.powr: no such setting; steep has weight, power, turns"),
        ({"steep": {"power": 4}}, "loss.x.steep.power=4 must lie between 0 and 3"),
        ({"steep": {"power": "much"}}, "loss.x.steep.power=much: expected float, e.g. 2.0"),
        ({"plain": {"weight": -1}}, "loss.x.plain.weight=-1 must be at least 0"),
        ({"plain": {"weight": float("nan")}}, "loss.x.plain.weight=nan must be at least 0"),
    ],
)
def test_what_no_entry_has_is_refused_with_the_way_out(given, message):
    table = Table({"plain": plain, "steep": steep}, main="weight")
    with pytest.raises(ConfigError) as error:
        table.chosen(given, "loss.x")
    assert str(error.value) == message


def test_a_probability_lies_between_0_and_1():
    with pytest.raises(ConfigError, match=r"noise\.x\.plain\.p=2 must lie between 0 and 1"):
        Table({"plain": plain}, main="p").chosen({"plain": {"p": 2}}, "noise.x")


def test_one_entry_is_chosen_by_its_name_or_with_settings():
    table = Table({"plain": plain, "steep": steep})
    assert table.one("plain", "train.s").settings == {}
    assert table.one({"steep": {"power": 1}}, "train.s").settings == {"power": 1.0, "turns": [0]}
    with pytest.raises(ConfigError, match=r"train\.s takes one of plain, steep, not plain, steep"):
        table.one({"plain": {}, "steep": {}}, "train.s")
    with pytest.raises(ConfigError, match=r"train\.s: there is no 'curved'; there are plain, steep"):
        table.one("curved", "train.s")


def test_a_setting_without_a_type_is_an_error_that_names_its_function():
    def focal(x, *, classes, gamma=2.0):
        return x

    with pytest.raises(ConfigError) as error:
        Table({"focal": focal}).one("focal", "loss.x")
    assert str(error.value) == (
        f"{__name__}.{focal.__qualname__}: its parameter gamma is a setting and needs a type, e.g. gamma: float = 2.0"
    )


def test_what_the_program_hands_over_is_no_setting():
    with pytest.raises(ConfigError, match="classes: no such setting; asking has weight, name, on"):
        TABLE.chosen({"asking": {"classes": 3}}, "x")
    assert TABLE.chosen({"asking": {"on": "true", "name": "b"}}, "x")[0].settings == {"name": "b", "on": True}


def test_an_entry_gets_of_what_the_program_has_only_what_it_asks_for():
    assert handed(asking, "x.asking", classes=3, images=7) == {"classes": 3}
    assert handed(steep, "x.steep", classes=3) == {}
    with pytest.raises(
        ConfigError, match=r"x\.asking asks for classes, which needs a default: .* passes images, names"
    ):
        handed(asking, "x.asking", images=7, names=[])


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (Weighted, "0.5", {"weight": 0.5}),
        (Likely, "1", {"p": 1.0}),
        (Weighted, "{weight: 0.5, alpha: 0.3}", {"weight": 0.5, "alpha": 0.3}),
        (Weighted, "{on: true, sides: [1,2], name: fine}", {"on": "true", "sides": [1, 2], "name": "fine"}),
        (Choice, "poly", "poly"),
        (Choice, "{poly: {power: 0.9}}", {"poly": {"power": 0.9}}),
        (
            dict[str, Weighted],
            "{ce: 1, dice: {weight: 0.5}}",
            {"ce": {"weight": 1.0}, "dice": {"weight": 0.5}},
        ),
        (Entry, "{power: 2}", {"power": 2}),
    ],
)
def test_a_number_stands_for_the_main_setting_of_an_entry(kind, text, value):
    assert fit(kind, parse(text, kind), "x") == value


def test_one_entry_may_be_named_in_capitals():
    table = Table({"plain": plain, "steep": steep})
    assert table.one("Steep", "x").name == "steep"
    assert table.one({"STEEP": {"power": 1}}, "x").settings["power"] == 1.0
    with pytest.raises(ConfigError, match="there is no 'Steeper'"):
        table.one("Steeper", "x")
