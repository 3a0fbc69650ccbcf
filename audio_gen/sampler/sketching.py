"""Sketches of running streams, drawn just ahead of them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from audio_gen.sampler.asking import Asking
from audio_gen.sampler.draw import Draw
from audio_gen.sampler.held import Followed
from audio_gen.sampler.parts import Part
from audio_gen.sampler.voices import Voices
from audio_gen.sketch import SETTLED

if TYPE_CHECKING:
    from audio_gen.sampler.model import Model

LANE = 1
"""Of the coins: samples toss those of lane 0."""
AT_ONCE = 256
"""Frames drawn in one go."""


@dataclass
class Sketching:
    """The curves of streams that advance together: a function of labels, curves given, seed and settings of each."""

    voices: Voices
    """Of the sketch's own network; its samples are the channels of one frame after another."""
    drawn: NDArray[np.float32]
    """(rows, frames, channels drawn), from frame `first` on."""
    places: NDArray[np.bool_]
    """(channels,) of the network's curves: which of them are drawn; the others follow what the player gives."""
    told: Followed | None
    """What the player gives, or a composer makes up."""
    first: int = 0

    @classmethod
    def begin(
        cls,
        sketch: "Model",
        parts: Sequence[Part],
        asking: Asking,
        told: Followed | None,
        places: NDArray[np.bool_],
        known: NDArray[np.float32] | None = None,
    ) -> "Sketching":
        """Before the first frame of `parts`, which are asked for what `asking` asks for. `told` are the curves
        that the player gives: all those that are not drawn. `known` (frames, channels drawn) are those of a
        prompt, that the sketch goes on from."""
        rows, unit = len(parts), sketch.checkpoint.shape.pool[0]
        of_frames = replace(asking, samples=unit, pairs=True, doubts=None, fades=None, frame=-1)
        own = [_part(part, settles=sketch.checkpoint.deaf) for part in parts]
        state = sketch.engine.start(np.zeros((2 * rows, len(sketch.labels)), np.int32))
        followed = None if told is None else told.as_sketched()
        voices = Voices(
            sketch.engine, state, sketch.codec, own, of_frames, [*range(rows)], followed, 0,
            np.zeros(rows, np.float32), guided=True,
        )  # fmt: skip
        drawn = np.zeros((rows, 0, unit), np.float32)
        if known is not None:
            drawn = np.repeat(known[None], rows, axis=0)
            voices.hear(sketch.codec.encode(drawn).reshape(rows, -1))
        return cls(voices, drawn, places, told)

    def frames(self, first: int, last: int) -> NDArray[np.float32]:
        """Frames `first` to `last` of every row, (rows, frames, channels); those before are forgotten."""
        rows, held, channels = self.drawn.shape
        end = self.first + held
        while end <= last:
            count = min(AT_ONCE, last + 1 - end)
            new = self.voices.next(count * channels).reshape(rows, count, channels)
            self._forget(first)
            self.drawn = np.concatenate([self.drawn, new], axis=1)
            end += count
        self._forget(first)
        drawn = self.drawn[:, : last + 1 - self.first]
        if self.told is None:
            return drawn
        frames = np.empty((rows, drawn.shape[1], len(self.places)), np.float32)
        frames[..., self.places] = drawn
        frames[..., ~self.places] = self.told.frames(self.first, last)
        return frames

    def _forget(self, first: int) -> None:
        """Drop what comes before frame `first`."""
        over = min(max(0, first - self.first), self.drawn.shape[1])
        self.drawn = self.drawn[:, over:]
        self.first += over

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows only."""
        self.voices.keep(rows)
        self.drawn = self.drawn[list(rows)]
        if self.told is not None:
            self.told = self.told.keep(rows)


def _part(part: Part, settles: bool) -> Part:
    """What a sketch draws for `part`; one that `settles` draws quantiles where the temperature is 0."""
    temperature = part.draw.sketch_temperature
    settled = settles and temperature == 0.0
    draw = Draw(1.0 if settled else temperature, guidance=part.draw.guidance)
    coin = SETTLED if settled else None
    return Part(part.labels, part.seed, part.stream, draw, lane=LANE, coin=coin)
