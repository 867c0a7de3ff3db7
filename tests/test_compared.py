"""Settings that differ between runs, and from a recipe."""

from dataclasses import asdict, replace

from selftrain.choices import completed
from selftrain.settings import compose
from selftrain.settings.compared import changed_from_recipe, differing


def test_what_differs_from_the_recipe_is_named_without_the_data_set():
    cfg = compose(["recipe=smoke", "train.lr=0.5", "data.size=[8,8]", "train.workers=3"])
    assert changed_from_recipe(cfg, completed) == [("train.lr", "0.002", "0.5")]
    assert changed_from_recipe(compose(["recipe=smoke"]), completed) == []
    assert changed_from_recipe(replace(cfg, recipe="mine"), completed) is None


def test_settings_of_entries_are_compared_whether_they_were_given_or_not():
    first, second = (
        compose(["recipe=smoke", *words]) for words in ([], ["train.schedule={poly: {power: 0.9}}"])
    )
    third = compose(["recipe=smoke", "train.schedule=poly"])
    rows = dict(differing([asdict(cfg) for cfg in (first, second, third)], completed))
    assert rows["train.schedule.poly.power"] == ["–", "0.9", "0.9"]
    assert differing([asdict(second), asdict(third)], completed) == []


def test_a_setting_that_an_older_run_lacks_had_todays_default():
    new, old = asdict(compose(["recipe=smoke"])), asdict(compose(["recipe=smoke"]))
    del old["train"]["patience"]
    assert differing([old, new], completed) == []
    new["train"]["patience"] = 4
    assert differing([old, new], completed) == [("train.patience", ["0", "4"])]


def test_further_generations_are_absent_in_the_other_run():
    short, long = (asdict(compose(["recipe=smoke", *words])) for words in ([], ["generations.extra=1"]))
    rows = dict(differing([short, long], completed))
    assert rows.pop("generations") == ["2", "3"] and "generations.2.steps" not in rows  # as in any generation
    assert rows and all(name.startswith("generations.2.") for name in rows)
    assert {values[0] for values in rows.values()} == {"–"}
