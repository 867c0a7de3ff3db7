"""What `selftrain next` asks about images: a run's leader, an encoder with ImageNet weights, or none."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from torch import nn

from selftrain import predictors, preflight
from selftrain.base import leader_of
from selftrain.cards import card_of
from selftrain.config import Config, GenerationConfig, LabelConfig
from selftrain.data.bands import RGB
from selftrain.data.dataset import DataSet, with_levels
from selftrain.data.images import IMAGE_SUFFIXES
from selftrain.data.load import levels_of, load
from selftrain.data.many import finder, ids_of
from selftrain.data.sample import Sample
from selftrain.data.sources.files import ImageFile
from selftrain.data.sources.tree import Tree
from selftrain.datasets import spec_of
from selftrain.errors import ConfigError
from selftrain.files import read_json
from selftrain.inference import windows
from selftrain.inference.exported import predictor_of
from selftrain.inference.labeller import Labeller
from selftrain.inference.predictor import Predictor
from selftrain.labels.labelled import label_image
from selftrain.labels.record import Label, decode
from selftrain.labels.store import INDEX, LabelStore, ids_digest
from selftrain.log import say
from selftrain.models import ensemble, saved
from selftrain.models.encoders import PACKAGES
from selftrain.networks import SNAPSHOTS, Networks
from selftrain.plan import plans, views_of_labels, window_of_labels
from selftrain.pretraining import resolved
from selftrain.proposals import uncertainty
from selftrain.proposals.features import Encoder, colours_and_textures
from selftrain.proposals.survey import Jury, Surveyor, labelled_pixels
from selftrain.rundir import RunDir
from selftrain.settings import stored
from selftrain.sizes import seen_size
from selftrain.stages.pseudo_label import refiner_of
from selftrain.tuning.tuned import Tuned

NONE = "none"  # --uncertainty none: by diversity alone


@dataclass(frozen=True)
class Question:
    """The images to choose from, what is asked about them, and what draws their masks if there is a model."""

    data: DataSet
    surveyor: Surveyor
    name: str  # of the data
    rows: list[tuple[str, str]]  # facts for the gallery
    labeller: Labeller | None = None
    label: Callable[[np.ndarray], Label] | None = None  # the pseudo-label of an image (H, W, C)


def of_run(run: RunDir, overrides: list[str], measures: Sequence[str]) -> Question:
    """What the leader of a run and the run's earlier networks are asked about its unlabelled images.

    `measures` are entries of UNCERTAINTIES as NAME or NAME=WEIGHT. Raises ConfigError if there is no leader.
    """
    cfg = stored(run.config, overrides)
    cfg.out = str(run.path)  # it may have moved
    number, data = leader_of(run), preflight.recorded_data(run, cfg)
    row = read_json(run.generation(number).report, "generation", "model", "val")
    network = Tuned.of(row).network(saved.read(run.generation(number).model).network)
    device = preflight.accelerator_of(cfg).device
    jury = _jury(run, cfg, number, network, Networks(plans(cfg), cfg.model, run, data.classes, device))
    entries = [] if measures == [NONE] else uncertainty.chosen(_weights(measures), jury.parts)
    weights = uncertainty.class_weights(labelled_pixels(data.labelled, len(data.classes)))
    surveyor = Surveyor(Encoder(jury.members[0]), jury, entries, weights, cfg.train.eval_batch)
    card = card_of(cfg, data, row, test=None)
    rows = [
        ("model", f"generation {number} of {run.path}"),
        ("uncertainty", ", ".join(f"{one.name} (weight {one.amount:g})" for one in entries) or "not used"),
        ("distance", "between features of the model's encoder"),
    ]
    labeller = Labeller(predictor_of(network, card, device=device), card)
    window = window_of_labels(cfg)
    teacher = predictors.plain(cfg, network, device, window, seen_size=jury.seen_size)
    label = partial(_labelled, teacher.with_views(views_of_labels(cfg)), cfg.labels)
    return Question(data, surveyor, cfg.data.name, rows, labeller, label)


def labels_of(run: RunDir, number: int, question: Question) -> Callable[[Sample, np.ndarray], Label]:
    """The pseudo-label of an unlabelled sample, whose image is given, by generation `number` of a run.

    It is read if the generation has labelled its images, as every generation has that taught another one.
    """
    folder, samples = run.generation(number).labels, question.data.unlabelled
    if (folder / INDEX).is_file():
        store = LabelStore(folder)
        if store.index.ids_sha256 == ids_digest(chain.from_iterable(ids_of(samples))):
            return partial(_stored, store, finder(samples))
    assert question.label
    label = question.label
    return lambda sample, image: label(image)


def _stored(store: LabelStore, find: Callable[[str], int | None], sample: Sample, image: np.ndarray) -> Label:
    place = find(sample.id)
    assert place is not None
    return store.read(place)


@torch.inference_mode()
def _labelled(predictor: Predictor, cfg: LabelConfig, image: np.ndarray) -> Label:
    """The pseudo-label of an image, as a generation labels it for the next one."""
    probs = predictor.probabilities(image[None])[0].cpu().numpy()
    found = label_image(image, probs, refiner=refiner_of(cfg), soft_classes=cfg.soft_classes)
    return decode(found.record)


def _jury(run: RunDir, cfg: Config, number: int, network: nn.Module, networks: Networks) -> Jury:
    """The networks of the leader, and its past: its snapshots, or else the promoted generations before it."""
    plan = networks.plans[number]
    homes = [one.home(run) for one in plan.each]
    if all(home.snapshot(str(part)).is_dir() for home in homes for part in range(1, SNAPSHOTS)):
        past = networks.snapshots(plan)
    else:
        reports = [(k, run.generation(k).report) for k in range(number)]
        past = [networks.load(k)[0] for k, file in reports if file.is_file() and read_json(file)["promoted"]]
    members = ensemble.singles(network)
    ask = partial(predictors.plain, cfg, device=networks.device, window=window_of_labels(cfg))
    size = partial(seen_size, [], cfg.labels.size) if cfg.labels.size else None
    return Jury(list(map(ask, members)), ensemble.shares_of(network), list(map(ask, past)), size)


def _weights(measures: Sequence[str]) -> dict[str, float]:
    """The weight of each measure, 1 unless it is given. Raises ConfigError for anything but a number."""
    found = dict[str, float]()
    for text in measures:
        name, _, weight = text.partition("=")
        try:
            found[name] = float(weight or 1)
        except ValueError:
            raise ConfigError(
                f"{uncertainty.OPTION} {text}: {weight!r} is not a number, e.g. {name}=0.5"
            ) from None
    return found


def of_data(cfg: Config, images: Path | None, folder: Path) -> Question:
    """What can be asked about the images of a data set without a model: how unlike one another they are.

    `cfg` describes the data set, unless it is the folder `images`. `folder` is where nothing was written yet.
    """
    data = _images_below(images) if images else load(spec_of(cfg.data))
    data = with_levels(data, levels_of(data, cfg.data.range))
    encoder, said = _pretrained(cfg, folder, len(data.classes))
    surveyor = Surveyor(encoder or colours_and_textures)
    return Question(data, surveyor, images.name if images else cfg.data.name, [("distance", said)])


def _images_below(folder: Path) -> DataSet:
    """The images of a folder, all of them without a mask. Links that lead out of it are left out."""
    tree = Tree(folder.resolve())
    files = tree.walk(tree.root, IMAGE_SUFFIXES)
    for fault in tree.faults:
        say(f"left out: {fault}")
    samples = [Sample(tree.relative(file), ImageFile(file), None) for file in files]
    return DataSet([], [], samples, [], [], root=tree.root)


def _pretrained(cfg: Config, folder: Path, classes: int) -> tuple[Encoder | None, str]:
    """The first encoder with ImageNet weights, and how the gallery describes the distance.

    The encoder of the settings is tried first, then the encoders whose weights are in a package.
    """
    names = dict.fromkeys((cfg.model.encoder, *PACKAGES)) if cfg.data.channels == RGB else ()
    for name in names:
        model = replace(cfg.model, encoder=name)
        tried, _ = resolved(replace(cfg, model=model, generations=[GenerationConfig()]), RunDir(folder))
        if tried.model.weights is None:
            continue
        plan = plans(tried)[0]
        networks = Networks(
            [plan], tried.model, RunDir(folder), ["any"] * max(classes, 1), torch.device("cpu")
        )
        network, source, _ = networks.initial(plan)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        predictor = predictors.plain(tried, network, device, windows.of(0))
        return Encoder(predictor), f"between features of {name} ({source})"
    return None, "between colours and textures: no ImageNet weights are there (docs/pretrained.md)"
