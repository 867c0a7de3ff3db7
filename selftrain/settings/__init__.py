"""Settings: composing a Config, checking each setting, and the changes that a resume may make."""

from selftrain.settings.compose import compose, read
from selftrain.settings.stored import stored
from selftrain.settings.tree import EXTRA, flow

__all__ = ["EXTRA", "compose", "flow", "read", "stored"]
