"""Every setting of a run: name, type, default, range and meaning.

The YAML files under recipes/ contain differences only.

A field declares its range and meaning in its annotation, as the parameters of table entries do (tables.py):
`lr: Annotated[float, Bounds(0), "learning rate"] = 1e-3`. settings/check.py reads them, and docs/settings.md
lists them. The words of tables, for example thresholds, are not repeated here; choices.py maps settings to
tables.
"""

from dataclasses import dataclass, field
from typing import Annotated, Any

from selftrain.config.data import DataConfig, ExtraConfig, SplitConfig, StoreConfig
from selftrain.config.labels import (
    MAX_HOLE,
    MIN_AREA,
    CamConfig,
    CRFConfig,
    LabelConfig,
    SelectConfig,
    TTAConfig,
)
from selftrain.config.rules import AUTO, RUN
from selftrain.config.training import (
    ALWAYS,
    PRECISIONS,
    GenerationConfig,
    LossConfig,
    ModelConfig,
    NoiseConfig,
    TrainConfig,
)
from selftrain.sizes import SEEN, is_seen_size
from selftrain.tables import Bounds, Count, Must, OneOf, Place, Share
from selftrain.values import Choice

__all__ = [
    "ALWAYS",
    "AUTO",
    "PRECISIONS",
    "RUN",
    "TRACKERS",
    "CRFConfig",
    "CamConfig",
    "Config",
    "DataConfig",
    "ExportConfig",
    "ExtraConfig",
    "GenerationConfig",
    "LabelConfig",
    "LossConfig",
    "ModelConfig",
    "NoiseConfig",
    "PredictConfig",
    "SelectConfig",
    "SplitConfig",
    "StoreConfig",
    "TTAConfig",
    "TestConfig",
    "TrainConfig",
]


VARIANTS = ("complete", "static", "fp16", "int8", "pt2")  # of an export (selftrain.variants)
TRACKERS = ("tensorboard", "wandb", "mlflow")
BUDGETS = ("quick", "normal", "long")


def _are_trackers(names: list[str]) -> bool:
    return set(names) <= {*TRACKERS} and len({*names}) == len(names)


def _is_budget(budget: str) -> bool:
    if budget in BUDGETS:
        return True
    try:
        return 0 < float(budget) < float("inf")
    except ValueError:
        return False


@dataclass
class PredictConfig:
    """How networks predict images in evaluations, pictures and `selftrain predict`.

    Labelling uses `labels.window`, `labels.views`, `labels.size` and the most probable class. What is tuned
    on val (`thresholds`, `crf`, `fitted`) is tuned for each generation, scored by cross-fitting, and kept
    only if the score rises.
    """

    window: Annotated[
        Choice | None, "how much of an image a network sees at once; null: as `labels.window`"
    ] = None
    views: Annotated[Choice, "the views of an image whose probabilities are averaged"] = "plain"
    size: Annotated[
        list[Any],
        Must(SEEN, is_seen_size),
        "size at which networks see images, instead of `data.size`, in the same forms; [scale, 1.5]: 1.5 "
        "times that size; scores are computed at the size of the masks; empty: `data.size`",
    ] = field(default_factory=list)
    original: Annotated[bool, "scores are computed at the size of the mask files, and not at `data.size`"] = (
        False
    )
    decision: Annotated[Choice, "from probabilities to classes"] = "argmax"
    gate: Annotated[
        Share,
        "classes that the image-level head (`loss.image`) finds less probable than this in what the network "
        "sees at once are suppressed; 0: off",
    ] = 0.0
    refine: Annotated[
        str,
        OneOf(
            {
                "none": "they stay as they are",
                "crf": "a dense CRF, tuned on val: one of a few around the settings of `labels.crf`, or none",
            }
        ),
        "refinement of the probabilities",
    ] = "none"
    average: Annotated[
        str,
        OneOf(
            {
                "given": "equal weights, or the weights that `members` and `predict.views` give",
                "fitted": "the weights that make the masks of val most likely",
            }
        ),
        "weights of the networks of a generation, and of views, in the mean of their probabilities",
    ] = "given"
    min_area: Annotated[
        dict[str, int], Bounds(0), f"{MIN_AREA} are removed, such as {{car: 50}}; `rest`: all other classes"
    ] = field(default_factory=dict)
    max_hole: Annotated[dict[str, int], Bounds(0), f"{MAX_HOLE} are filled; `rest`: all other classes"] = (
        field(default_factory=dict)
    )


