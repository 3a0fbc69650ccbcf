"""Curves over time: loudness, pitch and mel, measured from audio or drawn by the player.

Frame f describes samples [f * hop, (f + 1) * hop); what lies beyond either end of a clip counts as silence.
The network wants values around 1 and gets them by fixed, invertible scales:

    loudness  1 channel   decibels / 40 + 1, decibels = dBFS of the frame's RMS, not below -80: from -1 to 1
    pitch     2 channels  1 where there is a pitch, else 0; octaves above 440 Hz (log2), 0 where there is none
    notes     88 channels a key of a piano each, from 0 (silent) to 1 (struck as hard as can be): see `audio_gen.notes`
    mel       mel_bands   decibels / 40 + 1 of the power in each band, a sine of amplitude 1 being about 0 dB
"""

import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from hashlib import blake2b
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from audio_gen.errors import ControlError, MissingExtraError
from audio_gen.moments import read_moments
from audio_gen.notes import CHANNELS as KEYS
from audio_gen.notes import Notes, read_notes

CURVES = ("loudness", "pitch", "mel", "notes")
FLOOR = -80.0
"""Decibels; what is quieter counts as this. About the finest step of an 8-bit mu-law codec."""
REFERENCE_PITCH = 440.0
"""Hz; 0 octaves."""
PITCH_RANGE = (25.0, 2100.0)
"""Hz, that a pitch is looked for in and may be asked for in."""

Floats = NDArray[np.float32]
Moments = NDArray[np.float64]
"""(moments,) seconds."""
_SEGMENT_SECONDS = 10.0
_PITCH_CONTEXT = 0.5  # seconds either side; the pitch tracker's memory is far shorter
_PITCH_LEAP = 35.92  # octaves per second, as Mauch and Dixon have it
_TUNED_SEMITONES = 0.5  # how far a recording may be from the note it is called
_TUNED_LAG = 32  # samples, that are looked back at least
_TUNED_FRAMES = 5  # either side, that are averaged
_PITCH_STEP = 0.25  # semitones between candidates; the tracker's time goes with the inverse square


def curve_channels(names: Sequence[str], mel_bands: int) -> int:
    """Channels that these curves take together. Raises ControlError for an unknown name.

    >>> curve_channels(["loudness", "pitch"], 80)
    3
    """
    return sum(_channels(name, mel_bands) for name in names)


def _channels(name: str, mel_bands: int) -> int:
    if name not in CURVES:
        raise ControlError(f"unknown curve {name!r}; known: {', '.join(CURVES)}")
    return {"loudness": 1, "pitch": 2, "mel": mel_bands, "notes": KEYS}[name]


def scale_decibels(decibels: ArrayLike) -> Floats:
    """Network's value of decibels, floored at -80: -80 becomes -1, 0 becomes 1."""
    return (np.maximum(decibels, FLOOR) / 40.0 + 1.0).astype(np.float32)


def unscale_decibels(value: ArrayLike) -> Floats:
    """Decibels of a network's value."""
    return ((np.asarray(value) - 1.0) * 40.0).astype(np.float32)


def soften(values: Floats, decibels: float) -> Floats:
    """Curves of decibels, as they are when the sound is softer by so many; the floor stays."""
    softer: Floats = np.maximum(values - np.float32(decibels / 40.0), np.float32(FLOOR / 40.0 + 1.0))
    return softer


def scale_pitch(hertz: ArrayLike) -> Floats:
    """Network's two values (..., 2) of a pitch in Hz; 0 or NaN is no pitch.

    >>> scale_pitch([880.0, 0.0]).tolist()
    [[1.0, 1.0], [0.0, 0.0]]
    """
    hertz = np.nan_to_num(np.asarray(hertz, np.float64))
    voiced = hertz > 0.0
    octaves = np.log2(np.where(voiced, hertz, REFERENCE_PITCH) / REFERENCE_PITCH)
    return np.stack([voiced, octaves], axis=-1).astype(np.float32)


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


def unscale_pitch(values: ArrayLike) -> Floats:
    """Hz of a network's two values (..., 2); 0 where there is no pitch."""
    voiced, octaves = np.moveaxis(np.asarray(values, np.float64), -1, 0)
    return np.where(voiced > 0.5, REFERENCE_PITCH * 2.0**octaves, 0.0).astype(np.float32)


def extract_curves(
    waveform: ArrayLike, sample_rate: int, names: Sequence[str], hop: int, mel_bands: int = 80
) -> Floats:
    """Curves (frames, channels) of a waveform (time,): time / hop frames, rounded up.

    `pitch` needs librosa. Raises ControlError for an unknown name, MissingExtraError without librosa.
    """
    extractor = CurveExtractor(sample_rate, names, hop, mel_bands)
    return np.concatenate([*extractor.push(np.asarray(waveform, np.float32)), extractor.finish()])


