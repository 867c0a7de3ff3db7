"""Settings: composing a Config, checking each setting, and the changes that a resume may make."""

from selftrain.settings.compose import compose, flow, read

__all__ = ["compose", "flow", "read"]
