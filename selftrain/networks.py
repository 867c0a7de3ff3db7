"""The networks of a run's generations: built, begun, kept, loaded."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from selftrain import files
from selftrain.config import ModelConfig
from selftrain.models import saved
from selftrain.models.build import build, to_layout
from selftrain.models.encoders import pretrained
from selftrain.models.weights import IMAGENET, Taken, encoder_names, grown, load_weights
from selftrain.plan import Plan
from selftrain.rundir import RunDir

SNAPSHOTS = 3  # a stage is looked at after each third of its steps, the last of which is its end (Yang et al. 2022, ST++)


@dataclass(frozen=True)
class Begun:
    """A network before its first step, the sources of its weights (none: random), and lines to print."""

    network: nn.Module
    weights: list[Taken]
    lines: list[str]


@dataclass(frozen=True)
class Networks:
    """The network of each of `plans`, and where `run` keeps it. `weights` says what networks begin with."""

    plans: Sequence[Plan]
    weights: ModelConfig
    run: RunDir
    classes: list[str]
    device: torch.device

    def build(self, plan: Plan, *, imagenet: bool = False) -> nn.Module:
        """The network of a generation, random; `imagenet` fetches its encoder's weights from a hub."""
        return build(
            plan.arch,
            plan.encoder,
            classes=len(self.classes),
            channels=plan.channels,
            decoder_channels=plan.decoder_channels,
            imagenet=imagenet,
            dropout=plan.noise.dropout,
            drop_path=plan.noise.drop_path,
        )

    def initial(self, plan: Plan) -> tuple[nn.Module, str, set[str]]:
        """The network of a generation with `model.weights`, their source, and the names of the loaded tensors.

        Raises ConfigError for weights that do not fit, unless `model.partial_weights` allows that.
        """
        encoder, model = plan.encoder, self.weights
        network = self.build(plan, imagenet=model.weights == IMAGENET)
        if not model.weights:
            return network, "", set()
        if model.weights == IMAGENET:
            known = pretrained(encoder)
            return network, known.source if known else IMAGENET, set(encoder_names(network))
        own = f"generations.{plan.number}.encoder={model.encoder}"
        path = Path(model.weights)
        names = load_weights(
            network,
            path,
            partial=model.partial_weights,
            whose=f"generation {plan.number} (arch={plan.arch} encoder={encoder})",
            remedy=own if encoder != model.encoder else "model.encoder= (the encoder that the file was made for)",
        )
        return network, path.name, names

    def begin(self, plan: Plan, teacher: int | None) -> Begun:
        """The network of a generation before its first step; with `init: teacher`, those of its teacher's weights that fit.

        In a deeper encoder of the same family that is all of them, those of a narrower stem too, and its further blocks begin
        as the identity (timm sets the last scale of a residual branch to 0), so the student begins as its teacher (Chen et
        al. 2016, Net2Net).
        """
        network, source, names = self.initial(plan)
        if teacher is None or not plan.begins_as_teacher:
            weights = [Taken.of(network, names, source)] if source else []
            return Begun(network, weights, [f"{plan.name}: {taken}" for taken in weights])
        theirs, own = self.load(teacher)[0].state_dict(), network.state_dict()
        found = grown(network, theirs)
        network.load_state_dict(found, strict=False)
        rest = Taken.of(network, names - found.keys(), source)
        weights = [Taken.of(network, found, f"generation {teacher}"), *([rest] if rest.encoder or rest.decoder else [])]
        unused = f"; {len(theirs) - len(found)} of its teacher's fit nowhere" if len(found) < len(theirs) else ""
        said = f"{plan.name}: {len(found)} of its {len(own)} tensors are its teacher's (gen{teacher}){unused}"
        lines = [said] if len(found) < len(own) or unused else []
        return Begun(network, weights, [*lines, *(f"{plan.name}: {taken}" for taken in weights[1:])])

    def keep(self, plan: Plan, network: nn.Module) -> None:
        """Write the network of a generation whose training has ended."""
        # What is there was written before a kill, without the report that makes it count.
        saved.write(self.run.generation(plan.number).model, network, self.describe(plan, network), self.classes)

    def keep_snapshot(self, number: int, part: int, network: nn.Module) -> None:
        """Write the network as it is after `part` of SNAPSHOTS parts of its steps."""
        where = self.run.generation(number).snapshot(part)
        if not where.exists():
            files.commit_directory(where, saved.weights_of(network))

    def load(self, number: int) -> tuple[nn.Module, str]:
        """The network of a finished generation and the sha256 of its weights."""
        found = saved.read(self.run.generation(number).model)
        return self._placed(found.network), found.digest

    def snapshots(self, number: int) -> list[nn.Module]:
        """The network of a generation as it was before its end."""
        gen = self.run.generation(number)
        places = [gen.snapshot(part) for part in range(1, SNAPSHOTS)]
        return [self._placed(saved.read(place, described_in=gen.model).network) for place in places]

    def describe(self, plan: Plan, network: nn.Module) -> dict:
        """What a reader of its weights has to build (`saved.describe`)."""
        return saved.describe(
            network,
            arch=plan.arch,
            encoder=plan.encoder,
            decoder_channels=plan.decoder_channels,
            channels=plan.channels,
        )

    def _placed(self, network: nn.Module) -> nn.Module:
        return to_layout(network).to(self.device).eval()
