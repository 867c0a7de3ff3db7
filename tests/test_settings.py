"""How settings are understood on the command line, and stored."""

import re
from dataclasses import asdict
from pathlib import Path

import pytest
import yaml
from refusals import FOREIGN, said_of

from selftrain.choices import completed
from selftrain.config import Config, GenerationConfig
from selftrain.errors import ConfigError
from selftrain.settings import compose, flow, read, stored
from selftrain.settings.changes import flat


def test_paths_may_hold_blanks_quotes_and_any_letter():
    assert compose(["out=/a b/ü'n (1)"]).out == "/a b/ü'n (1)"
    assert compose(["data.splits.group=^([^_]+)_"]).data.splits.group == "^([^_]+)_"
    assert compose([r"data.splits.group=^(\d+)_[\w.]\\"]).data.splits.group == r"^(\d+)_[\w.]\\"
    assert compose([r"out=a\'b\\'c\\"]).out == r"a\'b\\'c\\"
    assert compose(["data.splits.train=few (1).txt"]).data.splits.train == "few (1).txt"


def test_classes_may_have_any_name():
    assert compose(["data.classes=[straße, low vegetation,(other)]"]).data.classes == [
        "straße",
        "low vegetation",
        "(other)",
    ]
    assert compose(["data.classes=['a, b',c]"]).data.classes == ["a, b", "c"]
    assert compose(["data.classes=[]"]).data.classes == []


def test_words_that_mean_something_to_yaml_are_names_of_classes_as_written():
    assert compose(["data.classes=[on,off,null,1,~,1.10]"]).data.classes == [
        "on",
        "off",
        "null",
        "1",
        "~",
        "1.10",
    ]
    assert compose(["data.classes=[driver's seat,'it''s',\"a, [b]\"]"]).data.classes == [
        "driver's seat",
        "it''s",
        "a, [b]",
    ]


@pytest.mark.parametrize(
    ("override", "section", "name", "value"),
    [
        ("data.classes=road,car", "data", "classes", ["road", "car"]),
        ("data.classes=road", "data", "classes", ["road"]),
        ("data.ignore=255", "data", "ignore", [255]),
        ("data.values=0, 255", "data", "values", [0, 255]),
        ("data.mean=0.5,0.5,0.5", "data", "mean", [0.5, 0.5, 0.5]),
        ("data.size=512", "data", "size", [512, 512]),
        ("data.size=[384]", "data", "size", [384, 384]),
        ("data.size=480,640", "data", "size", [480, 640]),
        ("data.size=longest,512", "data", "size", ["longest", 512]),
        ("data.size=[]", "data", "size", []),
        ("train.crop=256", "train", "crop", [256, 256]),
        ("train.flip=off", "train", "flip", False),
        ("train.flip=True", "train", "flip", True),
        ("train.lr=1e-3", "train", "lr", 0.001),
        ("train.lr=1", "train", "lr", 1.0),
        ("++train.steps=1_000", "train", "steps", 1000),
        ("model.weights=null", "model", "weights", None),
        ("data.unlabelled=", "data", "unlabelled", ""),
        ("data.unlabelled=''", "data", "unlabelled", ""),
        ("train={steps: 7, crop: 64}", "train", "crop", [64, 64]),
    ],
)
def test_settings_as_people_write_them(override, section, name, value):
    found = getattr(getattr(compose([override]), section), name)
    assert found == value and type(found) is type(value)


