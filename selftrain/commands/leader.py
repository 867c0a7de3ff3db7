"""`selftrain predict` and `selftrain export`: the networks of a run, also of one that is not finished."""

import argparse
import tempfile
from pathlib import Path

from selftrain.commands import Commands, begun, command, path
from selftrain.config import Config
from selftrain.conversion import TO
from selftrain.errors import ConfigError, DataError, ResourceError
from selftrain.files import read_json
from selftrain.log import say
from selftrain.rundir import RunDir
from selftrain.settings.shown import OF_AN_EXPORT


def add(commands: Commands) -> None:
    """Add the two commands to the parser."""
    child = command(commands, predict, "runs/first images/ -o masks")
    child.add_argument("export", type=path, help="the export/ of a run, or the run")
    child.add_argument("images", type=path, help="a folder of images, or one image")
    child.add_argument("-o", "--output", type=path, required=True, help="folder for the masks")
    text = "average each image with its mirror image, instead of the views of the export"
    child.add_argument("--flip", action="store_true", help=text)
    forms = child.add_mutually_exclusive_group()
    forms.set_defaults(form="palette")
    text = "grey PNGs of class ids (default: palette PNGs of class ids)"
    forms.add_argument("--grey", dest="form", action="store_const", const="grey", help=text)
    text = "PNGs with the values, or colours, of the training masks"
    forms.add_argument("--values", dest="form", action="store_const", const="values", help=text)
    text = "files of an annotation program with copies of the images, as selftrain convert writes them"
    forms.add_argument("--format", choices=TO, help=text)

    examples = (
        "runs/first -o exported --generation 0",
        "runs/first -o exported 'export.variants=[static]'",
    )
    child = command(commands, export, *examples, settings=OF_AN_EXPORT)
    child.add_argument("run_directory", type=path)
    child.add_argument("-o", "--output", type=path, required=True)
    child.add_argument("--generation", type=int, help="the generation to export (default: the best)")
    text = "export.variants, export.opset, export.size, or data.root where the data have moved"
    child.add_argument("overrides", nargs="*", metavar="NAME=VALUE", help=text)


def predict(arguments: argparse.Namespace) -> None:
    """Label images with an exported model, or with the leader of a run that is not finished."""
    from selftrain.stages.predict import predict

    run, out = RunDir(arguments.export), arguments.output
    is_run = run.config.is_file()
    with tempfile.TemporaryDirectory() as folder:
        directory = run.export if is_run else arguments.export
        if is_run and not run.report.is_file():
            directory = Path(folder) / "export"
            export_unfinished(run, directory, onnx=False)
        if arguments.format:
            _predict_as(arguments, directory, Path(folder) / "masks")
            return
        written = predict(directory, arguments.images, out, tta_flip=arguments.flip, form=arguments.form)
    say(f"{written} masks in {out}")


def _predict_as(arguments: argparse.Namespace, directory: Path, masks: Path) -> None:
    """Predict into `masks`, and convert all of them. Raises the error of images that have no label."""
    from selftrain.conversion.convert import check_place, convert
    from selftrain.stages.predict import predict

    images, out = arguments.images, arguments.output
    check_place(out, images if images.is_dir() else images.parent)
    try:
        predict(directory, images, masks, tta_flip=arguments.flip)
    except DataError:
        if any(masks.rglob("*.png")):
            convert(masks, out, arguments.format, images=images)
        raise
    convert(masks, out, arguments.format, images=images)


def export(arguments: argparse.Namespace) -> None:
    """Export a generation of a run to another directory; of an unfinished run, its leader so far."""
    from selftrain import variants
    from selftrain.preflight import recorded_data
    from selftrain.settings import stored
    from selftrain.stages.export import export_again

    run, out, number = begun(arguments.run_directory), arguments.output, arguments.generation
    unfit = [one for one in arguments.overrides if not one.startswith(("export.", "data.root="))]
    if unfit:
        raise ConfigError(f"{unfit[0]}: selftrain export takes settings of export, and data.root")
    cfg = stored(run.config, arguments.overrides)
    cfg.export.onnx = True  # the command's purpose
    variants.check(cfg.export)
    val = recorded_data(run, cfg).val if cfg.export.variants else []
    if run.report.is_file():
        export_again(run.path, out, generation=number, opset=cfg.export.opset)
    else:
        export_unfinished(run, out, generation=number, cfg=cfg)
    card = variants.add(out, cfg.export, val)
    missing = [name for name, one in card.get("variants", {}).items() if "reason" in one]
    if missing:
        raise ResourceError(f"{out} has no variant {missing[0]}: {card['variants'][missing[0]]['reason']}")


def export_unfinished(
    run: RunDir,
    directory: Path,
    *,
    generation: int | None = None,
    onnx: bool = True,
    cfg: Config | None = None,
) -> None:
    """Export the leader of a run that is not finished, or `generation`, to `directory`.

    `cfg` takes the place of the run's settings. The run directory is only read. Raises ConfigError if that
    generation is not finished, DataError if the data are not where the settings say.
    """
    from selftrain.base import leader_of
    from selftrain.cards import card_of
    from selftrain.models import saved
    from selftrain.preflight import recorded_data
    from selftrain.settings import stored
    from selftrain.stages.export import export

    number = leader_of(run) if generation is None else generation
    gen, cfg = run.generation(number), cfg or stored(run.config, [])
    if not gen.report.is_file():
        raise ConfigError(f"generation {number} of {run.path} is not finished (selftrain status {run.path})")
    row = read_json(gen.report, "generation", "model", "val")
    say(f"{run.path} is not finished: this is generation {number}")
    described = card_of(cfg, recorded_data(run, cfg), row, test=None)
    network = saved.read(gen.model).network
    export(network, directory, card=described, onnx=onnx, opset=cfg.export.opset)
