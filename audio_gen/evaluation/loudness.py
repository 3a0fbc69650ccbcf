"""Whether what was asked for as louder is louder: loudness by a label whose values are numbers, such as velocity.

Clips are compared with those of the same other labels alone, since a soft kick may be louder than a hard hi-hat, and
their mean by value, since no two hits are alike. What follows the beginning of a recording does not count: it is how a
hit fades.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from audio_gen.controls import natural_key
from audio_gen.evaluation.blocks import Table
from audio_gen.evaluation.spectra import FLOOR_DB, Floats, Waveform

BLOCK_SECONDS = 0.05
ORDERLY = 0.5
"""A label is no order of loudness if recordings themselves have a smaller rank correlation."""

Labels = Sequence[dict[str, str]]
Levels = tuple[float, ...]


def loudest(waveform: Waveform, sample_rate: int) -> float:
    """RMS of the loudest 50 ms of a waveform (time,), dBFS.

    >>> round(loudest(np.array([0.0] * 400 + [0.1] * 400, np.float32), 8000), 1)
    -20.0
    """
    block = max(2, round(BLOCK_SECONDS * sample_rate))
    sums = np.concatenate([[0.0], np.cumsum(np.square(waveform, dtype=np.float64))])
    starts = np.arange(0, max(1, len(waveform) - block + 1), block // 2)
    stops = np.minimum(starts + block, len(waveform))
    power = float(np.max((sums[stops] - sums[starts]) / block))
    return 10.0 * math.log10(max(power, 10.0 ** (FLOOR_DB / 10.0)))


@dataclass(frozen=True)
class Group:
    """Clips that share all labels but the one in question."""

    name: str
    levels: Levels
    """By value: mean of `loudest` over generated clips, dBFS; NaN where there are none."""
    levels_real: Levels
    """The same of recordings."""
    order: float
    """Rank correlation of value and mean level; NaN where fewer than three values were generated."""
    order_real: float

    @property
    def ranked(self) -> bool:
        """Whether both orders are known."""
        return not math.isnan(self.order + self.order_real)


@dataclass(frozen=True)
class Loudness:
    """By one label."""

    label: str
    values: tuple[str, ...]
    groups: tuple[Group, ...]
    order: float
    """Mean rank correlation of the groups that have one."""
    order_real: float

    @classmethod
    def of(cls, label: str, generated: tuple[Labels, Floats], real: tuple[Labels, Floats]) -> Self | None:
        """`generated` and `real`: labels of clips, and their `loudest` (clips,), NaN where it does not count. None if
        the values of the label are no numbers, are too few, or say nothing about the loudness of recordings."""
        known = {labels[label] for labels in real[0] if label in labels}
        if len(known) < 3 or not all(value.isdecimal() for value in known):
            return None
        values = tuple(sorted(known, key=natural_key))
        ours, theirs = (_by_group(label, values, *each) for each in (generated, real))
        groups = [
            Group(name, ours[name], levels, _order(ours[name]), _order(levels))
            for name, levels in theirs.items()
            if name in ours
        ]
        ranked = [each for each in groups if each.ranked]
        if not ranked:
            return None
        order, order_real = (
            math.fsum(each) / len(ranked)
            for each in ([group.order for group in ranked], [group.order_real for group in ranked])
        )
        return cls(label, values, tuple(groups), order, order_real) if order_real >= ORDERLY else None

    @property
    def sentence(self) -> str:
        return (
            f"Mean loudness (of the loudest 50 ms) rises with {self.label} with a rank correlation of "
            f"{self.order:.2f}, the mean of {sum(each.ranked for each in self.groups)} groups of clips of the same "
            f"other labels; of {self.order_real:.2f} in recordings."
        )

    def table(self) -> Table:
        rows = []
        for each in self.groups:
            rows.append((f"{each.name}, generated", *map(_number, each.levels), _rank(each.order)))
            rows.append((f"{each.name}, recordings", *map(_number, each.levels_real), _rank(each.order_real)))
        return Table(
            f"Mean loudness of the loudest 50 ms by {self.label}, dBFS, and its rank correlation",
            ("", *self.values, "order"),
            tuple(rows),
        )


def rank_correlation(one: Floats, other: Floats) -> float:
    """Spearman's, ties sharing their mean rank; NaN where one of them is constant."""
    from scipy.stats import rankdata

    first, second = rankdata(one), rankdata(other)
    if len(first) < 2 or np.ptp(first) == 0.0 or np.ptp(second) == 0.0:
        return math.nan
    return float(np.corrcoef(first, second)[0, 1])


def _by_group(label: str, values: Sequence[str], clips: Labels, levels: Floats) -> dict[str, Levels]:
    """Mean level by value, of each set of other labels."""
    groups: dict[str, dict[str, list[float]]] = {}
    for labels, level in zip(clips, levels, strict=True):
        if label in labels and not math.isnan(level):
            name = ", ".join(value for key, value in sorted(labels.items()) if key != label) or "all"
            groups.setdefault(name, {}).setdefault(labels[label], []).append(float(level))
    return {
        name: tuple(math.fsum(by[value]) / len(by[value]) if value in by else math.nan for value in values)
        for name, by in sorted(groups.items(), key=lambda item: natural_key(item[0]))
    }


def _order(levels: Levels) -> float:
    there = [(place, level) for place, level in enumerate(levels) if not math.isnan(level)]
    return rank_correlation(*np.array(there).T) if len(there) >= 3 else math.nan


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.1f}"


def _rank(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.2f}"
