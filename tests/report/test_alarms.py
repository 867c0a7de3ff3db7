import numpy as np
import pytest

from selftrain.report.alarms import SHORT, about_generation, about_labels
from selftrain.scores import report

NAMES = ["road", "car"]


def scores(*rows):
    return report(np.array(rows, float), NAMES)


def alarms(val, leader=None, distance=0.0, *, steps=SHORT, promoted=True):
    return about_generation(val, leader, distance, steps=steps, promoted=promoted)


GOOD = scores([90, 0], [2, 8])
COLLAPSED = scores([0, 90], [0, 10])


def test_a_sound_student_raises_no_alarm():
    assert GOOD["drift"] < 0.05
    assert alarms(GOOD, GOOD) == [] and alarms(GOOD) == []


def test_a_student_below_the_leader_that_lost_a_class():
    worse, lost = alarms(scores([90, 0], [8, 2]), GOOD, promoted=False)
    assert "worse on val than the generation that leads" in worse and "select.confidence" in worse
    assert lost.startswith("it has lost most of car (0.80 to 0.20) (val IoU)") and "select.balance" in lost


def test_a_leader_whose_score_is_no_worse_than_chance_explains_is_not_called_worse():
    slightly = scores([89, 1], [2, 8])
    assert slightly["miou"] < GOOD["miou"]
    assert alarms(slightly, GOOD, promoted=True) == [] and len(alarms(slightly, GOOD, promoted=False)) == 1


def test_a_collapsed_network():
    assert COLLAPSED["drift"] == 0.9
    (alarm,) = alarms(COLLAPSED)
    assert "collapsed" in alarm and "90%" in alarm and "loss.balance" in alarm


def test_a_val_set_without_a_known_pixel_is_no_alarm():
    assert alarms(scores([0, 0], [0, 0])) == []


def test_labels_that_drift_from_the_masks():
    def about(said):
        return about_labels(np.array(said), np.array([900, 100]), NAMES, steps=SHORT)

    assert about([80, 20]) == []
    unseen, drifted = about([0, 100])
    assert "no pixel of road" in unseen and "90%" in drifted


def test_an_average_that_lags_behind():
    assert alarms(GOOD, distance=0.1) == []
    assert "train.ema" in alarms(GOOD, distance=0.4)[0]


@pytest.mark.parametrize(("steps", "loud"), [(SHORT - 1, False), (SHORT, True)])
def test_after_a_short_training_nothing_is_alarming(steps, loud):
    assert bool(alarms(COLLAPSED, GOOD, 0.9, steps=steps, promoted=False)) == loud
    assert bool(about_labels(np.array([0, 9]), np.array([9, 1]), NAMES, steps=steps)) == loud
