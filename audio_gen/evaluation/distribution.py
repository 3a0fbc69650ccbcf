"""How far generated audio as a whole lies from real audio, on a scale of known distances.

Every clip gives windows of a quarter second, each the means and spreads of its mel bands; what two sets of windows
differ by is the Fréchet distance of two Gaussians fitted to them (Dowson and Landau 1982; for images and audio,
Heusel et al. 2017, Kilgour et al. 2019), in principal components of training audio scaled to unit variance. All
sets hold as many clips, since the distance grows as sets shrink. The scale: other real recordings, and those
recordings with noise, through low-pass filters, and shifted in pitch.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audio_gen.evaluation.blocks import Bar, Bars, Lines, Section, Series, Table
from audio_gen.evaluation.recognition import Space
from audio_gen.evaluation.spectra import FLOOR_DB, Ear, Floats, Waveform, sounding_part

WINDOW_SECONDS = 0.25
COMPONENTS = 16
NOISES_DB = (40.0, 30.0, 20.0, 10.0)  # signal to noise
CUTS = (0.7, 0.5, 0.25)  # of the highest frequency
SHIFTS = (1, 3, 6)  # semitones
TURNS = 5  # other sets of real recordings, at most

Tell = Callable[[int, int], None]


@dataclass(frozen=True)
class Known:
    """The distance that something known makes."""

    name: str
    distance: float


@dataclass(frozen=True)
class Quartiles:
    """A figure of single clips: what a quarter, a half and three quarters of them stay below."""

    name: str
    unit: str
    generated: tuple[float, float, float]
    real: tuple[float, float, float]


@dataclass(frozen=True)
class Distribution:
    """The distance of generated clips from held-out ones, and what it is held against."""

    clips: int
    """In every set."""
    distance: float
    real: tuple[float, ...]
    """Of other sets of real recordings."""
    scale: tuple[Known, ...]
    quartiles: tuple[Quartiles, ...]
    spectrum_hz: tuple[float, ...]
    spectrum: tuple[float, ...]
    """Mean level of generated clips in each band, dB."""
    spectrum_real: tuple[float, ...]

    @property
    def floor(self) -> float:
        """Between sets of real recordings, on average."""
        return float(np.mean(self.real))

    def section(self) -> Section:
        rows = sorted([*self.scale, Known("", self.distance)], key=lambda each: each.distance)
        place = next(index for index, each in enumerate(rows) if not each.name)
        nearer = [each.name for each in rows[:place]]
        farther = [each.name for each in rows[place + 1 :]]
        where = f"farther than {nearer[-1]}" if nearer else "nearer than any of the known changes"
        if nearer and farther:
            where = f"between {nearer[-1]} and {farther[0]}"
        bars = [Bar("other real recordings", self.floor, f"{self.floor:.2f}", "real")]
        bars += [Bar(each.name or "generated", each.distance, f"{each.distance:.2f}", "scale" if each.name else "ours")
                 for each in rows]  # fmt: skip
        table = Table(
            "Single clips: lower quarter, median, upper quarter",
            ("", "generated", "held out"),
            tuple((f"{each.name}, {each.unit}", _three(each.generated), _three(each.real))
                  for each in self.quartiles),
        )  # fmt: skip
        spread = f"{min(self.real):.2f} to {max(self.real):.2f}"
        return Section(
            "Distance from real audio",
            (
                f"{self.clips:,} generated clips lie {self.distance:.2f} from as many held-out recordings "
                f"(Fréchet distance of log-mel statistics); other real recordings lie {spread} from them.",
                f"On the scale of known changes, made to those other recordings, that is {where}.",
            ),
            (
                Bars("Distance from held-out recordings, lower is better", tuple(bars)),
                table,
                Lines(
                    "Mean spectrum", "band centre, Hz", "dB of full scale",
                    (
                        Series("held out", self.spectrum_hz, self.spectrum_real, "real"),
                        Series("generated", self.spectrum_hz, self.spectrum, "ours"),
                    ),
                ),
            ),
        )  # fmt: skip


def frechet(one: Floats, other: Floats) -> float:
    """Squared Fréchet distance of Gaussians fitted to two sets of points (points, dimensions).

    >>> points = np.random.default_rng(0).normal(size=(1000, 3))
    >>> round(frechet(points, points), 6), round(frechet(points, points + [2.0, 0.0, 0.0]), 6)
    (0.0, 4.0)
    """
    first, second = (np.cov(points, rowvar=False).reshape(points.shape[1], -1) for points in (one, other))
    values, vectors = np.linalg.eigh(first)
    root = vectors * np.sqrt(np.maximum(values, 0.0)) @ vectors.T
    cross = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ second @ root), 0.0)).sum()
    apart = float(((one.mean(axis=0) - other.mean(axis=0)) ** 2).sum())
    return max(0.0, apart + float(np.trace(first) + np.trace(second) - 2.0 * cross))


def windows(ear: Ear, waveform: Waveform) -> Floats:
    """(windows, 2 * bands) mean and spread of each band in windows of a quarter second, half overlapping.

    Without the silence at both ends; a clip gives one window at least.
    """
    spectrum = ear.spectrum(waveform[sounding_part(waveform)]).astype(np.float64)
    width = max(2, round(WINDOW_SECONDS * ear.sample_rate / ear.hop))
    starts = range(0, max(1, len(spectrum) - width + 1), max(1, width // 2))
    return np.array(
        [
            np.concatenate([part.mean(axis=0), part.std(axis=0)])
            for part in (spectrum[start : start + width] for start in starts)
        ]
    )


def changes(sample_rate: int) -> Iterator[tuple[str, Callable[[Waveform], Waveform]]]:
    """Known changes of a waveform, of each kind from weak to strong."""
    import librosa
    from scipy.signal import butter, sosfilt

    def noise(decibels: float) -> Callable[[Waveform], Waveform]:
        def add(waveform: Waveform) -> Waveform:
            part = waveform[sounding_part(waveform)]
            level = np.sqrt(np.mean(np.square(part, dtype=np.float64))) if len(part) else 0.0
            hiss = np.random.default_rng(0).standard_normal(len(waveform))
            noisy = waveform + level * 10.0 ** (-decibels / 20.0) * hiss
            return np.asarray(noisy, np.float32)

        return add

    def low_pass(share: float) -> Callable[[Waveform], Waveform]:
        sections = butter(8, share, output="sos")
        return lambda waveform: np.asarray(sosfilt(sections, waveform), np.float32)

    def shift(semitones: int) -> Callable[[Waveform], Waveform]:
        rate = sample_rate * 2.0 ** (-semitones / 12.0)  # played faster, as a tape
        return lambda waveform: librosa.resample(
            waveform, orig_sr=sample_rate, target_sr=round(rate), res_type="soxr_hq"
        )

    for decibels in NOISES_DB:
        yield f"noise {decibels:.0f} dB below", noise(decibels)
    for share in CUTS:
        yield f"low-pass at {share * sample_rate / 2:,.0f} Hz", low_pass(share)
    for semitones in SHIFTS:
        yield f"{semitones} semitone{'s' * (semitones > 1)} higher", shift(semitones)


def compare(
    ear: Ear,
    generated: Sequence[Waveform],
    held_out: Sequence[Waveform],
    others: Sequence[Sequence[Waveform]],
    tell: Tell,
) -> Distribution:
    """`generated` against `held_out`, with `others` (sets of real recordings) as the scale; all equally many."""
    altered = list(changes(ear.sample_rate))
    total = 2 + len(others) + len(altered)
    reference = _points(ear, held_out)
    tell(1, total)
    real = [_points(ear, each) for each in others]
    space = Space.fit(np.concatenate(real), COMPONENTS)
    axes = Space(space.mean, space.scale, _unit_variance(space, np.concatenate(real)))
    home = axes.place(reference)
    ours = _points(ear, generated)
    scale = []
    for place, (name, change) in enumerate(altered):
        tell(2 + len(others) + place, total)
        points = _points(ear, [change(waveform) for waveform in others[0]])
        scale.append(Known(name, frechet(axes.place(points), home)))
    bands = ear.band_centres
    return Distribution(
        clips=len(held_out),
        distance=frechet(axes.place(ours), home),
        real=tuple(frechet(axes.place(each), home) for each in real),
        scale=tuple(scale),
        quartiles=tuple(_quartiles(ear, generated, held_out)),
        spectrum_hz=tuple(bands.tolist()),
        spectrum=tuple(_mean_levels(ear, generated).tolist()),
        spectrum_real=tuple(_mean_levels(ear, held_out).tolist()),
    )


def _unit_variance(space: Space, points: Floats) -> Floats:
    deviations = space.place(points).std(axis=0)
    return np.asarray(space.axes / np.maximum(deviations, 1e-9))


def _points(ear: Ear, waveforms: Sequence[Waveform]) -> Floats:
    return np.concatenate([windows(ear, waveform) for waveform in waveforms])


def _mean_levels(ear: Ear, waveforms: Sequence[Waveform]) -> NDArray[np.float64]:
    """Mean power in each band over all frames, dB."""
    power = np.concatenate([10.0 ** (ear.spectrum(each[sounding_part(each)]) / 10.0) for each in waveforms])
    return np.asarray(10.0 * np.log10(np.maximum(power.mean(axis=0), 10.0 ** (FLOOR_DB / 10.0))), np.float64)


def _quartiles(ear: Ear, generated: Sequence[Waveform], real: Sequence[Waveform]) -> Iterator[Quartiles]:
    def seconds(waveform: Waveform) -> float:
        part = sounding_part(waveform)
        return float(part.stop - part.start) / ear.sample_rate

    def loudness(waveform: Waveform) -> float:
        part = waveform[sounding_part(waveform)]
        power = float(np.mean(np.square(part, dtype=np.float64))) if len(part) else 0.0
        return float(10.0 * np.log10(max(power, 10.0 ** (FLOOR_DB / 10.0))))

    def brightness(waveform: Waveform) -> float:
        power = 10.0 ** (ear.spectrum(waveform[sounding_part(waveform)]).astype(np.float64) / 10.0)
        return float((power.sum(axis=0) @ ear.band_centres) / power.sum())

    for name, unit, measure in (
        ("duration", "s", seconds), ("loudness", "dBFS", loudness), ("spectral centre", "Hz", brightness),
    ):  # fmt: skip
        both = [np.percentile([measure(each) for each in some], (25, 50, 75)) for some in (generated, real)]
        ours, theirs = (tuple(each.tolist()) for each in both)
        yield Quartiles(name, unit, ours, theirs)


def _three(values: tuple[float, float, float]) -> str:
    digits = 2 if max(map(abs, values)) < 10.0 else 0 if min(map(abs, values)) > 100.0 else 1
    return "  ".join(f"{value:,.{digits}f}" for value in values)
