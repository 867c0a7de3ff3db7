import numpy as np

from selftrain.report.alarms import about_average, about_labels, about_scores
from selftrain.scores import report

NAMES = ["road", "car"]


def scores(*rows):
    return report(np.array(rows, float), NAMES)


GOOD = scores([90, 0], [2, 8])


def test_a_sound_student_raises_no_alarm():
    assert GOOD["drift"] < 0.05
    assert about_scores(GOOD, GOOD) == [] and about_scores(GOOD, None) == []


def test_a_student_below_the_leader_that_lost_a_class():
    found = about_scores(scores([90, 0], [8, 2]), GOOD)
    assert len(found) == 2 and "below the leader's" in found[0]
    assert found[1] == "it has lost car (0.80 to 0.20) (val IoU)"


def test_a_collapsed_network():
    collapsed = scores([0, 90], [0, 10])
    assert collapsed["drift"] == 0.9
    assert "collapsed" in about_scores(collapsed, None)[0]


def test_a_val_set_without_a_known_pixel_is_no_alarm():
    assert about_scores(scores([0, 0], [0, 0]), None) == []


def test_labels_that_drift_from_the_masks():
    assert about_labels(np.array([80, 20]), np.array([900, 100]), NAMES) == []
    unseen, drifted = about_labels(np.array([0, 100]), np.array([900, 100]), NAMES)
    assert "labels no pixel as road" in unseen and "90%" in drifted


def test_an_average_that_lags_behind():
    assert about_average(0.1) == []
    assert "train.ema" in about_average(0.4)[0]
