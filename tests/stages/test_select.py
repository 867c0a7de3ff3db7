from dataclasses import dataclass

import numpy as np
import pytest

from selftrain.config import SelectConfig
from selftrain.errors import ConfigError, LearningError
from selftrain.ids import IGNORE
from selftrain.labels import store
from selftrain.labels.labelled import label_image
from selftrain.labels.refiners import unrefined
from selftrain.labels.thresholds import THRESHOLDS
from selftrain.stages.select import check_threshold, refuse_empty, select

CLASSES = ["left", "right"]


@dataclass
class Picture:
    id: str
    masked: bool = True

    def read_image(self):
        return np.zeros((2, 4, 3), np.uint8)

    def read_mask(self):
        return np.array([[0, 0, 1, 1]] * 2, np.uint8) if self.masked else None


def labelled(tmp_path, sureness):
    """A store of images (2, 4): the left half is class 0 with p = sureness[i], the right half class 1 with p = 0.9."""
    samples = [Picture(str(i)) for i in range(len(sureness))]
    labels = []
    for sample, p in zip(samples, sureness, strict=True):
        one = np.array([[p, p, 0.1, 0.1]] * 2, np.float32)
        probs = np.stack([one, 1 - one])
        raw = np.zeros((2, 4), np.uint8)  # the plain view says class 0 everywhere
        image, mask = sample.read_image(), sample.read_mask()
        labels.append(label_image(image, probs, refiner=unrefined, soft_classes=2, mask=mask, raw=raw))
    ids, origin = [sample.id for sample in samples], store.Origin("t", classes=2, soft_classes=2)
    store.write_shard(store.shard_path(tmp_path, 0), labels, ids, origin)
    store.finish(tmp_path, ids, origin, shard=len(samples))
    return store.LabelStore(tmp_path), samples


def chosen(tmp_path, sureness, **rule):
    found, samples = labelled(tmp_path, sureness)
    known, reliability = np.array([3, 1]), found.confidence()
    return select(
        found, samples, CLASSES, SelectConfig(**rule), generation=0, known=known, reliability=reliability
    )


INDEX = np.arange(8).reshape(2, 4)


def test_pixels_below_the_threshold_are_ignored_and_weigh_nothing(tmp_path):
    labels = chosen(tmp_path, [0.7, 0.95], threshold="global", confidence=0.8)
    target = labels.target(0, INDEX)
    assert (
        target.hard.tolist() == [[IGNORE, IGNORE, 1, 1]] * 2 and target.weight.tolist() == [[0, 0, 1, 1]] * 2
    )
    assert target.soft.shape == (2, 2, 4) and np.allclose(target.soft[:, 0, 0], [0.7, 0.3], atol=1 / 255)
    assert labels.target(1, INDEX).hard.tolist() == [[0, 0, 1, 1]] * 2


def test_pseudo_labels_may_be_distributed_as_the_masks_are(tmp_path):
    """Other masks, other thresholds; which ones: tests/labels/test_thresholds.py."""
    found = chosen(tmp_path, [0.6, 0.95], threshold="distribution", keep=0.5)
    other = select(
        found.store, found.everything, found.classes, found.rule, generation=0, known=np.array([1, 15])
    )
    assert found.thresholds.tolist() != other.thresholds.tolist()


def test_what_lies_outside_of_the_image_is_ignored(tmp_path):
    target = chosen(tmp_path, [0.95], threshold="global", confidence=0.5).target(0, np.array([[-1, 3]]))
    assert target.hard.tolist() == [[IGNORE, 1]] and target.weight.tolist() == [[0, 1]]


def test_the_most_confident_images_are_kept_and_may_weigh_by_their_confidence(tmp_path):
    labels = chosen(
        tmp_path, [0.6, 0.95, 0.8], threshold="global", confidence=0.5, image_share=0.6, weight_images=True
    )
    assert [sample.id for sample in labels.samples] == ["1", "2"]
    assert labels.target(0, INDEX).weight.max() > 1 > labels.target(1, INDEX).weight.max()


def test_the_report_measures_every_stage_and_the_choice(tmp_path):
    report = chosen(tmp_path, [0.7, 0.4], threshold="global", confidence=0.65).report()
    quality = report["quality"]
    assert quality["raw"]["pixel_accuracy"] == 0.5  # class 0 everywhere
    assert quality["tta"]["pixel_accuracy"] == 0.75  # the second image's left half is class 1 with 0.6
    assert quality["selected"]["pixel_accuracy"] == 1.0  # which is below 0.65
    assert report["kept"] == {"left": 1.0, "right": pytest.approx(8 / 12)} and report["kept_share"] == 0.75
    assert report["images"] == report["images_kept"] == 2


