"""Whether generated clips are what was asked for, by the judgement of a recogniser that heard only real recordings.

A support vector machine on cepstral statistics (`Ear.statistics`) learns each label from training recordings.
Held-out recordings show what it is worth, and chance what it would reach by guessing. How much clips of one
label vary among themselves is measured in the principal components of the same statistics. Needs scikit-learn.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from audio_gen.controls import natural_key
from audio_gen.evaluation.blocks import Bar, Bars, Matrix, Section, Table, percent
from audio_gen.evaluation.loudness import Labels, Loudness, loudest
from audio_gen.evaluation.spectra import Ear, Floats, Waveform

COMPONENTS = 24
LIKELY = 1.96  # standard deviations: the interval holds the true rate 19 times in 20
PENALTY = 10.0  # of the support vector machine


@dataclass(frozen=True)
class Rate:
    """How many of how many."""

    hits: int
    of: int

    @property
    def share(self) -> float:
        return self.hits / max(1, self.of)

    @property
    def interval(self) -> tuple[float, float]:
        """Where the true rate probably lies (Wilson 1927)."""
        n, p, z = max(1, self.of), self.share, LIKELY
        centre, reach = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        return (centre - reach) / (1 + z * z / n), (centre + reach) / (1 + z * z / n)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{percent(self.share)} of {self.of:,} ({100 * low:.1f} to {100 * high:.1f})"


@dataclass(frozen=True)
class LabelRecognition:
    """One label, as the recogniser hears it."""

    label: str
    values: tuple[str, ...]
    generated: Rate
    real: Rate
    """Held-out recordings."""
    chance: float
    """By always guessing the commonest value."""
    heard: tuple[tuple[int, ...], ...]
    """(asked, heard) counts of generated clips."""
    heard_real: tuple[tuple[int, ...], ...]
    spread: tuple[float, ...]
    """By value: mean distance between generated clips, 1 where it is that between training clips."""
    spread_real: tuple[float, ...]
    """The same of held-out clips. NaN where there are fewer than two clips."""
    loudness: Loudness | None
    """By its values, where they are numbers and recordings have them in order."""


@dataclass(frozen=True)
class Recognition:
    """All labels; and how much clips of the very same labels vary."""

    labels: tuple[LabelRecognition, ...]
    trained_on: int
    clips: int
    spread: float
    """Mean distance between generated clips that share all their labels, 1 where it is that of training clips."""
    spread_real: float
    """The same of held-out clips."""

    def section(self) -> Section:
        sentences = [
            f"A recogniser that learned from {self.trained_on:,} real training recordings hears {self.clips:,} "
            "generated clips:"
        ]
        for each in self.labels:
            sentences.append(
                f"{each.label}: {each.generated} are what was asked for. Of held-out recordings it recognises "
                f"{each.real}; guessing would reach {percent(each.chance)}."
            )
            if each.loudness is not None:
                sentences.append(each.loudness.sentence)
        if not math.isnan(self.spread):
            held = "" if math.isnan(self.spread_real) else f"; held-out ones by {self.spread_real:.2f}"
            sentences.append(
                f"Clips of the same labels differ by {self.spread:.2f} of what training recordings of the "
                f"same labels differ{held}. Well below 1 there is little variety, well above 1 the clips scatter."
            )
        blocks: list[Bars | Matrix | Table] = []
        for each in self.labels:
            blocks.append(_bars(each))
            blocks.append(_by_value(each))
            if each.loudness is not None:
                blocks.append(each.loudness.table())
            blocks.append(
                _matrix(f"{each.label} asked for (rows) and heard (columns), generated, %", each, each.heard)
            )
            blocks.append(
                _matrix(f"{each.label} true (rows) and heard (columns), held out, %", each, each.heard_real)
            )
        return Section("Recognisability", tuple(sentences), tuple(blocks))


class Recogniser:
    """Hears one label's values in statistics of clips."""

    def __init__(self, statistics: Floats, values: Sequence[str]) -> None:
        """Learns from `statistics` (clips, features) and what each clip is; two values at least."""
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
        from sklearn.svm import SVC

        self._machine: Any = make_pipeline(StandardScaler(), SVC(C=PENALTY))
        self._machine.fit(statistics, list(values))

    def hear(self, statistics: Floats) -> list[str]:
        """The likeliest value of each clip."""
        return [str(value) for value in self._machine.predict(statistics)] if len(statistics) else []


@dataclass(frozen=True)
class Space:
    """Where clips lie: the principal components of real training clips, each with its own scale."""

    mean: Floats
    scale: Floats
    axes: Floats
    """(features, components)"""

    @classmethod
    def fit(cls, statistics: Floats, components: int = COMPONENTS) -> Self:
        mean, scale = statistics.mean(axis=0), np.maximum(statistics.std(axis=0), 1e-6)
        _, _, axes = np.linalg.svd((statistics - mean) / scale, full_matrices=False)
        return cls(mean, scale, axes[:components].T)

    def place(self, statistics: Floats) -> Floats:
        """(clips, components)"""
        return np.asarray((statistics - self.mean) / self.scale @ self.axes)


