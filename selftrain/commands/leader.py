"""`selftrain export`: the network of a run, also of one that is not finished."""

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from selftrain.commands import Commands, begun, command, path, refuse_several
from selftrain.config import Config
from selftrain.errors import ConfigError, ResourceError
from selftrain.files import read_json
from selftrain.inference.place import check_export
from selftrain.log import say
from selftrain.rundir import SEVERAL, RunDir
from selftrain.settings.shown import OF_AN_EXPORT


def add(commands: Commands) -> None:
    """Add the command to the parser."""
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


def export(arguments: argparse.Namespace) -> None:
    """Export a generation of a run to another directory; of an unfinished run, its leader so far."""
    run, out, number = begun(arguments.run_directory), arguments.output, arguments.generation
    unfit = [one for one in arguments.overrides if not one.startswith(("export.", "data.root="))]
    if unfit:
        raise ConfigError(f"{unfit[0]}: selftrain export takes settings of export, and data.root")
    from selftrain import variants  # takes seconds to import; errors above are reported at once
    from selftrain.preflight import recorded_data
    from selftrain.settings import stored
    from selftrain.stages.export import export_again

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

    `cfg` replaces the run's settings. The run directory is only read. Raises ConfigError if that generation
    is not finished, DataError if the data are not where the settings say.
    """
    from selftrain.base import leader_of
    from selftrain.cards import card_of
    from selftrain.models import saved
    from selftrain.preflight import recorded_data
    from selftrain.settings import stored
    from selftrain.stages.export import export, of_val

    number = leader_of(run) if generation is None else generation
    gen, cfg = run.generation(number), cfg or stored(run.config, [])
    if not gen.report.is_file():
        raise ConfigError(f"generation {number} of {run.path} is not finished (selftrain status {run.path})")
    row = read_json(gen.report, "generation", "model", "val")
    say(f"{run.path} is not finished: this is generation {number}")
    data = recorded_data(run, cfg)
    images = of_val([one.at_own_size() for one in data.val]) if onnx else []
    described = card_of(cfg, data, row, test=None)
    network, opset = saved.read(gen.model).network, cfg.export.opset
    export(network, directory, card=described, onnx=onnx, opset=opset, images=images)


def check_model(model: Path) -> None:
    """Raise ConfigError for a path that is neither a run nor an export; takes no time.

    Several runs have an export if they are the finished folds of a cross-validation.
    """
    run = RunDir(model)
    if not run.export.is_dir():
        refuse_several(model)
    if not (model / SEVERAL).is_file() and not run.config.is_file():
        check_export(model)


@contextmanager
def export_of(model: Path, *, onnx: bool) -> Iterator[Path]:
    """The export to use of a model: an export, the export/ of a finished run or of all folds, or a leader's.

    `onnx` says whether a run that is not finished also needs the ONNX graph.
    """
    run = RunDir(model)
    if (model / SEVERAL).is_file():
        yield run.export  # of all folds together
    elif not run.config.is_file():
        yield model
    elif run.report.is_file():
        yield run.export
    else:
        with tempfile.TemporaryDirectory() as folder:
            export_unfinished(run, Path(folder) / "export", onnx=onnx)
            yield Path(folder) / "export"
