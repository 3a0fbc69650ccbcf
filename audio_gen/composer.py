"""Composers: what a piece goes on with, note after note, drawn before its spectrum and its samples.

A model that follows notes may come with a third network of the same kind that makes them up: a frame of it is a note,
and its tokens are the four things that a note is, each drawn knowing those before:

    wait      88 levels  seconds since the note before began: 0, or 10 ms to 8 s in steps of 8 %
    key       88 levels  MIDI, those of a piano
    velocity  32 levels  MIDI, in steps of 4
    length    48 levels  seconds from its beginning to its end, 30 ms to 16 s in steps of 14 %

Notes as a sequence with timing of its own, after Performance RNN (Oore et al. 2018, "This time with feeling",
arXiv:1808.03715), whose events they take together. Everything else is shared: network, training, engine and draws.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from audio_gen.codec import Codec, Tokens, Waveform
from audio_gen.errors import SettingError
from audio_gen.notes import CHANNELS as KEYS
from audio_gen.notes import LOWEST, Note

LEVELS = 256
TOKENS = 4
"""Of a note."""
WAITS, VELOCITIES, LENGTHS = 88, 32, 48
COUNTS = np.array([WAITS, KEYS, VELOCITIES, LENGTHS])
FIRSTS = np.array([0, WAITS, WAITS + KEYS, WAITS + KEYS + VELOCITIES])
"""The lowest token of each of the four."""
_WAIT_SECONDS = np.concatenate([[0.0], np.geomspace(0.01, 8.0, WAITS - 1)])
_LENGTH_SECONDS = np.geomspace(0.03, 16.0, LENGTHS)


@dataclass(frozen=True)
class NoteCodec(Codec):
    """Notes as tokens. What is drawn out of its own range, by a composer that has hardly learned, is taken round.

    >>> codec = NoteCodec()
    >>> tokens = codec.encode_notes([(0.1, 0.9, 60, 100), (0.1, 0.5, 64, 80), (0.6, 1.0, 67, 90)])
    >>> tokens.reshape(-1, 4).tolist()
    [[31, 127, 201, 233], [0, 131, 196, 227], [51, 134, 198, 227]]
    >>> [[round(float(value), 2) for value in note] for note in codec.decode(tokens).reshape(-1, 4)]
    [[0.1, 60.0, 102.0, 0.85], [0.0, 64.0, 82.0, 0.38], [0.49, 67.0, 90.0, 0.38]]
    """

    levels: int = LEVELS

    def __post_init__(self) -> None:
        if self.levels != LEVELS or self.pre_emphasis:
            raise SettingError(f"a composer has {LEVELS} levels and no pre-emphasis, got {self}")

    def encode_notes(self, notes: Sequence[Note]) -> Tokens:
        """Tokens (4 * notes,) of notes in the order of their starts. The first one waits since the beginning, or not at
        all if it began before. Rounding does not add up: each wait makes good for those before it."""
        tokens = np.empty((len(notes), TOKENS), np.uint16)
        now = 0.0
        for row, (start, end, key, velocity) in enumerate(notes):
            wait = int(np.abs(_WAIT_SECONDS - (start - now)).argmin())
            now += float(_WAIT_SECONDS[wait])
            length = np.abs(np.log(_LENGTH_SECONDS / max(end - start, 1e-3))).argmin()
            tokens[row] = FIRSTS + np.array([wait, key - LOWEST, velocity // 4, int(length)])
        return tokens.reshape(-1)

    def decode(self, tokens: ArrayLike, previous: float = 0.0) -> Waveform:
        """The four numbers of each note, one after another, of `tokens` (time,) that begin with a note."""
        found = np.asarray(tokens, np.int64)
        place = np.arange(len(found)) % TOKENS
        step = (found - FIRSTS[place]) % COUNTS[place]
        scales = (_WAIT_SECONDS, np.arange(KEYS) + LOWEST, np.arange(VELOCITIES) * 4.0 + 2.0, _LENGTH_SECONDS)
        values = [scale[np.minimum(step, len(scale) - 1)] for scale in scales]
        chosen: Waveform = np.choose(place, values).astype(np.float32)
        return chosen


def vary(tokens: Tokens, keys: int, tempo: int) -> Tokens:
    """The same piece `keys` higher, and `tempo` steps slower. What leaves the piano comes back an octave nearer."""
    varied = tokens.reshape(-1, TOKENS).astype(np.int64) - FIRSTS
    moved = varied[:, 1] + keys
    varied[:, 1] = moved - 12 * (moved >= KEYS) + 12 * (moved < 0)
    later = varied[:, 0] > 0
    varied[later, 0] = np.clip(varied[later, 0] + tempo, 1, WAITS - 1)
    varied[:, 3] = np.clip(varied[:, 3] + round(tempo * _STEPS), 0, LENGTHS - 1)
    moved_tokens: Tokens = (varied + FIRSTS).astype(np.uint16).reshape(-1)
    return moved_tokens


_STEPS = np.log(_WAIT_SECONDS[2] / _WAIT_SECONDS[1]) / np.log(_LENGTH_SECONDS[1] / _LENGTH_SECONDS[0])
"""Of a length, that are one of a wait."""


def notes_of(values: NDArray[np.floating], now: float) -> list[Note]:
    """Notes of what they are (notes, 4), the first of which waits since `now` (seconds)."""
    notes = []
    for wait, key, velocity, length in values.tolist():
        now += wait
        notes.append((now, now + length, int(key), int(velocity)))
    return notes
