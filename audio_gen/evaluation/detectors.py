"""What can go wrong in a long run, found in a waveform: silence, standing still, loops, clicks.

All work on windows of a second and on log-mel spectra (`Ear`), so that sampling noise does not hide a loop, and
steady textures, whose frames differ by chance, are not taken for one.
"""

import numpy as np
from numpy.typing import NDArray

from audio_gen.evaluation.spectra import SILENCE, Ear, Floats, Waveform

LOOP_SECONDS = 2.0  # of audio that has to repeat
LONGEST_LOOP = 8.0  # seconds between the repetitions
SHORTEST_LOOP = 0.1
THINNED = 2  # every second frame is enough
ALIKE = 0.9  # correlation that counts as repetition
STILL_DB = 0.5  # of movement in a sounding band
CLICK_SECONDS = 0.02  # around a sample, that it is held against
CLICK_RATIO = 12.0  # times the typical jump around it
CLICK_LEAST = 0.02  # of full scale


def silent(windows: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which of some windows (windows, time) hold nothing but silence."""
    return np.asarray(np.abs(windows).max(axis=1) <= SILENCE)


def movement(ear: Ear, waveform: Waveform, width: int) -> Floats:
    """How much the spectrum moves in each window of `width` samples, dB: (windows,).

    The spread over time of each band, averaged over those within 40 dB of the loudest; 0 for silence.
    """
    spectrum = ear.spectrum(waveform).astype(np.float64)
    frames = max(2, round(width / ear.hop))
    found = []
    for first in range(0, len(waveform) - width + 1, width):
        start = round(first / ear.hop)
        part = spectrum[start + 2 : start + frames - 2]  # frames that lie inside
        levels = part.mean(axis=0)
        heard = levels > max(levels.max() - 40.0, -79.0)
        found.append(float(part[:, heard].std(axis=0).mean()) if heard.any() else 0.0)
    return np.array(found)


def repetition(ear: Ear, waveform: Waveform) -> Floats:
    """How well each stretch of two seconds repeats what came before: highest correlation, by (stretches,).

    Stretches begin every second. Only what moves counts: each band against its own mean in the stretch. The first
    stretches have nothing before them, and silence repeats nothing: 0.
    """
    spectrum = ear.spectrum(waveform)[::THINNED].astype(np.float64)
    rate = ear.sample_rate / (ear.hop * THINNED)  # frames per second
    width, nearest, farthest = (round(rate * s) for s in (LOOP_SECONDS, SHORTEST_LOOP, LONGEST_LOOP))
    found = []
    for second in range(int((len(spectrum) - width) / rate) + 1):
        start = round(second * rate)
        own = _moving(spectrum[start : start + width])
        lags = range(max(nearest, 1), min(farthest, start) + 1)
        if not len(lags) or own is None:
            found.append(0.0)
            continue
        found.append(max(_alike(own, spectrum[start - lag : start - lag + width]) for lag in lags))
    return np.array(found)


def _moving(part: Floats) -> Floats | None:
    """A stretch (frames, bands) without the mean of each band, of length 1; None if nothing moves."""
    centred = part - part.mean(axis=0)
    if float(centred.std()) < STILL_DB:
        return None
    return np.asarray(centred / np.linalg.norm(centred))


def _alike(own: Floats, other: Floats) -> float:
    before = _moving(other)
    return 0.0 if before is None else float((own * before).sum())


def clicks(waveform: Waveform, sample_rate: int) -> NDArray[np.int64]:
    """Places of samples that jump out of what is around them: one of each cluster.

    A click is a second difference many times the median one within 10 ms on both sides; an attack, after which the
    signal goes on as rough as it began, is none.
    """
    from scipy.ndimage import median_filter

    bend = np.abs(np.diff(waveform.astype(np.float64), n=2))
    if not len(bend):
        return np.zeros(0, np.int64)
    reach = max(3, round(CLICK_SECONDS * sample_rate / 2))
    wide = median_filter(bend, 2 * reach + 1, mode="reflect")
    after = np.append(wide[reach:], np.full(min(reach, len(wide)), wide[-1]))  # as rough after an attack
    jumps = bend > np.maximum(CLICK_RATIO * np.maximum(wide, after), CLICK_LEAST)
    places = np.flatnonzero(jumps)
    return places[np.diff(places, prepend=-reach - 1) > reach] + 1
