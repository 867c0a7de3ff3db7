"""The device on which a run will train, as far as the rules of a plan need to know it."""

import os
from dataclasses import dataclass
from pathlib import Path

import torch

CGROUP = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


@dataclass(frozen=True)
class Machine:
    """A device and its memory in bytes, for each of `processes` ranks."""

    device: str  # cpu or cuda
    memory: int
    processes: int = 1

    @property
    def is_gpu(self) -> bool:
        return self.device != "cpu"


def machine_of(device: torch.device, processes: int) -> Machine:
    """Describe a device. Ranks share the memory of a CPU, and each has a GPU of its own."""
    if device.type == "cuda":
        return Machine("cuda", torch.cuda.get_device_properties(device).total_memory, processes)
    return Machine(device.type, _memory() // processes, processes)


def _memory() -> int:
    """The memory of this machine, or of this container if that is less."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path in CGROUP:
        text = path.read_text().strip() if path.is_file() else ""
        limits += [int(text)] if text.isdigit() else []
    return min(limits)
