"""The device on which a run will train, as far as the rules of a plan need to know it."""

from dataclasses import dataclass

import torch

from selftrain import memory


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
    return Machine(device.type, memory.limit() // processes, processes)
