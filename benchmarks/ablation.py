"""What each part of noisy_student contributes on CamVid with 23 masks: the study's cell with one part changed.

    PYTHONPATH=WEIGHTS python benchmarks/ablation.py --camvid ROOT --out runs/accuracy [--only "without TTA"]

The whole recipe and its settings are those of benchmarks/accuracy.py, and its cells come from docs/results.json,
which also keeps the cells of this study. Scores are test mIoU of the generation selected on val. --pages writes
the table into docs/ablation.md.
"""

from functools import partial

from accuracy import RECORD, SHARES, STEPS, facts
from cells import DOCS, WEIGHTS, Record, Variant, divided, parts_of_the_recipe
from tuning import Variants, study

LITE1 = ("encoder=tu-tf_efficientnet_lite1", f"weights={WEIGHTS.format('lite1')}")
changed = partial(divided, parts=parts_of_the_recipe(), steps=STEPS, test=True, **SHARES)


def of(part: str, *settings: str) -> list[str]:
    """Settings of a generation, if the recipe has it."""
    return [f"generations.{list(SHARES).index(part)}.{one}" for one in settings if part in SHARES]


def everywhere(setting: str) -> list[str]:
    return [one for part in SHARES for one in of(part, setting)]


def students(setting: str) -> list[str]:
    return [one for part in list(SHARES)[1:] for one in of(part, setting)]


def without(part: str) -> Variant:
    """Without a student; the others get its steps in proportion."""
    left = {name: share for name, share in SHARES.items() if name != part}
    return divided(parts=parts_of_the_recipe(), steps=STEPS, test=True, **left)


WHOLE: Variants = {
    "whole": changed(),
    "without the student that labels online": without("online"),
    "without the student of stored labels": without("stored"),
    "without TTA": changed("labels.tta.hflip=false", "labels.tta.scales=[1.0]"),
    "with the CRF": changed("labels.crf.enabled=true"),
    "hard labels": changed("loss.pseudo={kl: 0, ce: 1}"),
    "every pixel of stored labels": changed("select.threshold=global", "select.confidence=0"),
    "one threshold online": changed("loss.adaptive=false"),
    "without weights of the classes for stored labels": changed("select.balance=0"),
    "without weights of the classes for labelled pixels": changed("loss.balance=0"),
    "without the colours of unlabelled images": changed(*everywhere("noise.style=0")),
    "without CutMix": changed(*students("noise.cutmix=0"), *students("noise.paste=0")),
    "without boxes from labelled images": changed(*students("noise.paste=0")),
    "without RandAugment": changed(*of("stored", "noise.rand_n=0")),
    "with dropout and stochastic depth (0.1)": changed(*of("stored", "noise.dropout=0.1", "noise.drop_path=0.1")),
    "with label smoothing (0.1, threshold 0.8)": changed("loss.labelled.ce.smoothing=0.1", "loss.threshold=0.8"),
    "without average (EMA)": changed("train.average=none"),
    "without fresh batch-norm statistics": changed("train.statistics=0"),
    "a larger last student (lite1), from its teacher": changed(*of("stored", LITE1[0])),
    "a larger last student (lite1), from ImageNet": changed(*of("stored", *LITE1, "init=random")),
    "students from ImageNet": changed(*students("init=random")),
}  # fmt: skip

if __name__ == "__main__":
    study(
        {"ablation": WHOLE},
        ("camvid-23",),
        DOCS / "ablation.md",
        __doc__,
        Record(RECORD, facts),
        "test",
    )
