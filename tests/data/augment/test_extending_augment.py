"""An entry for each table of augmentations, and a sampler, from outside the package, in a run."""

import json
import os
import subprocess
import sys
from typing import Annotated

import numpy as np
import pytest

from runs import ROOT, SMOKE
from selftrain.data.augment.geometry import GEOMETRY
from selftrain.data.augment.view import affine
from selftrain.errors import ConfigError
from selftrain.preflight import check
from selftrain.settings import compose
from selftrain.tables import Bounds

OWN = '''
"""A user's own augmentations."""
import json, sys
from typing import Annotated

import numpy as np

from selftrain.data.augment.colour import COLOUR
from selftrain.data.augment.erase import ERASE
from selftrain.data.augment.geometry import GEOMETRY
from selftrain.data.augment.places import PLACES
from selftrain.data.augment.view import OUTSIDE, View, affine
from selftrain.data.samplers import SAMPLERS
from selftrain.errors import exit_code_of
from selftrain.run import main
from selftrain.tables import Bounds

seen = {}


def count(name, value):
    seen.setdefault(name, set()).add(value)


def corner(rng, size, crop, mask):
    count("corner", mask is None)
    return 0.0, 0.0


def shift(rng, crop, *, pixels: Annotated[int, Bounds(0), "to the right"] = 2):
    count("shift", pixels)
    return affine(tx=pixels)


def invert(image, rng):
    count("invert", str(image.dtype))
    return 255 - image


def stripe(view, rng, *, rows: Annotated[int, Bounds(1)] = 4):
    count("stripe", rows)
    index = view.index.copy()
    index[:rows] = OUTSIDE
    return View(view.image, index)


def first(number, contents, *, images: Annotated[int, Bounds(1), "of the first images"] = 2):
    count("first", tuple(contents().shape))
    return lambda batch, step, keys: [(step * batch + i) % min(images, number) for i in range(batch)]


PLACES["corner"], GEOMETRY["shift"], COLOUR["invert"], ERASE["stripe"] = corner, shift, invert, stripe
SAMPLERS["first"] = first
code = exit_code_of(main)
print("SEEN " + json.dumps({name: sorted(values) for name, values in seen.items()}))
sys.exit(code)
'''
OWN_NOISE = "geometry: {shift: {p: 1, pixels: 3}}, colours: {invert: 0.5}, erase: {stripe: {rows: 6}}"


def test_a_run_trains_with_an_own_entry_of_each_table(tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    settings = [
        "train.place=corner",
        "train.sampler={first: {images: 3}}",
        f"generations=[{{noise: {{labelled: true, {OWN_NOISE}}}}}]",
    ]
    command = [sys.executable, "own.py", *SMOKE, "train.steps=3", "train.statistics=0", *settings, "out=run"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240)
    assert ended.returncode == 0, ended.stderr
    seen = json.loads(ended.stdout.rpartition("SEEN ")[2])
    assert seen == {"corner": [False], "shift": [3], "invert": ["uint8"], "stripe": [6], "first": [[8, 6]]}
    miou = json.loads((tmp_path / "run" / "report.json").read_text())["test"]["miou"]
    assert np.isfinite(miou)


def test_own_settings_have_the_range_and_the_message_of_their_signature(monkeypatch):
    def shift(rng, crop, *, pixels: Annotated[int, Bounds(0)] = 2):
        return affine(tx=pixels)

    monkeypatch.setitem(GEOMETRY, "shift", shift)
    for row, message in (
        ("{pixels: -1}", "generations.0.noise.geometry.shift.pixels=-1 must be at least 0"),
        ("{pixel: 1}", "generations.0.noise.geometry.shift.pixel: no such setting; shift has p, pixels"),
    ):
        with pytest.raises(ConfigError) as error:
            check(compose(["recipe=smoke", f"generations=[{{noise: {{geometry: {{shift: {row}}}}}}}]"]))
        assert str(error.value) == message
