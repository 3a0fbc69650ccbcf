"""Copies of recordings, and the figures that say how near they come."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from audio_gen.evaluation.resemblance import Resemblance, band
from audio_gen.evaluation.speech import word_errors

WORDS = "words"
"""The measure beside those of `Resemblance`: the share of words that are misunderstood."""
NAMES = {
    "pesq": "PESQ",
    "stoi": "STOI",
    "cepstral": "mel-cepstral distance",
    "pitch": "pitch error",
    "voicing": "voicing error",
    WORDS: "word error rate",
}
UNITS = {"cepstral": "dB", "pitch": "cents", "voicing": "%", WORDS: "%"}
DIGITS = {"pesq": 2, "stoi": 3, "cepstral": 2}
"""After the point; 1 elsewhere."""
HIGHER_IS_BETTER = ("pesq", "stoi")


@dataclass(frozen=True)
class Words:
    """What a recogniser understood."""

    said: str
    copy: str
    codec: str
    """Of the recording through the codec."""
    count: int
    """Words said."""
    copy_errors: int
    codec_errors: int


@dataclass(frozen=True)
class Copy:
    """One recording, made again from its own curves."""

    source: str
    labels: dict[str, str]
    seconds: float
    resemblance: Resemblance
    """Of the copy to the recording through the codec."""
    codec: Resemblance | None = None
    """Of the recording through the codec to the recording; None if that is not at hand."""
    words: Words | None = None

    def understood(self, said: Sequence[str], copy: Sequence[str], codec: Sequence[str]) -> "Copy":
        """With the words said, heard in the copy, and heard in the recording through the codec."""
        errors = (word_errors(said, copy), word_errors(said, codec))
        return replace(self, words=Words(" ".join(said), " ".join(copy), " ".join(codec), len(said), *errors))

    def value(self, measure: str) -> float:
        """Of the copy; NaN if it was not measured."""
        if measure == WORDS:
            return self.words.copy_errors / self.words.count if self.words is not None else math.nan
        return float(getattr(self.resemblance, measure))

    def codec_value(self, measure: str) -> float:
        """Of the codec alone; NaN if it was not measured."""
        if measure == WORDS:
            return self.words.codec_errors / self.words.count if self.words is not None else math.nan
        return math.nan if self.codec is None else float(getattr(self.codec, measure))


@dataclass(frozen=True)
class Figure:
    """One measure over all copies."""

    measure: str
    title: str
    """With its unit."""
    count: int
    """Copies that it could be measured of."""
    mean: float
    """Shares of 1 where the title says %. Of words: of all together."""
    worst: float
    worst_source: str
    codec_alone: float
    """Mean; NaN where the recordings are not at hand."""

    def written(self, value: float) -> str:
        """A value without its unit; "" for NaN."""
        if math.isnan(value):
            return ""
        return f"{self.scaled(value):.{DIGITS.get(self.measure, 1)}f}"

    def scaled(self, value: float) -> float:
        """A value in the unit of the title."""
        return 100.0 * value if UNITS.get(self.measure) == "%" else value


def figures(copies: Sequence[Copy], sample_rate: int) -> list[Figure]:
    """The measures that any of the copies has, most telling first."""
    found = []
    for measure in NAMES:
        known = sorted(copies, key=lambda each: badness(measure, each.value(measure)))
        known = [each for each in known if not math.isnan(each.value(measure))]
        if not known:
            continue
        worst = known[-1]
        mean = float(np.mean([each.value(measure) for each in known]))
        alone = [each.codec_value(measure) for each in known if not math.isnan(each.codec_value(measure))]
        codec_alone = float(np.mean(alone)) if alone else math.nan
        if measure == WORDS:
            told = [each.words for each in known if each.words is not None]
            count = sum(each.count for each in told)
            mean = sum(each.copy_errors for each in told) / count
            codec_alone = sum(each.codec_errors for each in told) / count
        found.append(
            Figure(
                measure, _title(measure, sample_rate), len(known), mean, worst.value(measure), worst.source,
                codec_alone,
            )
        )  # fmt: skip
    return found


def badness(measure: str, value: float) -> float:
    """What sorts values of a measure from the best to the worst; what was not measured comes first."""
    if math.isnan(value):
        return -math.inf
    return -value if measure in HIGHER_IS_BETTER else value


def _title(measure: str, sample_rate: int) -> str:
    name = f"PESQ, {band(sample_rate)} band" if measure == "pesq" else NAMES[measure]
    return f"{name}, {UNITS[measure]}" if measure in UNITS else name
