"""Notes of running streams, composed as far ahead as they are asked for."""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from audio_gen.composer import TOKENS, Memory, NoteCodec, note_of
from audio_gen.errors import SettingError
from audio_gen.notes import Note, Notes
from audio_gen.sampler.asking import Asking, asking_of
from audio_gen.sampler.draw import Draw
from audio_gen.sampler.parts import Part
from audio_gen.sampler.prompt import Prompt
from audio_gen.sampler.voices import Voices

if TYPE_CHECKING:
    from audio_gen.sampler.model import Model

LANE = 2
"""Of the coins: samples and sketches toss others."""
LONGEST = 16.0
"""Seconds that a composed note may last."""
FINGERS = 10
"""Notes that may begin together. Time goes on even where a composer, drawn coldly, strikes chords that have no end."""
PAUSE = 0.1
"""Seconds, from such a chord to what comes next, at least."""


def compose(
    model: "Model", part: Part, seconds: float, temperature: float | None = None, prompt: Notes | None = None
) -> Notes:
    """As `Model.compose`."""
    if model.composer is None:
        raise SettingError(f"{model.name}: has no composer")
    if not 0.0 < seconds < math.inf:
        raise SettingError(f"seconds must be above 0 and finite, got {seconds:g}")
    heard = prompt or Notes(())
    begin = heard.end if heard.values else 0.0
    asking = asking_of(model, [part.labels], [0.0])
    draw = model.composer.draw.but(temperature)
    piece = Composition.begin_with(model.composer, part, asking, heard, begin, draw)
    return piece.sounding(begin, begin + seconds).between(begin, begin + seconds)


@dataclass
class Composition:
    """One stream's piece, a function of its labels, seed and settings: the same however often it is asked for."""

    voices: Voices
    """Of the composer, a single row."""
    memory: Memory
    """What the composer is told."""
    begin: float
    """Seconds, before which nothing new begins: a prompt's end."""
    now: float
    """When the last note began."""
    notes: list[Note]
    """Those there are so far, those of a prompt first, in the order of their starts."""

    @classmethod
    def begin_with(
        cls, composer: "Model", part: Part, asking: Asking, heard: Notes, begin: float, draw: Draw
    ) -> "Composition":
        """The piece of `part`, which goes on from the notes `heard` at `begin` (seconds). What `asking` asks for at its
        beginning holds for all of it."""
        codec = composer.codec
        assert isinstance(codec, NoteCodec)
        own = Part(part.labels, part.seed, part.stream, draw, lane=LANE)
        asked = replace(asking, samples=TOKENS, seconds=0.0, doubts=None, fades=None, frame=-1)
        memory = Memory()
        state = composer.engine.start(np.zeros((1, len(composer.labels)), np.int32))
        voices = Voices(
            composer.engine, state, codec, [own], asked, [0], memory, 0, np.zeros(1, np.float32)
        )  # fmt: skip
        tokens = codec.encode_notes(heard.values)
        memory.hear(note[2] for note in heard.values)
        voices.hear(tokens[None])
        now = float(codec.decode(tokens)[::TOKENS].sum(dtype=np.float64))
        return cls(voices, memory, begin, now, [*heard.values])

    def sounding(self, first: float, last: float) -> Notes:
        """The notes that may sound from `first` to `last` (seconds)."""
        while self.now <= last:
            start, end, key, velocity = note_of(self.voices.next(TOKENS)[0], self._earliest)
            self.memory.hear([key])
            self.now, late = start, max(0.0, self.begin - start)
            self.notes.append((start + late, end + late, key, velocity))
        begin, end = (
            bisect_left(self.notes, first - LONGEST, key=_start),
            bisect_right(self.notes, last, key=_start),
        )
        return Notes(tuple(self.notes[begin:end]))

    @property
    def _earliest(self) -> float:
        """When the next note may begin."""
        together = self.notes[-FINGERS:]
        crowded = len(together) == FINGERS and together[0][0] == together[-1][0] >= self.begin
        return self.now + PAUSE if crowded else self.now


def _start(note: Note) -> float:
    return note[0]


@dataclass(frozen=True)
class ComposedNotes:
    """The piano rolls of streams that advance together, in place of `HeldCurves`."""

    rows: tuple[Composition, ...]
    hop_seconds: float

    @classmethod
    def begin(
        cls, model: "Model", parts: Sequence[Part], asking: Asking, prompt: Prompt | None
    ) -> "ComposedNotes":
        """Of `parts` of a `model` with a composer, whose pieces go on from the notes of the `prompt`, where it ends."""
        composer = model.composer
        assert composer is not None
        heard = Notes(()) if prompt is None else prompt.notes
        begin = 0.0 if prompt is None else len(prompt.waveform) / model.sample_rate
        rows = [
            Composition.begin_with(
                composer, part, replace(asking, mixtures=[mixtures]), heard, begin, composer.draw
            )
            for part, mixtures in zip(parts, asking.mixtures, strict=True)
        ]
        return cls(tuple(rows), model.hop_seconds)

    def frames(self, first: int, last: int) -> NDArray[np.float32]:
        """Frames `first` to `last` of every stream, (rows, frames, keys)."""
        moments = (np.arange(first, last + 1, dtype=np.float64) + 0.5) * self.hop_seconds
        return np.stack([row.sounding(moments[0], moments[-1]).frames(moments) for row in self.rows])

    def as_sketched(self) -> "ComposedNotes":
        """As a sketch follows them."""
        return self

    def keep(self, rows: Sequence[int]) -> "ComposedNotes":
        """Those of these streams."""
        return replace(self, rows=tuple(self.rows[row] for row in rows))
