"""`selftrain predict`: masks for images, by the network of an export or of a run."""

import argparse
import contextlib
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selftrain.commands import Commands, command, path
from selftrain.commands.leader import check_model, export_of
from selftrain.conversion import TO
from selftrain.errors import ConfigError, DataError
from selftrain.log import say

if TYPE_CHECKING:
    from selftrain.inference.labeller import Changes

EXTRAS = ("confidence", "probabilities", "overlay")
STDOUT = Path("-")
FLIP = "flip"
SIZES = "512x640 (height x width), longest=512, shortest=512, scale=1.5, or own"


def add(commands: Commands) -> None:
    """Add the command to the parser."""
    child = command(
        commands, predict, "runs/first images/ -o masks", "runs/first images/ -o masks --csv --overlay"
    )
    child.add_argument("export", type=path, help="the export/ of a run, or the run")
    child.add_argument("images", type=path, nargs="+", help="folders of images, images, TIFFs or videos")
    text = "folder for the masks; - writes the mask of one image to standard output"
    child.add_argument("-o", "--output", type=path, required=True, help=text)
    forms = child.add_mutually_exclusive_group()
    forms.set_defaults(form="palette")
    text = "grey masks of class ids (default: palette masks of class ids)"
    forms.add_argument("--grey", dest="form", action="store_const", const="grey", help=text)
    text = "masks with the values, or colours, of the training masks"
    forms.add_argument("--values", dest="form", action="store_const", const="values", help=text)
    text = "files of an annotation program with copies of the images, as selftrain convert writes them"
    forms.add_argument("--format", choices=TO, help=text)
    beside = child.add_argument_group("written beside the masks")
    text = "grey pictures of how sure the network is of each pixel's class, 255: certain"
    beside.add_argument("--confidence", action="store_true", help=text)
    text = "the probabilities of all classes: .npy (classes, height, width) float16, or TIFF"
    beside.add_argument("--probabilities", action="store_true", help=text)
    beside.add_argument("--overlay", action="store_true", help="the images under the colours of the classes")
    text = "predictions.csv: area and mean confidence of each class, and how good each prediction should be"
    beside.add_argument("--csv", action="store_true", help=text)
    add_changes(child)
    text = "label images anew that have a mask already (default: the command continues)"
    child.add_argument("--again", action="store_true", help=text)


def add_changes(child: argparse.ArgumentParser) -> None:
    """Add the options that replace settings of an export."""
    asked = child.add_argument_group("instead of what the export says")
    views = asked.add_mutually_exclusive_group()
    text = f"views that are averaged: plain, {FLIP}, d4 or twelve"
    views.add_argument("--tta", metavar="VIEWS", help=text)
    views.add_argument(
        "--flip", dest="tta", action="store_const", const=FLIP, help=f"the same as --tta {FLIP}"
    )
    text = "refine by a dense CRF: the one that val chose, or the default one"
    asked.add_argument("--crf", action=argparse.BooleanOptionalAction, default=None, help=text)
    text = "pixels whose class is less probable than this get none (255)"
    asked.add_argument("--threshold", type=float, metavar="SHARE", help=text)
    asked.add_argument("--size", help=f"size at which the network sees images: {SIZES}")
    text = "what runs the network: torch, or onnxruntime with the model.onnx of the export"
    asked.add_argument("--backend", choices=("torch", "onnx"), default="torch", help=text)


def predict(arguments: argparse.Namespace) -> None:
    """Label images with an exported model, or with the leader of a run that is not finished."""
    _check(arguments)
    changes = changes_of(arguments)
    if arguments.output == STDOUT:
        with contextlib.redirect_stdout(sys.stderr):
            mask = _mask(arguments, changes)
        sys.stdout.buffer.write(mask)
        sys.stdout.flush()
        return
    with export_of(arguments.export, onnx=arguments.backend == "onnx") as directory:
        if arguments.format:
            _predict_as(arguments, directory, changes)
            return
        extras = [name for name in EXTRAS if getattr(arguments, name)]
        written = _predicted(
            arguments,
            directory,
            changes,
            arguments.output,
            extras=extras,
            csv=arguments.csv,
            again=arguments.again,
        )
    say(f"{written} masks in {arguments.output}")


