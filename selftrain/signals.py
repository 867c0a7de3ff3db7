"""Signals that end a run in order: save at the next step and exit with 75."""

import math
import signal
import time
from types import FrameType

import torch
from accelerate import Accelerator

from selftrain.errors import StoppedError

GRACE = 20.0  # seconds after a signal during which one of several ranks still waits for its batch


class Stop:
    """Set by SIGTERM, SIGINT or SIGUSR1: save at the next step and exit 75. A second SIGINT ends at once."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self.since = math.inf

    def listen(self) -> "Stop":
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
            signal.signal(number, self._received)
        return self

    def _received(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.signal is not None:
            raise KeyboardInterrupt
        self.signal, self.since = number, min(self.since, time.monotonic())

    def ends_waiting(self, ranks: int) -> bool:
        """Whether to stop waiting for a batch.

        If one of several ranks leaves alone, the others lose their steps.
        """
        return time.monotonic() - self.since > (GRACE if ranks > 1 else 0)

    def agreed(self, accelerator: Accelerator) -> bool:
        """Whether any rank received a signal; all ranks get the same answer."""
        if accelerator.num_processes == 1:
            return self.signal is not None
        told = torch.tensor(float(self.signal is not None), device=accelerator.device)
        return bool(accelerator.reduce(told, "sum") > 0)

    def check(self, where: str) -> None:
        """Raises StoppedError if this rank received a signal. `where` must have saved its work already."""
        if self.signal is not None:
            raise StoppedError(
                f"stopped by a signal at {where}; everything is saved, the same command resumes"
            )
