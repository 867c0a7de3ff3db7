"""A run in which only val has masks: it learns from tags, labels by class activation maps, and goes on as ever."""

import json
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
from tagged_scenes import SETTINGS, write

from runs import fingerprint, kill_when, run_command
from selftrain.data.sources.shapes import CLASSES, draw
from selftrain.errors import ConfigError, DataError
from selftrain.inference.exported import load_export, predictor_of
from selftrain.labels.store import LabelStore
from selftrain.preflight import check, check_data, recorded_data
from selftrain.rundir import RunDir
from selftrain.scores import confusion, ious
from selftrain.settings.compose import compose

GATE = 0.9  # only the background is as sure as that in every image
QUICK, LONG = (64, 60), (120, 150)  # tagged images, steps
LEARNING = [
    "model.encoder=tu-test_resnet", "model.decoder_channels=[8,8,8,8,8]", "data.size=[]", "train.crop=[128,128]",
    "train.labelled_batch=8", "train.lr=0.01", "train.ema=0.9", "train.scale=[0.9,1.1]", "train.warmup=10",
    "generations.1.steps=4", "generations.1.labelled_batch=2", "generations.1.init=teacher",
    "train.checkpoint_every=200",
    "train.eval_every=0", f"predict.gate={GATE}",
]  # fmt: skip


def learning(root: Path, size: tuple[int, int]) -> list[str]:
    """The settings of a run on scenes that are drawn below `root`."""
    tagged, steps = size
    write(root / "scenes", tagged=tagged, val=4)
    return [*SETTINGS, *LEARNING, f"generations.0.steps={steps}", f"data.root={root / 'scenes'}"]


