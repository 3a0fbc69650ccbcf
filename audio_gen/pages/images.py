"""Pictures of sound: a spectrogram as a small PNG, a waveform as an SVG path.

Pictures that share one `Axes` share their scales of time, frequency and colour, so that the eye may compare
them. Nothing is normalised per clip. The same waveform always gives the same bytes.
"""

import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from audio_gen.errors import SettingError

Waveform = NDArray[np.float32]  # (time,), in [-1, 1]

WINDOW_SECONDS = 0.032
COLOURS = 64
# Dark to light with even steps of lightness, so that it also reads in grey and by the colour-blind.
_STOPS = ((13, 12, 24), (42, 24, 86), (98, 32, 112), (158, 47, 103), (212, 78, 76), (243, 134, 62),
          (250, 196, 105), (252, 248, 208))  # fmt: skip


@dataclass(frozen=True)
class Axes:
    """The scales that all pictures of one page share. Raises SettingError for impossible ones."""

    longest_seconds: float
    """Duration of the longest clip."""
    max_hz: float
    """Frequency of the top edge; the bottom edge is 0. Between them the mel scale."""
    columns: int = 240
    """Pixels of the longest clip; the others get their share."""
    rows: int = 112
    """Pixels of the frequency axis."""
    floor_db: float = -100.0
    """Level of the darkest colour, in dB of a sine at full scale."""
    top_db: float = -20.0
    """Level of the lightest colour."""

    def __post_init__(self) -> None:
        if not (0.0 < self.longest_seconds < math.inf and 0.0 < self.max_hz < math.inf):
            raise SettingError(
                f"axes need seconds and hertz above 0, got {self.longest_seconds} and {self.max_hz}"
            )
        if self.columns < 1 or not 1 <= self.rows <= 256 or self.floor_db >= self.top_db:
            raise SettingError(
                f"axes need columns above 0, 1 to 256 rows and floor below top, got {self.columns}, "
                f"{self.rows}, {self.floor_db} and {self.top_db}"
            )

    def columns_of(self, seconds: float) -> int:
        """Width in pixels of a clip of that duration; at least 1."""
        return max(1, round(seconds / self.longest_seconds * self.columns))

    def height_of(self, hz: float) -> float:
        """Where a frequency lies: 0.0 at the bottom edge, 1.0 at the top."""
        return _mel(hz) / _mel(self.max_hz)

    @property
    def ticks_hz(self) -> list[int]:
        """Round frequencies worth a guide line, ascending."""
        return [hz for hz in (250, 1000, 2000, 4000, 8000, 16_000) if self.height_of(hz) < 0.97]

    @property
    def tick_seconds(self) -> float:
        """A round duration of which about five to ten make the longest clip."""
        fifth = self.longest_seconds / 5.0
        step: float = 10.0 ** math.floor(math.log10(fifth))
        return max(step * factor for factor in (1, 2, 5) if factor == 1 or step * factor <= fifth * 1.001)


def spectrogram(waveform: Waveform, sample_rate: int, axes: Axes) -> bytes:
    """PNG (8-bit palette, `axes.rows` high, `axes.columns_of(duration)` wide) of a waveform (time,)."""
    from PIL import Image

    levels = spectrogram_db(waveform, sample_rate, axes)
    share = (levels - axes.floor_db) / (axes.top_db - axes.floor_db)
    picture = Image.fromarray(np.rint(np.clip(share, 0.0, 1.0) * (COLOURS - 1)).astype(np.uint8))
    picture.putpalette(bytes(channel for colour in _palette() for channel in colour))
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    return file.getvalue()


