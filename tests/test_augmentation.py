"""The settings of augmentation: what each chooses, and what is refused."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from runs import SMOKE
from selftrain.augmentation import TABLES, of, sampler, weak
from selftrain.choices import completed
from selftrain.data.augment.randaugment import OFF
from selftrain.data.augment.view import View
from selftrain.errors import ConfigError
from selftrain.preflight import check
from selftrain.settings import compose
from selftrain.settings.changes import differences

ONE = ["recipe=smoke", "generations=[{}]"]


def resolved(*settings, number=0):
    cfg = compose([*ONE, *settings])
    check(cfg)
    return of(cfg.train, cfg.generations[number], number)


def names(entries):
    return [(one.name, one.amount, one.settings) for one in entries]


def test_short_settings_choose_entries_of_the_same_tables():
    noisy = resolved(
        "train.jitter=0.2",
        "generations.0.noise={colour: 0.5, cutout: 0.3, rand_n: 2, rand_m: 7, labelled: true}",
    ).labelled
    assert names(noisy.geometry) == [("flip", 0.5, {})]
    assert names(noisy.always) == [("jitter", 1.0, {"strength": 0.2})]
    assert names(noisy.colours) == [("colour_noise", 0.5, {})]
    assert names(noisy.erase) == [("cutout", 0.3, {"most": 0.4})]
    assert (noisy.randaugment.n, noisy.randaugment.magnitude) == (2, 7.0)


def test_what_is_switched_off_is_not_in_the_pipeline():
    plain = resolved("train.jitter=0", "train.flip=false", "generations.0.noise.geometry.rotate=0").unlabelled
    assert not (plain.geometry or plain.always or plain.colours or plain.erase) and plain.randaugment == OFF


def test_entries_have_a_probability_or_settings_and_act_in_the_order_of_the_table():
    geometry = "{rotate: {p: 0.3, degrees: 15}, vflip: 0.5}"
    noise = f"{{geometry: {geometry}, colours: {{blur: 0.2}}, erase: {{cutout: {{most: 0.1}}}}}}"
    seen = resolved(f"generations.0.noise={noise}").unlabelled
    assert names(seen.geometry) == [("flip", 0.5, {}), ("vflip", 0.5, {}), ("rotate", 0.3, {"degrees": 15.0})]
    assert names(seen.colours) == [("blur", 0.2, {"most": 2.0})]
    assert names(seen.erase) == [("cutout", 1.0, {"most": 0.1})]


def test_labelled_images_get_noise_where_that_is_asked():
    noise = "generations.0.noise={geometry: {vflip: 1}, erase: {cutout: 1}, colours: {blur: 1}, labelled: %s}"
    plain, noised = (resolved(noise % labelled) for labelled in ("false", "true"))
    assert plain.labelled == weak(compose(ONE).train) and plain.labelled != plain.unlabelled
    assert noised.labelled == noised.unlabelled == plain.unlabelled


def test_online_views_share_the_geometry_of_a_crop_and_differ_in_colours():
    noise = "{geometry: {rotate90: 1}, colours: {blur: 1}}"
    views = resolved(f"generations=[{{online: fixmatch, noise: {noise}}}]").unlabelled
    assert [one.name for one in views.geometry] == ["flip", "rotate90"]
    assert [one.name for one in views.colours] == ["blur"] and not views.always and not views.erase


@pytest.mark.parametrize("choice", ["non_empty", "{non_empty: {tries: 3, background: 2}}"])
def test_a_place_is_chosen_by_name_or_with_settings(choice):
    place = resolved(f"train.place={choice}").labelled.place
    assert place.name == "non_empty" and place.settings["tries"] == (3 if "tries" in choice else 10)


def test_the_sampler_reads_the_masks_when_it_needs_them():
    reads = []

    def contents():
        reads.append(1)
        return np.array([[1, 0], [0, 1]])

    sampler(compose(ONE).train, 2, contents)(2, 0, (0,))
    assert not reads
    draw = sampler(compose([*ONE, "train.sampler=by_class"]).train, 2, contents)
    assert [draw(2, step, (0,)) for step in range(5)] and len(reads) == 1


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            "noise.geometry.rotat=1",
            "generations.0.noise.geometry: there is no 'rotat'; there are flip, vflip",
        ),
        (
            "noise.geometry.rotate.angle=1",
            "generations.0.noise.geometry.rotate.angle: no such setting; rotate has p, degrees",
        ),
        (
            "noise.geometry.rotate.degrees=200",
            "generations.0.noise.geometry.rotate.degrees=200 must lie between 0 and 180",
        ),
        ("noise.colours.blur=2", "generations.0.noise.colours.blur.p=2.0 must lie between 0 and 1"),
        (
            "noise.erase.cutout.most=all",
            "generations.0.noise.erase.cutout.most=all: expected float, e.g. 0.4",
        ),
        (
            "noise.geometry.flip=0.3",
            "generations.0.noise.geometry.flip: train.flip chooses flip, too; switch train.flip off",
        ),
        (
            "noise={colour: 1, colours: {colour_noise: 0.5}}",
            "generations.0.noise.colours.colour_noise: generations.0.noise.colour chooses colour_noise, too",
        ),
        (
            "noise={cutout: 1, erase: {cutout: 0.5}}",
            "generations.0.noise.erase.cutout: generations.0.noise.cutout chooses cutout, too; switch",
        ),
    ],
)
def test_what_no_table_has_or_what_is_chosen_twice_is_refused(setting, message):
    with pytest.raises(ConfigError) as error:
        check(compose([*ONE, f"generations.0.{setting}"]))
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("train.place=middle", "train.place: there is no 'middle'; there are uniform, non_empty"),
        ("train.place={non_empty: {tries: 0}}", "train.place.non_empty.tries=0 must be at least 1"),
        ("train.sampler=random", "train.sampler: there is no 'random'; there are uniform, by_class"),
        ("train.sampler={by_class: {share: 2}}", "train.sampler.by_class.share=2 must lie between 0 and 1"),
    ],
)
def test_choices_of_training_are_refused_alike(setting, message):
    with pytest.raises(ConfigError) as error:
        check(compose([*ONE, setting]))
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("table", "entry", "message"),
    [
        ("geometry", lambda rng, crop: np.eye(3)[:2], "returns [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], not an"),
        ("geometry", lambda rng, crop: np.zeros((3, 3)), "not an affine map (3, 3) that can be inverted"),
        (
            "colours",
            lambda image, rng: image * 1.1,
            "returns an image (32, 32, 3) float64, not (32, 32, 3) uint8",
        ),
        (
            "colours",
            lambda image, rng: image[..., 0],
            "returns an image (32, 32) uint8, not (32, 32, 3) uint8",
        ),
        ("colours", lambda image, rng: np.add(image, 1, out=image), "changes the image that it receives"),
        ("erase", lambda seen, rng: View(seen.image[1:], seen.index), "returns an image (31, 32, 3) uint8"),
    ],
)
def test_an_entry_that_does_not_return_what_it_must_is_refused_before_the_run(
    monkeypatch, table, entry, message
):
    monkeypatch.setitem(TABLES[f"noise.{table}"].entries, "own", entry)
    with pytest.raises(ConfigError) as error:
        check(compose([*ONE, f"generations.0.noise.{table}={{own: 0.1}}"]))
    assert str(error.value).startswith(f"generations.0.noise.{table}.own ") and message in str(error.value)


def test_online_views_get_policies_and_erasing_but_not_the_short_settings():
    noise = "{policy: {trivial: 0.5}, erase: {gridmask: 0.3}, cutout: 0.5, rand_n: 2, labelled: true}"
    seen = resolved(f"generations=[{{online: fixmatch, noise: {noise}}}]")
    assert [one.name for one in seen.unlabelled.policies] == ["trivial"]
    assert [one.name for one in seen.unlabelled.erase] == ["gridmask"]
    assert seen.unlabelled.randaugment == OFF and seen.labelled.randaugment.n == 2
    assert [one.name for one in seen.labelled.erase] == ["cutout", "gridmask"]
    for short in ("rand_n: 1", "cutout: 1"):
        with pytest.raises(ConfigError, match=r"noise\.policy={randaugment: 1} and noise\.erase={cutout: 1}"):
            check(compose(["recipe=smoke", f"generations=[{{online: fixmatch, noise: {{{short}}}}}]"]))


def test_mixings_of_labelled_images_are_chosen_apart_from_the_others():
    seen = resolved("generations.0.noise={mix: {classmix: 0.5}, mix_labelled: {mixup: {p: 0.3, alpha: 2}}}")
    assert [one.name for one in seen.mixers] == ["classmix"] and not seen.mixers[0].soft
    (mixer,) = seen.labelled_mixers
    assert (mixer.name, mixer.p, mixer.draw.keywords) == ("mixup", 0.3, {"alpha": 2.0}) and seen.softens


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            ["generations.0.noise.mix_labelled={mixup: 0.6, cutmix: 0.6}"],
            "probabilities add up to more than 1",
        ),
        (
            ["generations.0.noise.mix_labelled.mixup=1", "train.labelled_batch=1"],
            "train.labelled_batch must be",
        ),
        (
            ["generations.0.noise.mix_labelled.mixup.alpha=0"],
            "mix_labelled.mixup.alpha=0 must be at least 0.01",
        ),
    ],
)
def test_mixings_of_labelled_images_that_cannot_act_are_refused(settings, message):
    with pytest.raises(ConfigError) as error:
        check(compose([*ONE, *settings]))
    assert "generations.0.noise.mix_labelled" in str(error.value) and message in str(error.value)


def test_a_policy_needs_rgb():
    five = ["data.channels=5", "data.mean=[0,0,0,0,0]", "data.std=[1,1,1,1,1]", "train.jitter=0"]
    with pytest.raises(ConfigError, match=r"noise\.policy needs RGB"):
        check(compose([*ONE, *five, "generations.0.noise.policy.trivial=0.1"]))


def test_a_run_from_before_these_settings_goes_on_and_a_change_of_them_is_told():
    before = asdict(compose(ONE))
    del before["train"]["place"], before["train"]["sampler"], before["generations"][0]["noise"]["geometry"]
    assert differences(before, asdict(compose(ONE)), completed) == []
    for setting in (
        "train.place={non_empty: {}}",
        "train.sampler=by_class",
        "generations.0.noise.geometry.vflip.p=0.5",
        "generations.0.noise.geometry={vflip: {}}",
    ):
        assert differences(before, asdict(compose([*ONE, setting])), completed), setting


def test_the_way_to_one_more_generation_repeats_the_entries_of_the_others():
    with pytest.raises(ConfigError) as error:
        compose(
            [
                *ONE,
                "generations.0.noise.geometry={rotate: {p: 1, degrees: 5}, vflip: {}}",
                "generations.1.steps=9",
            ]
        )
    assert str(error.value).endswith(
        "'generations=[{noise: {geometry: {rotate: {p: 1, degrees: 5}, vflip: {}}}}, {steps: 9}]'"
    )


def test_every_entry_is_in_that_run_or_the_next_one():
    source = Path(__file__).read_text()
    for table in ("noise.geometry", "noise.colours", "noise.erase", "noise.policy"):
        assert all(f"{name}: 0.5" in source for name in TABLES[table].entries if name != "flip")


@pytest.mark.parametrize("number", [0, 1])
def test_online_and_stored_labels_are_mixed_and_augmented_by_the_new_entries(run, tmp_path, number):
    """Generation 0 labels online; generation 1 learns its labels, with crops around them."""
    noise = "noise: {mix: {mixup: 0.5, snapmix: 0.5}, erase: {gridmask: 0.5}, policy: {autoaugment: 0.5}, geometry: {affine: 0.5}}"
    rows = [f"{{online: fixmatch, {noise}}}", f"{{}}, {{{noise}}}"][number]
    settings = ["train.steps=3", "train.place={non_empty: {stored: true}}", "loss.threshold=0"]
    losses = ["loss.online={kl: 1}", "select.keep=1", "select.threshold=global", "select.confidence=0"]
    code, _, err = run(*SMOKE, *settings, *losses, f"generations=[{rows}]", f"out={tmp_path / 'run'}")
    assert code == 0, err
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    losses = [line["pseudo_loss"] for line in lines if "pseudo_loss" in line]
    assert losses and all(0 < loss < 10 for loss in losses)


def test_every_entry_trains_and_a_resume_of_a_finished_run_has_nothing_to_do(run, tmp_path):
    noise = (
        "{geometry: {vflip: 0.5, rotate90: 0.5, rotate: 0.5, affine: 0.5}, labelled: true, "
        "erase: {cutout: 0.5, coarse_dropout: 0.5, gridmask: 0.5}, mix_labelled: {mixup: 0.5, cutmix: 0.5}, "
        "policy: {randaugment: 0.5, trivial: 0.5, autoaugment: 0.5}, colours: {jitter: 0.5, hue: 0.5, "
        "greyscale: 0.5, blur: 0.5, colour_noise: 0.5, brightness: 0.5, contrast: 0.5, saturation: 0.5, "
        "noise: 0.5, jpeg: 0.5}}"
    )
    settings = [
        *SMOKE,
        "train.steps=3",
        "train.place={non_empty: {tries: 2}}",
        "train.sampler={by_class: {share: 0.5}}",
    ]
    command = [*settings, f"generations=[{{noise: {noise}}}]", f"out={tmp_path / 'run'}"]
    code, _, err = run(*command)
    assert code == 0, err
    scores = (tmp_path / "run" / "report.json").read_bytes()
    assert 0 < json.loads(scores)["test"]["miou"] < 1
    code, _, err = run(*command)
    assert code == 0 and (tmp_path / "run" / "report.json").read_bytes() == scores, err
    code, _, err = run(*command, "train.sampler=uniform")
    assert code == 2 and "train.sampler" in err.splitlines()[-1]
