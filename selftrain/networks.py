"""The networks of a run's generations: built, initialised, kept and loaded."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from selftrain import files
from selftrain.config import RUN, ModelConfig
from selftrain.models import ensemble, saved
from selftrain.models.build import build, to_layout
from selftrain.models.encoders import pretrained
from selftrain.models.foreign import load_package
from selftrain.models.weights import (
    IMAGENET,
    PACKAGE,
    Taken,
    encoder_names,
    grown,
    load_weights,
    load_whole,
)
from selftrain.plan import Plan
from selftrain.rundir import Generation, RunDir
from selftrain.values import worded

# a stage has a snapshot after each third of its steps; the last is its result (Yang et al. 2022, ST++)
SNAPSHOTS = 3


def moment(step: int) -> str:
    """The name of the snapshot after `step` steps that becomes one of several networks."""
    return f"step-{step:06}"


@dataclass(frozen=True)
class Begun:
    """A network before its first step, the sources of its weights (none: random), and lines to print."""

    network: nn.Module
    weights: list[Taken]
    lines: list[str]


@dataclass(frozen=True)
class Elder:
    """A network that initialises another one, its name in reports, and its name in what is printed."""

    network: nn.Module
    source: str
    whose: str


@dataclass(frozen=True)
class Networks:
    """The network of each of `plans`, and its place in `run`. `weights` sets the initial weights."""

    plans: Sequence[Plan]
    weights: ModelConfig
    run: RunDir
    classes: list[str]
    device: torch.device

    def build(self, plan: Plan, *, imagenet: bool = False) -> nn.Module:
        """Build the network of a generation. With `imagenet` the encoder's weights are downloaded.

        Otherwise all weights are random.
        """
        return build(
            plan.arch,
            plan.encoder,
            classes=len(self.classes),
            channels=plan.channels,
            decoder_channels=plan.decoder_channels,
            imagenet=imagenet,
            dropout=plan.noise.dropout,
            drop_path=plan.noise.drop_path,
            image_head=plan.image_head,
        )

    def initial(self, plan: Plan) -> tuple[nn.Module, str, set[str]]:
        """The network of a generation with its `weights`, their source, and the loaded tensors' names.

        Raises ConfigError for weights that do not fit, unless `model.partial_weights` allows that.
        """
        encoder, model = plan.encoder, self.weights
        network = self.build(plan, imagenet=plan.weights == IMAGENET)
        if not plan.weights:
            return network, "", set()
        if plan.weights.startswith(RUN):
            return network, *self._of_run(plan, network)
        if plan.weights.startswith(PACKAGE):
            return network, plan.weights, load_package(network, plan.weights, encoder=encoder)
        if plan.weights == IMAGENET:
            known = pretrained(encoder)
            return network, known.source if known else IMAGENET, set(encoder_names(network))
        own = f"generations.{plan.number}.encoder={model.encoder} or generations.{plan.number}.weights="
        path = Path(plan.weights)
        names = load_weights(
            network,
            path,
            partial=model.partial_weights,
            whose=f"generation {plan.number} (arch={worded(plan.arch)} encoder={encoder})",
            remedy=own
            if encoder != model.encoder
            else "model.encoder= (the encoder that the file was made for)",
        )
        return network, path.name, names

    def _of_run(self, plan: Plan, network: nn.Module) -> tuple[str, set[str]]:
        """Load the network that leads another run, of several the first; returns its name and the tensors.

        Raises ConfigError for a network that does not fit, unless `model.partial_weights` allows that.
        """
        assert plan.weights is not None
        home = Path(plan.weights.removeprefix(RUN)).expanduser().parent
        source = f"{home.parent.name} of {home.parent.parent.name}"
        found = saved.read(home)
        what = {name: worded(found.description[name]) for name in ("arch", "encoder")}
        theirs = f"arch={what['arch']} encoder={what['encoder']} with {len(found.classes)} classes"
        names = load_whole(
            network,
            ensemble.parts(found.network)[0].state_dict(),
            partial=self.weights.partial_weights,
            whose=f"generation {plan.number} (arch={worded(plan.arch)} encoder={plan.encoder} with "
            f"{len(self.classes)} classes)",
            source=f"model.weights={plan.weights}: {source} is {theirs}",
            remedy=f"generations.{plan.number}.weights=random",
        )
        return source, names

    def begin(self, plan: Plan, teacher: int | None, *, alone: bool = False) -> Begun:
        """The network of a generation before its first step.

        With `init: teacher` it is initialised from its teacher's weights, as far as they fit. In a deeper
        encoder of the same family all of them fit, even if the teacher's stem is narrower. The additional
        blocks start as the identity, because timm sets the last scale of a residual branch to 0. So the
        student starts with its teacher's function (Chen et al. 2016, Net2Net). Of several networks it takes
        member 0. The first generation of a run that continues another one is initialised from that run's
        leader alike. With `alone`, neither of them is used.
        """
        network, source, names = self.initial(plan)
        elder = None if alone else self._elder(plan, teacher)
        if elder is None:
            weights = [Taken.of(network, names, source)] if source else []
            return Begun(network, weights, [f"{plan.name}: {taken}" for taken in weights])
        theirs, own = ensemble.parts(elder.network)[0].state_dict(), network.state_dict()
        found = grown(network, theirs)
        network.load_state_dict(found, strict=False)
        rest = Taken.of(network, names - found.keys(), source)
        weights = [
            Taken.of(network, found, elder.source),
            *([rest] if rest.encoder or rest.decoder else []),
        ]
        unused = (
            f"; {len(theirs) - len(found)} of its teacher's fit nowhere" if len(found) < len(theirs) else ""
        )
        said = f"{plan.name}: {len(found)} of its {len(own)} tensors are {elder.whose}{unused}"
        lines = [said] if len(found) < len(own) or unused or teacher is None else []
        return Begun(network, weights, [*lines, *(f"{plan.name}: {taken}" for taken in weights[1:])])

    def _elder(self, plan: Plan, teacher: int | None) -> Elder | None:
        """The network whose weights initialise the network of a generation."""
        if teacher is not None and plan.begins_as_teacher:
            return Elder(self.load(teacher)[0], f"generation {teacher}", f"its teacher's (gen{teacher})")
        if plan.number == 0 and self.run.base.is_dir():
            source = files.read_manifest(self.run.base)["source"]
            return Elder(self._placed(saved.read(self.run.base).network), source, f"taken from {source}")
        return None

    def keep(self, plan: Plan, network: nn.Module, home: Generation) -> None:
        """Write a trained network of a generation, or all its networks as one, to `home`."""
        # A network that exists was written before a kill; without its report it does not count.
        saved.write(home.model, network, self.describe(plan, network), self.classes)

    def keep_snapshot(self, plan: Plan, name: str, network: nn.Module) -> None:
        """Write a snapshot of a network in training: the part of SNAPSHOTS that is done, or a `moment`."""
        where = plan.home(self.run).snapshot(name)
        if not where.exists():
            files.commit_directory(where, saved.weights_of(network))

    def load(self, number: int) -> tuple[nn.Module, str]:
        """The network of a finished generation and the sha256 of its weights."""
        return self.load_from(self.run.generation(number))

    def load_from(self, home: Generation) -> tuple[nn.Module, str]:
        """The network in `home` and the sha256 of its weights."""
        found = saved.read(home.model)
        return self._placed(found.network), found.digest

    def snapshots(self, plan: Plan) -> list[nn.Module]:
        """The snapshots of a generation, without its final network."""
        homes, count = [one.home(self.run) for one in plan.each], plan.members.moments
        zooms, weights = plan.zooms[count - 1 :: count], plan.members.weights[count - 1 :: count]
        each = [[self._snapshot(home, str(part)) for home in homes] for part in range(1, SNAPSHOTS)]
        return [ensemble.joined(networks, zooms, weights) for networks in each]

    def moments(self, plan: Plan) -> list[nn.Module]:
        """The networks of the earlier moments of a training, whose last network is kept."""
        return [self._snapshot(plan.home(self.run), moment(step)) for step in plan.moments]

    def _snapshot(self, home: Generation, name: str) -> nn.Module:
        return self._placed(saved.read(home.snapshot(name), described_in=home.model).network)

    def describe(self, plan: Plan, network: nn.Module) -> dict:
        """Describe how to rebuild a generation's network (`saved.describe`)."""
        return saved.describe(
            network,
            arch=plan.arch,
            encoder=plan.encoder,
            decoder_channels=plan.decoder_channels,
            channels=plan.channels,
        )

    def _placed(self, network: nn.Module) -> nn.Module:
        return to_layout(network).to(self.device).eval()
