"""Composers: what a piece goes on with, note after note, drawn before its spectrum and its samples.

A model that follows notes may come with a third network of the same kind that makes them up: a frame of it is a note,
and its tokens are the four things that a note is, each drawn knowing those before:

    wait      88 levels  seconds since the note before began: 0, or 10 ms to 8 s in steps of 8 %
    key       88 levels  MIDI, those of a piano
    velocity  32 levels  MIDI, in steps of 4
    length    48 levels  seconds from its beginning to its end, 30 ms to 16 s in steps of 14 %

Notes as a sequence with timing of its own, after Performance RNN (Oore et al. 2018, "This time with feeling",
arXiv:1808.03715), whose events they take together. Everything else is shared: network, training, engine and draws.

With every note a composer is told which keys it has heard, lately and for a while: see `Memory`. What key a piece is in
is spread over hundreds of notes, and from tens of pieces a network of convolutions does not learn to gather it.
"""

from collections.abc import Iterable, Sequence
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
CURVE = "heard"
"""What a composer is told."""
SPANS = (8.0, 96.0)
"""Notes, after which one counts for less by a factor of e, roughly: the harmony, and the key."""
CURVE_CHANNELS = len(SPANS) * KEYS
_LEAST, _MOST = 0.01, 4.0
WAITS, VELOCITIES, LENGTHS = 88, 32, 48
COUNTS = np.array([WAITS, KEYS, VELOCITIES, LENGTHS])
FIRSTS = np.array([0, WAITS, WAITS + KEYS, WAITS + KEYS + VELOCITIES])
"""The lowest token of each of the four."""
_FINE = 2.0**20
"""Powers and logarithms may differ in their last bit between machines; rounded to this they are the same everywhere."""
_WAIT_SECONDS = np.concatenate([[0.0], np.rint(np.geomspace(0.01, 8.0, WAITS - 1) * _FINE) / _FINE])
_LENGTH_SECONDS = np.rint(np.geomspace(0.03, 16.0, LENGTHS) * _FINE) / _FINE
_STEPS = np.log(_WAIT_SECONDS[2] / _WAIT_SECONDS[1]) / np.log(_LENGTH_SECONDS[1] / _LENGTH_SECONDS[0])
"""Of a length, that are one of a wait."""


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

    @property
    def ordered(self) -> bool:
        """No: a key has more in common with its fifth than with the key beside it."""
        return False

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
    varied[:, 1] = _moved(varied[:, 1], keys)
    later = varied[:, 0] > 0
    varied[later, 0] = np.clip(varied[later, 0] + tempo, 1, WAITS - 1)
    varied[:, 3] = np.clip(varied[:, 3] + round(tempo * _STEPS), 0, LENGTHS - 1)
    moved_tokens: Tokens = (varied + FIRSTS).astype(np.uint16).reshape(-1)
    return moved_tokens


class Memory:
    """Which keys were heard before each note, as a curve that a composer follows: of each key its share among them, the
    latest counting most, on a scale of logarithms from 0 (none) to 4 (no other).

    >>> memory = Memory()
    >>> memory.hear([60, 64])
    >>> memory.frames(0, 2).shape, [round(float(memory.frames(2, 2)[0, 0, key - LOWEST]), 2) for key in (60, 61, 64)]
    ((1, 3, 176), [3.36, 0.0, 3.47])
    """

    def __init__(self) -> None:
        self._now = np.zeros((len(SPANS), KEYS), np.float64)
        self._past = [self._now]
        self._first = 0

    def hear(self, keys: Iterable[int]) -> None:
        """These keys (MIDI) are struck, one after another."""
        for key in keys:
            self._now = self._now * (1.0 - 1.0 / np.array(SPANS)[:, None])
            self._now[:, key - LOWEST] += 1.0
            self._past.append(self._now)

    def frames(self, first: int, last: int) -> NDArray[np.float32]:
        """What is told with notes `first` to `last`, (1, notes, CURVE_CHANNELS); those before are forgotten."""
        self._past = self._past[first - self._first :]
        self._first = first
        return scale_heard(np.stack(self._past[: last + 1 - first]))[None]

    def as_sketched(self) -> "Memory":
        """As a sketch would follow it."""
        return self

    def keep(self, rows: Sequence[int]) -> "Memory":
        """Its only stream."""
        return self


def scale_heard(counts: NDArray[np.floating]) -> NDArray[np.float32]:
    """(notes, CURVE_CHANNELS) of how much each key was heard before them (notes, spans, keys)."""
    shares = counts / np.maximum(counts.sum(axis=-1, keepdims=True), 1e-9)
    scaled = _MOST * (1.0 - np.log(shares + _LEAST) / np.log(_LEAST))
    rounded: NDArray[np.float32] = (np.rint(scaled * _FINE) / _FINE).astype(np.float32)
    return rounded.reshape(len(counts), -1)


def heard_before(keys: Iterable[int]) -> NDArray[np.float32]:
    """How much each key was heard before each of `keys` (MIDI), (notes, spans, keys)."""
    memory = Memory()
    memory.hear(keys)
    return np.stack(memory._past[:-1]).astype(np.float32)


def transpose(counts: NDArray[np.float32], keys: int) -> NDArray[np.float32]:
    """What is heard (notes, spans, keys) of a piece that is played `keys` higher: see `vary`."""
    places = np.zeros((KEYS, KEYS), np.float32)
    places[np.arange(KEYS), _moved(np.arange(KEYS), keys)] = 1.0
    moved: NDArray[np.float32] = counts @ places
    return moved


def _moved(steps: NDArray[np.int64], keys: int) -> NDArray[np.int64]:
    higher = steps + keys
    within: NDArray[np.int64] = higher - 12 * (higher >= KEYS) + 12 * (higher < 0)
    return within


def note_of(values: NDArray[np.floating], now: float) -> Note:
    """The note of what it is (4,), that waits since `now` (seconds)."""
    wait, key, velocity, length = values.tolist()
    return now + wait, now + wait + length, int(key), int(velocity)
