"""Drawn combinations of settings, killed at drawn commits, end in the bits of a run that nothing happened to.

SELFTRAIN_SEED=7 draws others. A failing test prints its seed and its settings.
"""

import os
import random

import pytest
from combined import SMALL, drawn, placed, write

from harness import Reference, RefusedError, killed_at, leftovers, mismatches

SEED = int(os.environ.get("SELFTRAIN_SEED", "0"))
KILLS, DRAWS = 3, 20
QUICK, NUMBERS = 12, 16  # the draw of `make test`, and how many `make faults` runs


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    return write(tmp_path_factory.mktemp("combined") / "files")


@pytest.fixture(scope="session")
def earlier(zygote, files, tmp_path_factory):
    """The folder of a finished run, made when a combination asks for it."""
    out = tmp_path_factory.mktemp("combined") / "earlier"

    def made(settings):
        if not out.exists() and any("{earlier}" in text for text in settings):
            ended = zygote.go(out, *placed(SMALL, files, out), "generations=[{}]", "train.steps=1")
            assert ended.code == 0, ended.err
        return out

    return made


def accepted(zygote, rng, files, earlier, folder):
    """A drawn combination that is possible, and its run. Others are refused with a reason that names a setting."""
    for number in range(DRAWS):
        settings = drawn(rng)
        print(f"SELFTRAIN_SEED={SEED}: {' '.join(map(repr, settings))}")
        words = placed([*SMALL, *settings], files, earlier(settings))
        try:
            return words, Reference.make(zygote, folder / f"whole{number}", *words)
        except RefusedError as refused:
            print(f"refused: {refused}")
            assert any(f"{text.split('.')[0]}." in str(refused) for text in settings)
    raise AssertionError(f"{DRAWS} combinations in a row are refused")


@pytest.mark.timeout(900)
@pytest.mark.promise("drawn combinations of settings, killed at three drawn commits: the same bits")
@pytest.mark.parametrize(
    "number", [pytest.param(n, marks=() if n == QUICK else pytest.mark.full) for n in range(NUMBERS)]
)
def test_a_drawn_combination_that_is_killed(zygote, files, earlier, tmp_path, number, cases):
    rng = random.Random(f"{SEED} {number}")
    words, whole = accepted(zygote, rng, files, earlier, tmp_path)
    at = sorted(rng.sample(range(len(whole.commits)), KILLS))
    when, out = rng.choice(["before", "after"]), tmp_path / "killed"
    print(f"killed {when}", *(whole.commits[place] for place in at))
    kills = killed_at(zygote, out, [whole.commits[place] for place in at], *words, when=when)
    ended = zygote.go(out, *words)
    assert ended.code == 0, ended.err
    assert kills and mismatches(out, whole) == [] and leftovers(out) == []
    cases(kills)
