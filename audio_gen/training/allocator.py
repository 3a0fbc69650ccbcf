"""Keep freed memory for the next step.

glibc returns large blocks to the system at once, and every training step then pays for fresh, zeroed pages
again. Told not to, a step on a CPU runs 5 to 15 % faster (`python -m benchmarks.training`).
"""

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # mallopt parameters, from malloc.h
_LARGEST = 1 << 30


def keep_memory() -> None:
    """Ask the C library to hold on to freed blocks. Does nothing where it is not glibc."""
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(_MMAP_THRESHOLD, _LARGEST)
            mallopt(_TRIM_THRESHOLD, 2 * _LARGEST - 1)
