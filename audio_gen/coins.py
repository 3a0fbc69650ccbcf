"""The randomness of a stream: one uniform number per sample, a pure function of (seed, stream, position)."""

import numpy as np
from numpy.typing import NDArray

from audio_gen.errors import SettingError

_PER_BLOCK = 4  # Philox4x64 gives four numbers per counter value


def coins(seed: int, stream: int, start: int, count: int, lane: int = 0) -> NDArray[np.float32]:
    """Coins of positions `start` to `start + count`, float32 (count,), odd multiples of 2**-24 in (0, 1).

    Streams have several independent lanes: 0 for samples, 1 for sketches, 2 for composers.
    Never 0, which would draw the lowest token there is, however unlikely: a click every quarter of an hour.

    Counter-based (Philox4x64-10, Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"): any
    position can be had without those before it, so audio does not depend on chunks, batches or interruptions.

    >>> whole = coins(seed=7, stream=0, start=0, count=100)
    >>> bool((coins(7, 0, 37, 63) == whole[37:]).all())
    True
    """
    for name, value in (("seed", seed), ("stream", stream)):
        if not 0 <= value < 2**63:
            raise SettingError(f"{name} must be from 0 to 2**63 - 1, got {value}")
    block, skip = divmod(start, _PER_BLOCK)
    generator = np.random.Philox(key=np.array([seed, stream], np.uint64))
    generator.advance(block + (lane << 192))
    raw = np.asarray(generator.random_raw(skip + count), np.uint64)[skip:]
    return (((raw >> np.uint64(41)).astype(np.float64) + 0.5) * 2.0**-23).astype(np.float32)
