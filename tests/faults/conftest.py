"""One reference run for all fault tests of a process."""

import pytest

from harness import Reference


@pytest.fixture(scope="session")
def reference(zygote, tmp_path_factory):
    return Reference.make(zygote, tmp_path_factory.mktemp("reference"))


@pytest.fixture
def out(tmp_path):
    return tmp_path / "run"


@pytest.fixture
def cases(request, record_property):
    """Says how many cases a test ran, for the table: `cases(24)`. A test that says nothing counts as one."""
    return lambda count: record_property("cases", count)
