"""The entries of docs/extending.md, from outside the package: what each computes, and runs that choose them all."""

import json
import os
import re
import shlex
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from runs import ROOT
from selftrain.choices import TABLES
from selftrain.data.augment.view import OUTSIDE, View
from selftrain.data.mixing import MIXES, Mixer, share_of
from selftrain.errors import ConfigError
from selftrain.files import read_yaml
from selftrain.ids import IGNORE
from selftrain.labels.store import LabelStore
from selftrain.methods.fixmatch import FixMatch
from selftrain.methods.table import METHODS
from selftrain.models.build import ARCHITECTURES, build
from selftrain.objectives.objective import Objective
from selftrain.preflight import check
from selftrain.proposals.uncertainty import UNCERTAINTIES, Opinions
from selftrain.scores import SCORES
from selftrain.settings import compose
from selftrain.stages.reliability import RELIABILITIES
from selftrain.targets import Target

PAGE = (ROOT / "docs" / "extending.md").read_text()
BACKENDS = "labels.crf.backend"  # two implementations of the same: nothing for others to add
ALL = {
    **{name: table.entries for name, table in TABLES.items() if name != BACKENDS},
    "model.arch": ARCHITECTURES,
}
ALL |= {"a score": SCORES, "an uncertainty": UNCERTAINTIES}
PLACEHOLDER = "# your functions and entries: the blocks of the sections below"


def blocks(kind: str, text: str = PAGE) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


FILES = {code.split("\n")[0].removeprefix("# "): code for code in blocks("python") if code.startswith("# ")}
ADDITIONS = [code for code in blocks("python") if not code.startswith("# ")]


def settings(*sections: str, without: tuple[str, ...] = ()) -> list[str]:
    """The settings of some sections of the page, or of all but some."""
    parts = dict(part.split("\n", 1) for part in PAGE.split("\n## ")[1:])
    chosen = sections or [name for name in parts if name not in without]
    return [word for name in chosen for line in blocks("sh", parts[name]) for word in shlex.split(line)]


@pytest.fixture(scope="module")
def own():
    """What the blocks of the page define, each block on its own; their entries are in the tables until the module ends."""
    before = [(entries, dict(entries)) for entries in ALL.values()]
    names: dict = {}
    for code in ADDITIONS:
        space = {"__name__": "own"}
        exec(code, space)  # the page of this repository
        names |= space
    yield SimpleNamespace(
        **names, before={name: dict(known) for name, (_, known) in zip(ALL, before, strict=True)}
    )
    for entries, known in before:
        entries.clear()
        entries.update(known)


def test_the_page_adds_one_entry_to_each_table(own):
    assert {name: len(entries) - len(own.before[name]) for name, entries in ALL.items()} == dict.fromkeys(
        ALL, 1
    )


def test_every_setting_of_the_page_is_one_that_a_run_takes(own, tmp_path):
    chosen = settings()
    check(compose(["recipe=smoke", *(text.replace("DIR", str(tmp_path)) for text in chosen)]))
    assert len(chosen) > 16


def test_the_range_and_the_name_of_a_setting_come_from_the_signature(own):
    for row, message in (
        ("{q: 2}", "loss.labelled.robust.q=2 must lie between 0.01 and 1"),
        ("{p: 1}", "loss.labelled.robust.p: no such setting; robust has weight, q"),
    ):
        with pytest.raises(ConfigError) as error:
            check(compose(["recipe=smoke", f"loss.labelled={{ce: 1, robust: {row}}}"]))
        assert str(error.value) == message


def test_the_loss_is_bounded_and_leaves_ignored_pixels_out(own):
    target = Target(torch.tensor([[[0, 1, IGNORE]]]))
    objective = Objective.of({"robust": {"weight": 2.0, "q": 0.5}}, "loss.labelled", 2)
    value = objective.value(torch.zeros(1, 2, 1, 3), target, objective.counts(target))
    assert float(value) == pytest.approx(2 * (1 - 0.5**0.5) / 0.5)  # p = 1/2 everywhere


def test_the_loss_of_whole_images_leaves_unknown_tags_out(own):
    tags = torch.tensor([[1.0, 0.0, float("nan")]])
    objective = Objective.of({"asymmetric": {"focus": 2}}, "loss.image", 3, table=TABLES["loss.image"])
    value = objective.value(torch.zeros(1, 3), tags, objective.counts(tags))
    assert float(value) == pytest.approx((1 + 0.5**2) * np.log(2) / 2)  # p = 1/2 everywhere


