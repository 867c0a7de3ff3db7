"""Runs that are forked, for all tests; and the table of docs/faults.md: promises, cases run, passed."""

import gc
import os
import shutil
import tempfile
from collections import defaultdict
from pathlib import Path

import pytest

from harness import Zygote

# What verify remembers between looks is the user's; tests begin with nothing.
CACHE = os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="selftrain-cache-")


def pytest_unconfigure():
    shutil.rmtree(CACHE, ignore_errors=True)


@pytest.fixture(scope="session")
def zygote(tmp_path_factory):
    """Starts runs quickly: one process per worker of pytest imports everything, once."""
    zygote = Zygote(tmp_path_factory.mktemp("processes"))
    yield zygote
    zygote.close()


@pytest.fixture(scope="session")
def run(zygote):
    """run(*settings) -> (exit code, stdout, stderr) of a whole run."""

    def run(*settings):
        ended = zygote.run(*settings)
        return ended.code, ended.out, ended.err

    return run


@pytest.fixture(scope="session")
def selftrain(zygote):
    """selftrain(*words) -> (exit code, stdout, stderr) of a command, forked into the folder that the test is in."""

    def selftrain(*words, cwd=None):
        ended = zygote.run(*map(str, words), door="cli", cwd=cwd or Path.cwd())
        return ended.code, ended.out, ended.err

    return selftrain


def pytest_collection_finish():
    gc.freeze()  # no collection looks through what was imported


def pytest_addoption(parser):
    parser.addoption("--faults-table", type=Path, help="write the table of promises to this file")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    promise = item.get_closest_marker("promise")
    if promise:
        outcome.get_result().user_properties.append(("promise", promise.args[0]))


def pytest_terminal_summary(terminalreporter, config):
    path = config.getoption("--faults-table")
    if path is None:
        return
    rows = defaultdict(lambda: [0, 0, 0])  # run, passed, skipped
    for outcome in ("passed", "failed", "skipped", "error"):
        for report in terminalreporter.stats.get(outcome, []):
            facts = dict(getattr(report, "user_properties", []))
            if "promise" not in facts or (outcome == "passed" and report.when != "call"):
                continue
            row, cases = rows[facts["promise"]], facts.get("cases", 1)
            row[0] += cases * (outcome != "skipped")
            row[1] += cases * (outcome == "passed")
            row[2] += outcome == "skipped"
    total, passed, skipped = (sum(row[i] for row in rows.values()) for i in range(3))
    lines = ["| promise | cases | passed | skipped |", "| --- | --- | --- | --- |"]
    lines += [f"| {promise} | {row[0]} | {row[1]} | {row[2]} |" for promise, row in sorted(rows.items())]
    lines += [f"| **all** | **{total}** | **{passed}** | **{skipped}** |"]
    terminalreporter.write_line("\n".join(lines))
    path.write_text(HEAD + "\n".join(lines) + "\n")


HEAD = """# What the software survives

Written by `make faults`. Each row is a promise. A case causes one fault in a real run (a kill, a
damaged file, a full disk) and checks the outcome. "The same bits" means: every weight, EMA, optimizer
state, label, selection, score and row of metrics has the same sha256 as in an undisturbed run.
docs/reliability.md names the test of each promise.

"""
