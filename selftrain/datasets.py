"""Conversion of data settings into the `Spec` that selftrain/data reads."""

from dataclasses import asdict, fields

from selftrain.config import DataConfig, ExtraConfig, SplitConfig
from selftrain.data.load import check_place
from selftrain.data.spec import Extra, Spec, SplitSpec, StoreSpec


def spec_of(cfg: DataConfig) -> Spec:
    """The data set to read, as described by the settings."""
    settings, default = asdict(cfg), asdict(DataConfig())
    splits, store = settings.pop("splits"), settings.pop("store")
    changed = [name for name, value in settings.items() if value != default[name]]
    changed += [f"splits.{name}" for name, value in splits.items() if value != default["splits"][name]]
    plain = {field.name: settings[field.name] for field in fields(Spec) if field.name in settings}
    plain["extra"] = tuple(_extra(cfg, number, own) for number, own in enumerate(cfg.extra))
    own = {field.name: splits[field.name] for field in fields(SplitSpec) if field.name in splits}
    split_spec = SplitSpec(**own)
    return Spec(**plain, store=StoreSpec(**store), splits=split_spec, changed=frozenset(changed))


def check_root(cfg: DataConfig) -> None:
    """Check that data.root is there, before anything that takes seconds.

    Raises ConfigError if it is not given, DataError if it is not a folder.
    """
    check_place(spec_of(cfg))


def _extra(cfg: DataConfig, number: int, own: ExtraConfig) -> Extra:
    """An entry of data.extra. All of its images are one pool."""
    given = {field.name: getattr(own, field.name) for field in fields(own)}
    classes, weight = given.pop("classes"), given.pop("weight")
    given |= {"name": own.name or f"extra{number}", "classes": list(classes)}
    shared = {name: getattr(cfg, name) for name in ("size", "range", "channels", "remember", "store")}
    splits = SplitConfig(train=".", test_fraction=0.0)
    return Extra(
        f"data.extra.{number}", spec_of(DataConfig(**given, **shared, splits=splits)), classes, weight
    )
