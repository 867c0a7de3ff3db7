"""Batch norm over all processes (train.sync_bn)."""

from timm.layers.norm_act import BatchNormAct2d, SyncBatchNormAct
from torch import nn

from selftrain.errors import ConfigError

# timm's has the activation inside; torch's own conversion would drop it
SYNCHRONISED: dict[type[nn.Module], type[nn.Module]] = {
    nn.BatchNorm1d: nn.SyncBatchNorm,
    nn.BatchNorm2d: nn.SyncBatchNorm,
    BatchNormAct2d: SyncBatchNormAct,
}


def synchronise(network: nn.Module) -> None:
    """Let the batch norms of a network use the statistics of all processes in training.

    Modules keep their parameters, buffers and hooks, and become torch.nn.SyncBatchNorm (timm's: the same with
    its activation). The names of tensors stay, so checkpoints and exports are those of plain batch norm.
    Raises ConfigError for a batch norm of another kind.
    """
    for name, module in network.named_modules():
        if type(module) in SYNCHRONISED:
            module.__class__ = SYNCHRONISED[type(module)]
            setattr(module, "process_group", None)  # noqa: B010  (all processes; for mypy)
        elif isinstance(module, nn.modules.batchnorm._BatchNorm):
            raise ConfigError(
                f"train.sync_bn: {name} is a {type(module).__name__}, which cannot be synchronised; "
                "set train.sync_bn=false or another model.arch"
            )
