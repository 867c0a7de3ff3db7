"""The run that a run continues: its leader's network, and the splits of its images.

Both are copied to base/ when the new run begins, so that it does not depend on the earlier run any more.
"""

from dataclasses import replace
from pathlib import Path

from selftrain.config import RUN, Config
from selftrain.data.kept import kept_of
from selftrain.data.spec import Spec
from selftrain.datasets import spec_of
from selftrain.errors import ConfigError
from selftrain.files import commit_directory, read_directory, read_json, read_manifest
from selftrain.manifests import entries_of, folder_of, opened
from selftrain.rundir import WEIGHTS, RunDir

DATA = "data.json"


def leader_of(run: RunDir) -> int:
    """The number of the generation that leads a run so far. Raises ConfigError if none is finished."""
    reports = {number: run.generation(number).report for number in range(run.generations_begun())}
    rows = {number: read_json(path, "promoted") for number, path in reports.items() if path.is_file()}
    if not rows:
        raise ConfigError(
            f"no generation of {run.path} is finished, so it has no network yet (selftrain status {run.path})"
        )
    return max(number for number, row in rows.items() if row["promoted"])


def begun_from(weights: str) -> str:
    """`run:DIR` of model.weights as `run:FILE`, the weights of the leader's network; `run:FILE` stays.

    Raises ConfigError if there is no such run, or no such file.
    """
    path = Path(weights.removeprefix(RUN)).expanduser()
    if path.name == WEIGHTS:
        if not path.is_file():
            raise ConfigError(f"model.weights={weights}: no such file; restore it or choose another run")
        return weights
    run = RunDir(path)
    if not run.config.is_file():
        raise ConfigError(f"model.weights={weights}: {path} is not a run directory; give the out= of a run")
    return f"{RUN}{run.generation(leader_of(run)).model / WEIGHTS}"


def keep(run: RunDir, cfg: Config) -> None:
    """Copy what `run` needs of the run that it continues, `cfg.base`, once."""
    if not cfg.base or run.base.exists():
        return
    earlier = RunDir(Path(cfg.base))
    number = leader_of(earlier)
    model = earlier.generation(number).model
    facts = {name: value for name, value in read_manifest(model).items() if name != "files"}
    parts = {file.name: file.read_bytes() for file in sorted(folder_of(earlier.data).glob("*.safetensors"))}
    files = {**read_directory(model), DATA: earlier.data.read_bytes(), **parts}
    commit_directory(run.base, files, **facts, source=f"generation {number} of {earlier.path.name}")


def spec_for(run: RunDir, cfg: Config) -> Spec:
    """The data set to read, with the splits of the run that `run` continues; to debug, a small part of it."""
    spec = replace(spec_of(cfg.data), debug=cfg.debug)
    if not cfg.base:
        return spec
    earlier = RunDir(Path(cfg.base))
    own = run.base.exists()
    manifest, parts = (run.base / DATA, run.base) if own else (earlier.data, folder_of(earlier.data))
    if not manifest.is_file():
        raise ConfigError(f"base={cfg.base} is not a run that has begun: it has no {DATA}")
    kept = kept_of(opened(read_json(manifest, "labelled", "unlabelled", "val", "test"), parts))
    return replace(spec, splits=replace(spec.splits, kept=kept))


def about(manifest: dict, spec: Spec) -> str:
    """A line about the images that keep their split and about new ones; `manifest` is the new data.json."""
    kept, counts = spec.splits.kept, list[str]()
    for split in ("labelled", "unlabelled", "val", "test"):
        rows = entries_of(manifest[split])
        new = sum(row.get("image") not in kept or kept[row["image"]][0] != split for row in rows)
        counts.append(f"{split} {len(manifest[split])} ({new} new)")
    return f"data: images keep the split that they had; {', '.join(counts)}"