def spectrogram_db(waveform: Waveform, sample_rate: int, axes: Axes) -> NDArray[np.float32]:
    """Level in dB of a full-scale sine, (rows, columns), top row highest; Hann windows of 32 ms.

    Each pixel is the mean power of its stretch of time and its band of the mel scale.
    """
    columns = axes.columns_of(len(waveform) / sample_rate)
    window = np.hanning(max(4, round(WINDOW_SECONDS * sample_rate)) + 1)[:-1]
    bins = 2 << (len(window) - 1).bit_length()  # at least twice the window: bass rows are narrower than a bin
    bands = _bands(sample_rate, bins, axes.max_hz, axes.rows)
    power = np.empty((columns, axes.rows))
    for part, frames in _frames(waveform, columns, len(window)):
        spectrum = np.abs(np.fft.rfft(frames * window, bins)) ** 2 / (window.sum() / 2.0) ** 2
        power[part] = spectrum.mean(axis=1) @ bands
    quietest = 10.0 ** (axes.floor_db / 10.0)
    decibels: NDArray[np.float64] = 10.0 * np.log10(np.maximum(power, quietest))
    return decibels.T[::-1].astype(np.float32)


def outline(waveform: Waveform, columns: int) -> str:
    """SVG path of the lowest and highest sample in each of `columns` columns of a waveform (time,).

    It lives in a box `columns` wide and 200 high, where 0 is +1.0 and 200 is -1.0: full scale, on every clip.
    """
    if len(waveform) == 0:
        return f"M0 100H{columns}"
    starts = np.arange(columns) * len(waveform) // columns
    high = np.rint(100.0 - 100.0 * np.clip(np.maximum.reduceat(waveform, starts), -1.0, 1.0)).astype(int)
    low = np.rint(100.0 - 100.0 * np.clip(np.minimum.reduceat(waveform, starts), -1.0, 1.0)).astype(int)
    there = " ".join(f"{x} {y}" for x, y in enumerate(high.tolist()))
    back = " ".join(f"{x} {y}" for x, y in reversed(list(enumerate(low.tolist()))))
    return f"M{there} {back}Z"


def colour_stops() -> list[str]:
    """The colour scale from floor to top, evenly spaced, as CSS colours."""
    return [f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in _STOPS]


def _palette() -> list[tuple[int, ...]]:
    places = np.linspace(0.0, len(_STOPS) - 1.0, COLOURS)
    channels = [np.interp(places, range(len(_STOPS)), [stop[c] for stop in _STOPS]) for c in range(3)]
    return [tuple(round(float(channel[i])) for channel in channels) for i in range(COLOURS)]


def _mel(hz: float) -> float:
    """O'Shaughnessy's mel scale."""
    return 2595.0 * math.log10(1.0 + hz / 700.0)


def _frames(waveform: Waveform, columns: int, width: int) -> Iterator[tuple[slice, NDArray[np.float64]]]:
    """Frames (columns of this part, frames per column, width), evenly spread and at most half a window apart.

    In parts, since an hour of audio cut into frames would not fit in memory.
    """
    stride = len(waveform) / columns
    per_column = max(1, math.ceil(stride / (width / 2)))
    step = max(1, 4096 // per_column)
    for first in range(0, columns, step):
        part = slice(first, min(first + step, columns))
        centres = (np.arange(part.start * per_column, part.stop * per_column) + 0.5) * stride / per_column
        places = np.floor(centres).astype(np.int64)[:, None] + np.arange(width) - width // 2
        inside = (places >= 0) & (places < len(waveform))
        frames = np.zeros(places.shape)
        frames[inside] = waveform[places[inside]]
        yield part, frames.reshape(-1, per_column, width)


@lru_cache(maxsize=8)
def _bands(sample_rate: int, bins: int, max_hz: float, rows: int) -> NDArray[np.float64]:
    """Weights (bins // 2 + 1, rows), lowest row first: triangles on the mel scale, each summing to 1."""
    hz = np.arange(bins // 2 + 1) * sample_rate / bins
    edges = 700.0 * (10.0 ** (np.linspace(0.0, _mel(max_hz), rows + 1) / 2595.0) - 1.0)
    centres = (edges[1:] + edges[:-1]) / 2.0
    reach = np.maximum(edges[1:] - edges[:-1], sample_rate / bins)  # a bin at least, or a row would see none
    weights = np.maximum(0.0, 1.0 - np.abs(hz[:, None] - centres) / reach)
    weights /= np.maximum(weights.sum(axis=0), 1e-12)
    weights.setflags(write=False)
    return weights
