"""Two hosts for the tests of this folder, and one run that both finished together."""

import pytest

from machines import TINY, cabled, ranks, why_not


@pytest.fixture(scope="session")
def possible():
    reason = why_not()
    if reason:
        pytest.skip(f"no hosts can be made here: {reason}")


@pytest.fixture
def place(tmp_path):
    """The folder of runs, as every host sees it."""
    folder = tmp_path / "runs"
    folder.mkdir()
    return folder


@pytest.fixture
def sharing(possible, place):
    """Two hosts with one disk."""
    with cabled(place, [place, place]) as hosts:
        yield hosts


@pytest.fixture
def apart(possible, place, tmp_path):
    """Two hosts with a disk of their own."""
    disks = [tmp_path / "disk0", tmp_path / "disk1"]
    for disk in disks:
        disk.mkdir()
    with cabled(place, disks) as hosts:
        yield hosts


@pytest.fixture
def together(zygote, place):
    """together(hosts, *settings, faults={1: fault}): how the ranks of all hosts ended, as Slurm starts them."""

    def together(hosts, *settings, faults=None, each=1):
        addresses = [host.address for host in hosts]
        started = [
            zygote.start(
                *TINY,
                f"out={place / 'run'}",
                *settings,
                fault={"do": "on_host", "pid": hosts[n // each].pid, "then": (faults or {}).get(n)},
                **environment,
            )
            for n, environment in enumerate(ranks(addresses, each))
        ]
        return [one.wait(200) for one in started]

    return together
