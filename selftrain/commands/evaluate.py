"""`selftrain evaluate MODEL DATA`: the scores of an export, or of a run, on newly labelled data."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selftrain.commands import Commands, command, path
from selftrain.commands.leader import check_model, export_of
from selftrain.commands.predict import add_changes, changes_of
from selftrain.errors import ConfigError
from selftrain.log import say
from selftrain.settings.shown import DATA_FILES, OF_DATA, add_settings

if TYPE_CHECKING:
    from selftrain.config import DataConfig
    from selftrain.data.dataset import DataSet
    from selftrain.data.sample import Sample
    from selftrain.inference.labeller import Labeller

LABELLED = ("labelled", "val", "test")
JSON, PAGE = "evaluation.json", "evaluation.html"


def add(commands: Commands) -> None:
    """Add the command to the parser."""
    child = command(commands, evaluate, "runs/first new.yaml -o scores", settings=OF_DATA)
    child.add_argument("export", type=path, help="the export/ of a run, or the run")
    settings = "FILE.yaml, or data=NAME data.root=DIR 'data.classes=[A,B]' …"
    add_settings(child, settings, own=DATA_FILES)
    text = "images that count: one split of the data (default: all images with a mask)"
    child.add_argument("--split", choices=LABELLED, help=text)
    text = f"a new folder for {JSON} and {PAGE}"
    child.add_argument("-o", "--output", type=path, metavar="DIR", help=text)
    add_changes(child)


def evaluate(arguments: argparse.Namespace) -> None:
    """Score an exported model, or the leader of a run, on images with masks."""
    from selftrain.datasets import check_root
    from selftrain.settings import compose

    check_model(arguments.export)
    out = arguments.output
    if out and out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise ConfigError(f"-o {out} is a file, or not empty; choose a new folder")
    whole = compose(arguments.overrides, arguments.config_dir)
    cfg = whole.data
    check_root(cfg)
    from selftrain.inference.labeller import Labeller  # takes seconds to import
    from selftrain.report.evaluation import print_tables, tables

    changes = changes_of(arguments)
    if "data.unlabelled" not in whole.given:
        cfg.unlabelled = ""  # new masks may come without a folder of unlabelled images
    with export_of(arguments.export, onnx=arguments.backend == "onnx") as directory:
        labeller = Labeller.load(directory, changes, backend=arguments.backend)
    samples = _samples(cfg, labeller, arguments.split)
    scores = _scores(labeller, samples)
    shown = tables(scores, labeller.card["classes"])
    print_tables(shown)
    say(f"{len(samples)} images of {cfg.name}: mIoU {scores['miou'] or 0:.4f}")
    if out:
        _write(out, arguments, cfg, {"images": len(samples), **scores}, shown)


def _samples(cfg: "DataConfig", labeller: "Labeller", split: str | None) -> "list[Sample]":
    """The images with masks, read as the export wants them and at their own size.

    Raises ConfigError if the data and the export have different classes or channels, or if no image has a
    mask.
    """
    from selftrain.data.dataset import with_levels
    from selftrain.data.load import load
    from selftrain.datasets import spec_of

    data: DataSet = load(spec_of(cfg))
    for what, own, wanted in (
        ("classes", data.classes, labeller.card["classes"]),
        ("channels", cfg.channels, labeller.channels),
    ):
        if own != wanted:
            raise ConfigError(f"data.{what}={own}, but the export has {wanted}; describe the data with these")
    data = with_levels(data, labeller.levels)
    found = [one for name in ([split] if split else LABELLED) for one in getattr(data, name) if one.mask]
    if not found:
        raise ConfigError(f"data={cfg.name} has no image with a mask{f' in {split}' if split else ''}")
    return [one.at_own_size() for one in found]


def _scores(labeller: "Labeller", samples: "list[Sample]") -> dict[str, Any]:
    from dataclasses import replace
    from functools import partial

    from accelerate import Accelerator

    from selftrain.data.cache import Cache
    from selftrain.inference.exported import seen_size
    from selftrain.stages.evaluate import evaluate

    predictor = labeller.predictor
    if labeller.resizes:
        predictor = replace(predictor, seen_size=partial(seen_size, labeller.card))
    return evaluate(
        [(predictor, samples)],
        labeller.card["classes"],
        batch=predictor.batch,
        cache=Cache(0),
        accelerator=Accelerator(cpu=predictor.scale.device.type == "cpu"),
        stage="evaluate",
        closely=True,
    )


def _write(
    out: Path, arguments: argparse.Namespace, cfg: "DataConfig", scores: dict[str, Any], shown: Any
) -> None:
    from selftrain.files import write_bytes, write_json
    from selftrain.report.evaluation import render

    about = [("model", str(arguments.export)), ("data", cfg.name), ("images", str(scores["images"]))]
    write_json(out / JSON, {"data": cfg.name, **scores})
    write_bytes(out / PAGE, render(shown, title=f"Scores on {cfg.name}", about=about).encode())
    say(f"scores: {out / JSON}, {out / PAGE}")
