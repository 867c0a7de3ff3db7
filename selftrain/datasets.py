"""Conversion of data settings into the `Spec` that selftrain/data reads."""

from dataclasses import asdict, fields

from selftrain.config import DataConfig
from selftrain.data.spec import Spec, SplitSpec


def spec_of(cfg: DataConfig) -> Spec:
    """The data set to read, as described by the settings."""
    settings, default = asdict(cfg), asdict(DataConfig())
    splits = settings.pop("splits")
    changed = [name for name, value in settings.items() if value != default[name]]
    changed += [f"splits.{name}" for name, value in splits.items() if value != default["splits"][name]]
    plain = {field.name: settings[field.name] for field in fields(Spec) if field.name in settings}
    own = {field.name: splits[field.name] for field in fields(SplitSpec) if field.name in splits}
    split_spec = SplitSpec(**own)
    return Spec(**plain, splits=split_spec, changed=frozenset(changed))
