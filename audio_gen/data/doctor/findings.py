"""What the rules of the doctor look at, and what they give."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

from audio_gen.data.doctor.levels import LevelField
from audio_gen.data.doctor.measure import FileFacts
from audio_gen.data.doctor.names import Names

Severity = Literal["error", "warning", "hint"]

SHORT_SECONDS = 10.0
"""Recordings shorter than this, in the median, are clips: hits, notes, words, sentences."""
PIECE_SECONDS = 20.0
"""Recordings longer than this, in the median, are pieces or textures."""


@dataclass(frozen=True)
class Advice:
    """One thing found: `code` for programs, `sentence` for people, `files` by name where it is about "
    "files."""

    code: str
    severity: Severity
    sentence: str
    files: tuple[str, ...] = ()


@dataclass(frozen=True)
class Findings:
    """What the rules look at: all files, the usable ones, and what names and levels say."""

    files: Sequence[FileFacts]
    usable: Sequence[FileFacts]
    names: Names
    levels: Sequence[LevelField]
    """Fields of the names by how much of the level they explain, most first."""

    @property
    def seconds(self) -> float:
        """Total length of the usable files, s."""
        return sum(f.seconds for f in self.usable)

    @property
    def typical_seconds(self) -> float:
        """Median length of the usable files, s."""
        return median(f.seconds for f in self.usable)

    def which(self, chosen: Sequence[FileFacts]) -> str:
        """ " (speaker nicolas)" if `chosen` are mostly all the files of one value of a field, else ""."""
        names = {f.name for f in chosen}
        for field in self.names.of_role("label"):
            totals: Counter[str] = Counter()
            hits: Counter[str] = Counter()
            for f, values in zip(self.files, self.names.values, strict=True):
                if values is not None:
                    totals[values[field.name]] += 1
                    hits[values[field.name]] += f.name in names
            if hits:
                value, count = max(hits.items(), key=lambda item: item[1])
                if count > 2 and count >= 0.9 * len(names) and count >= 0.7 * totals[value]:
                    return f" ({field.name} {value})"
        return ""


def count(number: int, noun: str = "file") -> str:
    """ "1 file", "12 files"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def files_of(chosen: Iterable[FileFacts]) -> tuple[str, ...]:
    """Their names."""
    return tuple(f.name for f in chosen)