def test_the_augmentations_move_recolour_and_erase(own):
    rng = np.random.default_rng(0)
    assert own.centre(rng, (10.0, 6.0), (4, 4), None) == (3, 1)
    moved = own.shear(rng, (5, 5), most=0.5) @ [
        [2, 2],
        [2, 4],
        [1, 1],
    ]  # the centre and a pixel two rows below
    assert moved[0, 0] == pytest.approx(2) and 0 < abs(moved[0, 1] - 2) <= 1 and moved[1].tolist() == [2, 4]
    greys = own.gamma(np.array([[[0], [64], [255]]], np.uint8), rng)
    assert (greys[0, 0, 0], greys[0, 2, 0]) == (0, 255) and greys[0, 1, 0] != 64 and greys.dtype == np.uint8
    erased = own.grid(View(np.zeros((8, 8, 3), np.uint8), np.arange(64).reshape(8, 8)), rng, side=2)
    assert (erased.index == OUTSIDE).sum() == 16 and set(erased.image[erased.index == OUTSIDE].ravel()) == {
        128
    }


def test_the_sampler_goes_in_order(own):
    sampler = own.in_order(5, None, first=2)
    assert [sampler(3, step, ()) for step in range(2)] == [[2, 3, 4], [0, 1, 2]]


def test_the_bags_leave_out_what_was_not_drawn(own):
    members = own.bags(2)
    left_out = [one.left_out([""] * 40, ("seed",), None) for one in members.each]
    assert left_out[0] != left_out[1] and all(8 <= len(places) <= 22 for places in left_out)  # 1/e of 40


def test_the_policy_changes_the_light(own):
    rng = np.random.default_rng(0)
    drawn = [own.lighting(rng, most=0.3) for _ in range(200)]
    assert {operation.name for ((operation, _),) in drawn} == {"brightness", "contrast"}
    strengths = [strength for ((_, strength),) in drawn]
    assert -0.3 <= min(strengths) < -0.28 and 0.28 < max(strengths) <= 0.3


def test_the_mixing_fades_from_one_image_to_the_other(own):
    mixer = Mixer("seam", 1.0, MIXES["seam"].draw, MIXES["seam"].mask, MIXES["seam"].soft)
    share = share_of(mixer, np.array([2.0, 0.5]), np.zeros((2, 5), np.uint8))
    assert share[0] == pytest.approx([1 / (1 + np.exp(4 - 2 * x)) for x in range(5)])
    assert np.array_equal(*share) and mixer.soft
    assert own.seam(np.random.default_rng(0), (2, 30), width=3.0)[1] == 3


def test_the_architecture_has_its_parts_and_the_groups_their_rates(own):
    network = build("lraspp", "", classes=3, dropout=1.0).eval()
    assert network(torch.zeros(1, 3, 16, 48)).shape == (1, 3, 16, 48)
    plain, biases = own.fast_biases(network, weight_decay=0.1, lr_scale=3.0)
    assert (plain["weight_decay"], biases["weight_decay"], biases["lr_scale"]) == (0.1, 0.0, 3.0)
    assert {one.dim() for one in biases["params"]} == {1} and len(plain["params"]) > 50


def test_the_schedule_drops_and_the_average_warms_up(own):
    assert [own.drop(done, [], at=0.5) for done in (0, 0.49, 0.5, 1)] == [1, 1, 0.1, 0.1]
    assert [own.warm(step, steps=99, decay=0.9, offset=4) for step in (0, 2, 98)] == [0.25, 0.5, 0.9]


def test_the_method_learns_from_the_network_itself(own, monkeypatch):
    monkeypatch.setattr(FixMatch, "learn", lambda self, model, averaged, batch: averaged)
    method = METHODS["fixmatch_without_ema"](
        SimpleNamespace(cfg=None, ranks=1, unwrap=lambda model: f"bare {model}")
    )
    assert method.learn("network", "average", None) == "bare network"


def test_the_labels_are_sharper_and_their_thresholds_by_class(own):
    probs = np.array([0.8, 0.2], np.float32)[:, None, None]
    assert own.sharpen(None, probs, temperature=0.5).ravel() == pytest.approx([16 / 17, 1 / 17])
    histogram = np.zeros((3, 256), int)
    histogram[0, [51, 102, 204]], histogram[1, 255] = 1, 7
    assert own.median(histogram, confidence=0.8, factor=0.5) == pytest.approx([0.2, 0.5, 0])


def test_the_reliability_prefers_sharp_images_and_kappa_is_the_accuracy_above_chance(own):
    edge, plain = np.zeros((4, 4, 3), np.uint8), np.full((4, 4, 3), 9, np.uint8)
    edge[:, 2:] = 255
    samples = [SimpleNamespace(read_image=lambda image=image: image) for image in (plain, edge)]
    flat, sharp = RELIABILITIES["sharpness"].measure(SimpleNamespace(samples=samples))
    assert flat == 0 < sharp
    assert own.kappa(np.array([[3, 1], [1, 3]])) == pytest.approx((3 / 4 - 1 / 2) / (1 / 2))


