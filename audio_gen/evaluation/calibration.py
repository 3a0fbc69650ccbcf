"""Whether a model means what it says: are events that it calls likely as frequent as it says?

Two places are noted of every token, each spread evenly over [0, 1] where the predictions are right (Dawid 1984;
for discrete values as Czado, Gneiting and Held 2009 do it): where the token lies in the predicted distribution from
the lowest amplitude to the highest, and how much probability the tokens likelier than it hold. The first shows
predictions that lean or are too narrow; the second is the coverage of the likeliest tokens, which is what top-p
cuts. The same predictions at other temperatures show what too bold and too timid would look like.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audio_gen.evaluation.blocks import Bar, Bars, Histogram, Lines, Section, Series

Floats = NDArray[np.float64]
EDGES = np.linspace(0.0, 1.0, 21)
TEMPERATURES = (1.0, 0.8, 1.25)
"""The model as it is, and two that it is held against."""
LEVELS = (0.5, 0.8, 0.9, 0.95)
"""Of coverage, that are shown as figures."""
FAIR = 0.02  # of coverage, that a reader need not care about


@dataclass(frozen=True)
class Tally:
    """Sums over tokens; those of several clips may be added."""

    tokens: int
    entropy: float
    """Bits that the model expected to pay."""
    paid: float
    """Bits that it did pay."""
    amplitude: Floats
    """(edges,) expected number of tokens that lie at most so high in their distribution."""
    coverage: Floats
    """(temperatures, edges) expected number of tokens among the likeliest that hold so much."""

    @classmethod
    def sum(cls, tallies: Sequence["Tally"]) -> "Tally":
        return cls(
            sum(each.tokens for each in tallies),
            math.fsum(each.entropy for each in tallies),
            math.fsum(each.paid for each in tallies),
            np.sum([each.amplitude for each in tallies], axis=0),
            np.sum([each.coverage for each in tallies], axis=0),
        )


def tally(logits: NDArray[np.floating], tokens: NDArray[np.integer]) -> Tally:
    """What predictions (time, levels) make of `tokens` (time,)."""
    place = tokens.astype(np.int64)[:, None]
    coverage = []
    for temperature in TEMPERATURES:
        scores = logits.astype(np.float64) / temperature
        odds = np.exp(scores - scores.max(axis=1, keepdims=True))
        odds /= odds.sum(axis=1, keepdims=True)
        own = np.take_along_axis(odds, place, 1)
        likelier = np.where(odds > own, odds, 0.0).sum(axis=1)
        coverage.append(_below(likelier, np.minimum(own[:, 0], 1.0 - likelier)))
        if temperature == 1.0:
            paid = float(-np.log2(np.maximum(own, 1e-300)).sum())
            entropy = float(-(odds * np.log2(np.maximum(odds, 1e-300))).sum())
            lower = np.where(np.arange(odds.shape[1]) < place, odds, 0.0).sum(axis=1)
            amplitude = _below(lower, own[:, 0])
    return Tally(len(tokens), entropy, paid, amplitude, np.array(coverage))


def _below(start: Floats, width: Floats) -> Floats:
    """(edges,) how many of the intervals [start, start + width] lie below each edge, parts counted as parts."""
    shares = (EDGES - start[:, None]) / np.maximum(width, 1e-12)[:, None]
    return np.asarray(np.clip(shares, 0.0, 1.0).sum(axis=0))


@dataclass(frozen=True)
class Calibration:
    """Predicted probabilities held against what came."""

    tokens: int
    expected_bits: float
    """Per sample, by the model's own account: its mean entropy."""
    paid_bits: float
    amplitude: tuple[float, ...]
    """Share of tokens in each twentieth of their predicted distributions; 0.05 each where it is right."""
    coverage: dict[str, tuple[float, ...]]
    """By temperature: share of tokens among the likeliest that hold 0, 0.05 ... 1 of the probability."""
    off: dict[str, float]
    """By temperature: how far coverage is off, on average; 0 where it is right."""

    @classmethod
    def of(cls, total: Tally) -> "Calibration":
        curves = total.coverage / total.tokens
        off = np.abs(curves - EDGES).mean(axis=1)
        names = [f"{temperature:g}" for temperature in TEMPERATURES]
        return cls(
            total.tokens,
            total.entropy / total.tokens,
            total.paid / total.tokens,
            tuple((np.diff(total.amplitude) / total.tokens).tolist()),
            {name: tuple(curve.tolist()) for name, curve in zip(names, curves, strict=True)},
            dict(zip(names, off.tolist(), strict=True)),
        )

    def covered(self, level: float, temperature: str = "1") -> float:
        """The share of tokens among the likeliest that hold `level` of the probability."""
        return float(np.interp(level, EDGES, self.coverage[temperature]))

    def section(self) -> Section:
        gap = self.paid_bits - self.expected_bits
        lean = "is surer than it should be" if gap > 0 else "is less sure than it could be"
        sentences = [
            f"The model expects to pay {self.expected_bits:.3f} bits per sample and pays {self.paid_bits:.3f}: "
            + ("it knows how sure it may be." if abs(gap) < FAIR else f"it {lean}, by {abs(gap):.3f} bits."),
            "Of the real samples, so many lie among the likeliest that should hold "
            + ", ".join(f"{100 * level:.0f} %: {100 * self.covered(level):.1f} %" for level in LEVELS)
            + ".",
        ]
        kinds = {"1": "ours"}
        ideal = Series("right", (0.0, 1.0), (0.0, 1.0), "real")
        lines = [
            Series(
                "the model" if name == "1" else f"the model at temperature {name}",
                tuple(EDGES.tolist()), curve, "ours" if name in kinds else "scale",
            )
            for name, curve in self.coverage.items()
        ]  # fmt: skip
        bars = [
            Bar(
                "the model" if name == "1" else f"temperature {name}",
                off, f"{100 * off:.2f}", "ours" if name in kinds else "scale",
            )
            for name, off in self.off.items()
        ]  # fmt: skip
        flat = tuple([1.0 / (len(EDGES) - 1)] * (len(EDGES) - 1))
        return Section(
            "Calibration of the predictions",
            tuple(sentences),
            (
                Bars("coverage is off by, in percentage points on average (0 is right)", tuple(bars)),
                Lines("Coverage", "probability of the likeliest", "real samples among them", (ideal, *lines)),
                Histogram(
                    "Where real samples lie in their predicted distributions; even is right",
                    "from the lowest amplitude to the highest",
                    tuple(EDGES.tolist()),
                    (("the model", "ours", self.amplitude), ("right", "real", flat)),
                ),
            ),
        )
