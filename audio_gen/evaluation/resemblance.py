"""How much a copy resembles its original, sample for sample: the measures that vocoders are compared by.

- PESQ, perceptual evaluation of speech quality (ITU-T P.862, 2001; wide band P.862.2, 2007): a listener's opinion as
  predicted, from 1 (bad) to 4.6.
- STOI, short-time objective intelligibility (Taal et al. 2011, doi:10.1109/TASL.2011.2114881): from 0 to 1.
- Mel-cepstral distance (Kubichek 1993, doi:10.1109/PACRIM.1993.407206): dB, of 13 coefficients without the 0th, which
  is loudness; as far as the original sounds.
- Pitch error, cents, and voicing error: by probabilistic YIN (Mauch and Dixon 2014, doi:10.1109/ICASSP.2014.6853678).
"""

import math
import warnings
from collections.abc import Collection
from dataclasses import dataclass, fields
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audio_gen.evaluation.packages import there
from audio_gen.evaluation.spectra import Waveform, sounding_part

WIDE, NARROW = 16_000, 8_000
"""Sample rates, hertz, that PESQ knows: wide band where the audio has it, else narrow."""
SHORTEST_SECONDS = 0.5
"""Of sound; in less, neither PESQ nor STOI can tell anything."""
LEAST_STOI = 2e-5  # what stands for audio too short to tell
COEFFICIENTS = 13
BANDS = 80
WINDOW_SECONDS, STEP_SECONDS = (
    0.064,
    0.008,
)  # of the cepstra; in less, it counts where in a period a window begins
DEPTH_DB = 40.0  # below the original's loudest frame: what is softer than that is silence
FLOOR_DB = 80.0  # below the original's loudest band: no band counts as softer
PITCH_RANGE = (55.0, 1000.0)  # hertz: voices, and most that sings
PITCH_STEP = 0.5  # semitones between candidates; tracking takes a time that goes with the inverse square
PITCH_SECONDS = 0.01  # between frames
PERIODS = 3.0  # of the lowest pitch in a window
MEASURES = {"pesq": "pesq", "stoi": "pystoi", "cepstral": "librosa", "pitch": "librosa", "voicing": "librosa"}
"""The package that each measure needs."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Resemblance:
    """One waveform beside its original; NaN for what cannot be told (too short, silent, package missing)."""

    pesq: float = math.nan
    """From 1 to 4.6; higher is better."""
    stoi: float = math.nan
    """From 0 to 1; higher is better."""
    cepstral: float = math.nan
    """Decibels; lower is better."""
    pitch: float = math.nan
    """Cents, median of the absolute error where both are voiced."""
    voicing: float = math.nan
    """Share of frames that are voiced in one of them alone."""


class Voice:
    """A waveform to compare, whose pitch is tracked once, for any number of comparisons."""

    def __init__(self, waveform: Waveform, sample_rate: int) -> None:
        self.waveform, self.sample_rate = waveform, sample_rate

    @cached_property
    def pitch(self) -> Floats:
        """Hertz (frames,); NaN where there is none."""
        return pitch(self.waveform, self.sample_rate)

    def resemblance(self, copy: "Voice", which: Collection[str] | None = None) -> Resemblance:
        """Of a `copy` of the same length to this. `which` measures: by default all whose packages are installed."""
        one, other, rate = self.waveform, copy.waveform, self.sample_rate
        if one.shape != other.shape:
            raise ValueError(f"a copy of {len(other)} samples beside an original of {len(one)}")
        wanted = available() if which is None else which
        found = {}
        if "pesq" in wanted:
            found["pesq"] = pesq(one, other, rate)
        if "stoi" in wanted:
            found["stoi"] = stoi(one, other, rate)
        if "cepstral" in wanted:
            found["cepstral"] = cepstral_distance(one, other, rate)
        if {"pitch", "voicing"} & set(wanted):
            found["pitch"], found["voicing"] = pitch_errors(self.pitch, copy.pitch)
        return Resemblance(**found)


def available() -> tuple[str, ...]:
    """The measures whose packages are installed."""
    return tuple(each.name for each in fields(Resemblance) if there(MEASURES[each.name]))


def band(sample_rate: int) -> str:
    """Which PESQ audio of this rate gets: "wide" or "narrow"."""
    return "wide" if sample_rate >= WIDE else "narrow"


def pesq(original: Waveform, copy: Waveform, sample_rate: int) -> float:
    """Predicted opinion, 1 to 4.6, by the package pesq; NaN where there is no speech to judge."""
    from pesq import PesqError
    from pesq import pesq as judge

    rate, mode = (WIDE, "wb") if band(sample_rate) == "wide" else (NARROW, "nb")
    pair = [_resampled(each, sample_rate, rate) for each in (original, copy)]
    if _too_short(original, sample_rate) or not len(pair[1][sounding_part(pair[1])]):
        return math.nan
    try:
        return float(judge(rate, *pair, mode))
    except PesqError:  # it found no utterance
        return math.nan


def stoi(original: Waveform, copy: Waveform, sample_rate: int) -> float:
    """Intelligibility, 0 to 1, by the package pystoi; NaN for less than half a second of sound."""
    from pystoi import stoi as judge

    if _too_short(original, sample_rate):
        return math.nan
    rate = 10_000  # its own; soxr resamples better and faster
    pair = [_resampled(each, sample_rate, rate).astype(np.float64) for each in (original, copy)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of too few frames, which its value says as well
        value = float(judge(*pair, rate))
    return value if value > LEAST_STOI else math.nan


def cepstral_distance(original: Waveform, copy: Waveform, sample_rate: int) -> float:
    """Decibels between mel cepstra of frames at the same time, mean over those in which the original sounds.

    With c the cepstrum of the logarithm of power, 10 / ln 10 * sqrt(2 * sum((c - c')^2)): the root-mean-square
    difference of the two smoothed spectra. NaN for a silent original. Needs librosa.
    """
    levels = [_levels(each, sample_rate) for each in (original, copy)]
    loud = levels[0].max(axis=1)
    if not np.isfinite(loud.max(initial=-math.inf)):
        return math.nan
    sounding = loud > loud.max() - DEPTH_DB
    ours, theirs = (_cepstra(np.maximum(each[sounding], loud.max() - FLOOR_DB)) for each in levels)
    return float(np.sqrt(2.0 * np.square(ours - theirs).sum(axis=1)).mean())


def pitch(waveform: Waveform, sample_rate: int, lowest: float = PITCH_RANGE[0]) -> Floats:
    """Hertz (frames,) every 10 ms, from `lowest` (Hz) up; NaN where there is no pitch. Needs librosa.

    Which frames have one, and in which octave, is tracked among candidates half a semitone apart; where plain YIN finds
    a pitch beside that candidate, it is taken, for it lies between the samples and knows no steps.
    """
    import librosa

    hop = max(1, round(PITCH_SECONDS * sample_rate))
    low, high = lowest, min(max(PITCH_RANGE[1], 4.0 * lowest), sample_rate / 4.0)
    size = 1 << math.ceil(math.log2(PERIODS * sample_rate / low))
    frames = 1 + len(waveform) // hop
    if not np.any(waveform):  # the tracker has no answer to digital silence
        return np.full(frames, math.nan)
    how: dict[str, Any] = {
        "fmin": low,
        "fmax": high,
        "sr": sample_rate,
        "frame_length": size,
        "hop_length": hop,
    }
    tracked, _, _ = librosa.pyin(waveform, resolution=PITCH_STEP, **how)
    fine = librosa.yin(waveform, **how)
    beside = 12.0 * np.abs(np.log2(fine / tracked)) <= PITCH_STEP
    return np.asarray(np.where(beside, fine, tracked), np.float64)


def pitch_errors(original: Floats, copy: Floats) -> tuple[float, float]:
    """(cents, share): the median absolute error where both have a pitch, and how often one of them alone has.

    >>> cents, share = pitch_errors(np.array([100.0, 200.0, np.nan]), np.array([200.0, 400.0, 50.0]))
    >>> cents, round(share, 2)
    (1200.0, 0.33)
    """
    voiced = ~np.isnan(original) & ~np.isnan(copy)
    share = float((np.isnan(original) != np.isnan(copy)).mean())
    if not voiced.any():
        return math.nan, share
    return float(np.median(np.abs(1200.0 * np.log2(copy[voiced] / original[voiced])))), share


def _too_short(original: Waveform, sample_rate: int) -> bool:
    return len(original[sounding_part(original)]) < SHORTEST_SECONDS * sample_rate


def _resampled(waveform: Waveform, sample_rate: int, wanted: int) -> Waveform:
    import soxr

    return (
        waveform
        if sample_rate == wanted
        else np.asarray(soxr.resample(waveform, sample_rate, wanted), np.float32)
    )


def _levels(waveform: Waveform, sample_rate: int) -> Floats:
    """(frames, bands) dB; minus infinity in digital silence."""
    import librosa

    size = 1 << round(math.log2(WINDOW_SECONDS * sample_rate))
    power = np.square(
        np.abs(librosa.stft(waveform, n_fft=size, hop_length=max(1, round(STEP_SECONDS * sample_rate))))
    )
    with np.errstate(divide="ignore"):
        return np.asarray(10.0 * np.log10(_bank(sample_rate, size) @ power.astype(np.float64)).T)


@lru_cache(maxsize=4)
def _bank(sample_rate: int, size: int) -> Floats:
    import librosa

    return np.asarray(librosa.filters.mel(sr=sample_rate, n_fft=size, n_mels=BANDS), np.float64)


def _cepstra(levels: Floats) -> Floats:
    """(frames, coefficients) dB: c of levels = c0 + 2 * sum(c_k * cos(k * pi * (band + 1/2) / bands))."""
    from scipy.fft import dct

    return np.asarray(dct(levels, type=2, axis=1)[:, 1 : COEFFICIENTS + 1] / (2.0 * levels.shape[1]))
