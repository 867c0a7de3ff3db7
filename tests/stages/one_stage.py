"""One stage of training of a network with a single weight."""

import torch
from accelerate import Accelerator

from selftrain.config import TrainConfig
from selftrain.data.examples import Batch
from selftrain.log import Metrics
from selftrain.methods.base import StepResult
from selftrain.optim.schedules import cosine, lr_at
from selftrain.signals import Stop
from selftrain.stage import SCORE, Stage
from selftrain.stages.train import Learner, train
from selftrain.targets import Target

CFG = TrainConfig(
    lr=0.1, warmup=0, ema=0.5, checkpoint_every=2, eval_every=2, optimizer="sgd", weight_decay=0.0, clip=0.0
)


def batches(first, steps=6, parts=1):
    """Batches whose only pixel is the number of the step, each in so many parts."""
    for step in range(first, steps):
        pixel = torch.full((1, 1, 1, 3), step, dtype=torch.uint8)
        yield from [Batch(pixel, Target(pixel[..., 0]))] * parts


class Only:
    """A step function of a loss that counts nothing."""

    def __init__(self, loss):
        self.call = loss

    def counts(self, batch):
        return torch.zeros(0)

    def loss(self, model, averaged, batch, counts):
        return self.call(model, averaged, batch)


def pull(model, averaged, batch):
    """A loss that draws the weight towards the step's number, and noise from the global generator into the logs."""
    target = batch.images.float().mean()
    return StepResult((model.weight.sum() - target) ** 2, {"noise": torch.rand(())})


def go(
    directory,
    *,
    step=pull,
    cfg=CFG,
    metrics=None,
    stop=None,
    steps=6,
    evaluate=lambda network: 0.5,
    keep=None,
):
    torch.manual_seed(0)
    stage = Stage(
        "gen0", 0, steps=steps, images=1, directory=directory / "checkpoints", accelerator=Accelerator(cpu=True),
        metrics=metrics or Metrics(None), stop=stop or Stop(),
    )  # fmt: skip
    network = torch.nn.Conv2d(1, 1, 1, bias=False)
    return train(
        network,
        lambda first: batches(first, steps, cfg.accumulate),
        Only(step),
        cfg=cfg,
        stage=stage,
        evaluate=lambda network: {SCORE: evaluate(network)},
        keep=keep or {},
    )


def learner_of(network, accelerator=None, cfg=CFG):
    return Learner(network, cfg, accelerator or Accelerator(cpu=True), steps=6)


def rate_of_step(step, steps=6, cfg=CFG):
    return lr_at(step, steps, [], lr=cfg.lr, warmup=cfg.warmup, schedule=cosine)
