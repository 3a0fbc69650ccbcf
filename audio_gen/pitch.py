"""Pitch: notes by name, the three values a network follows; and of recordings, tracked or refined beside a note."""

import math
import re

import numpy as np
from numpy.typing import ArrayLike, NDArray

from audio_gen.errors import ControlError, MissingExtraError

REFERENCE_PITCH = 440.0
"""Hz; 0 octaves."""
PITCH_RANGE = (25.0, 2100.0)
"""Hz, that a pitch is looked for in and may be asked for in."""

CHANNELS = 3
"""Whether there is a pitch; its octaves above 440 Hz; the phase at the frame's first sample, in periods."""

Floats = NDArray[np.float32]
CONTEXT_SECONDS = 0.5  # seconds either side; the pitch tracker's memory is far shorter
NEIGHBOURS = 5  # either side, that are averaged
_LEAP = 35.92  # octaves per second, as Mauch and Dixon have it
_STEP = 0.25  # semitones between candidates; the tracker's time goes with the inverse square
_SEMITONES = 0.5  # how far a recording may be from the note it is called
_LEAST_LAG = 32  # samples, that are looked back at least


def scale_pitch(hertz: ArrayLike) -> Floats:
    """Network's first two values (..., 2) of a pitch in Hz; 0 or NaN is no pitch.

    >>> scale_pitch([880.0, 0.0]).tolist()
    [[1.0, 1.0], [0.0, 0.0]]
    """
    hertz = np.nan_to_num(np.asarray(hertz, np.float64))
    voiced = hertz > 0.0
    octaves = np.log2(np.where(voiced, hertz, REFERENCE_PITCH) / REFERENCE_PITCH)
    return np.stack([voiced, octaves], axis=-1).astype(np.float32)


def unscale_pitch(values: ArrayLike) -> Floats:
    """Hz of a network's values (..., 2 or more); 0 where there is no pitch."""
    voiced, octaves = np.moveaxis(np.asarray(values, np.float64)[..., :2], -1, 0)
    return np.where(voiced > 0.5, REFERENCE_PITCH * 2.0**octaves, 0.0).astype(np.float32)


def run_phase(values: Floats, hop_seconds: float) -> Floats:
    """Network's three values (frames, 3) of a pitch that has the first two (frames, 2), its period beginning with the
    first frame, and going on in the next frame where the one before ended.

    >>> run_phase(scale_pitch([110.0, 110.0, 0.0, 55.0]), 0.016)[:, 2].round(2)
    array([0.  , 0.76, 0.52, 0.52], dtype=float32)
    """
    turns = np.cumsum(unscale_pitch(values).astype(np.float64) * hop_seconds)
    began = np.concatenate([np.zeros(1), turns[:-1]]) % 1.0
    return np.concatenate([values[:, :2], began[: len(values), None].astype(np.float32)], axis=1)


def hold_phase(values: Floats, ages: NDArray[np.integer], hop_seconds: float) -> Floats:
    """The network's `values` (3,) of a frame, as they are so many frames later, (ages, 3), its periods going on."""
    held = np.repeat(values[None], len(ages), axis=0)
    held[:, 2] = (float(values[2]) + float(unscale_pitch(values)) * hop_seconds * ages) % 1.0
    return held


_NOTE = re.compile(r"\s*([a-gA-G])([b#s]?)(-?\d)\s*")
_STEPS = {"c": 0, "d": 2, "e": 4, "f": 5, "g": 7, "a": 9, "b": 11, "": 0, "#": 1, "s": 1}


def is_note(text: str) -> bool:
    """Whether this is a note's name, such as eb2."""
    return _NOTE.fullmatch(text) is not None


def parse_note(text: str) -> float:
    """Hz of a note's name, such as a4, Eb2 or f#3 (c4 is the middle c, a4 440 Hz), or of a MIDI key, such as 40.

    >>> parse_note("a3"), parse_note("69"), round(parse_note("Eb1"), 2)
    (220.0, 440.0, 38.89)

    Raises ControlError for anything else, and outside PITCH_RANGE.
    """
    if found := _NOTE.fullmatch(text):
        letter, accidental, octave = found.groups()
        key = (
            12 * (int(octave) + 1)
            + _STEPS[letter.lower()]
            + (-1 if accidental == "b" else _STEPS[accidental])
        )
    elif text.strip().isdecimal():
        key = int(text)
    else:
        raise ControlError(f"{text!r} is no note; write a4, eb2, f#3 or a MIDI key such as 40")
    hertz = REFERENCE_PITCH * math.exp2((min(key, 200) - 69) / 12.0)
    low, high = PITCH_RANGE
    if not low <= hertz <= high:
        raise ControlError(f"{text!r} is {hertz:.0f} Hz, which is not from {low:g} to {high:g} Hz")
    return hertz


def pitch_window(rate: int) -> int:
    """Power of two that holds two periods of the lowest pitch."""
    return 1 << math.ceil(math.log2(2.0 * rate / PITCH_RANGE[0]))