@pytest.fixture(scope="module")
def finished(run, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("tags")
    code, _, err = run(*learning(root, QUICK), f"out={root / 'run'}")
    assert code == 0, err
    return root / "run"


def quality(labels: list[np.ndarray], truth: list[np.ndarray]) -> float:
    """The mean IoU of the objects' classes, without the background."""
    counts = sum(confusion(*pair, len(CLASSES)) for pair in zip(labels, truth, strict=True))
    return float(ious(counts)[1:].mean())


def times_better_than_chance(out: Path, tagged: int) -> float:
    """How many times as good the labels from tags are as the better of two guesses that know the tags as well.

    One draws the class of each pixel, the other moves the labels to another place.
    """
    truth = [draw(0, "unlabelled", number)[1] for number in range(tagged)]  # masks that the run never saw
    store = LabelStore(out / "gen0" / "labels")
    labels = [store.read(number).hard for number in range(tagged)]
    for hard, mask in zip(labels, truth, strict=True):
        assert set(np.unique(hard)) <= {0, *np.unique(mask)}  # no class without a tag
    rng = np.random.default_rng(0)
    drawn = [rng.choice(np.unique(mask), mask.shape).astype(np.uint8) for mask in truth]
    moved = [np.roll(hard, (64, 64), (0, 1)) for hard in labels]
    found, *guessed = (quality(one, truth) for one in (labels, drawn, moved))
    print(found, *guessed)
    return found / max(guessed)


def test_labels_from_tags_are_better_than_chance(finished: Path):
    assert times_better_than_chance(finished, QUICK[0]) > 1.5


@pytest.mark.slow
def test_labels_from_tags_beat_chance_clearly(run, tmp_path):
    code, _, err = run(*learning(tmp_path, LONG), f"out={tmp_path / 'run'}")
    assert code == 0, err
    assert times_better_than_chance(tmp_path / "run", LONG[0]) > 2.5  # 0.19 against 0.06


def test_a_run_that_lost_labels_and_its_student_makes_the_same_again(run, finished, tmp_path):
    out = Path(shutil.copytree(finished, tmp_path / "run"))
    for gone in ("gen1", "export"):
        shutil.rmtree(out / gone)
    for gone in (
        "report.json",
        "report.html",
        "gen0/labels/index.json",
        "gen0/labels/shard-00003.safetensors",
    ):
        (out / gone).unlink()
    code, _, err = run(f"out={out}")
    assert code == 0, err
    assert fingerprint(out) == fingerprint(finished)


def test_later_generations_learn_from_these_labels_and_the_report_scores_the_head(finished: Path):
    report = json.loads((finished / "report.json").read_text())
    first, second = report["generations"]
    assert first["from_tags"] and "from_tags" not in second and second["teacher"] == 0
    told = second["val"]["tags"]
    assert told["threshold"] == GATE and set(told["precision"]) == set(told["recall"]) == set(CLASSES)
    assert told["recall"]["background"] == 1.0  # in every image
    rows = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    losses = [row["image_loss"] for row in rows if row["stage"] == "gen0" and "image_loss" in row]
    assert losses[-1] < losses[0]
    assert any(row["stage"] == "gen1" and row["pseudo_loss"] > 0 for row in rows if "pseudo_loss" in row)
    page = (finished / "report.html").read_text()
    assert "Classes of whole images on val" in page and "trained on tags" in page


def test_the_export_applies_the_gate(finished: Path):
    network, card = load_export(finished / "export")
    assert card["gate"]["threshold"] == GATE and card["model"]["image_head"] is True
    asked = predictor_of(network, card)
    image = draw(0, "val", 0)[0][None]
    tags = asked.tags(image)[0]
    probs = asked.probabilities(image)[0]
    there = (tags >= GATE) | (tags == tags.max())
    assert (probs.amax(dim=(1, 2)) > 0).tolist() == there.tolist() and not there.all()


TINY = [*SETTINGS, "train.checkpoint_every=3", "predict.gate=0.4"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "place",
    ["gen0/checkpoints/step-000006", "gen0/labels/shard-00000.safetensors", "gen1/checkpoints/step-000003"],
)
def test_a_killed_run_ends_in_the_same_bits(run, tmp_path, place):
    settings = [*TINY, f"data.root={write(tmp_path / 'scenes', tagged=12, val=4)}"]
    code, _, err = run(*settings, f"out={tmp_path / 'whole'}")
    assert code == 0, err
    assert kill_when(tmp_path / "run" / place, *settings, f"out={tmp_path / 'run'}") == -signal.SIGKILL
    code, _, err = run_command(*settings, f"out={tmp_path / 'run'}")
    assert code == 0, err
    assert fingerprint(tmp_path / "run") == fingerprint(tmp_path / "whole")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["loss.image={bce: 0}"], "loss.image has no loss with a weight above 0"),
        (
            ["data.tags="],
            "generations.0.from_tags learns from images with tags; name their file by data.tags",
        ),
        (
            ["generations=[{from_tags: true}]"],
            "no generation that learns from stored labels follows; add one",
        ),
        (["generations.1.online=fixmatch"], "no generation that learns from stored labels follows; add one"),
        (
            ["generations.1.from_tags=true"],
            "generations.1.from_tags: only the first generation learns from tags",
        ),
        (["generations.0.online=fixmatch"], "generations.0.online does not go with generations.0.from_tags"),
        (
            ["generations.0.members={seeds: 2}"],
            "generations.0.members does not go with generations.0.from_tags",
        ),
        (
            ["data.tile=[64,64]"],
            "data.tile does not go with generations.0.from_tags: tags are about whole images",
        ),
        (["loss.distill={kl: 1}"], "loss.distill does not go with generations.0.from_tags"),
        (
            ["select.reliability=agreement"],
            "select.reliability=agreement does not go with generations.0.from_tags",
        ),
        (["train.sampler=by_class"], "train.sampler=by_class does not go with generations.0.from_tags"),
    ],
)
def test_settings_that_contradict_learning_from_tags_are_refused(settings, said):
    with pytest.raises(ConfigError) as caught:
        check(compose([*SETTINGS, "out=x", *settings]))
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            ["predict.gate=0.5"],
            "predict.gate needs an image-level head, and the run trains none; set loss.image.bce=1",
        ),
        (["generations.0.from_tags=true"], "generations.0.from_tags needs an image-level head"),
        (
            ["generations.0.online=cps", "loss.image.bce=1"],
            "online=cps trains two networks that answer for pixels only",
        ),
    ],
)
def test_what_needs_an_image_level_head_is_refused_without_one(settings, said):
    with pytest.raises(ConfigError) as caught:
        check(compose(["recipe=smoke", "out=x", *settings]))
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "kind", "said"),
    [
        (["labels.cams.background=table"], ConfigError, "labels.cams.background='table' is none of background, disc"),
        (["generations.1.members={folds: 2}"], ConfigError, "generations.1.members divides masks, and only val and test"),
        (["generations.0.from_tags=false"], DataError, "or learn from tags (data.tags, generations.0.from_tags=true)"),
        (["data.tags=few.csv"], DataError, "data.tags=few.csv tags no unlabelled image; add lines"),
    ],
)  # fmt: skip
def test_data_without_the_needed_tags_or_masks_is_refused(tmp_path, settings, kind, said):
    scenes = write(tmp_path / "scenes", tagged=2, val=2)
    cfg = compose([*SETTINGS, f"data.root={scenes}", f"out={tmp_path / 'run'}", *settings])
    with pytest.raises(kind) as caught:
        check_data(recorded_data(RunDir(tmp_path / "run"), cfg), cfg)
    assert said in str(caught.value)
