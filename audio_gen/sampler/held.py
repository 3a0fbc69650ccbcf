"""Curves of streams that advance together, each its own, the last frame of which is held."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from audio_gen.curves import hold_curves


@dataclass(frozen=True)
class HeldCurves:
    """What each stream follows, however long it plays."""

    rows: tuple[NDArray[np.float32], ...]
    """(frames, channels) of each stream, as many as are given."""
    names: tuple[str, ...]
    """Of the curves."""
    hop_seconds: float

    def frames(self, first: int, last: int) -> NDArray[np.float32]:
        """Frames `first` to `last` of every stream, (rows, frames, channels). What a frame is depends on nothing but
        its stream's own curves, so neither company nor chunks change it."""
        return np.stack(
            [hold_curves(row, first, last + 1, self.names, self.hop_seconds) for row in self.rows]
        )

    def keep(self, rows: Sequence[int]) -> "HeldCurves":
        """Those of these streams."""
        return replace(self, rows=tuple(self.rows[row] for row in rows))
