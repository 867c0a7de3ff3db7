"""The memory of this process and of its device: what work takes, and what it may still take."""

import ctypes
import resource
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from selftrain.process import CGROUP, GROUPS, upwards

SELF, MACHINE = Path("/proc/self"), Path("/proc/meminfo")
PEAK = "5"  # written to clear_refs, it resets VmHWM (proc(5))
# A group's limit, its use, and the row of memory.stat with cached files, which the kernel gives back: v2, v1
FILES = {
    "memory.max": ("memory.current", "inactive_file"),
    "memory.limit_in_bytes": ("memory.usage_in_bytes", "total_inactive_file"),
}


@dataclass(frozen=True)
class Taken:
    """The memory of some work in bytes: beyond what was in use before, and at its peak in all."""

    growth: int
    peak: int


def limit() -> int:
    """The memory of this machine in bytes, or of the control group of this process if that is less."""
    return min(_rows(MACHINE)["MemTotal"], *(most for most, _ in _groups()))


def free(device: torch.device) -> int:
    """The bytes that this process may still take on a device.

    On a CPU, the machine, each control group and the limit of the address space (ulimit -v) count.
    """
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    rooms = [_rows(MACHINE)["MemAvailable"], *(most - used for most, used in _groups())]
    space = resource.getrlimit(resource.RLIMIT_AS)[0]
    if space != resource.RLIM_INFINITY:
        rooms.append(space - _rows(SELF / "status")["VmSize"])
    return max(min(rooms), 0)


def taken(device: torch.device, work: Callable[[], object]) -> Taken:
    """Do `work`, and measure the memory that it takes on the device or, on a CPU, in this process."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        return Taken(torch.cuda.max_memory_allocated(device) - before, torch.cuda.max_memory_reserved(device))
    _give_back()
    before = _rows(SELF / "status")["VmRSS"]
    was_reset = _reset_peak()
    work()
    after = _rows(SELF / "status")
    peak = after["VmHWM"] if was_reset else after["VmRSS"]  # what is freed stays (process.keep_freed)
    return Taken(max(peak - before, 0), peak)


def _give_back() -> None:
    """Return freed memory to the system, so that work which uses it again is seen to take it."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim:
        trim(0)


def _reset_peak() -> bool:
    with suppress(OSError):
        (SELF / "clear_refs").write_text(PEAK)
        return True
    return False


def _groups() -> Iterator[tuple[int, int]]:
    """The limit of each control group of this process, and its use without cached files; v2 and v1."""
    with suppress(OSError):
        for line in GROUPS.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            named = "memory" in controllers.split(",")
            root, name = (CGROUP / "memory", "memory.limit_in_bytes") if named else (CGROUP, "memory.max")
            for file in upwards(root, path, name) if named or not controllers else ():
                with suppress(OSError, ValueError, KeyError):  # no such file, or "max"
                    use, cached = FILES[name]
                    stat = file.with_name("memory.stat").read_text()
                    kept = int(dict(row.split() for row in stat.splitlines())[cached])
                    used = int(file.with_name(use).read_text()) - kept
                    yield int(file.read_text()), used


def _rows(file: Path) -> dict[str, int]:
    """The rows of a file of /proc in kB, such as "VmRSS: 1234 kB", in bytes."""
    rows = (line.split() for line in file.read_text().splitlines())
    return {row[0].rstrip(":"): int(row[1]) * 1024 for row in rows if row[-1] == "kB"}


def told(size: float) -> str:
    """A size in words: 0.3 GB, 12 GB, 45 MB."""
    return f"{size / 1e6:.0f} MB" if size < 95e6 else f"{size / 1e9:.{1 if size < 10e9 else 0}f} GB"
