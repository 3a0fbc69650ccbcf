"""What running streams remember, outside the engine."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audio_gen.engine.pack import aligned


@dataclass
class State:
    """Streams that advance together. Rows are streams."""

    position: int
    """Absolute position, in samples, of the next token."""
    origin: int
    """Position at which the streams were started: before it there is silence."""
    last: NDArray[np.uint16]
    """(streams,) the token before the next one."""
    condition: NDArray[np.float32]
    """(streams, condition channels padded to 32) the labels' share of the condition."""
    memory: NDArray[np.float32]
    """(streams, floats per stream) histories of all layers; 64-byte aligned."""
    renewed: bool = False
    """The next call is the first one with this condition."""

    @property
    def streams(self) -> int:
        return len(self.last)

    def copy(self) -> "State":
        """An independent state that goes on in the same way."""
        return self.select(range(self.streams))

    def select(self, rows: Sequence[int]) -> "State":
        """An independent state of these streams only, which go on in the same way."""
        chosen = np.asarray(rows, np.intp)
        memory = aligned_rows(len(chosen), self.memory.shape[1])
        np.take(self.memory, chosen, axis=0, out=memory)
        return State(
            self.position, self.origin, self.last[chosen], self.condition[chosen], memory, self.renewed
        )


def aligned_rows(rows: int, columns: int) -> NDArray[np.float32]:
    """Zeros (rows, columns) at a 64-byte boundary; `columns` is a multiple of 32."""
    return aligned(rows * columns).reshape(rows, columns)
