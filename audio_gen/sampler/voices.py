"""Running streams: an engine, its state, and the coins and samples that lead from one chunk to the next."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from audio_gen.codec import Codec
from audio_gen.sampler.coins import coins
from audio_gen.sampler.draw import Draw

Curves = NDArray[np.float32]  # (frames, curve channels), of the whole stream


class SamplingEngine(Protocol):
    """What the compiled engine and the reference have in common."""

    def start(
        self, labels: NDArray[np.int32], position: int = 0, last: NDArray[Any] | None = None
    ) -> Any: ...
    def prime(self, state: Any, tokens: NDArray[Any], curves: NDArray[Any] | None = None) -> None: ...
    def sample(
        self, state: Any, coins: NDArray[Any], draw: Draw, curves: NDArray[Any] | None = None
    ) -> NDArray[np.uint16]: ...
    def logits(
        self, state: Any, tokens: NDArray[Any], curves: NDArray[Any] | None = None
    ) -> NDArray[np.float32]: ...


@dataclass
class Voices:
    """Running streams: one row per clip, advancing together."""

    engine: SamplingEngine
    state: Any
    codec: Codec
    draw: Draw
    seed: int
    streams: Sequence[int]
    curves: NDArray[np.float32] | None
    """(rows, frames, curve channels)"""
    position: int
    previous: NDArray[np.float32]
    """(rows,) last decoded sample of each."""

    def next(self, samples: int) -> NDArray[np.float32]:
        """The next waveform (rows, samples) of every stream."""
        tossed = np.stack([coins(self.seed, stream, self.position, samples) for stream in self.streams])
        tokens = self.engine.sample(self.state, tossed, self.draw, self.curves)
        waveforms = np.stack(
            [self.codec.decode(row, float(before)) for row, before in zip(tokens, self.previous, strict=True)]
        )
        self.position += samples
        self.previous = waveforms[:, -1]
        return waveforms