def test_a_section_keeps_what_is_not_named_and_a_list_does_not():
    config = compose(
        ["data.shapes={val: 3,test:2}", "train={steps: 7}", "train.lr=0.5", "generations=[{steps: 1},{}]"]
    )
    assert config.data.shapes == {"labelled": 24, "unlabelled": 200, "val": 3, "test": 2}
    assert (config.train.steps, config.train.lr, config.train.crop) == (7, 0.5, [64, 64])  # of data=shapes
    assert config.generations == [GenerationConfig(steps=1), GenerationConfig()]
    student = compose(["generations.1={noise: {style: 0.25}}", "generations.1.steps=9"]).generations[1]
    assert (student.steps, student.online, student.noise.style, student.noise.cutmix) == (
        9,
        "unimatch_v2",
        0.25,
        1.0,
    )
    assert compose(["train.steps=3", "train.steps=4"]).train.steps == 4


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("train.steps=many", "train.steps=many: expected a whole number, e.g. train.steps=1000"),
        ("train.steps=2.5", "train.steps=2.5: expected a whole number, e.g. train.steps=1000"),
        ("train.steps=", "train.steps=: expected a whole number, e.g. train.steps=1000"),
        ("train.steps=1,2", "train.steps=1,2: expected a whole number, e.g. train.steps=1000"),
        ("select.keep=most", "select.keep=most: expected a number, e.g. select.keep=0.6"),
        (
            "train.schedule.poly=0.9",
            "train.schedule.poly=0.9: expected settings in braces, e.g. 'train.schedule.poly={}'",
        ),
        ("train.schedule={poly: 0.9}", "train.schedule.poly=0.9: expected settings in braces"),
        (
            "generations.1.noise.geometry=rotate",
            "generations.1.noise.geometry=rotate: expected names with their numbers in braces, "
            "e.g. 'generations.1.noise.geometry={rotate90: 0.5}'",
        ),
        ("train.flip=maybe", "train.flip=maybe: expected true or false, e.g. train.flip=true"),
        (
            "data.size=large",
            "data.size=['large', 'large'] must be [height, width], [longest, side] or [shortest, side]",
        ),
        ("data.size=[512", "data.size=[512: expected a list of numbers or words, e.g. 'data.size=[512,512]'"),
        ("data.size=", "data.size=: expected a list of numbers or words, e.g. 'data.size=[512,512]'"),
        (
            "data.colours=[0,0,0]",
            "expected a list of lists of whole numbers, e.g. 'data.colours=[[0,0,0],[255,0,0]]'",
        ),
        (
            "data.classes=[a,,b]",
            "data.classes=[a,,b]: expected a list of names, e.g. 'data.classes=[road,car]'",
        ),
        ("data.root=null", "data.root=null: expected text; for none write data.root= and nothing after it"),
        (
            "generations=3",
            "expected a list with one entry for each generation, e.g. 'generations=[{},{},{}]'",
        ),
        (
            "generations=[{steps: x}]",
            "generations.0.steps=x: expected a whole number, e.g. generations.0.steps=4",
        ),
        (
            "generations.1.noise=much",
            "generations.1.noise=much: it has settings of its own, e.g. generations.1.noise.rand_n=0",
        ),
        ("labels.crf=off", "labels.crf=off: it has settings of its own, e.g. labels.crf.enabled=true"),
        (
            "data.shapes={labelled: x}",
            "data.shapes.labelled=x: expected a whole number, e.g. data.shapes.labelled=24",
        ),
    ],
)
def test_a_wrong_value_is_answered_with_one_that_can_be_pasted(override, said):
    assert said in said_of(override)
    example = re.search(r"e\.g\. (.*)$", said)
    if example:
        compose([example[1].strip("'")])


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("train.epochs=10", "train.epochs: no such setting; did you mean train.steps?"),
        ("data.colors=[[0,0,0]]", "data.colors: no such setting; did you mean data.colours?"),
        ("lr=0.1", "lr: no such setting; did you mean train.lr?"),
        ("train.batch_size=4", "did you mean train.labelled_batch?"),
        ("generations.2.batch_size=4", "did you mean generations.2.labelled_batch?"),
        ("train.encoder=tu-resnet18", "did you mean model.encoder or generations.0.encoder?"),
        ("train.stepz=1", "train.stepz: no such setting; did you mean train.steps?"),
        ("+train.stepz=1", "train.stepz: no such setting; did you mean train.steps?"),
        ("trian.lr=1", "did you mean train.lr?"),
        ("crf.iterations=3", "did you mean labels.crf.iterations?"),
        ("model.backbone=x", "did you mean model.encoder?"),
        ("data.image-size=3", "did you mean data.size?"),
        (
            "train={steps: 3, learning_rate: 1}",
            "train.learning_rate: no such setting; did you mean train.lr?",
        ),
        (
            "data.shapes.more=3",
            "there are data.shapes.labelled, data.shapes.unlabelled, data.shapes.val, data.shapes.test",
        ),
        ("nothing.alike=3", "nothing.alike: no such setting; python -m selftrain.run --show lists all"),
    ],
)
def test_an_unknown_name_is_answered_with_near_ones(override, said):
    assert said in said_of(override)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            ["recipe=noisystudent"],
            "recipe=noisystudent: no such recipe; did you mean recipe=noisy_student? (there are cps, dars, ",
        ),
        (["data=unknown"], "data=unknown: no such data set (there are camvid, folder, nuclei, shapes)"),
        (["data=/data/mine"], "for images there run selftrain init /data/mine"),
        (["recipe=smoke", "recipe=st"], "recipe is given twice"),
        (["smoke"], "'smoke' is not NAME=VALUE; write recipe=smoke"),
        (["noise"], "'noise' is not NAME=VALUE; see python -m selftrain.run --help"),
        (["/a b"], "for images there run selftrain init '/a b', which writes their data YAML"),
        (["=5"], "'=5' is not NAME=VALUE"),
        (["~train.steps=3"], "no setting can be removed"),
        (["+generations.0._target_=os.system"], "_target_"),
        (["hydra.run.dir=x"], "'hydra.run.dir=x' is refused"),
        (["hydra/launcher=x"], "'hydra/launcher=x' is refused"),
        (["model.weights=${oc.env:HOME}"], "refused"),
        (["generations.x.steps=3"], "generations.x.steps: no such setting"),
    ],
)
def test_a_command_line_that_means_nothing_is_refused_with_what_to_write(overrides, said):
    assert said in said_of(*overrides)


