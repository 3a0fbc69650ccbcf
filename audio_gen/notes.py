"""Notes over time, as a curve that a network follows: a piano roll.

A file of notes is MIDI (`audio_gen.midi`), or a CSV with a row per note: start and end (seconds), MIDI key (60 is the
middle c), velocity (1 to 127); a first row of names is skipped. `PIECE.notes.csv` or `PIECE.mid` beside a recording
`PIECE.flac` says what is played in it.

The curve has a channel per key of a piano, 0 where it is silent. A key that sounds has velocity / 127 when it is struck
and falls towards a quarter of that, so that a struck key is told from a held one, and one struck again from both.
"""

import csv
import math
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from audio_gen.errors import ControlError
from audio_gen.targets import write_whole

LOWEST, HIGHEST = 21, 108
"""MIDI keys: those of a piano."""
CHANNELS = HIGHEST - LOWEST + 1
BESIDE = (".notes.csv", ".mid", ".midi")
"""How the files of notes end that stand beside recordings."""
HELD = 0.25
"""Of what a key is when struck."""
FALL_SECONDS = 0.2
"""In which it falls by a factor of e towards that."""
SHORTEST = 0.03
"""Seconds, that every note lasts at least: no frame of usual length is missed."""

Floats = NDArray[np.float32]
Note: TypeAlias = tuple[float, float, int, int]
"""(start, end, key, velocity): seconds and MIDI."""


@dataclass(frozen=True)
class Notes:
    """Notes of a recording, or for a player."""

    values: tuple[Note, ...]
    """In the order of their starts."""
    name: str = "notes"

    @property
    def end(self) -> float:
        """Seconds, when the last one ends."""
        return max(end for _, end, _, _ in self.values)

    @property
    def digest(self) -> str:
        """Of all that they say."""
        return blake2b(repr(self.values).encode(), digest_size=8).hexdigest()

    def since(self, moment: float) -> "Notes":
        """Told by seconds since `moment`, before which they may have begun."""
        return Notes(
            tuple((start - moment, end - moment, key, velocity) for start, end, key, velocity in self.values)
        )

    def between(self, first: float, last: float) -> "Notes":
        """Those that begin from `first` on and before `last` (seconds), told by seconds since `first`.

        >>> Notes(((0.5, 0.9, 60, 64), (1.5, 2.0, 64, 64))).between(1.0, 2.0).values
        ((0.5, 1.0, 64, 64),)
        """
        return Notes(tuple(note for note in self.values if first <= note[0] < last)).since(first)

    @cached_property
    def _columns(self) -> NDArray[np.float64]:
        return np.array(self.values, np.float64).reshape(-1, 4)

    def frames(self, seconds: NDArray[np.float64]) -> Floats:
        """The piano roll (moments, CHANNELS) at these moments (moments,), which ascend."""
        roll = np.zeros((len(seconds), CHANNELS), np.float32)
        start, end, key, velocity = self._columns.T
        first, last = (
            np.searchsorted(seconds, start),
            np.searchsorted(seconds, np.maximum(end, start + SHORTEST)),
        )
        for note in np.flatnonzero(first < last):
            place = slice(first[note], last[note])
            age = seconds[place] - start[note]
            strength = velocity[note] / 127.0 * (HELD + (1.0 - HELD) * np.exp(-age / FALL_SECONDS))
            roll[place, int(key[note]) - LOWEST] = strength  # of two that overlap, the later one
        return roll


def notes_beside(recording: Path) -> Path:
    """Where the notes of a recording stand: NAME.notes.csv, or NAME.mid where there is that and no other.

    >>> notes_beside(Path("pieces/op19.flac")).as_posix()
    'pieces/op19.notes.csv'
    """
    places = [recording.with_name(recording.stem + ending) for ending in BESIDE]
    return next((place for place in places if place.is_file()), places[0])


def write_notes(path: Path, notes: Notes) -> None:
    """What `read_notes` reads, whole or not at all: a CSV, or MIDI by its name. Raises OutputError."""
    from audio_gen.midi import SUFFIXES, midi_bytes

    if path.suffix.lower() in SUFFIXES:
        data = midi_bytes(notes)
    else:
        rows = [f"{start:.4f},{end:.4f},{key},{velocity}" for start, end, key, velocity in notes.values]
        data = "\n".join(["start,end,key,velocity", *rows, ""]).encode()
    with write_whole(path) as file:
        file.write(data)


def read_notes(path: Path) -> Notes:
    """Notes from a CSV, or from MIDI (.mid, .midi). Raises ControlError for what is none."""
    from audio_gen.midi import SUFFIXES, read_midi

    if path.suffix.lower() in SUFFIXES:
        return read_midi(path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [
                (number, row) for number, row in enumerate(csv.reader(file), 1) if any(map(str.strip, row))
            ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise ControlError(f"{path}: cannot be read as notes: {why}") from None
    notes = []
    for place, (number, row) in enumerate(rows):
        try:
            start, end, key, velocity = map(float, row)
        except ValueError:
            if place == 0 and len(rows) > 1:
                continue  # names of the columns
            raise ControlError(
                f"{path}, line {number}: must be start,end,key,velocity, got {','.join(row)!r}"
            ) from None
        if not (math.isfinite(start) and math.isfinite(end) and 0.0 <= start <= end):
            raise ControlError(
                f"{path}, line {number}: a note must not end before it starts, got {start:g} to {end:g} s"
            )
        if not (LOWEST <= key <= HIGHEST and 1 <= velocity <= 127):
            wanted = f"a key from {LOWEST} to {HIGHEST} and a velocity from 1 to 127"
            raise ControlError(
                f"{path}, line {number}: must have {wanted}, got {row[2].strip()} and {row[3].strip()}"
            )
        notes.append((start, end, int(key), int(velocity)))
    if not notes:
        raise ControlError(f"{path}: holds no notes (rows of start,end,key,velocity)")
    notes.sort()
    return Notes(tuple(notes))
