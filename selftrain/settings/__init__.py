"""Settings: how words become a Config, what each setting takes, and what may change when a run resumes."""

from selftrain.settings.compose import compose, flow, read

__all__ = ["compose", "flow", "read"]
