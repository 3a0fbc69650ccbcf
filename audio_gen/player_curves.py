"""Curves as a player asks for them: loudness, pitch and notes, constant or over time."""

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from itertools import pairwise
from pathlib import Path
from typing import TypeAlias

import numpy as np

from audio_gen.curves import FLOOR, Floats, Moments, curve_channels, scale_decibels
from audio_gen.errors import ControlError
from audio_gen.moments import read_moments
from audio_gen.notes import Notes, read_notes
from audio_gen.pitch import PITCH_RANGE, is_note, parse_note, run_phase, scale_pitch

CurveValue: TypeAlias = float | str | Sequence[tuple[float, float | str]] | Notes
"""What a program says of a curve: see `curve_of`."""


@dataclass(frozen=True)
class PlayerCurve:
    """A curve the player asks for: values at moments, joined by straight lines, constant beyond the ends."""

    name: str
    seconds: tuple[float, ...]
    values: tuple[float, ...]
    """Loudness in dBFS; pitch in Hz, 0 for no pitch."""

    def __post_init__(self) -> None:
        if self.name == "mel":
            raise ControlError(
                "the curve 'mel' cannot be drawn by hand; `audio-gen vocode` takes it from a recording"
            )
        curve_channels([self.name], 0)
        low, high = (FLOOR, 0.0) if self.name == "loudness" else PITCH_RANGE
        for value in self.values:
            if not (low <= value <= high or (self.name == "pitch" and value == 0.0)):
                unit = "dBFS" if self.name == "loudness" else "Hz, or 0 for no pitch"
                raise ControlError(f"curve {self.name!r}: {value:g} is not from {low:g} to {high:g} {unit}")

    @property
    def end(self) -> float:
        """Seconds, of the last value."""
        return self.seconds[-1]

    @property
    def digest(self) -> str:
        """Of all that it says."""
        return blake2b(repr((self.seconds, self.values)).encode(), digest_size=8).hexdigest()

    def frames(self, seconds: Moments) -> Floats:
        """Network's values (moments, channels) at these moments (moments,); of a pitch without its phase."""
        if self.name == "loudness":
            return scale_decibels(np.interp(seconds, self.seconds, self.values))[:, None]
        points = scale_pitch(self.values)
        octaves = np.interp(seconds, self.seconds, points[:, 1])
        # No line leads from a pitch to no pitch: there the point before goes on.
        before = np.clip(np.searchsorted(self.seconds, seconds, side="right") - 1, 0, len(points) - 1)
        after = np.minimum(before + 1, len(points) - 1)
        joined = (points[before, 0] > 0) & (points[after, 0] > 0)
        octaves = np.where(joined, octaves, points[before, 1])
        return np.stack([points[before, 0], octaves], axis=1).astype(np.float32)


def parse_curve(text: str) -> PlayerCurve | Notes:
    """A curve as the player writes it: "loudness=-20" (dBFS), "pitch=220" (Hz), "pitch=a3" or "pitch=FILE.csv".

    The file has rows of seconds,value, ascending, whose values are written alike; a first row of names is skipped. Or
    notes: "notes=FILE.mid" or "notes=FILE.csv", rows of start,end,key,velocity. Raises ControlError.
    """
    name, equals, value = (part.strip() for part in text.partition("="))
    if not equals or not name or not value:
        raise ControlError(f"curve {text!r}: must be NAME=NUMBER or NAME=FILE.csv, such as loudness=-20")
    if name == "notes":
        return read_notes(Path(value))
    with suppress(ValueError):
        return PlayerCurve(name, (0.0,), (_number(name, value),))
    rows = list(read_moments(Path(value), partial(_finite, name), "a curve", _wanted(name)))
    return PlayerCurve(name, tuple(second for second, _ in rows), tuple(number for _, number in rows))


def curve_of(name: str, value: CurveValue) -> PlayerCurve | Notes:
    """A curve as a program writes it: a number (dBFS, Hz), a text as `parse_curve` reads it behind "NAME=", or
    ascending (second, value) pairs, joined by straight lines; notes also as `Notes`. Raises ControlError.

    >>> curve_of("pitch", "a3").values, curve_of("pitch", [(0.0, "a3"), (1.5, 110)]).values
    ((220.0,), (220.0, 110.0))
    """
    if isinstance(value, str):
        return parse_curve(f"{name}={value}")
    if isinstance(value, Notes):
        if name != value.name:
            raise ControlError(
                f"curve {name!r}: must be a number, a text or (second, value) pairs, got notes"
            )
        return value
    try:
        points = [(0.0, value)] if isinstance(value, int | float) else [*value]
        seconds = tuple(float(second) for second, _ in points)
        values = tuple(_number(name, str(each)) for _, each in points)
    except (TypeError, ValueError):
        raise ControlError(
            f"curve {name!r}: must be a number, a text or (second, value) pairs, got {value!r}"
        ) from None
    if not seconds or not all(map(math.isfinite, (*seconds, *values))):
        raise ControlError(f"curve {name!r}: seconds and values must be finite, got {value!r}")
    if any(after <= before for before, after in pairwise(seconds)):
        raise ControlError(f"curve {name!r}: its seconds must rise, got {value!r}")
    return PlayerCurve(name, seconds, values)


def curve_frames(
    curves: Sequence[PlayerCurve | Notes],
    names: Sequence[str],
    sample_rate: int,
    hop: int,
    seconds: float = 0.0,
) -> Floats:
    """Frames (frames, channels) of the player's curves up to their end, or to `seconds` if that is later; what they
    say beyond is the last frame held. Raises ControlError, as `player_frames`."""
    end = max([seconds, *(curve.end for curve in curves)])
    return player_frames(curves, names, sample_rate, hop, 0, math.ceil(end * sample_rate / hop) + 1)


def _wanted(name: str) -> str:
    return "a number, a note" if name == "pitch" else "a number"


def _number(name: str, text: str) -> float:
    """A curve's value: a number, or of pitch also a note's name. Raises ValueError for anything else."""
    return parse_note(text) if name == "pitch" and is_note(text) else float(text)


def _finite(name: str, text: str) -> float:
    """The same, of a file's row."""
    if not math.isfinite(number := _number(name, text)):
        raise ControlError(f"must be finite, got {text!r}")
    return number


def player_frames(
    curves: Sequence[PlayerCurve | Notes],
    names: Sequence[str],
    sample_rate: int,
    hop: int,
    first: int,
    count: int,
) -> Floats:
    """Frames [first, first + count) of the player's curves: (count, channels), as in the model's `names`.

    Raises ControlError when a curve is unknown to the model, given twice, or missing.
    """
    given = {curve.name: curve for curve in curves}
    known = ", ".join(names) or "none"
    if len(given) < len(curves):
        raise ControlError(f"a curve is given twice: {', '.join(curve.name for curve in curves)}")
    for name in given:
        if name not in names:
            raise ControlError(f"this model has no curve {name!r}; it knows: {known}")
    frames = np.arange(first + count, dtype=np.float64)
    seconds: Moments = (frames + 0.5) * (hop / sample_rate)
    rows = [np.zeros((count, 0), np.float32)]
    for name in names:
        if name == "mel":
            raise ControlError(
                "this model follows the mel curve of a recording; play it with `audio-gen vocode`"
            )
        if name not in given:
            number = "" if name == "notes" else f"{name}=NUMBER or "
            raise ControlError(f"this model needs the curve {name!r}; give {number}{name}=FILE.csv")
        values = given[name].frames(seconds)
        rows.append((run_phase(values, hop / sample_rate) if name == "pitch" else values)[first:])
    return np.concatenate(rows, axis=1)
