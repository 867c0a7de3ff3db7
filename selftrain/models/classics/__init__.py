"""Architectures of the years 2015 to 2017 that smp lacks, by name; at width 1 they are the papers'."""

from collections.abc import Callable

from torch import nn

from selftrain.anatomy import Anatomy
from selftrain.models.classics.deconvnet import deconvnet
from selftrain.models.classics.deeplab import deeplabv1, deeplabv2
from selftrain.models.classics.dilatednet import dilatednet
from selftrain.models.classics.fc_densenet import fc_densenet56, fc_densenet67, fc_densenet103
from selftrain.models.classics.fcn import fcn8s, fcn16s, fcn32s
from selftrain.models.classics.segnet import segnet

BY_32, BY_8 = Anatomy(multiple=32), Anatomy(multiple=8)

CLASSICS: dict[str, tuple[Callable[..., nn.Module], Anatomy]] = {
    "fcn32s": (fcn32s, BY_32),
    "fcn16s": (fcn16s, BY_32),
    "fcn8s": (fcn8s, BY_32),
    "segnet": (segnet, BY_32),
    "deconvnet": (deconvnet, BY_32),
    "dilatednet": (dilatednet, BY_8),
    "deeplabv1": (deeplabv1, BY_8),
    "deeplabv2": (deeplabv2, BY_8),
    "fc_densenet56": (fc_densenet56, BY_32),
    "fc_densenet67": (fc_densenet67, BY_32),
    "fc_densenet103": (fc_densenet103, BY_32),
}
