"""Settings that differ between runs, or between a run and its recipe."""

from collections.abc import Sequence
from dataclasses import asdict

from selftrain.config import AUTO, Config
from selftrain.errors import ConfigError
from selftrain.settings.changes import DECIDED, Complete, Tree, filled, flat, is_harmless, renewed
from selftrain.settings.compose import compose
from selftrain.settings.tree import flow

ABSENT = "–"  # of a setting that a run does not have, such as those of a further generation


def differing(trees: Sequence[Tree], complete: Complete = dict) -> list[tuple[str, list[str]]]:
    """The settings that affect results and differ between trees of settings, each with its values as written.

    Trees of older versions are converted. `complete` adds the settings of table entries
    (choices.completed).
    """
    rows = [flat(complete(filled(Config, renewed(tree)))) for tree in trees]
    names = dict.fromkeys(name for row in rows for name in row if not is_harmless(name))
    written = {name: [flow(row[name]) if name in row else ABSENT for row in rows] for name in names}
    return [(name, values) for name, values in written.items() if len(set(values)) > 1]


def changed_from_recipe(cfg: Config, complete: Complete = dict) -> list[tuple[str, str, str]] | None:
    """Settings that differ from the recipe's: name, value in the recipe, value in `cfg`.

    Settings of the data set are left out. None if the recipe is not one of selftrain's.
    """
    try:
        recipe = asdict(compose([f"recipe={cfg.recipe}"]))
    except ConfigError:
        return None
    rows = differing([recipe, asdict(cfg)], complete)
    decided = {name for name in DECIDED if flat(recipe).get(name) in (AUTO, [AUTO])}
    return [
        (name, before, after)
        for name, (before, after) in rows
        if not name.startswith("data.") and name not in decided
    ]
