"""Runs on images of other sizes and channels than the drawn ones, from the files to the predictions."""

import json
import signal
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from safetensors.torch import save_file

from runs import SMALL, fingerprint, kill_when
from selftrain import preflight
from selftrain.errors import ConfigError
from selftrain.labels.store import LabelStore
from selftrain.models.build import build
from selftrain.scores import confusion, miou
from selftrain.settings import compose

OWN = [  # a teacher and a student
    *(word for word in SMALL if not word.startswith(("data.size", "data.shapes"))),
    "recipe=smoke", "model.encoder=tu-test_resnet", "model.decoder_channels=[32,16,16,8]", "loss.adaptive=false",
    "train.place=uniform", "train.statistics=1", "generations=[{},{}]", "select.confidence=0",
]  # fmt: skip


def scene(seed: int, size: tuple[int, int] = (48, 64), channels: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """An image (H, W, C) uint8 with a bright box, and its mask (H, W)."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 90, (*size, channels), np.uint8)
    mask = np.zeros(size, np.uint8)
    top, left = (int(rng.integers(0, side // 2)) for side in size)
    mask[top : top + size[0] // 2, left : left + size[1] // 2] = 1
    image[mask == 1] += 140
    return image, mask


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def folder(root: Path, *, labelled: int = 8, unlabelled: int = 4, **looks) -> list[str]:
    """A data set on the disk; returns the settings that name it."""
    for seed in range(labelled):
        image, mask = scene(seed, **looks)
        save(root / "images" / f"{seed}.png", image)
        save(root / "masks" / f"{seed}.png", mask)
    for seed in range(unlabelled):
        save(root / "unlabelled" / f"{seed}.png", scene(100 + seed, **looks)[0])
    return ["data=folder", f"data.root={root}", "data.classes=[ground,box]"]


def test_one_side_reaches_training_the_card_and_the_predictions(run, zygote, tmp_path):
    data, out = folder(tmp_path / "data"), tmp_path / "run"
    code, _, err = run(*OWN, *data, "data.size=[longest,32]", f"out={out}")
    assert code == 0, err
    assert json.loads((out / "export" / "card.json").read_bytes())["input"]["size"] == ["longest", 32]
    ended = predicted(zygote, out, tmp_path)
    assert ended.code == 0, ended.err
    assert np.asarray(Image.open(tmp_path / "labels" / "0.png")).shape == (48, 64)


def test_grey_images_pass_through_the_whole_run(run, zygote, tmp_path):
    data, out = folder(tmp_path / "data"), tmp_path / "run"
    grey = ["data.channels=1", "data.mean=[0.4]", "data.std=[0.2]"]
    code, said, err = run(*OWN, *data, *grey, f"out={out}")
    assert code == 0, err
    assert "train.jitter changes brightness and contrast only" in said
    card = json.loads((out / "export" / "card.json").read_bytes())
    assert (card["model"]["channels"], card["mean"]) == (1, [0.4])
    assert (out / "gen0" / "labels" / "index.json").exists()  # refined by the CRF
    ended = predicted(zygote, out, tmp_path)
    assert ended.code == 0, ended.err


def test_images_of_five_bands_pass_through_the_whole_run(run, zygote, tmp_path):
    data, out = folder(tmp_path / "data", labelled=0, unlabelled=0), tmp_path / "run"
    for seed in range(12):
        image, mask = scene(seed, channels=5)
        place = tmp_path / "data" / ("images" if seed < 8 else "unlabelled")
        place.mkdir(parents=True, exist_ok=True)
        if seed % 2:
            np.save(place / f"{seed}.npy", image)
        else:
            tifffile.imwrite(place / f"{seed}.tif", image, photometric="minisblack", planarconfig="contig")
        if seed < 8:
            save(tmp_path / "data" / "masks" / f"{seed}.png", mask)
    weights = "model.weights=" + str(rgb_encoder(tmp_path))
    variants = ["export.onnx=true", "export.variants=[complete,fp16]"]
    code, said, err = run(*OWN, *data, *FIVE, weights, *variants, f"out={out}")
    assert code == 0, err
    card = json.loads((out / "export" / "card.json").read_bytes())
    assert card["model"]["channels"] == 5 and card["onnx"]["input"]["shape"][1] == 5
    told = json.loads((out / "report.json").read_bytes())["export"]
    assert told["variants"] == card["variants"] and told["variants"]["complete"]["same_ids"] > 0.99
    assert "Variants of the export" in (out / "report.html").read_text()
    assert "encoder tensors from w.safetensors" in said
    ended = predicted(zygote, out, tmp_path)
    assert ended.code == 0, ended.err
    assert sorted(path.name for path in (tmp_path / "labels").glob("*.png")) == [
        "10.png",
        "11.png",
        "8.png",
        "9.png",
    ]


FIVE = ["data.channels=5", f"data.mean={[0.4] * 5}", f"data.std={[0.2] * 5}", "labels.refiner=none"]


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("data.std=[0.5]", r"data.std=.* such as data.std=\[0.25,0.25,0.25,0.25,0.25\]"),
        ("data.channels=1", r"data.mean=.* \(data.channels=1\), such as data.mean=\[0.5\]"),
        ("generations.1.noise.rand_n=1", "generations.1.noise.rand_n needs RGB, but data.channels=5"),
        ("generations.1.noise.colours={hue: 1}", "generations.1.noise.colours.hue needs RGB"),
        ("labels.refiner=crf", "labels.refiner=crf refuses images with data.channels=5.*labels.refiner=none"),
    ],
)
def test_what_contradicts_the_channels_is_refused_before_any_work(setting, said):
    preflight.check(compose([*OWN, *FIVE]))
    with pytest.raises(ConfigError, match=said):
        preflight.check(compose([*OWN, *FIVE, setting]))


def test_without_stored_labels_no_refiner_is_asked():
    with pytest.raises(ConfigError, match=r"labels\.refiner=crf"):
        preflight.check(compose([*OWN, *FIVE, "labels.refiner=crf"]))
    preflight.check(compose([*OWN, *FIVE, "labels.refiner=crf", "generations=[{}]"]))


def external(root: Path, count: int = 4) -> str:
    """A data set whose masks call the box 7 and the ground 3, and with sky of value 5 in the first row."""
    for seed in range(200, 200 + count):
        image, mask = scene(seed)
        coded = np.where(mask == 1, 7, 3).astype(np.uint8)
        coded[0] = 5
        save(root / "images" / f"{seed}.png", image)
        save(root / "masks" / f"{seed}.png", coded)
    return f"data.extra=[{{name: other, root: {root}, values: [7,3,5], weight: 0.5, " + (
        "classes: {parcel: box, soil: ground, sky: null}}]"
    )


def test_external_masks_are_trained_on_with_their_weight_and_never_scored(run, tmp_path):
    data, extra, out = folder(tmp_path / "data"), external(tmp_path / "other"), tmp_path / "run"
    code, _, err = run(*OWN, *data, extra, f"out={out}")
    assert code == 0, err
    rows = json.loads((out / "data.json").read_bytes())
    added = [row for row in rows["labelled"] if "extra" in row]
    assert [(row["id"], row["extra"], row["weight"]) for row in added] == [
        (f"other/images/{seed}", "other", 0.5) for seed in range(200, 204)
    ]
    assert len(rows["labelled"]) > 4 and not any("extra" in row for row in rows["val"] + rows["test"])
    code, _, err = run(*OWN, *data, extra.replace("weight: 0.5", "weight: 0.7"), f"out={out}")
    assert code == 2 and "data.extra.0.weight: 0.5 -> 0.7" in err
    (tmp_path / "other").rename(tmp_path / "moved")
    moved = extra.replace(str(tmp_path / "other"), str(tmp_path / "moved"))
    code, said, err = run(*OWN, *data, moved, f"out={out}")
    assert code == 0 and "finished" in said, err


def test_verify_lists_external_data_and_its_faults_in_its_own_values(zygote, tmp_path):
    data, extra = folder(tmp_path / "data"), external(tmp_path / "other")
    ended = zygote.run("verify", *data, extra, door="cli")
    assert ended.code == 0, ended.err
    table = [line.split() for line in ended.out.splitlines() if not line.startswith("verify")]
    assert table[0] == ["labelled", "unlabelled", "val", "test", "extra"] and table[1][-1] == "4"
    save(tmp_path / "other" / "masks" / "200.png", np.full((48, 64), 9, np.uint8))
    ended = zygote.run("verify", *data, extra, door="cli")
    assert "data.extra.0: masks/200.png: has mask values that are not declared: 9" in ended.out


TILES = ["data.size=[]", "data.tile=[40,48]", "data.stride=[32,32]", "data.reject=0.9", "labels.window=64"]


def test_large_images_are_trained_tile_by_tile_and_labelled_whole(run, zygote, tmp_path):
    data, weights = folder(tmp_path / "data", size=(96, 128)), []
    for cache in (0, 64):  # from files of decoded images, and from memory
        out = tmp_path / f"run{cache}"
        code, said, err = run(*OWN, *data, *TILES, f"data.cache_mb={cache}", f"out={out}")
        assert code == 0, err
        counts = {name: len(rows) for name, rows in json.loads((out / "data.json").read_bytes()).items()}
        assert f"{12 * counts['labelled']} tiles of {counts['labelled']} labelled images" in said
        assert LabelStore(out / "gen0" / "labels").read(0).hard.shape == (96, 128)
        assert not list(out.glob(".decoded*"))
        weights.append((out / "gen1" / "model" / "model.safetensors").read_bytes())
    assert weights[0] == weights[1]
    ended = predicted(zygote, out, tmp_path)
    assert ended.code == 0 and np.asarray(Image.open(tmp_path / "labels" / "0.png")).shape == (96, 128)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["data.stride=16"], r"data.stride is about tiles; set data.tile"),
        (["data.reject=0.5"], r"data.reject is about tiles; set data.tile"),
        (["data.tile=16"], r"data.tile=\[16, 16\] must not be smaller than train.crop=\[32, 32\]"),
        (["data.tile=64", "data.stride=80"], r"data.stride=\[80, 80\] must not exceed data.tile"),
    ],
)
def test_tiles_without_effect_or_with_gaps_are_refused(settings, said):
    with pytest.raises(ConfigError, match=said):
        preflight.check(compose([*OWN, *settings]))


def test_tags_are_recorded_by_a_run_and_listed_by_verify(run, zygote, tmp_path):
    data, out = folder(tmp_path / "data"), tmp_path / "run"
    (tmp_path / "data" / "tags.csv").write_text("image,classes\nunlabelled/0.png,ground;box\n1,\n")
    ended = zygote.run("verify", *data, "data.tags=tags.csv", door="cli")
    assert ended.code == 3 and "tags.csv:3: names '1', which may be" in ended.out
    (tmp_path / "data" / "tags.csv").write_text("image,classes\nunlabelled/0.png,ground;box\n")
    code, _, err = run(*OWN, *data, "data.tags=tags.csv", "generations=[{}]", f"out={out}")
    assert code == 0, err
    rows = json.loads((out / "data.json").read_bytes())["unlabelled"]
    assert [row.get("tags") for row in rows if row["id"].endswith("/0")] == [[0, 1]]


def predicted(zygote, out: Path, place: Path):
    """`selftrain predict` on the unlabelled images."""
    images, labels = str(place / "data" / "unlabelled"), str(place / "labels")
    return zygote.run("predict", str(out), images, "-o", labels, door="cli")


def rgb_encoder(folder: Path) -> Path:
    """A file with the weights of the encoder, made for RGB."""
    network = build("unet", "tu-test_resnet", classes=2, decoder_channels=[32, 16, 16, 8])
    weights = {name: tensor.contiguous() for name, tensor in network.encoder.state_dict().items()}
    save_file(weights, folder / "w.safetensors")
    return folder / "w.safetensors"


INFERENCE = [
    "data.size=[longest,32]", "predict.size=[scale,1.5]", "predict.views={product: {hflip: true, weights: [2,1]}}", "labels.views={twelve: {scales: [0.75]}}",
    "labels.size=[scale,2]", "predict.window={sparse: {side: 32, sure: 0.6}}", "labels.windows={centre: {side: 32, margin: 4}}",
    "predict.min_area={rest: 3}", "predict.max_hole={box: 9}", "select.min_area={box: 2}",
]  # fmt: skip


def test_scores_are_those_of_the_predicted_masks_at_the_size_of_the_files(run, zygote, tmp_path):
    """Views, windows, sizes and clean-up together; the export predicts as the run does."""
    data, out = folder(tmp_path / "data"), tmp_path / "run"
    code, said, err = run(*OWN, *data, *INFERENCE, f"out={out}")
    assert code == 0, err
    report = json.loads((out / "report.json").read_bytes())
    skipped = report["skipped_windows"]
    assert "of the windows of val are skipped" in said and 0 <= skipped["share"] <= 1
    assert skipped["cost"] == pytest.approx(skipped["miou_of_all_windows"] - skipped["miou"])
    assert skipped["miou"] == report["generations"][report["exported"]]["val"]["miou"]
    images, labels = str(tmp_path / "data" / "images"), str(tmp_path / "labels")
    assert zygote.run("predict", str(out), images, "-o", labels, door="cli").code == 0
    counts = np.zeros((2, 2), np.int64)
    for row in json.loads((out / "data.json").read_bytes())["val"]:
        name = f"{Path(row['id']).name}.png"
        truth = np.asarray(Image.open(tmp_path / "data" / "masks" / name))
        counts += confusion(np.asarray(Image.open(tmp_path / "labels" / name)), truth, 2)
    assert counts.sum() % (48 * 64) == 0
    assert miou(counts) == pytest.approx(skipped["miou"], abs=2e-3)


@pytest.mark.slow
def test_a_killed_run_with_all_settings_of_inference_ends_with_the_same_bits(run, tmp_path):
    data = folder(tmp_path / "data")
    settings = [*OWN, *data, *INFERENCE, "train.checkpoint_every=2", "labels.shard=1"]
    code, _, err = run(*settings, f"out={tmp_path / 'whole'}")
    assert code == 0, err
    out = tmp_path / "killed"
    for place in ("gen0/labels/shard-00001.safetensors", "gen1/checkpoints", "gen1/report.json"):
        assert kill_when(out / place, *settings, f"out={out}") == -signal.SIGKILL
    code, _, err = run(*settings, f"out={out}")
    assert code == 0, err
    assert fingerprint(out) == fingerprint(tmp_path / "whole")


@pytest.mark.slow
def test_scores_at_the_size_of_the_files_are_other_scores(run, tmp_path):
    """Both runs train the same network, which is measured at two sizes."""
    data, scores = folder(tmp_path / "data"), []
    for name, original in (("small", False), ("original", True)):
        settings = ["data.size=[longest,32]", "generations=[{}]", f"predict.original={original}"]
        code, _, err = run(*OWN, *data, *settings, f"out={tmp_path / name}")
        assert code == 0, err
        scores.append(json.loads((tmp_path / name / "report.json").read_bytes())["generations"][0]["val"])
    weights = [tmp_path / name / "gen0" / "model" / "model.safetensors" for name in ("small", "original")]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    assert scores[0]["drift"] != scores[1]["drift"]
    assert scores[0]["miou"] == pytest.approx(scores[1]["miou"], abs=0.2)