def test_the_window_shrinks_large_images_and_the_decision_leaves_doubts_out(own):
    seen = []
    probs = own.fit(
        lambda images: seen.append(images.shape) or images[:, :2], torch.rand(1, 3, 40, 20), 8, 1, side=20
    )
    assert seen == [(1, 3, 24, 16)] and probs.shape == (1, 2, 40, 20)
    pixels = torch.tensor([[0.9, 0.4], [0.1, 0.6]])[None, :, None]
    assert own.certain(pixels, least=0.7).tolist() == [[[0, IGNORE]]]


def test_the_ratio_is_1_where_two_classes_are_equally_probable(own):
    pixels = torch.tensor([[[0.8, 0.5]], [[0.2, 0.5]]])
    assert own.ratio(Opinions(pixels)).flatten().tolist() == pytest.approx([0.25, 1])


# --- runs of a script that has all of them

SPY = """
import atexit, collections, dataclasses, functools, json, os
from selftrain.choices import TABLES
calls = collections.Counter()

def spied(name, function):
    @functools.wraps(function)
    def seen(*arguments, **settings):
        chosen = {key: value for key, value in settings.items() if isinstance(value, int | float)}
        calls[name + " " + json.dumps(chosen, sort_keys=True)] += 1
        return function(*arguments, **settings)
    return seen

def spy_on(entry):
    if isinstance(entry, type):
        entry.learn = spied(entry.__name__, entry.learn)
        return entry
    if callable(entry):
        return spied(entry.__name__, entry)
    functions = {name: spied(one.__name__, one) for name, one in vars(entry).items() if callable(one)}
    return dataclasses.replace(entry, **functions)

tables = [*(table.entries for table in TABLES.values()), SCORES, ARCHITECTURES]
for entries in {id(entries): entries for entries in tables}.values():  # two settings may share a table
    entries[list(entries)[-1]] = spy_on(entries[list(entries)[-1]])
atexit.register(lambda: print("CALLS " + json.dumps(calls)))
"""
SMALL = [
    "recipe=smoke", "train.threads=1", "train.precision=none", "train.steps=4", "train.eval_every=2", "train.statistics=1",
    "train.warmup=1", "export.onnx=false",
]  # fmt: skip


