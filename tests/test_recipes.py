"""The recipes: composed with every data set, and run at a small size."""

import pytest
import yaml

from runs import ROOT, SMALL, bits, known_fingerprints
from selftrain.config import Config
from selftrain.settings import compose

RECIPES = sorted(path.stem for path in (ROOT / "recipes" / "recipe").glob("*.yaml"))
QUICK = ("noisy_student",)  # `make test` runs it: supervised, online and offline generations
DATA = sorted(path.stem for path in (ROOT / "recipes" / "data").glob("*.yaml"))


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("data", DATA)
def test_every_recipe_composes_with_every_data_set(recipe, data):
    config = compose([f"recipe={recipe}", f"data={data}"])
    assert isinstance(config, Config) and config.recipe == recipe and config.data.name == data


def test_the_recipes_and_data_sets_of_the_documentation_are_there():
    assert {"supervised", "pseudo_label", "noisy_student", "smoke"} <= set(RECIPES)
    assert {"shapes", "folder", "camvid", "nuclei"} <= set(DATA)


def test_students_grow_in_size_and_noise():
    config = compose(["recipe=noisy_student"])
    students = config.generations[2:]  # of stored labels
    noise = [(g.noise.rand_m, g.noise.cutmix, g.noise.dropout, g.noise.drop_path) for g in students]
    assert len(noise) >= 2 and noise[0] != noise[-1]
    assert all(list(kind) == sorted(kind) for kind in zip(*noise, strict=True))
    assert config.model.encoder == "tu-resnet10t" and [g.encoder for g in students] == [None, "tu-resnet18d"]


@pytest.mark.parametrize(
    "recipe",
    [
        pytest.param(recipe, marks=() if recipe in QUICK else pytest.mark.slow)
        for recipe in RECIPES
        if recipe != "smoke"
    ],
)
def test_every_recipe_runs_at_smoke_size(run, tmp_path, recipe):
    """And computes what it did before: a change of the code that changes results has to say so (scripts/fingerprints.py)."""
    small = ["model.encoder=tu-test_vit"] if recipe == "dinov2" else []
    code, said, err = run(*SMALL, *small, f"recipe={recipe}", f"out={tmp_path / 'run'}")
    assert code == 0, err
    assert "test mIoU" in said and (tmp_path / "run" / "export" / "card.json").is_file()
    generations = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["generations"]
    assert len(list((tmp_path / "run").glob("gen*/report.json"))) == len(generations)
    known = known_fingerprints()
    assert bits(tmp_path / "run") == known.get(recipe, bits(tmp_path / "run"))


@pytest.mark.slow
def test_an_offline_teacher_is_what_supervised_trains(run, tmp_path):
    """What makes `supervised` the fair number to beat: the same bits where the settings are the same."""
    small = [*SMALL, "model.encoder=tu-resnet10t", "data.shapes.unlabelled=0"]
    weights = []
    for recipe in ("supervised", "dars"):
        code, _, err = run(*small, f"recipe={recipe}", f"out={tmp_path / recipe}")
        assert code == 0, err
        weights.append((tmp_path / recipe / "gen0" / "model" / "model.safetensors").read_bytes())
    assert weights[0] == weights[1]
