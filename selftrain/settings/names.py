"""Names of settings, and the settings that a wrong name may stand for."""

import re
from collections.abc import Iterable
from dataclasses import asdict
from difflib import get_close_matches

from selftrain.config import Config, GenerationConfig
from selftrain.settings.changes import RENAMED, flat
from selftrain.settings.check import declared
from selftrain.tables import Parameter, Rule
from selftrain.values import element_of, fields_of

# Other programs' names for settings; only the last part of a name is looked up.
WORDS = {
    "epochs": "train.steps", "num_epochs": "train.steps", "max_epochs": "train.steps",
    "max_steps": "train.steps", "iterations": "train.steps", "iters": "train.steps",
    "num_steps": "train.steps",
    "batch_size": "train.labelled_batch", "batch": "train.labelled_batch", "bs": "train.labelled_batch",
    "learning_rate": "train.lr", "rate": "train.lr", "lr0": "train.lr", "wd": "train.weight_decay",
    "scheduler": "train.schedule", "lr_scheduler": "train.schedule", "optim": "train.optimizer",
    "warmup_steps": "train.warmup", "grad_clip": "train.clip", "gradient_clip": "train.clip",
    "ema_decay": "train.ema", "swa": "train.average", "averaging": "train.average",
    "early_stopping": "train.patience", "early_stopping_patience": "train.patience",
    "gradient_accumulation_steps": "train.accumulate", "accumulate_grad_batches": "train.accumulate",
    "accumulation_steps": "train.accumulate", "grad_accum": "train.accumulate",
    "freeze_encoder": "train.freeze", "freeze_backbone": "train.freeze", "lock_backbone": "train.freeze",
    "backbone_lr": "train.encoder_lr", "lr_mult": "train.encoder_lr", "lr_multi": "train.encoder_lr",
    "layerwise_decay": "train.layer_decay", "layer_lr_decay": "train.layer_decay",
    "num_workers": "train.workers", "n_workers": "train.workers", "num_threads": "train.threads",
    "amp": "train.precision", "mixed_precision": "train.precision", "dtype": "train.precision",
    "fp16": "train.precision", "bf16": "train.precision",
    "crop_size": "train.crop", "patch_size": "train.crop",
    "image_size": "data.size", "img_size": "data.size", "imgsz": "data.size", "input_size": "data.size",
    "resolution": "data.size", "resize": "data.size", "height": "data.size", "width": "data.size",
    "backbone": "model.encoder", "encoder_name": "model.encoder",
    "architecture": "model.arch", "decoder": "model.arch",
    "pretrained": "model.weights", "encoder_weights": "model.weights", "checkpoint": "model.weights",
    "num_classes": "data.classes", "class_names": "data.classes", "names": "data.classes",
    "path": "data.root", "data_dir": "data.root", "data_root": "data.root", "dataset": "data.root",
    "dir": "data.root",
    "ignore_index": "data.ignore", "ignore_label": "data.ignore", "void": "data.ignore",
    "palette": "data.colours", "colormap": "data.colours", "class_values": "data.values",
    "val_split": "data.splits.val_fraction", "val_size": "data.splits.val_fraction",
    "test_split": "data.splits.test_fraction", "test_size": "data.splits.test_fraction",
    "output": "out", "output_dir": "out", "out_dir": "out", "save_dir": "out", "workdir": "out",
    "random_seed": "seed",
    "conf": "select.confidence", "confidence_threshold": "select.confidence",
    "num_generations": "generations", "n_generations": "generations", "rounds": "generations",
}  # fmt: skip
MOST = 3  # proposed names
OF_COMMANDS = {  # settings of the command line that are no field of Config, or a section of it
    "recipe": "the method: a file of recipes/recipe, such as noisy_student or supervised",
    "data": "the YAML file that selftrain init wrote, or the name of a data set, with data.root=DIR",
    "generations.extra": "number of generations to add, with the settings of the last one",
}


def today(name: str) -> str:
    """The current name of an earlier version's setting; empty if it never was a setting."""
    numbered = re.match(r"generations\.\d+\.", name)
    general = name.replace(numbered[0], "generations.", 1) if numbered else name
    new = RENAMED[general].name if general in RENAMED else ""
    return new.replace("generations.", numbered[0], 1) if numbered else new


def near(name: str) -> list[str]:
    """Settings that `name` may stand for: by section, by another program's word, by spelling."""
    section, _, last = name.rpartition(".")
    prefix = f"{section}." if re.fullmatch(r"generations\.\d+", section) else "generations.0."
    names, word = all_names(prefix), last.lower().replace("-", "_")
    lacking = [known for known in names if known.endswith(f".{name}")]
    if lacking:
        return lacking[:MOST]
    if word in WORDS:
        own = prefix + WORDS[word].rpartition(".")[2]
        return [own if own in names and section == prefix[:-1] else WORDS[word]]
    elsewhere = [known for known in names if known.endswith(f".{word}") or known == word]
    return (elsewhere or _alike(section, word, names))[:MOST]


def did_you_mean(word: str, known: Iterable[str], *, before: str = "") -> str:
    """A question about the one of `known` names that is spelt most like `word`; "" if there is none.

    `before` is put in front of the name.
    """
    close = get_close_matches(word, known, n=1, cutoff=0.5)
    return f"; did you mean {before}{close[0]}?" if close else ""


def beside(name: str) -> str:
    """The settings in the section of `name`, as one text; empty if there is no such section."""
    section = name.rpartition(".")[0]
    names = all_names(f"{section}." if section.startswith("generations.") else "generations.0.")
    return ", ".join(known for known in names if section and known.rpartition(".")[0] == section)


def _alike(section: str, last: str, names: list[str]) -> list[str]:
    """Settings whose last part is spelt like `last`. Matches in the same section replace all others."""
    ends = get_close_matches(last, {known.rpartition(".")[2] for known in names}, n=MOST, cutoff=0.7)
    found = [known for end in ends for known in names if known.rpartition(".")[2] == end]
    return [known for known in found if known.rpartition(".")[0] == section] or found


def all_names(prefix: str = "generations.0.") -> list[str]:
    """The names of all settings; settings of a generation get the prefix `prefix`."""
    whole = [name for name in flat(Config()) if not name.startswith("generations.")]
    return [*whole, "generations", *(prefix + name for name in flat(asdict(GenerationConfig())))]


def setting_of(name: str) -> Parameter | None:
    """The declaration of a setting, such as "generations.1.steps"; None for a name that no field declares."""
    kind, found = Config, None
    for part in name.split("."):
        if not (fields_of(kind) and part in declared(kind)) and not part.isdecimal():
            return None
        if not part.isdecimal():
            found = declared(kind)[part]
            kind = element_of(found.kind) or found.kind
    return found


def meaning(name: str) -> str:
    """The meaning of a setting, for help."""
    if name in OF_COMMANDS:
        return OF_COMMANDS[name]
    setting = setting_of(name)
    return setting.meaning if setting else ""


def rules_of(name: str) -> tuple[Rule, ...]:
    """The rules for the value of a setting; () for a name that no field declares."""
    setting = setting_of(name)
    return setting.rules if setting else ()


def unknown(name: str) -> str:
    """A message about an unknown setting, with the settings that may have been meant."""
    if today(name):
        return f"{name}: this setting is {today(name)} now"
    meant, others = near(name), beside(name)
    if meant:
        return f"{name}: no such setting; did you mean {' or '.join(meant)}?"
    advice = f"there are {others}" if others else "python -m selftrain.run --show lists all"
    return f"{name}: no such setting; {advice}"