@dataclass(frozen=True)
class Heard:
    """Clips as the recogniser gets them."""

    statistics: Floats
    """(clips, features)"""
    loudness: Floats
    """`loudest` of each, (clips,); NaN of what follows the beginning of a recording."""
    labels: Labels

    @classmethod
    def of(
        cls, ear: Ear, waveforms: Iterable[Waveform], labels: Labels, starts: Sequence[int] | None = None
    ) -> Self:
        """As `ear` hears them. `starts`: samples into their recordings at which they begin, if not all at 0."""
        statistics, loudness = [], []
        for waveform in waveforms:
            statistics.append(ear.statistics(waveform))
            loudness.append(loudest(waveform, ear.sample_rate))
        later = np.zeros(len(labels), np.bool_) if starts is None else np.array(starts) > 0
        return cls(np.array(statistics), np.where(later, math.nan, loudness), labels)


def recognise(train: Heard, real: Heard, generated: Heard, vocabulary: Sequence[str]) -> Recognition | None:
    """What becomes of each label of `vocabulary` that has two values or more; None if there is none such."""
    space = Space.fit(train.statistics)
    points = [space.place(each.statistics) for each in (train, real, generated)]
    found = []
    for label in vocabulary:
        known = [place for place, labels in enumerate(train.labels) if label in labels]
        values = sorted({train.labels[place][label] for place in known}, key=natural_key)
        if len(values) >= 2:
            recogniser = Recogniser(train.statistics[known], [train.labels[place][label] for place in known])
            found.append(_judge(label, values, recogniser, (train, real, generated), points))
    if not found:
        return None
    keys = [[tuple(sorted(labels.items())) for labels in each.labels] for each in (train, real, generated)]
    spreads = [_spread(where, key, keys[2]) for where, key in zip(points, keys, strict=True)]
    return Recognition(
        tuple(found), len(train.labels), len(generated.labels),
        spreads[2] / spreads[0], spreads[1] / spreads[0],
    )  # fmt: skip


def _judge(
    label: str,
    values: list[str],
    recogniser: Recogniser,
    sets: tuple[Heard, Heard, Heard],
    points: list[Floats],
) -> LabelRecognition:
    counts, common = [], 0
    for each in sets[1:]:
        known = [place for place, labels in enumerate(each.labels) if label in labels]
        asked = [each.labels[place][label] for place in known]
        heard = recogniser.hear(each.statistics[known])
        pairs = Counter(zip(asked, heard, strict=True))
        counts.append(np.array([[pairs[row, column] for column in values] for row in values]))
        common = max([common, *Counter(asked).values()]) if each is sets[1] else common
    real, ours = counts
    spreads = np.array([[_within(where, each, label, value) for value in values]
                        for where, each in zip(points, sets, strict=True)])  # fmt: skip
    return LabelRecognition(
        label=label,
        values=tuple(values),
        generated=_rate(ours),
        real=_rate(real),
        chance=common / max(1, int(real.sum())) if real.sum() else 1.0 / len(values),
        heard=tuple(map(tuple, ours.tolist())),
        heard_real=tuple(map(tuple, real.tolist())),
        spread=tuple((spreads[2] / spreads[0]).tolist()),
        spread_real=tuple((spreads[1] / spreads[0]).tolist()),
        loudness=Loudness.of(
            label,
            (sets[2].labels, sets[2].loudness),
            ([*sets[0].labels, *sets[1].labels], np.concatenate([sets[0].loudness, sets[1].loudness])),
        ),
    )


def _rate(counts: NDArray[np.integer]) -> Rate:
    return Rate(int(np.trace(counts)), int(counts.sum()))


def _within(points: Floats, clips: Heard, label: str, value: str) -> float:
    return mean_distance(points[[labels.get(label) == value for labels in clips.labels]])


def _spread(points: Floats, keys: Sequence[Any], wanted: Sequence[Any]) -> float:
    """Mean distance between clips that share all labels, over the combinations in `wanted`."""
    distances = [mean_distance(points[[key == each for key in keys]]) for each in sorted(set(wanted))]
    some = [distance for distance in distances if not math.isnan(distance)]
    return math.fsum(some) / len(some) if some else math.nan


def mean_distance(points: Floats) -> float:
    """Mean distance between two different ones of `points` (clips, components); NaN if there are not two."""
    if len(points) < 2:
        return math.nan
    squares = (points**2).sum(axis=1)
    apart = np.sqrt(np.maximum(squares[:, None] + squares - 2.0 * points @ points.T, 0.0))
    np.fill_diagonal(apart, 0.0)
    return float(apart.sum() / (len(points) * (len(points) - 1)))


def _bars(each: LabelRecognition) -> Bars:
    return Bars(
        f"{each.label} recognised, %",
        (
            Bar("guessing", each.chance, f"{100 * each.chance:.1f}"),
            Bar("generated", each.generated.share, f"{100 * each.generated.share:.1f}", "ours"),
            Bar("held-out recordings", each.real.share, f"{100 * each.real.share:.1f}", "real"),
        ),
    )


def _by_value(each: LabelRecognition) -> Table:
    rows = []
    for place, value in enumerate(each.values):
        rates = [Rate(counts[place][place], sum(counts[place])) for counts in (each.heard, each.heard_real)]
        shares = [f"{rate.hits} of {rate.of}" for rate in rates]
        spreads = [_number(spread[place]) for spread in (each.spread, each.spread_real)]
        rows.append((value, *shares, *spreads))
    names = (each.label, "generated", "held out", "variety", "held out")
    return Table(
        f"{each.label}: recognised, and variety within the value (1 is that of training recordings)",
        names, tuple(rows),
    )  # fmt: skip


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.2f}"


def _matrix(caption: str, each: LabelRecognition, counts: tuple[tuple[int, ...], ...]) -> Matrix:
    shares = tuple(tuple(count / max(1, sum(row)) for count in row) for row in counts)
    return Matrix(caption, each.values, each.values, shares)
