"""What single settings of the craft are worth on CamVid with 23 masks, against labels alone with a pretrained encoder.

    PYTHONPATH=WEIGHTS python benchmarks/craft.py --camvid ROOT --out runs/craft [ITEM ...]

The base is `recipe=supervised` in the setting of the main study, with half of its steps. Each variant changes one
setting. Scores are those of val, seed by seed; test is never read. Cells are kept in docs/tuning.json. --pages writes
the tables into docs/craft-results.md. benchmarks/noise.py asks what label noise costs.
"""

from cells import DOCS, RATE, Variant
from tuning import Variants, study

STEPS = 600  # docs/tuning.md


def variant(*overrides: str) -> Variant:
    return Variant((RATE, *overrides), steps=STEPS)


def noise(setting: str) -> Variant:
    """Noise on the labelled images."""
    return variant("generations.0.noise.labelled=true", f"generations.0.noise.{setting}")


ITEMS: dict[str, Variants] = {
    "augmentation": {
        "base": variant(),
        "RandAugment, 1 operation of magnitude 5": noise("policy={randaugment: {p: 1, n: 1, magnitude: 5}}"),
        "rotation by up to 15 degrees": noise("geometry={rotate: {p: 0.5, degrees: 15}}"),
        "GridMask": noise("erase={gridmask: {p: 0.5}}"),
        "CutMix of labelled images": variant("generations.0.noise.mix_labelled={cutmix: {p: 0.5}}"),
        "ClassMix of labelled images": variant("generations.0.noise.mix_labelled={classmix: {p: 0.5}}"),
        "MixUp of labelled images": variant(
            "generations.0.noise.mix_labelled={mixup: {p: 0.5}}", "loss.labelled={kl: {weight: 1}}"
        ),
        "images of rare classes more often": variant("train.sampler=by_class"),
        "no zoom": variant("train.scale=[1,1]"),
    },
    "architecture": {
        "base": variant(),
        **{arch: variant(f"model.arch={arch}") for arch in ("unetplusplus", "fpn", "deeplabv3plus")},
    },
    "transfer": {
        "base": variant(),
        "frozen for a quarter of the steps": variant(f"train.freeze={STEPS // 4}"),
        "layer decay 0.9": variant("train.layer_decay=0.9"),
    },
    "optimisation": {
        "base": variant(),
        "SGD": Variant(("train.optimizer=sgd", "train.lr=0.05"), steps=STEPS),
        "Lookahead": variant("train.lookahead=5"),
        "poly": variant("train.schedule=poly"),
        "SWA": variant("train.average={swa: {start: 0.75}}"),
        "no average": variant("train.average=none"),
    },
    "loss": {
        "base": variant(),
        "without class weights": variant("loss.balance=0"),
        "without label smoothing": variant("loss.labelled={ce: {weight: 1}}"),
        **{
            f"and {name}": variant(
                f"loss.labelled={{ce: {{weight: 1, smoothing: 0.1}}, {name}: {{weight: 0.5}}}}"
            )
            for name in ("dice", "lovasz")
        },
        "focal": variant("loss.labelled={focal: {weight: 1}}"),
    },
    "ensemble": {
        "base": variant(),
        "three seeds": variant("generations.0.members={seeds: 3}"),
        "five folds": variant("generations.0.members={folds: 5}"),
        "three epochs": variant("generations.0.members={epochs: 3}"),
    },
    "inference": {
        "base": variant(),
        "flip": variant("predict.views={product: {hflip: true}}"),
        "flip and three scales": variant("predict.views={product: {hflip: true, scales: [0.75, 1.0, 1.25]}}"),
        "thresholds tuned on val": variant("predict.decision=thresholds"),
        "CRF tuned on val": variant("predict.refine=crf"),
    },
}

if __name__ == "__main__":
    study(ITEMS, ("camvid-23",), DOCS / "craft-results.md", __doc__)
