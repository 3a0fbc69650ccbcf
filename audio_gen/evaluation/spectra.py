"""What the evaluation hears: log-mel spectra of waveforms, and the statistics of a clip. Needs librosa.

Levels are in dB of a full-scale sine, floored, so that silence is silence however it was made.
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Waveform = NDArray[np.float32]  # (time,)
Floats = NDArray[np.float64]

WINDOW_SECONDS = 0.032
BANDS = 40
FLOOR_DB = -80.0
SILENCE = 3.5e-4
"""Of full scale, -69 dB, two steps of 8-bit mu-law: what stays below is silence at the ends of a clip."""
CEPSTRA = 20  # of which SHAPED are followed through the clip
SHAPED = 16
STRETCHES = 8


def sounding_part(waveform: Waveform) -> slice:
    """Where a waveform (time,) sounds: without the silence before and after; empty if it is all silence."""
    loud = np.flatnonzero(np.abs(waveform) > SILENCE)
    return slice(int(loud[0]), int(loud[-1]) + 1) if len(loud) else slice(0, 0)


@dataclass(frozen=True)
class Ear:
    """Log-mel analysis at one sample rate (hertz)."""

    sample_rate: int
    window_seconds: float = WINDOW_SECONDS
    bands: int = BANDS

    @property
    def window(self) -> int:
        """Samples, a power of two."""
        return int(2 ** max(4, round(np.log2(self.window_seconds * self.sample_rate))))

    @property
    def hop(self) -> int:
        """Samples from one frame to the next, a quarter of a window."""
        return self.window // 4

    @cached_property
    def _filters(self) -> NDArray[np.float32]:
        import librosa

        # Four times the window: the bass bands are narrower than its bins.
        basis = librosa.filters.mel(sr=self.sample_rate, n_fft=4 * self.window, n_mels=self.bands, norm=None)
        return np.asarray(basis / np.maximum(basis.sum(axis=1, keepdims=True), 1e-9), np.float32)

    @property
    def band_centres(self) -> Floats:
        """Hertz, (bands,)."""
        import librosa

        edges = librosa.mel_frequencies(n_mels=self.bands + 2, fmax=self.sample_rate / 2)
        return np.asarray(edges[1:-1], np.float64)

    def spectrum(self, waveform: Waveform) -> NDArray[np.float32]:
        """Mean power in each band, dB (frames, bands), frame f around sample f * hop."""
        import librosa

        frames = 1 + max(len(waveform), self.window) // self.hop
        waveform = np.pad(waveform, (0, max(0, 4 * self.window - len(waveform))))
        transformed = librosa.stft(
            waveform, n_fft=4 * self.window, win_length=self.window, hop_length=self.hop, pad_mode="constant"
        )[:, :frames]
        power = self._filters @ (np.abs(transformed) / (self.window / 4.0)) ** 2
        return np.asarray(10.0 * np.log10(np.maximum(power, 10.0 ** (FLOOR_DB / 10.0))).T, np.float32)

    def statistics(self, waveform: Waveform) -> Floats:
        """A clip as one vector: mean, spread and movement of its cepstra, their course, its duration.

        The course is that of the first cepstra in eight equal stretches, so that what comes when is heard.
        Level counts (the first cepstrum); silence at the ends does not.
        """
        from scipy.fft import dct

        part = waveform[sounding_part(waveform)]
        cepstra = dct(self.spectrum(part), axis=1, norm="ortho")[:, :CEPSTRA]  # (frames, CEPSTRA)
        if len(cepstra) < STRETCHES:
            cepstra = np.pad(cepstra, ((0, STRETCHES - len(cepstra)), (0, 0)), mode="edge")
        steps = np.linspace(0, len(cepstra), STRETCHES + 1)
        course = [
            cepstra[int(start) : int(np.ceil(stop)), :SHAPED].mean(axis=0) for start, stop in pairwise(steps)
        ]
        moves = np.diff(cepstra, axis=0).std(axis=0)
        seconds = max(len(part), self.hop) / self.sample_rate
        whole = [cepstra.mean(axis=0), cepstra.std(axis=0), moves, *course, [np.log(seconds)]]
        return np.concatenate(whole).astype(np.float64)
