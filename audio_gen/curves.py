"""Curves over time: loudness, pitch, mel and notes, and what a recording has of them.

Frame f describes samples [f * hop, (f + 1) * hop); what lies beyond either end of a clip counts as silence.
The network wants values around 1 and gets them by fixed, invertible scales:

    loudness  1 channel   decibels / 40 + 1, decibels = dBFS of the frame's RMS, not below -80: from -1 to 1
    pitch     3 channels  1 where there is a pitch, else 0; octaves above 440 Hz (log2), 0 where there is none; where
                          in its period the wave is when the frame begins, from 0 to 1
    notes     88 channels a key of a piano each, from 0 (silent) to 1 (struck as hard as can be): see `audio_gen.notes`
    mel       mel_bands   decibels / 40 + 1 of the power in each band, a sine of amplitude 1 being about 0 dB
"""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from audio_gen.errors import ControlError
from audio_gen.notes import CHANNELS as KEYS
from audio_gen.pitch import CHANNELS as PITCHES
from audio_gen.pitch import (
    CONTEXT_SECONDS,
    NEIGHBOURS,
    hold_phase,
    measure_phase,
    pitch_window,
    refine_pitch,
    track_pitch,
)

CURVES = ("loudness", "pitch", "mel", "notes")
FLOOR = -80.0
"""Decibels; what is quieter counts as this. About the finest step of an 8-bit mu-law codec."""
Floats = NDArray[np.float32]
Moments = NDArray[np.float64]
"""(moments,) seconds."""
_SEGMENT_SECONDS = 10.0


def curve_channels(names: Sequence[str], mel_bands: int) -> int:
    """Channels that these curves take together. Raises ControlError for an unknown name.

    >>> curve_channels(["loudness", "pitch"], 80)
    4
    """
    return sum(_channels(name, mel_bands) for name in names)


def channels_of(name: str, names: Sequence[str], channels: int) -> slice:
    """Where the curve `name` is among the `channels` of all `names`.

    >>> channels_of("pitch", ["mel", "pitch", "loudness"], 8)
    slice(4, 7, None)
    """
    bands = channels - curve_channels([other for other in names if other != "mel"], 0)
    first = curve_channels(names[: names.index(name)], bands)
    return slice(first, first + curve_channels([name], bands))


def _channels(name: str, mel_bands: int) -> int:
    if name not in CURVES:
        raise ControlError(f"unknown curve {name!r}; known: {', '.join(CURVES)}")
    return {"loudness": 1, "pitch": PITCHES, "mel": mel_bands, "notes": KEYS}[name]


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


def hold_curves(frames: Floats, start: int, stop: int, names: Sequence[str], hop_seconds: float) -> Floats:
    """Frames `start` to `stop` of `frames` (frames, channels), the last of which is held beyond their end; of a pitch
    that is held, the periods go on."""
    there = frames[start:stop]
    ages = np.arange(max(start, len(frames)), stop) - (len(frames) - 1)
    if not len(ages):
        return there
    held = np.repeat(frames[-1:], len(ages), axis=0)
    if "pitch" in names:
        place = channels_of("pitch", names, frames.shape[1])
        held[:, place] = hold_phase(frames[-1, place], ages, hop_seconds)
    return np.concatenate([there, held])


def surround(frames: Floats, offsets: Sequence[int], first: int = 0, last: int | None = None) -> Floats:
    """Frames `first` to `last` (default: to the end) of `frames` (..., frames, channels), each with those that lie
    `offsets` from it: (..., frames, offsets * channels). At either end the outermost one is held.

    >>> surround(np.array([[1.0], [2.0], [3.0]], np.float32), (0, -1, 1)).tolist()
    [[1.0, 1.0, 2.0], [2.0, 1.0, 3.0], [3.0, 2.0, 3.0]]
    """
    held = frames.shape[-2] - 1
    places = np.arange(first, (held if last is None else last) + 1)[:, None] + np.asarray(offsets)
    found = frames[..., np.clip(places, 0, held), :]
    around: Floats = found.reshape(*found.shape[:-2], -1)
    return around


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
        reach = window_size(sample_rate, hop) if "mel" in names else 0
        if "pitch" in names:
            around = round(CONTEXT_SECONDS * sample_rate) if pitch is None else NEIGHBOURS * hop
            reach = max(reach, pitch_window(sample_rate) + around)
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
            else:
                found.append(self._measure_pitch(wave, frames))
        return np.concatenate(found, axis=1)

    def _measure_pitch(self, wave: Floats, frames: int) -> Floats:
        place = (wave, self._margin, frames, self._rate, self._hop)
        values = track_pitch(*place) if self._pitch is None else refine_pitch(*place, self._pitch)
        return np.concatenate([values, measure_phase(*place, values)], axis=1)


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


def look_ahead(rate: int, names: Sequence[str], hop: int) -> int:
    """Frames at a waveform's end whose windows reach beyond it."""
    sizes = {"mel": window_size(rate, hop), "pitch": pitch_window(rate)}
    widest = max((sizes.get(name, hop) for name in names), default=hop)
    return -(-(widest - hop) // (2 * hop))


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