def test_a_run_directory_among_the_settings_is_answered_with_out(tmp_path):
    (tmp_path / "config.yaml").touch()
    assert said_of(str(tmp_path)).endswith(f"write out={tmp_path}")


def test_a_data_file_without_its_suffix_is_answered_with_the_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("nuclei.yaml").touch()
    assert said_of("nuclei").endswith("for the data of that file write nuclei.yaml")


def test_a_further_generation_is_refused_with_a_list_that_adds_it():
    said = said_of("recipe=noisy_student", "generations.4.noise.style=0.25")
    assert said.startswith(
        "generations.4.noise.style=0.25: recipe=noisy_student has 4 generations, counted from 0"
    )
    before, after = (
        compose(["recipe=noisy_student", *more])
        for more in ([], [re.search(r"'(generations=.*)'$", said)[1]])
    )
    assert after.generations[:4] == before.generations and len(after.generations) == 5
    assert after.generations[4].noise.style == 0.25 and after.generations[4].online == ""
    assert "pseudo_label has 2 generations" in said_of(
        "recipe=pseudo_label", "generations.2.encoder=tu-resnet50"
    )


def every_name():
    return [name for name in flat(Config()) if name.count(".") or name in ("out", "seed")]


WRONG = [
    "",
    "null",
    "maybe",
    "1,2",
    "[1",
    "{a: 1}",
    "[[a]]",
    "x y",
    "3.5",
    "-",
    "[{}]",
    "=",
    "'",
    "range(1,3)",
    "@",
    "((",
    "[a,b]",
    "\\",
]


def test_whatever_is_given_no_message_is_of_another_program():
    """Every setting with every kind of wrong value; what fits a setting is not refused here."""
    refused = 0
    names = [
        *every_name(),
        "train",
        "generations",
        "generations.0",
        "labels.crf",
        "data.splits",
        "model",
        "train.steps.x",
        "a b",
    ]
    for name in names:
        for value in WRONG:
            try:
                read(*f"{name}={value}".split("=", 1))
            except ConfigError as error:
                refused += 1
                assert name in str(error) and error.exit_code == 2, error
                assert not FOREIGN.search(str(error).replace(f"{name}={value}", "")), error
    assert refused > 8 * len(names)
    for name in names:
        assert not FOREIGN.search(said_of(f"{name}x=1")) and not FOREIGN.search(said_of(f"x{name}=1"))


def test_every_setting_can_be_given_the_value_that_it_has():
    config = compose(["recipe=noisy_student", "data=camvid"])
    rows = {name: value for name, value in flat(config).items() if name not in ("recipe", "data.name")}
    given = [f"{name}={flow(value) if value != '' else ''}" for name, value in rows.items()]
    assert compose(["recipe=noisy_student", "data=camvid", *given]) == config


@pytest.mark.parametrize(
    "given", [["train.schedule={poly: {power: 2}}"], ["train.schedule=poly", "train.schedule.poly.power=2"]]
)
def test_the_entry_of_a_table_is_chosen_with_its_settings(given):
    assert compose(["recipe=smoke", *given]).train.schedule == {"poly": {"power": 2}}
    assert compose(["recipe=smoke", *given, "train.schedule=cosine"]).train.schedule == "cosine"


def test_extra_generations_are_like_the_last_one_wherever_they_are_asked_for():
    given = ["generations.2.steps=5", "generations.extra=1", "generations=[{}, {encoder: tu-resnet18}]"]
    rows = compose(["recipe=smoke", *given]).generations
    assert [row.encoder for row in rows] == [None, "tu-resnet18", "tu-resnet18"]
    assert [row.steps for row in rows] == [None, None, 5]
    with pytest.raises(ConfigError, match=r"generations\.extra=-1 must be at least 0"):
        compose(["recipe=smoke", "generations.extra=-1"])
    with pytest.raises(ConfigError, match=r"generations\.extra=x: expected a whole number"):
        compose(["recipe=smoke", "generations.extra=x"])


@pytest.mark.parametrize("recipe", ["noisy_student", "unimatch_v2", "dars", "st_plus_plus"])
def test_stored_settings_come_back_as_they_were(tmp_path, recipe):
    words = [
        "data=folder",
        "data.root=/x",
        "data.classes=[a,'off']",
        "data.values=[0,[1,2]]",
        "train.schedule=poly",
    ]
    config = compose([f"recipe={recipe}", *words])
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(completed(asdict(config)), sort_keys=False))
    assert completed(asdict(stored(path, []))) == completed(asdict(config))
    assert stored(path, ["train.workers=3"]).train.workers == 3
    path.write_text("generations: [{}]\ntrain: {stepz: 3}\n")
    with pytest.raises(ConfigError, match=r"config\.yaml: train\.stepz: no such setting"):
        stored(path, [])
