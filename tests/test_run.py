"""The door: settings, refusals and recipes."""

import json
import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

from runs import ROOT, SMALL, SMOKE, bits, known_fingerprints, run_command
from selftrain.config import Config
from selftrain.data.augment.randaugment import OFF
from selftrain.data.cache import Cache
from selftrain.data.load import load
from selftrain.datasets import spec_of
from selftrain.errors import ConfigError
from selftrain.inference.pixels import PixelScale
from selftrain.material import Material
from selftrain.plan import plans
from selftrain.preflight import check, check_data, check_processes
from selftrain.settings import compose

RECIPES = sorted(path.stem for path in (ROOT / "recipes" / "recipe").glob("*.yaml"))
QUICK = ("noisy_student", "supervised")  # the recipes that `make test` runs
DATA = sorted(path.stem for path in (ROOT / "recipes" / "data").glob("*.yaml"))


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("data", DATA)
def test_every_recipe_composes_with_every_data_set(recipe, data):
    config = compose([f"recipe={recipe}", f"data={data}"])
    assert isinstance(config, Config) and config.recipe == recipe and config.data.name == data


def test_the_names_that_the_issue_promises_are_there():
    assert {"supervised", "pseudo_label", "noisy_student", "smoke"} <= set(RECIPES)
    assert {"shapes", "folder", "camvid", "nuclei"} <= set(DATA)


def test_students_grow_in_size_and_noise():
    config = compose(["recipe=noisy_student"])
    students = config.generations[2:]  # of stored labels
    noise = [(g.noise.rand_m, g.noise.cutmix, g.noise.dropout, g.noise.drop_path) for g in students]
    assert len(noise) >= 2 and noise[0] != noise[-1]
    assert all(list(kind) == sorted(kind) for kind in zip(*noise, strict=True))
    assert config.model.encoder == "tu-resnet10t" and [g.encoder for g in students] == [None, "tu-resnet18d"]


def test_plain_overrides_reach_everything_generations_too():
    config = compose(
        ["recipe=noisy_student", "train.steps=7", "generations.1.steps=9", "generations.1.noise.rand_m=3"]
    )
    assert (
        config.train.steps == 7
        and config.generations[1].steps == 9
        and config.generations[1].noise.rand_m == 3
    )
    assert config.generations[0].steps is None


def test_a_range_and_what_is_ignored_may_be_given_with_and_without_brackets():
    def data(text):
        return compose([text]).data

    assert data("data.range=percentile").range == data("data.range=[percentile]").range == ["percentile"]
    assert data("data.range=[0,4095]").range == data("data.range=0,4095").range == [0, 4095]
    assert data("data.ignore=rest").ignore == ["rest"] and data("data.ignore=[255,rest]").ignore == [
        255,
        "rest",
    ]
    assert data("data.values=[0,[1,2]]").values == [0, [1, 2]]
    assert compose([]).data.range == ["dtype"]


def test_options_may_stand_anywhere(run):
    code, said, err = run("recipe=supervised", "--show", "train.steps=7")
    assert code == 0 and "steps: 7" in said, err


def test_show_prints_the_settings_of_entries_and_refuses_unknown_ones(run):
    code, said, err = run("--show", "train.schedule=poly", "loss.labelled.dice=2")
    assert code == 0 and {"weight: 2.0", "smooth: 1.0", "power: 0.9"} <= {
        *map(str.strip, said.splitlines())
    }, err
    code, said, err = run("--show", "loss.labelled.dise=2")
    assert (code, said) == (2, "") and "loss.labelled: there is no 'dise'; there are ce, kl" in err


