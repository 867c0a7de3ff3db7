"""The settings of a data set reach the data floor as they are."""

from dataclasses import fields

import pytest

from selftrain.config import DataConfig, SplitConfig
from selftrain.data.spec import Spec, SplitSpec
from selftrain.datasets import spec_of

# of the network's input, of drawing and of memory: no reader looks at them
ABOUT_PIXELS = {"mean", "std", "tile", "stride", "reject", "cache_mb"}


def test_every_setting_of_a_data_set_reaches_the_reader():
    of_training = {"reviewed"}  # read when a generation begins, not with the images
    assert {field.name for field in fields(DataConfig)} - ABOUT_PIXELS - of_training == {
        field.name for field in fields(Spec)
    } - {"changed", "debug"}  # of the whole run
    own = {"kept"}  # the splits of the run that this one continues
    assert {field.name for field in fields(SplitConfig)} == {field.name for field in fields(SplitSpec)} - own
    cfg = DataConfig(
        root="/d", values=[0, [1, 2]], size=[8, 9], splits=SplitConfig(val="v.txt", seed=7), shapes={"val": 3}
    )
    spec = spec_of(cfg)
    assert (spec.root, spec.values, spec.size, spec.shapes) == ("/d", [0, [1, 2]], [8, 9], {"val": 3})
    assert (spec.splits.val, spec.splits.seed, spec.target) == ("v.txt", 7, (8, 9))
    assert spec_of(DataConfig()).target is None


@pytest.mark.parametrize(
    ("cfg", "changed"),
    [
        (DataConfig(), set()),
        (DataConfig(ignore=[255]), set()),  # what is set to its default is not changed
        (DataConfig(ignore=[254], splits=SplitConfig(test_fraction=0.0)), {"ignore", "splits.test_fraction"}),
    ],
)
def test_the_settings_that_somebody_changed_are_known(cfg: DataConfig, changed: set[str]):
    assert spec_of(cfg).changed == changed