@dataclass
class ExportConfig:
    """The export of a run."""

    generation: Annotated[
        str,
        OneOf(
            {
                "best": "the last generation that leads",
                "last": "the last generation, e.g. a small one to deploy",
            }
        ),
        "which generation is exported",
    ] = "best"
    onnx: Annotated[bool, "also export to ONNX"] = True
    variants: Annotated[
        list[str],
        Must(f"list some of {', '.join(VARIANTS)}", set(VARIANTS).issuperset),
        "further files, compared with torch on val: `complete` (ONNX from uint8 pixels of any size to ids), "
        "`static` (ONNX of one size), `fp16` and `int8` (ONNX), `pt2` (torch.export)",
    ] = field(default_factory=list)
    opset: Annotated[int, Bounds(16, 24), "the opset of ONNX graphs"] = 20
    size: Annotated[
        list[int],
        Must("be [height, width] in pixels, or []", lambda size: len(size) in (0, 2)),
        Bounds(1),
        "what images are resized to for `static`; empty: as the network sees the first val image",
    ] = field(default_factory=list)
    distill: Annotated[
        bool,
        "if the exported generation has several networks: train one more network on their labels of all "
        "images (KL), and export it to gen<k>/student/export; it may also be set for a finished run",
    ] = False


@dataclass
class TestConfig:
    """The test set of a run."""

    __test__ = False  # no class of tests, although pytest might take it for one

    read: Annotated[
        str,
        OneOf(
            {
                "end": "once, at the end of the run",
                "never": "no test score is computed or printed, e.g. while settings are compared",
            }
        ),
        "when the test set is read; it may also be set for a finished run",
    ] = "end"


@dataclass
class Config:
    """One run."""

    recipe: Annotated[str, "name of the recipe"] = "noisy_student"
    out: Annotated[
        str,
        Place(),
        Must(
            "be a folder of a file system: a store has neither locks nor renames",
            lambda out: "://" not in out,
        ),
        "the run directory; the same command again resumes",
    ] = ""
    base: Annotated[
        str,
        Place(),
        "a run to continue with other data: its leader initialises the first generation, and its images keep "
        "their splits (selftrain train --from)",
    ] = ""
    seed: Annotated[Count, "seed of everything random in the run"] = 0
    budget: Annotated[
        str,
        Must("be quick, normal, long, or a number of minutes, e.g. budget=30", _is_budget),
        "with `train.plan=auto`: how long the run may take",
    ] = "normal"
    debug: Annotated[
        bool,
        "run the whole path on 5 % of each split and of the steps, to see whether it works; "
        "the numbers mean nothing",
    ] = False
    given: Annotated[list[str], "written by the program: the settings that the user gave"] = field(
        default_factory=list
    )
    trackers: Annotated[
        list[str],
        Must(f"be some of {', '.join(TRACKERS)}, each once, or empty", _are_trackers),
        "programs that show curves and pictures of the run: TensorBoard, Weights & Biases (offline unless "
        "WANDB_MODE says otherwise), MLflow (a store in the run directory unless MLFLOW_TRACKING_URI is set)",
    ] = field(default_factory=lambda: ["tensorboard"])
    keep_checkpoints: Annotated[
        bool, "keep the checkpoints of finished generations, several times the size of their networks"
    ] = False
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    labels: LabelConfig = field(default_factory=LabelConfig)
    select: SelectConfig = field(default_factory=SelectConfig)
    predict: PredictConfig = field(default_factory=PredictConfig)
    export: ExportConfig = field(default_factory=ExportConfig)
    test: TestConfig = field(default_factory=TestConfig)
    generations: Annotated[
        list[GenerationConfig],
        Must("have at least one entry", bool),
        "one entry for each generation; `generations.extra=1` adds one with the settings of the last",
    ] = field(default_factory=lambda: [GenerationConfig()])
