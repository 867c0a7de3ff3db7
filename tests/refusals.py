"""What a refused setting is answered with."""

import re

import pytest

from selftrain.errors import ConfigError
from selftrain.preflight import check
from selftrain.settings import compose

FOREIGN = re.compile(
    r"hydra|omegaconf|configkeyerror|multirun|listconfig|dictconfig|override|grammar|structured|config object",
    re.I,
)


def said_of(*overrides, **more):
    """The message with which settings are refused: by their names, or by the tables that they choose from."""
    with pytest.raises(ConfigError) as refused:
        check(compose([*overrides], **more))
    return str(refused.value)