def calls_in(output: str) -> dict[str, int]:
    return json.loads(re.findall(r"^CALLS (.*)$", output, flags=re.MULTILINE)[-1])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The scripts of the page, and a data set that list.csv names."""
    folder = tmp_path_factory.mktemp("own")
    assert PLACEHOLDER in FILES["own.py"]
    everything = FILES["own.py"].replace(PLACEHOLDER, "\n".join([*ADDITIONS, SPY]))
    for name, code in {**FILES, "own.py": everything}.items():
        (folder / name).write_text(code)
    lines = ["split,image,mask"]
    for number, split in enumerate(["labelled"] * 4 + ["unlabelled"] * 6 + ["val"] * 2 + ["test"] * 2):
        rng = np.random.default_rng(number)
        disc = np.hypot(*(np.indices((32, 48)) - rng.integers(8, 24, size=(2, 1, 1)))) < 7
        image = (disc[..., None] * 120 + rng.integers(100, size=(32, 48, 3))).astype(np.uint8)
        Image.fromarray(image).save(folder / f"{number}.png")
        Image.fromarray(disc.astype(np.uint8)).save(folder / f"{number}-mask.png")
        lines.append(f"{split},{number}.png,{'' if split == 'unlabelled' else f'{number}-mask.png'}")
    (folder / "list.csv").write_text("\n".join(lines))
    (folder / "suspects.csv").write_text("image,suspicion\n0.png,3\n")
    return folder


@pytest.fixture
def script(zygote, folder):
    """script(name, *words, code=0): what a script of the page prints, or, where it is to fail, the errors."""

    def script(name, *words, code=0):
        ended = zygote.run(*words, door=name, cwd=folder, ACCELERATE_USE_CPU="true")
        assert ended.code == code, ended.err
        return ended.err if code else ended.out

    return script


@pytest.fixture(scope="module")
def trained(folder):
    """A run by `accelerate launch own.py` that chooses every entry but the method; what was called in it."""
    without = ("A method", "A loss of whole images")  # its own architecture takes no image-level head
    chosen = [text.replace("DIR", str(folder)) for text in settings(without=without)]
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", "1", "own.py"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "ACCELERATE_USE_CPU": "true"}
    command = [*launch, *SMALL, *chosen, "out=run"]
    ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=280)
    assert ended.returncode == 0, ended.stderr
    return folder / "run", calls_in(ended.stdout)


def test_a_run_learns_and_labels_with_every_entry_that_it_chooses(trained):
    run, calls = trained
    assert set(calls) >= {
        'robust {"q": 0.5}', "pixels {}", "centre {}", 'shear {"most": 0.2}', 'gamma {"most": 1.5}', 'grid {"side": 4}',
        'in_order {"first": 2}', 'seam {"width": 4.0}', "right_of {}", 'lighting {"most": 0.25}', 'lraspp {"classes": 2}',
        'fast_biases {"lr_scale": 3.0, "weight_decay": 0.01}', 'drop {"at": 0.5, "factor": 0.1}',
        'warm {"decay": 0.995, "offset": 4, "steps": 4}', 'sharpen {"temperature": 0.25}',
        'median {"confidence": 0.8, "factor": 0.5}', "sharpness {}", "kappa {}", "listed {}", 'fit {"side": 32}',
        'certain {"least": 0.6}', 'half_turn {"upright": 0.75}', 'doubted {"half": 6.0}',
    }  # fmt: skip
    known = read_yaml(run / "config.yaml", "loss", "train")
    assert known["loss"]["labelled"]["robust"] == {"weight": 0.5, "q": 0.5}
    assert known["train"]["schedule"] == {"drop": {"at": 0.5, "factor": 0.1}}


def reliability_of(run):
    return json.loads((run / "gen0" / "reliability.json").read_text())["reliability"]


def test_its_files_show_what_the_entries_did(trained):
    run, _ = trained
    report = json.loads((run / "report.json").read_text())
    weights = [row.get("weight", 1) for row in json.loads((run / "data.json").read_text())["labelled"]]
    assert weights == pytest.approx([2 / 3, 1, 1, 1])
    assert -1 <= report["test"]["kappa"] <= 1 and report["test"]["miou"] <= report["test"]["dice"] <= 1
    assert report["generations"][1]["model"]["arch"] == "lraspp"
    selection = json.loads((run / "gen0" / "selection.json").read_text())
    assert selection["rule"]["threshold"] == {"median": {"factor": 0.5}}
    store = LabelStore(run / "gen0" / "labels")
    below = store.histogram().cumsum(axis=1)
    medians = (below >= below[:, -1:] / 2).argmax(axis=1) / 255
    assert list(selection["thresholds"].values()) == pytest.approx(np.minimum(medians / 2, 0.8), abs=1e-4)
    weights, sharp = (np.array(one) for one in (selection["image_weights"], reliability_of(run)))
    assert (weights > 0).sum() == 3 and sharp[weights > 0].min() >= sharp[
        weights == 0
    ].max()  # half of six images
    assert "val kappa" in (run / "report.html").read_text()
    card = json.loads((run / "export" / "card.json").read_text())
    assert card["input"]["multiple"] == 16 and card["input"]["window"] == {"fit": {"side": 32}}
    assert card["decision"] == {"certain": {"least": 0.6}} and card["views"] == {
        "half_turn": {"upright": 0.75}
    }


def test_its_export_predicts_through_the_script_of_the_page(trained, folder, script):
    called = calls_in(script("commands.py", "predict", "run", "0.png", "-o", "masks", "--grey"))
    assert called['fit {"side": 32}'] == called['certain {"least": 0.6}'] == 1
    labels = np.asarray(Image.open(folder / "masks" / "0.png"))
    assert labels.shape == (32, 48) and set(np.unique(labels)) <= {0, 1, IGNORE}


def test_a_method_trains(folder, script):
    shapes_only = [
        "data.shapes.labelled=4",
        "data.shapes.unlabelled=8",
        "data.shapes.val=2",
        "data.shapes.test=2",
    ]
    calls = calls_in(script("own.py", *SMALL, *shapes_only, *settings("A method"), "out=online"))
    assert calls["WithoutEMA {}"] == 4
    assert len(json.loads((folder / "online" / "report.json").read_text())["generations"]) == 2


def test_a_wrong_setting_of_an_entry_ends_the_script_before_it_works(folder, script):
    said = script(
        "own.py", "recipe=smoke", "labels.refiner={sharpen: {temperature: 2}}", "out=refused", code=2
    )
    assert "labels.refiner.sharpen.temperature=2 must lie between 0.05 and 1" in said.splitlines()[-1]
    assert not (folder / "refused" / "config.yaml").exists()
