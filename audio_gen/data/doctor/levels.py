"""Which field of the names explains how loud the recordings are: speaker, microphone, the player's hand."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import exp, log
from statistics import fmean, median

from audio_gen.data.doctor.measure import FileFacts
from audio_gen.data.doctor.names import NameField, Names


@dataclass(frozen=True)
class LevelField:
    """How peaks depend on one field. `share` of the variance of log peaks lies between its values."""

    name: str
    peaks: dict[str, float]
    """Median peak per value."""
    loudest: dict[str, float]
    """Largest peak per value: what a gain per value is set by."""
    share: float
    ratio: float
    """Loudest value's median peak over the quietest's."""
    follows: bool
    """The values are numbers and the level rises or falls with them: dynamics, which no gain may level out."""

    @property
    def stray(self) -> str | None:
        """The value whose loudest take stands farthest above its usual ones, if more than four times."""
        far = max(self.peaks, key=lambda value: self.loudest[value] / self.peaks[value])
        return far if self.loudest[far] > 4.0 * self.peaks[far] else None


def level_fields(files: Sequence[FileFacts], names: Names) -> list[LevelField]:
    """All label and velocity fields with values of at least 3 files, the most telling first."""
    fields = [_level_field(files, names, field) for field in names.of_role("label", "velocity")]
    return sorted((field for field in fields if field is not None), key=lambda field: -field.share)


def _level_field(files: Sequence[FileFacts], names: Names, field: NameField) -> LevelField | None:
    groups: defaultdict[str, list[float]] = defaultdict(list)
    for file, values in zip(files, names.values, strict=True):
        if values is not None and file.peak >= 0.001 and not file.fault:
            groups[values[field.name]].append(log(file.peak))
    groups = defaultdict(list, {value: logs for value, logs in groups.items() if len(logs) >= 3})
    if len(groups) < 2:
        return None
    everything = [peak for logs in groups.values() for peak in logs]
    middle = fmean(everything)
    total = sum((peak - middle) ** 2 for peak in everything)
    between = sum(len(logs) * (fmean(logs) - middle) ** 2 for logs in groups.values())
    peaks = {value: float(median(map(exp, groups[value]))) for value in field.counts if value in groups}
    loudest = {value: exp(max(groups[value])) for value in peaks}
    ratio = max(peaks.values()) / min(peaks.values())
    follows = (field.role == "velocity" and ratio > 1.5) or _monotone(peaks)
    return LevelField(field.name, peaks, loudest, between / total if total > 0 else 0.0, ratio, follows)


def _monotone(peaks: dict[str, float]) -> bool:
    """At least 4 numbers whose levels rise or fall all the way, and at least twofold."""
    if len(peaks) < 4 or not all(value.isascii() and value.isdigit() for value in peaks):
        return False
    ordered = [peaks[value] for value in sorted(peaks, key=int)]
    rises = [after > before for before, after in pairwise(ordered)]
    return (all(rises) or not any(rises)) and max(ordered) > 2 * min(ordered)
