"""The door: settings, and what is refused before and while a run begins."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from runs import SMOKE, run_command
from selftrain.data.augment.randaugment import OFF
from selftrain.data.load import load
from selftrain.datasets import spec_of
from selftrain.errors import ConfigError
from selftrain.plan import plans
from selftrain.preflight import check, check_data, check_processes
from selftrain.settings import compose


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


def test_no_out_is_a_mistake(run):
    code, _, err = run("recipe=smoke")
    assert code == 2 and "out" in err


@pytest.mark.slow
def test_what_was_printed_before_is_printed_where_letters_are_lacking(zygote, tmp_path):
    done = run_command("data.classes=[背景,b]", "--show", PYTHONIOENCODING="ascii")
    assert done[0] == 0 and r"- \u80cc\u666f" in done[1], done


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


def test_a_batch_has_an_image_for_each_process():
    config = compose(["recipe=smoke", "train.unlabelled_batch=2"])
    check_processes(config, plans(config), 2)
    with pytest.raises(ConfigError, match="a batch of 2 cannot be shared by 3 processes"):
        check_processes(config, plans(config), 3)