def track_pitch(wave: Floats, margin: int, frames: int, rate: int, hop: int) -> Floats:
    """By probabilistic YIN (Mauch and Dixon 2014)."""
    try:
        import librosa
    except ImportError:
        raise MissingExtraError("the pitch curve needs librosa: pip install 'audio-gen[train]'") from None
    size = pitch_window(rate)
    rows = np.zeros((frames, 2), np.float32)
    sounding = np.flatnonzero(wave)
    # Digital silence has no pitch, and the tracker no answer; tracking is slow, so it sees what sounds alone.
    context = round(CONTEXT_SECONDS * rate) // hop
    if not len(sounding):
        return rows
    first = max(margin - context, int(sounding[0]) // hop)
    last = min(margin + frames + context, int(sounding[-1]) // hop + 1)
    if first >= margin + frames or last <= margin:
        return rows
    start = first * hop + hop // 2 - size // 2  # windows are centred on their frames
    part = np.pad(wave, size)[start + size : start + size + (last - first - 1) * hop + size]
    low, high = PITCH_RANGE[0], min(PITCH_RANGE[1], rate / 4.0)
    leap = min(_LEAP, 0.9 * math.log2(high / low) * rate / hop)  # a frame may not leap past the range
    hertz, _, _ = librosa.pyin(
        part, fmin=low, fmax=high, sr=rate, frame_length=size, hop_length=hop, center=False,
        resolution=_STEP, max_transition_rate=leap,
    )  # fmt: skip
    begin, end = max(first, margin), min(last, margin + frames)
    rows[begin - margin : end - margin] = scale_pitch(hertz[begin - first : end - first])
    return rows


def refine_pitch(wave: Floats, margin: int, frames: int, rate: int, hop: int, hertz: float) -> Floats:
    """Pitch around one that is known: the period after which the wave is most like itself, frame by frame, and averaged
    over neighbours by how alike and how loud they are. A predictor that looks back a period that is a hundredth too
    long is wrong about all but the lowest harmonics."""
    several = max(
        1, math.ceil(_LEAST_LAG * hertz / rate)
    )  # periods; short ones are told apart by many of them
    period, widest = several * rate / hertz, 2.0 ** (_SEMITONES / 12.0)
    lags = np.arange(max(1, math.floor(period / widest) - 1), math.ceil(period * widest) + 2)
    size = pitch_window(rate) // 2
    near = NEIGHBOURS
    first = (margin - near) * hop + hop // 2 - size // 2  # windows are centred on their frames
    views = np.lib.stride_tricks.sliding_window_view(wave, size)
    now = views[first::hop][: frames + 2 * near].astype(np.float64)
    alike = np.zeros((len(now), len(lags)))
    power = np.square(now).sum(axis=1)
    for place, lag in enumerate(lags):
        before = views[first - lag :: hop][: len(now)].astype(np.float64)
        both = np.sqrt(power * np.square(before).sum(axis=1))
        alike[:, place] = (now * before).sum(axis=1) / np.maximum(both, 1e-12)
    best = 1 + np.argmax(alike[:, 1:-1], axis=1)
    rows = np.arange(len(now))
    left, middle, right = (alike[rows, best + side] for side in (-1, 0, 1))
    bend = left - 2.0 * middle + right
    shift = np.where(bend < 0.0, 0.5 * (left - right) / np.minimum(bend, -1e-12), 0.0)
    octaves = np.log2(period / (lags[best] + np.clip(shift, -1.0, 1.0)))
    inside = np.abs(octaves) <= _SEMITONES / 12.0
    weight = np.where(inside, np.maximum(middle, 0.0) ** 4 * np.sqrt(power), 0.0)
    kernel = np.hanning(2 * near + 3)[1:-1]
    total = np.convolve(weight, kernel, "valid")
    mean = np.convolve(weight * np.where(inside, octaves, 0.0), kernel, "valid") / np.maximum(total, 1e-9)
    values: Floats = scale_pitch(hertz * 2.0**mean)
    return values


def measure_phase(wave: Floats, margin: int, frames: int, rate: int, hop: int, values: Floats) -> Floats:
    """Phase (frames, 1) of the fundamental where frames begin, of the pitch `values` (frames, 2 or more): in periods,
    from 0 to 1, a crest being 0; 0 where there is no pitch. Through a window of several of the lowest periods."""
    size = pitch_window(rate)
    window = np.hanning(size + 1)[:-1]
    age = np.arange(size) - size // 2
    views = np.lib.stride_tricks.sliding_window_view(wave, size)
    hertz = unscale_pitch(values).astype(np.float64)
    phase = np.zeros((frames, 1), np.float32)
    for frame in np.flatnonzero(hertz):
        turns = np.exp(-2j * np.pi * (hertz[frame] / rate) * age)
        heard = views[(margin + frame) * hop - size // 2] * window @ turns
        phase[frame] = np.angle(heard) / (2.0 * np.pi) % 1.0
    return phase
