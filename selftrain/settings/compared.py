"""Settings that differ between runs, or between a run and its recipe."""

from collections.abc import Sequence
from dataclasses import asdict

from selftrain.config import AUTO, Config, GenerationConfig
from selftrain.errors import ConfigError
from selftrain.settings.changes import DECIDED, Complete, Tree, filled, flat, is_harmless, renewed
from selftrain.settings.compose import compose
from selftrain.settings.tree import flow

ABSENT = "–"  # of a setting that a run does not have, such as a setting of a further generation
GENERATIONS = "generations"  # here, also the name of their number


def differing(trees: Sequence[Tree], complete: Complete = dict) -> list[tuple[str, list[str]]]:
    """The settings that affect results and differ between trees of settings, each with its values as written.

    Trees of older versions are converted. `complete` adds the settings of table entries
    (choices.completed). Of generations that only some trees have, settings with their default are left out.
    """
    rows = [flat(complete(filled(Config, renewed(tree)))) for tree in trees]
    for row, tree in zip(rows, trees, strict=True):
        row[GENERATIONS] = len(tree[GENERATIONS])
    usual = {name: flow(value) for name, value in flat(asdict(GenerationConfig())).items()}
    names = dict.fromkeys(name for row in rows for name in row if not is_harmless(name))
    written = {name: [flow(row[name]) if name in row else ABSENT for row in rows] for name in names}
    return [
        (name, values)
        for name, values in written.items()
        if len(set(values)) > 1 and set(values) != {ABSENT, usual.get(_within_generation(name))}
    ]


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


def _within_generation(name: str) -> str:
    """The name of a generation's setting without the number; other names stay: "2.steps" becomes "steps"."""
    first, _, rest = name.partition(".")
    return rest.partition(".")[2] if first == GENERATIONS else name
