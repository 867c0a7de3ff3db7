"""What decides the bits of a run beside its settings, written down and compared."""

import json

import pytest

from selftrain import conditions
from selftrain.errors import IntegrityError
from selftrain.rundir import RunDir


@pytest.fixture
def run(tmp_path):
    return RunDir(tmp_path)


def test_the_first_conditions_are_no_change_and_the_same_ones_write_nothing(run):
    assert conditions.recorded(run) == {}
    assert conditions.settle(run, {"ranks": 1, "threads": 2}) == []
    before = run.conditions.stat().st_mtime_ns
    assert conditions.settle(run, {"ranks": 1, "threads": 2}) == []
    assert run.conditions.stat().st_mtime_ns == before
    assert conditions.recorded(run) == {"ranks": 1, "threads": 2}


def test_a_change_stays_on_record_when_it_is_taken_back(run):
    conditions.settle(run, {"threads": 2})
    assert conditions.settle(run, {"threads": 1}) == ["threads: 2 -> 1"]
    assert conditions.settle(run, {"threads": 2}) == ["threads: 2 -> 1", "threads: 1 -> 2"]


def test_a_condition_that_an_older_version_did_not_record_is_no_change(run):
    conditions.settle(run, {"ranks": 1})
    assert conditions.settle(run, {"ranks": 1, "threads": 2}) == []


@pytest.mark.parametrize(
    ("exact", "changes"), [(True, ["ranks: 2 -> 1"]), (False, ["ranks: changed earlier", "ranks: 2 -> 1"])]
)
def test_a_run_of_an_older_version_is_compared_with_its_newest_checkpoint(run, exact, changes):
    for step, ranks in ((3, 1), (12, 2)):
        checkpoint = run.generation(0).checkpoints / f"step-{step:06d}"
        checkpoint.mkdir(parents=True)
        (checkpoint / "state.json").write_text(json.dumps({"step": step, "ranks": ranks, "exact": exact}))
    assert conditions.settle(run, {"ranks": 1, "threads": 2}) == changes


def test_a_damaged_record_is_named(run):
    run.conditions.write_text("[]")
    with pytest.raises(IntegrityError, match=r"conditions\.json"):
        conditions.recorded(run)