def test_nothing_accepted_is_said(tmp_path):
    labels = chosen(tmp_path, [0.7], threshold="global", confidence=1.0)
    assert not labels.accepted
    with pytest.raises(LearningError, match=r"same command.*on_empty"):
        refuse_empty(labels.rule, "selection.json", settled=False)
    with pytest.raises(LearningError, match="another out="):
        refuse_empty(labels.rule, "selection.json", settled=True)
    refuse_empty(SelectConfig(on_empty="labelled_only"), "selection.json", settled=False)


def test_pixels_of_images_left_out_are_not_accepted(tmp_path):
    sure = {"threshold": "global", "confidence": 0.92, "image_share": 0.5}
    above = chosen(tmp_path / "all", [0.6, 0.95], **sure)
    assert above.accepted and [sample.id for sample in above.samples] == ["1"]
    below = select(
        above.store,
        above.everything,
        above.classes,
        above.rule,
        generation=0,
        known=np.ones(2),
        reliability=np.array([1.0, 0.0]),
    )
    assert [sample.id for sample in below.samples] == ["0"] and not below.accepted


def test_the_weights_of_many_images_are_left_out_of_the_report(tmp_path, monkeypatch):
    found = chosen(tmp_path, [0.6, 0.95, 0.8], image_share=0.5)
    plain = found.report()
    monkeypatch.setattr("selftrain.stages.select.MANY", 2)
    assert found.report() == {name: value for name, value in plain.items() if name != "image_weights"}
    assert plain["image_weights"] and plain["images_kept"] == 2


def test_without_reliabilities_all_images_are_alike(tmp_path):
    found = chosen(tmp_path, [0.6, 0.95, 0.8])
    assert (
        select(
            found.store, found.everything, CLASSES, found.rule, generation=0, known=np.ones(2)
        ).image_weights.tolist()
        == [1] * 3
    )


@pytest.mark.parametrize(
    ("threshold", "message"),
    [
        ("otsu", "select.threshold: there is no 'otsu'; there are global, quantile, distribution, adaptive"),
        ({"quantile": {"share": 0.5}}, "select.threshold.quantile.share: no such setting; quantile has none"),
        (
            "total",
            "select.threshold=total asks for pixels, which needs a default: the program passes keep, confidence, known",
        ),
        ("single", "select.threshold=single returns 0.5, not a threshold in 0..1 for each of 3 classes"),
        (
            "unset",
            "select.threshold=unset returns [nan, nan, nan], not a threshold in 0..1 for each of 3 classes",
        ),
    ],
)
def test_a_threshold_rule_is_tried_before_the_run(monkeypatch, threshold, message):
    monkeypatch.setitem(THRESHOLDS, "total", lambda histogram, *, pixels: np.full(len(histogram), 1 / pixels))
    monkeypatch.setitem(THRESHOLDS, "single", lambda histogram: 0.5)
    monkeypatch.setitem(THRESHOLDS, "unset", lambda histogram: np.full(len(histogram), np.nan))
    with pytest.raises(ConfigError) as error:
        check_threshold(SelectConfig(threshold=threshold))
    assert str(error.value).startswith(message)
    check_threshold(SelectConfig())


def test_pixels_that_the_clean_up_would_change_are_rejected(tmp_path):
    """Both halves have four pixels: a least area of 5 rejects the half that is named."""
    plain = {"threshold": "global", "confidence": 0.5}
    labels = chosen(tmp_path, [0.95], **plain, min_area={"left": 5})
    target = labels.target(0, INDEX)
    assert target.hard.tolist() == [[IGNORE, IGNORE, 1, 1]] * 2
    assert target.weight.tolist() == [[0, 0, 1, 1]] * 2 and labels.accepted
    assert labels.report()["quality"]["selected"]["per_class"] == {"left": None, "right": 1.0}
    everything = select(
        labels.store,
        labels.everything,
        CLASSES,
        SelectConfig(**plain, min_area={"rest": 4}),
        generation=0,
        known=np.ones(2),
    )
    assert everything.target(0, INDEX).hard.tolist() == [[0, 0, 1, 1]] * 2