@pytest.mark.parametrize(
    ("settings", "code", "said"),
    [
        (["train.crop=[33,32]"], 2, "train.crop"),
        (["train.schedule=stairs"], 2, "cosine, poly"),
        (["train.schedule={poly: {power: -1}}"], 2, "train.schedule.poly.power=-1 must be at least 0"),
        (
            ["train.schedule=plateau", "train.eval_every=0"],
            2,
            "train.schedule=plateau follows the scores on val",
        ),
        (["train.freeze=always"], 2, "generations.1.noise.drop_path=0.05 acts in the encoder"),
        (["train.freeze=never"], 2, "train.freeze=never must be a number of steps or always"),
        (["train.groups=heads"], 2, "train.groups: there is no 'heads'; there are one"),
        (["train.average={swa: {begin: 0.5}}"], 2, "train.average.swa.begin: no such setting; swa has start"),
        (["train.schedule=one_cycle"], 2, "a rise of its own; set train.warmup=0"),
        (["train.patience=2", "train.eval_every=0"], 2, "train.patience=2 waits for scores on val"),
        (
            ["train.patience=2", "select.reliability=agreement"],
            2,
            "train.patience may end a generation before",
        ),
        (["train.lookahead=5", "train.optimizer=lookahead_sgd"], 2, "has Lookahead already"),
        (["loss.class_weights={car: 2}"], 2, "loss.class_weights: there is no class 'car'; there are "),
        (["loss.class_weights={disc: -2}"], 2, "must be at least 0"),
        (
            ["loss.labelled={ce: 0, dice: 1}", "loss.class_weights={disc: 2}"],
            2,
            "loss.class_weights acts in ce and ohem and focal, and loss.labelled has none of them",
        ),
        (["loss.distill={kl: 1}", "generations=[{}]"], 2, "loss.distill acts in generations that learn from"),
        (["train.steps=0"], 2, "train.steps=0 must be at least 1"),
        (["select.confidence=80"], 2, "select.confidence=80.0 must lie between 0 and 1"),
        (["train.optimizer=nonsense"], 2, "train.optimizer"),
        (["model.encoder=nonsense"], 2, "nonsense"),
        (["model.weights=/nowhere.safetensors"], 2, "model.weights"),
        (["data=camvid"], 2, "data.root"),
        (["data=camvid", "data.root=/nowhere"], 3, "/nowhere"),
        (["data.shapes.labelled=0"], 2, "labelled"),
        (["labels.crf.bilateral_sxy=0"], 2, "bilateral_sxy"),
        (["select.threshold=global", "select.confidence=1.0", "labels.crf.enabled=false"], 8, "on_empty"),
    ],
)
def test_mistakes_end_with_their_exit_code_and_one_last_line(run, tmp_path, settings, code, said):
    got, _, err = run(*SMOKE, f"out={tmp_path / 'run'}", *settings)
    assert got == code and said in err.splitlines()[-1] and "Traceback" not in err, err


@pytest.mark.parametrize(
    "setting",
    ["select.keep=60", "train.ema=2", "train.lr=-1", "labels.shard=0", "labels.window=100", "labels.tta.scales=[]",
     "generations.1.noise.dropout=3", "generations.0.steps=0", "data.std=[0,0,0]", "loss.pseudo.kl.temperature=0", "seed=-1",
     "generations.0.init=teacher", "select.reliability=hope", "loss.adaptive=true",
     "predict.window={slide: {side: 100}}", "predict.decision=median", "predict.views=d5", "predict.size=[scale,0]",
     "predict.views={d4: {weights: [1,2]}}", "labels.windows={centre: {side: 64, margin: 40}}", "select.max_hole={disc: -1}",
     "labels.crf.bilateral_srgb=0", "labels.crf.backend=gpu", "train.lr=inf", "select.balance=nan"],
)  # fmt: skip
def test_impossible_values_are_refused_before_any_work(setting):
    with pytest.raises(ConfigError, match=setting.split("=")[0].removeprefix("labels.").replace(".", "[. ]")):
        check(compose(["recipe=smoke", setting]))


@pytest.mark.parametrize(
    "setting",
    ["predict.min_area={cat: 3}", "select.max_hole={cat: 3}", "predict.window={sparse: {background: 9}}"],
)
def test_classes_that_the_data_lack_are_refused_before_any_work(setting):
    cfg = compose(["recipe=smoke", setting])
    with pytest.raises(ConfigError, match=rf"{setting.split('=')[0]}.*disc"):
        check_data(load(spec_of(cfg.data)), cfg)


