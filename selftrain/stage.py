"""One stage of training: its place in a run, its checkpoints, and its scores on val."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from selftrain import checkpoint
from selftrain.checkpoint import Checkpoint
from selftrain.log import Metrics
from selftrain.rng import Key
from selftrain.signals import Stop

SCORE = "val_miou"  # the name in metrics.jsonl of val scores during a stage


@dataclass(frozen=True)
class Stage:
    """One stage of training and its place in a run."""

    name: str
    seed: Key
    steps: int  # optimizer steps
    images: int  # images per global batch
    directory: Path  # contains the checkpoints
    accelerator: Accelerator
    metrics: Metrics
    stop: Stop

    @property
    def keys(self) -> tuple[Key, ...]:
        """The keys of its random draws, before the step number."""
        return (self.seed, self.name)

    def scores(self) -> list[float]:
        """The val scores of this stage in metrics.jsonl, the same on every rank."""
        rows = [row[SCORE] for row in self.metrics.rows() if row["stage"] == self.name and SCORE in row]
        return broadcast_object_list([rows])[0]

    def newest(self) -> Checkpoint | None:
        """The newest intact checkpoint. The main process renames damaged ones before other ranks read."""
        with self.accelerator.main_process_first():
            saved = checkpoint.newest(self.directory)
            if self.accelerator.is_main_process:
                checkpoint.prune(self.directory)
            return saved

    def save(self, content: Callable[[int], Checkpoint], done: int) -> None:
        """Write the checkpoint `content(done)` after `done` steps; every rank waits for it."""
        if self.accelerator.is_main_process:
            self.metrics.sync()
            checkpoint.write(self.directory, content(done))
        self.accelerator.wait_for_everyone()
