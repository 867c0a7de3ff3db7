"""How this process treats memory that it has freed."""

import ctypes

MMAP_THRESHOLD, TRIM_THRESHOLD = -3, -1  # names of mallopt(3)


def keep_freed() -> None:
    """Have glibc keep large blocks. Given back to the system and asked for anew in each step, they cost a CPU a quarter of it."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        mallopt(MMAP_THRESHOLD, 1 << 30)
        mallopt(TRIM_THRESHOLD, 2**31 - 1)