@pytest.mark.parametrize("noise", ["rand_n: 1", "cutout: 0.5"])
def test_noise_that_an_online_method_does_not_have_is_refused(noise):
    with pytest.raises(ConfigError, match="online"):
        check(compose(["recipe=smoke", f"generations=[{{online: fixmatch, noise: {{{noise}}}}}]"]))
    check(
        compose(
            [
                "recipe=smoke",
                "generations=[{online: fixmatch, noise: {labelled: true, rand_n: 1, cutout: 0.5}}]",
            ]
        )
    )


def test_noise_that_a_first_generation_has_no_image_for_is_said(run, tmp_path):
    settings = [*SMOKE, "train.steps=2", "generations=[{noise: {colour: 0.5, cutmix: 0.5, style: 0.5}}]"]
    _, out, _ = run(*settings, f"out={tmp_path / 'run'}")
    assert "generations.0: colour, cutmix of its noise have no effect" in out


def test_noise_reaches_labelled_images_where_that_is_asked():
    settings = ["recipe=smoke", "generations.1.noise.colour=0.5", "train.jitter=0.3"]
    plain, noised = (
        plans(config)[1].augmentation
        for config in (
            compose([*settings, f"generations.1.noise.labelled={labelled}"]) for labelled in ("false", "true")
        )
    )
    assert plain.labelled == replace(plain.unlabelled, randaugment=OFF, colours=())
    assert (
        noised.labelled == noised.unlabelled == plain.unlabelled and plain.unlabelled.colours[0].amount == 0.5
    )
    assert ([(one.name, one.p) for one in plain.mixers], plain.paste, plain.style) == (
        [("cutmix", 0.5)],
        0.5,
        0.5,
    )  # smoke's


@pytest.mark.slow
def test_statistics_are_measured_anew_over_what_a_generation_has_learnt_from(run, tmp_path):
    weights = []
    for name, settings in {
        "none": ["train.statistics=0"],
        "some": [],
        "others": ["data.shapes.unlabelled=8"],
    }.items():
        code, _, err = run(*SMOKE, "generations=[{}]", *settings, f"out={tmp_path / name}")
        assert code == 0, err
        weights.append(load_file(tmp_path / name / "gen0" / "model" / "model.safetensors"))
    running = {name for name in weights[0] if "running" in name}
    learnt = {name for name in weights[0] if name.endswith(("weight", "bias"))}
    none, same = (
        {name for name in one if torch.equal(one[name], weights[1][name])} for one in (weights[0], weights[2])
    )
    assert learnt <= none and not running & none
    assert learnt | running <= same  # a teacher that learns from labels alone has not met the others

    data = load(spec_of(compose([*SMOKE]).data))
    scale = PixelScale(torch.zeros(1, 3, 1, 1), torch.ones(1, 3, 1, 1))
    for online, teacher, student in (("''", False, True), ("fixmatch", True, True)):
        config = compose([*SMOKE, f"generations=[{{online: {online}}}, {{}}]"])
        whole, part = (
            Material(config.train, config.loss, one, None, Cache(64), scale)
            for one in (data, replace(data, unlabelled=[]))
        )
        for plan, differ in zip(plans(config), (teacher, student), strict=True):
            drawn = (torch.cat(list(one.unnoised(plan, (0, "statistics")))) for one in (whole, part))
            assert torch.equal(*drawn) != differ


