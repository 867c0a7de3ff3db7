"""The predictors of a run's networks."""

from typing import Any

import torch
from torch import nn

from selftrain.anatomy import anatomy_of
from selftrain.config import Config
from selftrain.inference import decide
from selftrain.inference.asking import Asked
from selftrain.inference.pixels import PixelScale
from selftrain.inference.predictor import Predictor
from selftrain.inference.windows import Window
from selftrain.plan import window_of
from selftrain.tables import Chosen, Table
from selftrain.tuning.tuned import UNTUNED, Tuned


def asked(cfg: Config, tuned: Tuned = UNTUNED) -> Asked:
    """The settings of `predict`, with what was tuned on val for a network."""
    given = cfg.predict
    return Asked(
        window_of(cfg).written,
        tuned.view(given.views),
        tuned.decision or Table(decide.DECISIONS).one(given.decision, "predict.decision").written,
        given.gate,
        refine=tuned.refine,
        cleanup={"min_area": given.min_area, "max_hole": given.max_hole},
    )


def of(
    cfg: Config,
    network: nn.Module,
    classes: list[str],
    device: torch.device,
    tuned: Tuned = UNTUNED,
    **rest: Any,
) -> Predictor:
    """The predictor of a network as `predict` says, with what was tuned on val for it.

    The members of an ensemble get their weights, and `network` is moved to `device`. `rest` are further
    fields of `Predictor`. Raises ConfigError for unknown names and values.
    """
    rest = {"multiple": anatomy_of(network).multiple, **rest}
    network = tuned.network(network).to(device)
    return asked(cfg, tuned).predictor(network, scale_of(cfg, device), classes, **rest)


def plain(
    cfg: Config, network: nn.Module, device: torch.device, window: Chosen[Window], **rest: Any
) -> Predictor:
    """The predictor of a network with one plain view and the most probable class."""
    rest = {"multiple": anatomy_of(network).multiple, **rest}
    return Predictor((network.to(device),), scale_of(cfg, device), window, **rest)


def scale_of(cfg: Config, device: torch.device) -> PixelScale:
    """The normalisation of images on a device."""
    return PixelScale.of(cfg.data.mean, cfg.data.std, device)
