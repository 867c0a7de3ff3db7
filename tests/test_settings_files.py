"""A user's own recipes and data files: found, understood, and refused with the file."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from refusals import FOREIGN, said_of

from selftrain.errors import ConfigError
from selftrain.settings import compose


def test_a_users_own_recipe_folder_is_found_and_code_in_it_refused(tmp_path):
    tmp_path = tmp_path / "é (1), 'mine'"
    tmp_path.mkdir()
    (tmp_path / "recipe").mkdir()
    own = tmp_path / "recipe" / "mine.yaml"
    own.write_text("# @package _global_\nrecipe: mine\ntrain: {lr: 0.5}\n")
    assert compose(["recipe=mine"], str(tmp_path)).train.lr == 0.5
    for hostile in ("_target_: os.system", "out: ${oc.env:HOME}"):
        own.write_text(f"# @package _global_\n{hostile}\n")
        with pytest.raises(ConfigError):
            compose(["recipe=mine"], str(tmp_path))


def own(folder, text, group="recipe"):
    """A user's folder with one file of his own, called mine."""
    (folder / group).mkdir(parents=True)
    (folder / group / "mine.yaml").write_text(text, encoding="utf-8")
    return [f"{group}=mine"], str(folder)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("train: {epochs: 3}", "recipe/mine.yaml: train.epochs: no such setting; did you mean train.steps?"),
        (
            "train: {schedule: {poly: {power: {a: 1}}}}",
            "train.schedule.poly.power={a: 1}: expected a number, a word or a list",
        ),
        (
            "train: {steps: many}",
            "recipe/mine.yaml: train.steps=many: expected a whole number, e.g. train.steps=1000",
        ),
        ("train: 5", "recipe/mine.yaml: train=5: it has settings of its own"),
        (
            "generations: 3",
            "recipe/mine.yaml: generations=3: expected a list with one entry for each generation",
        ),
        (
            "data: {classes: [off, on]}",
            "recipe/mine.yaml: data.classes=[false,true]: YAML does not read on, off",
        ),
        ("data: {classes: [1.10, a]}", "quote them"),
        ("data: {unlabelled: no}", "recipe/mine.yaml: data.unlabelled=false: YAML does not read on, off"),
        ("defaults: [absent]", "recipe=mine: a file in "),
        ("defaults: {a: [}", "recipe/mine.yaml is refused: not YAML"),
        ("defaults: 5", "cannot be put together"),
        ("recipe: mine\nrecipe: twice", "cannot be put together"),
    ],
)
def test_a_mistake_in_a_users_file_is_told_with_the_file(tmp_path, text, said):
    overrides, folder = own(tmp_path, f"# @package _global_\n{text}\n")
    told = said_of(*overrides, config_dir=folder)
    assert said in told and str(tmp_path) in told and not FOREIGN.search(told.replace(str(tmp_path), ""))


def test_a_users_file_may_be_as_short_as_the_command_line(tmp_path):
    overrides, folder = own(
        tmp_path, "name: mine\nformat: folder\nclasses: [straße, 'off', 7]\nsize: 64\nignore: 0\n", "data"
    )
    data = compose(["recipe=supervised", *overrides], folder).data
    assert (data.name, data.classes, data.size, data.ignore) == (
        "mine",
        ["straße", "off", "7"],
        [64, 64],
        [0],
    )
    assert "camvid, folder, mine, nuclei" in said_of("data=other", config_dir=folder)


def test_a_users_recipe_may_begin_with_another(tmp_path):
    overrides, folder = own(
        tmp_path, "# @package _global_\ndefaults: [smoke]\nrecipe: mine\ntrain: {lr: 1e-2}\n"
    )
    config = compose(overrides, folder)
    assert (config.recipe, config.train.lr, config.train.steps) == ("mine", 0.01, 12)


def test_a_config_folder_that_is_not_there_is_a_mistake(tmp_path):
    with pytest.raises(ConfigError, match="no such folder"):
        compose([], str(tmp_path / "none"))


def test_threads_may_compose_settings_at_the_same_time():
    """Hydra keeps its state in the process, and threads took it from each other."""
    recipes = ["supervised", "noisy_student", "fixmatch", "st"] * 5
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda recipe: compose([f"recipe={recipe}", "data=nuclei"]).recipe, recipes))
    assert found == recipes


def test_a_data_file_gives_its_name_and_its_place_for_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text(
        "# @package _global_\ndata: {format: folder, root: /data, classes: [a, b]}\n"
    )
    for words in (["data=mine.yaml"], ["mine.yaml"]):
        config = compose(words)
        assert (config.data.name, config.data.root, config.out) == ("mine", "/data", "runs/mine")
        assert config.train.steps == compose(["data=folder"]).train.steps  # nothing of data=shapes remains
    config = compose(["mine.yaml", "out=elsewhere", "data.root=/other"])
    assert (config.out, config.data.root, config.given) == ("elsewhere", "/other", [])
    planned = compose(["mine.yaml", "out=elsewhere", "train.plan=auto"])
    given = ["data.classes", "data.format", "data.root", "out", "train.plan"]
    assert planned.given == given  # the plan leaves them


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("data: {root: ${oc.env:HOME}}\n", "is refused"),
        ("defaults: [x]\n", "`defaults` is refused"),
        ("data: {clases: [a, b]}\n", "data.clases: no such setting; did you mean data.classes"),
        ("data: [\n", "is refused: not YAML"),
    ],
)
def test_a_data_file_is_checked_like_the_command_line(content, message, tmp_path):
    (tmp_path / "mine.yaml").write_text(content)
    with pytest.raises(ConfigError) as caught:
        compose([f"data={tmp_path / 'mine.yaml'}"])
    assert message in str(caught.value) and "mine.yaml" in str(caught.value)


def test_a_data_file_that_is_missing_is_named_with_the_command_that_writes_it():
    with pytest.raises(ConfigError, match=r"no such file; selftrain init FOLDER -o x/mine\.yaml writes it"):
        compose(["data=x/mine.yaml"])
