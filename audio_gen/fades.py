"""Fades: a number that a player turns while a take runs.

parse_fade("0.7@0,1.2@20", "temperature")          # from one to the next, in straight lines
parse_fade("wilder.csv", "temperature")            # rows of seconds,value
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TypeAlias, Union

import numpy as np

from audio_gen.errors import ControlError, SettingError
from audio_gen.moments import read_moments

Number: TypeAlias = Union[float, str, Sequence[tuple[float, float]], "Fade"]
"""What a setting may be: a number, a text as `parse_fade` reads it, or numbers by the second."""


@dataclass(frozen=True)
class Fade:
    """Numbers at moments, joined by straight lines, constant beyond the ends.

    Raises SettingError for moments that do not ascend and for what is not finite.

    >>> wilder = Fade((0.0, 20.0), (0.7, 1.2))
    >>> str(wilder), round(wilder.at(10.0), 6), wilder.at(30.0)
    ('0.7@0,1.2@20', 0.95, 1.2)
    """

    seconds: tuple[float, ...]
    values: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.seconds or len(self.seconds) != len(self.values):
            raise SettingError("what changes over time needs a moment, and a number at each moment")
        if not all(map(math.isfinite, (*self.seconds, *self.values))):
            raise SettingError(f"moments and numbers must be finite, got {self}")
        if any(after <= before for before, after in pairwise(self.seconds)):
            raise SettingError(f"moments must ascend, got {self}")

    @property
    def end(self) -> float:
        """Seconds, of the last number."""
        return self.seconds[-1]

    def at(self, second: float) -> float:
        """The number at a moment."""
        return float(np.interp(second, self.seconds, self.values))

    def shifted(self, seconds: float) -> "Fade":
        """The same, so much later."""
        return replace(self, seconds=tuple(second + seconds for second in self.seconds))

    def __str__(self) -> str:
        """As a player writes it."""
        pairs = zip(self.values, self.seconds, strict=True)
        return ",".join(f"{written(value)}@{written(second)}" for value, second in pairs)


def parse_fade(asked: Number, name: str) -> float | Fade:
    """What the setting `name` is asked to be: a number; or, where it changes, "0.7@0,1.2@20", or FILE.csv of rows
    seconds,value, ascending, whose first may be of names; or (second, number) pairs. Raises SettingError.

    >>> parse_fade("0.9", "temperature"), parse_fade([(0, 1), (2.5, 0.5)], "temperature")
    (0.9, Fade(seconds=(0.0, 2.5), values=(1.0, 0.5)))
    """
    if isinstance(asked, Fade):
        return asked
    try:
        if isinstance(asked, str) and asked.lower().endswith(".csv"):
            pairs = [*read_moments(Path(asked), float, "numbers over time", "a number")]
        elif isinstance(asked, str) and "@" in asked:
            pairs = [_pair(part) for part in asked.split(",")]
        elif isinstance(asked, int | float | str):
            return float(asked)
        else:
            pairs = [(float(second), float(value)) for second, value in asked]
        return Fade(tuple(second for second, _ in pairs), tuple(value for _, value in pairs))
    except (ControlError, SettingError) as error:
        raise SettingError(f"{name}: {error}") from None
    except (TypeError, ValueError):
        raise SettingError(
            f"{name} must be a number, or numbers at seconds such as 0.7@0,1.2@20, got {asked!r}"
        ) from None


def _pair(text: str) -> tuple[float, float]:
    """(second, number) of "1.2@20". Raises ValueError."""
    value, _, second = text.partition("@")
    return float(second), float(value)


def written(number: float) -> str:
    """As short as it can be and still be read back: 20, 0.7."""
    return np.format_float_positional(number, trim="-")