@pytest.mark.parametrize("online", ["''", "fixmatch"])
def test_the_masks_say_what_pixels_of_a_class_weigh(online):
    config = compose([*SMOKE, f"generations=[{{online: {online}}}]"])
    accelerator = SimpleNamespace(num_processes=1, device="cpu", autocast=None, unwrap_model=None)
    scale = PixelScale(torch.zeros(1, 3, 1, 1), torch.ones(1, 3, 1, 1))
    data, (plan,) = load(spec_of(config.data)), plans(config)
    material = Material(config.train, config.loss, data, accelerator, Cache(64), scale)
    pixels, weights = material.class_pixels, material.step(plan).context.class_weights.numpy()
    assert pixels.sum() == sum(sample.read_mask().size for sample in data.labelled)  # smoke has no void
    np.testing.assert_allclose(
        weights**-2 / (weights**-2).sum(), pixels / pixels.sum(), rtol=1e-4
    )  # share^-0.5
    np.testing.assert_allclose((weights * pixels).sum(), pixels.sum(), rtol=1e-4)
    rare = data.classes[-1]
    config.loss.class_weights = {rare: 3.0}
    factors = material.step(plan).context.class_weights.numpy() / weights
    np.testing.assert_allclose(factors, [1.0] * (len(pixels) - 1) + [3.0], rtol=1e-6)
    config.loss.balance = 0.0
    given = material.step(plan).context.class_weights.numpy()
    np.testing.assert_allclose(given, [1.0] * (len(pixels) - 1) + [3.0])
    config.loss.class_weights = {}
    assert material.step(plan).context.class_weights is None


@pytest.mark.slow
def test_another_choice_of_pseudo_labels_is_taken_until_a_student_has_begun(run, tmp_path):
    out = tmp_path / "run"
    small = [*SMOKE, f"out={out}", "labels.crf.enabled=false"]
    refused = ["select.threshold=global", "select.confidence=1.0"]
    assert run(*small, *refused)[0] == 8
    labels = (out / "gen0" / "labels" / "index.json").stat().st_mtime_ns
    code, _, err = run(*small, *refused, "select.on_empty=labelled_only")  # the teacher is the result
    assert code == 0 and (out / "report.json").exists() and not (out / "gen1").exists(), err
    code, _, err = run(*small, "select.reliability=agreement")
    assert code == 2 and "select.reliability" in err  # the teacher's past would have been needed
    code, _, err = run(*small)
    assert code == 0, err
    assert (out / "gen0" / "labels" / "index.json").stat().st_mtime_ns == labels
    assert (out / "gen1" / "report.json").exists()
    code, _, err = run(*small, "select.keep=0.3")
    assert code == 2 and "select.keep" in err


def test_no_out_is_a_mistake(run):
    code, _, err = run("recipe=smoke")
    assert code == 2 and "out" in err


@pytest.mark.slow
def test_what_was_printed_before_is_printed_where_letters_are_lacking(zygote, tmp_path):
    done = run_command("data.classes=[背景,b]", "--show", PYTHONIOENCODING="ascii")
    assert done[0] == 0 and r"- \u80cc\u666f" in done[1], done


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


def test_a_batch_of_one_image_is_refused_where_it_has_no_statistics(run, tmp_path):
    alone = [
        *SMOKE,
        f"out={tmp_path / 'run'}",
        "train.labelled_batch=1",
        "train.crop=[64,64]",
        "train.eval_batch=1",
    ]
    alone += ["generations=[{steps: 1}]", "model.arch=deeplabv3plus", "model.decoder_channels=[]"]
    code, _, err = run(*alone)  # it pools over the whole image
    assert code == 2 and "one image per step" in err
    code, _, err = run(*alone, "train.labelled_batch=2")
    assert code == 0, err


