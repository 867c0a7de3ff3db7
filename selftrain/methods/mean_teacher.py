"""Mean Teacher."""

import torch
from torch import nn

from selftrain.data.examples import Batch
from selftrain.ids import IGNORE
from selftrain.methods.base import Learnt, Online, views_of
from selftrain.models.outputs import output_of
from selftrain.targets import Target


class MeanTeacher(Online):
    """Tarvainen & Valpola 2017: the network's probabilities approach its EMA's; every pixel counts."""

    mixes = False
    term = "mse"

    def learn(self, model: nn.Module, averaged: nn.Module, batch: Batch) -> Learnt:
        """See `Online.learn`."""
        views, labelled = views_of(batch), batch.labelled
        soft = self.probabilities(averaged, views.images[0])
        images = torch.cat([self.pixels(batch.images), self.pixels(views.images[1])])
        output = output_of(model(images))
        logits = output.pixels.float()
        counts = views.inside & ~views.erased[0]
        target = Target(torch.where(counts, soft.argmax(dim=1), IGNORE), soft=soft)
        known, guessed = (logits[:labelled], batch.known), (logits[labelled:], target)
        return Learnt(known, guessed, views.inside.sum().float(), image=output.image)