def _predicted(
    arguments: argparse.Namespace, directory: Path, changes: "Changes", out: Path, **more: Any
) -> int:
    from selftrain.prediction.predict import predict

    how: dict[str, Any] = {"backend": arguments.backend, "form": arguments.form, **more}
    return predict(directory, arguments.images, out, changes=changes, **how)


def _mask(arguments: argparse.Namespace, changes: "Changes") -> bytes:
    """The file of the mask of one image."""
    with (
        tempfile.TemporaryDirectory() as folder,
        export_of(arguments.export, onnx=arguments.backend == "onnx") as directory,
    ):
        out = Path(folder) / "mask"
        _predicted(arguments, directory, changes, out)
        return next(one for one in out.iterdir() if one.suffix in (".png", ".tif")).read_bytes()


def _predict_as(arguments: argparse.Namespace, directory: Path, changes: "Changes") -> None:
    """Predict, and convert all masks. Raises the error of images that have no mask."""
    from selftrain.conversion.convert import check_place, convert

    [images], out = arguments.images, arguments.output
    check_place(out, images if images.is_dir() else images.parent)
    with tempfile.TemporaryDirectory() as folder:
        masks = Path(folder) / "masks"
        try:
            _predicted(arguments, directory, changes, masks, pictures=True)
        except DataError:
            if any(masks.rglob("*.png")):
                convert(masks, out, arguments.format, images=images)
            raise
        convert(masks, out, arguments.format, images=images)


def changes_of(arguments: argparse.Namespace) -> "Changes":
    """The options of `add_changes`. Raises ConfigError for impossible values."""
    from selftrain.inference.labeller import FLIP as MIRRORED
    from selftrain.inference.labeller import Changes
    from selftrain.inference.tta import of

    views, least = arguments.tta, arguments.threshold
    if views is not None and views != FLIP:
        of(views, "--tta")
    if least is not None and not 0 < least <= 1:
        raise ConfigError(f"--threshold {least} must be above 0 and at most 1, e.g. --threshold 0.7")
    return Changes(MIRRORED if views == FLIP else views, arguments.crf, least, _size(arguments.size))


def _size(text: str | None) -> list[Any] | None:
    """--size as `sizes.seen_size` reads it; [] for images as they are."""
    from selftrain.sizes import is_seen_size

    if text is None or text == "own":
        return None if text is None else []
    word, _, amount = text.replace("x", "=").partition("=")
    try:
        first: Any = int(word) if word.isdigit() else word
        size = [first, float(amount) if word == "scale" else int(amount)]
    except ValueError:
        size = [text]
    if not is_seen_size(size):
        raise ConfigError(f"--size {text} must be {SIZES}")
    return size


def _check(arguments: argparse.Namespace) -> None:
    """Raises ConfigError for options that exclude each other; ConfigError or DataError for wrong paths."""
    from selftrain.prediction.inputs import refuse_missing
    from selftrain.prediction.videos import is_video

    check_model(arguments.export)
    refuse_missing(arguments.images)
    beside = [f"--{name}" for name in (*EXTRAS, "csv", "again") if getattr(arguments, name)]
    images = arguments.images
    if arguments.form == "values" and arguments.threshold is not None:
        raise ConfigError(
            "--threshold leaves pixels without a class, which no value of --values means; use --grey"
        )
    if arguments.format and (beside or len(images) > 1):
        what = f"and {beside[0]} exclude each other" if beside else "takes one folder or one image"
        raise ConfigError(
            f"--format {what}; predict without it, then: selftrain convert OUT -o DIR --to {arguments.format}"
        )
    if arguments.output != STDOUT:
        return
    if arguments.format or beside:
        raise ConfigError(
            f"-o - writes one mask and nothing else; give a folder for {arguments.format or beside[0]}"
        )
    if len(images) > 1 or not images[0].is_file() or is_video(images[0]):
        raise ConfigError("-o - takes one image file; give a folder for the masks of several images")
