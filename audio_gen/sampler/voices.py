"""Running streams: an engine, its state, and the coins and samples that lead from one chunk to the next."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from audio_gen.codec import Codec, Waveform
from audio_gen.player_curves import CurveValue
from audio_gen.sampler.asking import Asking
from audio_gen.sampler.draw import Draw
from audio_gen.sampler.held import Followed
from audio_gen.sampler.parts import Part
from audio_gen.shape import NetworkShape

if TYPE_CHECKING:
    from audio_gen.sampler.sketching import Sketching

Curves: TypeAlias = NDArray[np.float32] | Mapping[str, CurveValue]
"""(frames, curve channels) of the whole stream; or what each curve is, by name, as `curve_of` reads it."""


class EngineState(Protocol):
    """Streams of an engine that advance together."""

    def select(self, rows: Sequence[int]) -> Self: ...


class SamplingEngine(Protocol):
    """What the compiled engine and the reference have in common."""

    shape: NetworkShape

    def start(
        self, labels: NDArray[np.int32], position: int = 0, last: NDArray[Any] | None = None
    ) -> Any: ...
    def ask(self, state: Any, shares: NDArray[np.floating]) -> None: ...
    def prime(
        self, state: Any, tokens: NDArray[Any], curves: NDArray[Any] | None = None, *, first_frame: int = 0
    ) -> None: ...
    def sample(
        self,
        state: Any,
        coins: NDArray[Any],
        draw: Sequence[Draw],
        curves: NDArray[Any] | None = None,
        *,
        guidance: Sequence[float] | None = None,
        first_frame: int = 0,
    ) -> NDArray[np.uint16]: ...
    def logits(
        self, state: Any, tokens: NDArray[Any], curves: NDArray[Any] | None = None
    ) -> NDArray[np.float32]: ...


@dataclass
class Voices:
    """Running streams: one row per part that has not ended, advancing together."""

    engine: SamplingEngine
    state: EngineState
    codec: Codec
    parts: Sequence[Part]
    asking: Asking
    """What the rows are asked for."""
    playing: list[int]
    """Which of the parts the rows are."""
    curves: Followed | None
    """What the rows follow."""
    position: int
    previous: NDArray[np.float32]
    """(rows,) last decoded sample of each."""
    sketching: "Sketching | None" = None
    """What draws the curves, in place of `curves`."""
    guided: bool = False
    """The engine's streams are pairs, the second of each asked for nothing: see `Draw.guidance`."""

    def advance(self, most: int) -> list[tuple[int, Waveform]]:
        """The next samples, at most so many, of every part that plays, beside its number.

        None is made beyond the end of a part: one that has ended leaves, and the others go on unchanged.
        """
        numbers, ends = self.playing, [self.parts[number].samples for number in self.playing]
        samples = int(min(most, min(ends) - self.position))
        waveforms = self.next(samples) if samples > 0 else np.zeros((len(ends), 0), np.float32)
        self.keep([row for row, end in enumerate(ends) if end > self.position])
        return list(zip(numbers, waveforms, strict=True))

    def next(self, samples: int) -> NDArray[np.float32]:
        """The next waveform (rows, samples) of every row, wherever its part ends."""
        pieces, end = [], self.position + samples
        while self.position < end:
            count = self.asking.turn(self.engine, self.state, self.position, end - self.position)
            pieces.append(self._draw(count))
            self.position += count
        waveforms = np.stack(
            [
                self.codec.decode(row, float(before))
                for row, before in zip(np.concatenate(pieces, axis=1), self.previous, strict=True)
            ]
        )
        self.previous = waveforms[:, -1]
        return waveforms

    def hear(self, tokens: NDArray[np.uint16]) -> None:
        """Go on as if `tokens` (rows, time) had been drawn."""
        heard = 0
        while heard < tokens.shape[1]:
            count = self.asking.turn(self.engine, self.state, self.position, tokens.shape[1] - heard)
            first, frames = self._followed(count)
            some = tokens[:, heard : heard + count]
            streams = np.repeat(some, 2, axis=0) if self.guided else some
            self.engine.prime(self.state, streams, frames, first_frame=first)
            self.position += count
            heard += count

    def _draw(self, samples: int) -> NDArray[np.uint16]:
        """The next tokens (rows, samples), all asked for the same."""
        parts = [self.parts[number] for number in self.playing]
        tossed = [part.toss(self.position, samples) for part in parts]
        draws = self.asking.draws([part.draw for part in parts], self.position)
        first, frames = self._followed(samples)
        if self.guided:
            both = [row for row in range(len(parts)) for _ in range(2)]
            return self.engine.sample(
                self.state,
                np.stack([tossed[row] for row in both]),
                [draws[row] for row in both],
                frames,
                guidance=[draw.guidance for draw in draws],
                first_frame=first,
            )[::2]
        return self.engine.sample(self.state, np.stack(tossed), draws, frames, first_frame=first)

    def _followed(self, samples: int) -> tuple[int, NDArray[np.float32] | None]:
        """What the engine's streams follow for so many samples, and the number of its first frame."""
        hop, around = self.engine.shape.hop, self.engine.shape.around
        first = max(0, self.position // hop - around)
        last = (self.position + samples - 1) // hop + around
        source = self.sketching or self.curves
        if source is None:
            return first, None
        frames = source.frames(first, last)
        return first, np.repeat(frames, 2, axis=0) if self.guided else frames

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows only."""
        if len(rows) == len(self.playing):
            return
        self.playing = [self.playing[row] for row in rows]
        self.previous = self.previous[list(rows)]
        self.asking.keep(rows)
        if rows:
            self.state = self.state.select(
                [2 * row + second for row in rows for second in (0, 1)] if self.guided else rows
            )
        if self.sketching is not None:
            self.sketching.keep(rows)
        if self.curves is not None:
            self.curves = self.curves.keep(rows)
