"""Settings derived from the data, the machine and one dial, `budget` (as in nnU-Net, Isensee et al. 2021)."""

from selftrain.autoplan.resolve import agreed, keep, lines
from selftrain.autoplan.rules import Row

__all__ = ["Row", "agreed", "keep", "lines"]