def test_an_unreadable_unlabelled_image_is_left_out_from_the_first_look_on(run, tmp_path):
    for place, split in enumerate(("train", "val")):
        for name, pixels in (("images", (32, 32, 3)), ("masks", (32, 32))):
            (tmp_path / name / split).mkdir(parents=True)
            for i in range(4):
                value = 200 + 10 * place + i if name == "images" else i % 2
                Image.fromarray(np.full(pixels, value, np.uint8)).save(tmp_path / name / split / f"{i}.png")
    (tmp_path / "unlabelled").mkdir()
    for i in range(120):
        Image.fromarray(np.full((32, 32, 3), i, np.uint8)).save(tmp_path / "unlabelled" / f"{i:03}.png")
    first = tmp_path / "unlabelled" / "000.png"
    first.write_bytes(first.read_bytes()[:60])
    splits = ["data.splits.train=train", "data.splits.val=val", "data.splits.test_fraction=0"]
    settings = [
        "recipe=smoke",
        "data=folder",
        f"data.root={tmp_path}",
        "data.classes=[a,b]",
        *splits,
        "generations=[{}]",
    ]
    code, said, err = run(*settings, "export.onnx=false", f"out={tmp_path / 'run'}")
    assert code == 0 and "set aside: unlabelled/000.png: cannot be decoded" in said, err
    reasons = json.loads((tmp_path / "run" / "data.json").read_text())["set_aside_because"]
    assert reasons["unlabelled/000"].startswith("cannot be decoded")
    assert "unlabelled/000: cannot be decoded" in (tmp_path / "run" / "report.html").read_text()


def bright_and_dark(folder):
    """The settings of two steps on eight drawn 16-bit images."""
    for i in range(8):
        pixels = np.random.default_rng(i).integers(900, 1200, (64, 64)).astype(np.uint16)
        pixels[:32] += 2000
        for name, content in (
            ("images", pixels),
            ("masks", np.repeat([1, 0], 32)[:, None].repeat(64, 1).astype(np.uint8)),
        ):
            (folder / name).mkdir(exist_ok=True)
            Image.fromarray(content).save(folder / name / f"{i}.png")
    return [
        "data=folder", f"data.root={folder}", "data.classes=[low,high]", "data.unlabelled=", "recipe=supervised",
        "train.steps=2", "train.statistics=1", "train.crop=[64,64]", "export.onnx=false", "train.labelled_batch=2", "model.weights=null",
    ]  # fmt: skip


@pytest.mark.slow
def test_a_measured_range_is_kept_for_resumes_and_exports(run, tmp_path):
    settings, out = bright_and_dark(tmp_path), tmp_path / "measured"
    measured = [*settings, "data.range=percentile"]
    assert run(*measured, f"out={out}")[0] == 0
    low, high = json.loads((out / "data.json").read_text())["range"]
    assert 890 <= low <= 910 and 3190 <= high <= 3200
    card = json.loads((out / "export" / "card.json").read_text())
    assert card["input"]["range"] == [low, high] and card["masks"] == {"values": [0, 1]}
    code, _, err = run(*settings, "data.range=[0,4095]", f"out={out}")
    assert code == 2 and "data.range: ['percentile'] -> [0, 4095]" in err
    (out / "report.json").unlink()
    assert run(*measured, f"out={out}")[0] == 0
    assert json.loads((out / "data.json").read_text())["range"] == [low, high]


@pytest.mark.slow
def test_a_measured_range_reaches_training(run, tmp_path):
    settings = bright_and_dark(tmp_path)

    def learnt(name, *more):
        assert run(*settings, *more, f"out={tmp_path / name}")[0] == 0
        return (tmp_path / name / "gen0/model/model.safetensors").read_bytes()

    measured = learnt("measured", "data.range=percentile")
    low, high = json.loads((tmp_path / "measured" / "data.json").read_text())["range"]
    assert measured == learnt("given", f"data.range=[{low},{high}]") != learnt("high_bytes")
    assert "range" not in json.loads((tmp_path / "high_bytes" / "data.json").read_text())


@pytest.mark.slow
def test_a_pair_of_networks_may_be_asked_how_far_it_agrees_with_its_past(run, tmp_path):
    settings = [
        "generations=[{online: cps},{image_share: 0.5}]",
        "select.reliability=agreement",
        "labels.crf.enabled=false",
    ]
    code, _, err = run(*SMOKE, *settings, f"out={tmp_path / 'run'}")
    assert code == 0 and (tmp_path / "run" / "gen0" / "reliability.json").exists(), err


def test_a_batch_has_an_image_for_each_process():
    config = compose(["recipe=smoke", "train.unlabelled_batch=2"])
    check_processes(config, plans(config), 2)
    with pytest.raises(ConfigError, match="a batch of 2 cannot be shared by 3 processes"):
        check_processes(config, plans(config), 3)