class CurveExtractor:
    """Curves of a waveform that comes in blocks, in constant memory. How it is cut changes nothing.

    Work is done in segments of about 10 s, each measured with enough context on both sides. Loudness and mel
    are what they would be without segments; pitch is tracked through 0.5 s of context, unless it is told.
    """

    def __init__(
        self,
        sample_rate: int,
        names: Sequence[str],
        hop: int,
        mel_bands: int = 80,
        pitch: float | None = None,
        notes: Callable[[Moments], Floats] | None = None,
    ) -> None:
        """As `extract_curves`; `pitch` (Hz), where it is known, is refined within half a semitone instead of tracked;
        `notes` gives the piano roll (moments, keys) at moments (seconds since the waveform's start)."""
        self._pitch, self._notes = pitch, notes
        if "notes" in names and notes is None:
            raise ControlError("notes cannot be measured from a recording; they are given, in a CSV")
        self._rate, self._names = sample_rate, tuple(names)
        self._hop, self._mel_bands = hop, mel_bands
        self._channels = curve_channels(names, mel_bands)
        reach = 0
        if "mel" in names:
            reach = window_size(sample_rate, hop)
        if "pitch" in names:
            around = round(_PITCH_CONTEXT * sample_rate) if pitch is None else _TUNED_FRAMES * hop
            reach = max(reach, _pitch_window(sample_rate) + around)
        self._margin = -(-reach // hop)  # frames
        self._segment = max(1, round(_SEGMENT_SECONDS * sample_rate / hop))  # frames
        self._have = np.zeros(self._margin * hop, np.float32)  # silence before the start
        self._samples = 0
        self._frames_given = 0

    def push(self, block: Floats) -> Iterator[Floats]:
        """Take the next block (time,); gives what (frames, channels) are certain by now."""
        self._samples += len(block)
        self._have = np.concatenate([self._have, block])
        need = (self._segment + 2 * self._margin) * self._hop
        while len(self._have) >= need:
            yield self._measure(self._have[:need], self._segment)
            self._have = self._have[self._segment * self._hop :]

    def finish(self) -> Floats:
        """The last frames (frames, channels), which may be none."""
        rest = -(-self._samples // self._hop) - self._frames_given
        rows = [np.zeros((0, self._channels), np.float32)]
        silence = np.zeros((2 * self._margin + self._segment + 1) * self._hop, np.float32)
        have = np.concatenate([self._have, silence])
        while rest > 0:
            frames = min(rest, self._segment)
            rows.append(self._measure(have[: (frames + 2 * self._margin) * self._hop], frames))
            have = np.concatenate([have[frames * self._hop :], silence[: frames * self._hop]])
            rest -= frames
        return np.concatenate(rows)

    def _measure(self, wave: Floats, frames: int) -> Floats:
        """(frames, channels) of the middle of `wave`, which has `margin` frames more on either side."""
        frame = np.arange(self._frames_given, self._frames_given + frames, dtype=np.float64)
        moments: Moments = (frame + 0.5) * (self._hop / self._rate)
        self._frames_given += frames
        found = []
        for name in self._names:
            if name == "loudness":
                start = self._margin * self._hop
                found.append(_loudness(wave[start : start + frames * self._hop], self._hop))
            elif name == "mel":
                found.append(_mel(wave, self._margin, frames, self._rate, self._hop, self._mel_bands))
            elif name == "notes":
                assert self._notes is not None
                found.append(self._notes(moments))
            elif self._pitch is not None:
                found.append(_tuned(wave, self._margin, frames, self._rate, self._hop, self._pitch))
            else:
                found.append(_pitch(wave, self._margin, frames, self._rate, self._hop))
        return np.concatenate(found, axis=1)


def _loudness(wave: Floats, hop: int) -> Floats:
    power = np.square(wave.reshape(-1, hop), dtype=np.float64).mean(axis=1, keepdims=True)
    return scale_decibels(10.0 * np.log10(np.maximum(power, 1e-12)))


def _mel(wave: Floats, margin: int, frames: int, rate: int, hop: int, bands: int) -> Floats:
    size = window_size(rate, hop)
    window = np.hanning(size + 1)[:-1]
    start = margin * hop + hop // 2 - size // 2  # windows are centred on their frames
    views = np.lib.stride_tricks.sliding_window_view(wave[start:], size)[: frames * hop : hop]
    # Scaled so that a sine of amplitude 1 has the magnitude 1 in its bin.
    power = np.square(np.abs(np.fft.rfft(views * window, axis=1)) * (2.0 / window.sum()))
    return scale_decibels(10.0 * np.log10(np.maximum(power @ _mel_bank(rate, size, bands), 1e-12)))


def window_size(rate: int, hop: int) -> int:
    """Samples of the windows that mel is measured through: a power of two of at least 50 ms and one hop."""
    return 1 << math.ceil(math.log2(max(rate * 0.05, hop, 16)))


@lru_cache(maxsize=8)
def _mel_bank(rate: int, size: int, bands: int) -> NDArray[np.float64]:
    """Triangular weights (size / 2 + 1, bands); none is narrower than the bins are apart, so that no band is deaf."""
    edges = _mel_edges(rate, bands)
    bin_width = rate / size
    hertz = np.arange(size // 2 + 1)[:, None] * bin_width
    centre = edges[1:-1]
    below = np.maximum(centre - edges[:-2], bin_width)
    above = np.maximum(edges[2:] - centre, bin_width)
    weights = np.maximum(0.0, np.minimum((hertz - centre) / below + 1.0, (centre - hertz) / above + 1.0))
    weights.setflags(write=False)
    return weights


def mel_geometry(rate: int, hop: int, bands: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where the bands of the mel curve lie: their centres in Hz (bands,), and how many of the spectrum's bins each of
    them adds up (bands,)."""
    size = window_size(rate, hop)
    return _mel_edges(rate, bands)[1:-1], _mel_bank(rate, size, bands).sum(axis=0)


def _mel_edges(rate: int, bands: int) -> NDArray[np.float64]:
    """Hertz (bands + 2,), even in O'Shaughnessy's mel, 2595 log10(1 + Hz / 700): feet and peaks of triangles."""
    top = 2595.0 * math.log10(1.0 + rate / 2.0 / 700.0)
    edges: NDArray[np.float64] = 700.0 * (10.0 ** (np.linspace(0.0, top, bands + 2) / 2595.0) - 1.0)
    return edges


def _pitch_window(rate: int) -> int:
    """Power of two that holds two periods of the lowest pitch."""
    return 1 << math.ceil(math.log2(2.0 * rate / PITCH_RANGE[0]))


def _pitch(wave: Floats, margin: int, frames: int, rate: int, hop: int) -> Floats:
    """By probabilistic YIN (Mauch and Dixon 2014)."""
    try:
        import librosa
    except ImportError:
        raise MissingExtraError("the pitch curve needs librosa: pip install 'audio-gen[train]'") from None
    size = _pitch_window(rate)
    rows = np.zeros((frames, 2), np.float32)
    sounding = np.flatnonzero(wave)
    # Digital silence has no pitch, and the tracker no answer; tracking is slow, so it sees what sounds alone.
    context = round(_PITCH_CONTEXT * rate) // hop
    if not len(sounding):
        return rows
    first = max(margin - context, int(sounding[0]) // hop)
    last = min(margin + frames + context, int(sounding[-1]) // hop + 1)
    if first >= margin + frames or last <= margin:
        return rows
    start = first * hop + hop // 2 - size // 2  # windows are centred on their frames
    part = np.pad(wave, size)[start + size : start + size + (last - first - 1) * hop + size]
    low, high = PITCH_RANGE[0], min(PITCH_RANGE[1], rate / 4.0)
    leap = min(_PITCH_LEAP, 0.9 * math.log2(high / low) * rate / hop)  # a frame may not leap past the range
    hertz, _, _ = librosa.pyin(
        part, fmin=low, fmax=high, sr=rate, frame_length=size, hop_length=hop, center=False,
        resolution=_PITCH_STEP, max_transition_rate=leap,
    )  # fmt: skip
    begin, end = max(first, margin), min(last, margin + frames)
    rows[begin - margin : end - margin] = scale_pitch(hertz[begin - first : end - first])
    return rows


def _tuned(wave: Floats, margin: int, frames: int, rate: int, hop: int, hertz: float) -> Floats:
    """Pitch around one that is known: the period after which the wave is most like itself, frame by frame, and averaged
    over neighbours by how alike and how loud they are. A predictor that looks back a period that is a hundredth too
    long is wrong about all but the lowest harmonics."""
    several = max(
        1, math.ceil(_TUNED_LAG * hertz / rate)
    )  # periods; short ones are told apart by many of them
    period, widest = several * rate / hertz, 2.0 ** (_TUNED_SEMITONES / 12.0)
    lags = np.arange(max(1, math.floor(period / widest) - 1), math.ceil(period * widest) + 2)
    size = _pitch_window(rate) // 2
    near = _TUNED_FRAMES
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
    inside = np.abs(octaves) <= _TUNED_SEMITONES / 12.0
    weight = np.where(inside, np.maximum(middle, 0.0) ** 4 * np.sqrt(power), 0.0)
    kernel = np.hanning(2 * near + 3)[1:-1]
    total = np.convolve(weight, kernel, "valid")
    mean = np.convolve(weight * np.where(inside, octaves, 0.0), kernel, "valid") / np.maximum(total, 1e-9)
    values: Floats = scale_pitch(hertz * 2.0**mean)
    return values


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
        _channels(self.name, 0)
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
        """Network's values (moments, channels) at these moments (moments,)."""
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
    notes: "notes=FILE.csv", rows of start,end,key,velocity. Raises ControlError.
    """
    name, equals, value = (part.strip() for part in text.partition("="))
    if not equals or not name or not value:
        raise ControlError(f"curve {text!r}: must be NAME=NUMBER or NAME=FILE.csv, such as loudness=-20")
    if name == "notes":
        return read_notes(Path(value))
    with suppress(ValueError):
        return PlayerCurve(name, (0.0,), (_number(name, value),))
    rows = list(read_moments(Path(value), partial(_finite, name), "a curve", "a number"))
    return PlayerCurve(name, tuple(second for second, _ in rows), tuple(number for _, number in rows))


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
    frames = np.arange(first, first + count, dtype=np.float64)
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
        rows.append(given[name].frames(seconds))
    return np.concatenate(rows, axis=1)