def test_without_unlabelled_images_the_teacher_is_exported(run, tmp_path):
    code, said, err = run(*SMOKE, "data.shapes.unlabelled=0", f"out={tmp_path / 'run'}")
    assert code == 0, err
    assert "no unlabelled images" in said and (tmp_path / "run" / "export" / "model.safetensors").is_file()


@pytest.mark.slow
def test_the_last_one_teaches_whatever_val_says_where_that_is_asked_for(run, tmp_path):
    """ST++ labels anew with its first student; what leads on val is still what is exported."""
    settings = [
        "generations=[{steps: 30}, {steps: 1}, {steps: 1}]",
        "labels.teacher=last",
        f"out={tmp_path / 'run'}",
    ]
    code, _, err = run(*SMOKE, *settings)
    assert code == 0, err
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert [(g["teacher"], g["promoted"]) for g in report["generations"]] == [
        (None, True),
        (0, False),
        (1, False),
    ]
    assert report["best"] == report["exported"] == 0 and report["generations"][1]["labels"]["generation"] == 1


def test_the_incumbent_goes_on_teaching_and_a_small_last_student_can_be_what_is_exported(run, tmp_path):
    """A student of one step with a rate of nearly nought cannot beat its teacher; the next one learns from generation 0."""
    students = "{steps: 1}, {steps: 1, encoder: tu-mobilenetv3_small_050}"
    settings = [
        f"generations=[{{steps: 30}}, {students}]",
        "export.generation=last",
        f"out={tmp_path / 'run'}",
    ]
    code, said, err = run(*SMOKE, *settings)
    assert code == 0 and "generations.2: its network is smaller than the one before" in said, err
    assert "few images in val (4)" in said
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    teacher, student, last = report["generations"]
    assert [g["promoted"] for g in (teacher, student, last)] == [True, False, False]
    assert student["teacher"] == last["teacher"] == report["best"] == 0 and report["exported"] == 2
    assert last["model"]["params"] < teacher["model"]["params"]
    assert not (tmp_path / "run" / "gen1" / "labels").exists()
    card = json.loads((tmp_path / "run" / "export" / "card.json").read_text())
    assert card["model"]["encoder"] == "tu-mobilenetv3_small_050" and card["metrics"]["val"] == last["val"]
    quality = teacher["labels"]["quality"]
    assert set(quality) == {"raw", "tta", "crf", "selected"} and set(teacher["labels"]["kept"]) == set(
        card["classes"]
    )


def test_a_student_begins_as_its_teacher_a_deeper_one_too(run, tmp_path):
    """resnet26t has the blocks of resnet14t and as many more, which begin as the identity."""
    students = "{steps: 1, init: teacher}, {steps: 1, init: teacher, encoder: tu-resnet26t}"
    settings = [
        "model.encoder=tu-resnet14t",
        f"generations=[{{}}, {students}]",
        "train.lr=1e-9",
        f"out={tmp_path / 'run'}",
    ]
    code, said, err = run(*SMOKE, *settings)
    assert code == 0, err
    ((number, fitting, own),) = re.findall(r"gen(\d): (\d+) of its (\d+) tensors are its teacher's", said)
    assert number == "2" and int(fitting) < int(own)
    teacher, *students = (
        load_file(tmp_path / "run" / f"gen{n}" / "model" / "model.safetensors") for n in range(3)
    )
    learnt = [name for name in teacher if name.endswith(("weight", "bias"))]
    for student in students:
        assert not [name for name in learnt if not torch.allclose(student[name], teacher[name], atol=1e-5)]


def test_agreement_needs_three_steps_of_every_generation_that_is_worked():
    few = ["recipe=smoke", "select.reliability=agreement", "generations=[{steps: 3},{steps: 2}]"]
    with pytest.raises(ConfigError, match="needs 3 or more"):
        check(compose(few))
    check(compose([*few[:2], "train.steps=2", "generations=[{steps: 3},{steps: 4}]"]))
