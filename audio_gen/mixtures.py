"""Mixtures: what a label is asked for where one value is not all.

    parse_mixture("texture", "rain:0.7+waves:0.3", values)          # seven parts of rain, three of waves
    parse_mixture("texture", "rain@0,waves@20,fire@40", values)     # from one to the next, in straight lines

A model knows each value as a vector that steers all its layers. Between two vectors there are others.
"""

import math
import re
from bisect import bisect_right
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias, Union

import numpy as np
from numpy.typing import NDArray

from audio_gen.controls import check_label, check_value
from audio_gen.errors import ControlError
from audio_gen.fades import written
from audio_gen.moments import read_moments

Blend: TypeAlias = str | Mapping[str, float]
"""One value, or how much of each."""
Label: TypeAlias = Union[Blend, Sequence[tuple[float, Blend]], "Mixture"]
"""What a label may be asked for: a blend, or blends by the second."""


@dataclass(frozen=True)
class Mixture:
    """Blends of a label's values at moments, joined by straight lines, constant beyond the ends.

    Raises ControlError for moments that do not ascend and for weights that are no numbers above 0.

    >>> fade = Mixture((0.0, 20.0), ({"rain": 1.0}, {"waves": 3.0, "fire": 1.0}))
    >>> str(fade), fade.shares(10.0, ["fire", "rain", "waves"]).tolist()
    ('rain@0,waves:3+fire:1@20', [0.0, 0.125, 0.5, 0.375])
    """

    seconds: tuple[float, ...]
    blends: tuple[Mapping[str, float], ...]
    """Value: weight, of each moment. What counts is the ratio of the weights; that of a value alone is 1."""

    def __post_init__(self) -> None:
        if not self.seconds or len(self.seconds) != len(self.blends) or not all(self.blends):
            raise ControlError("a mixture needs a moment, and a value at each moment")
        for value, weight in (pair for blend in self.blends for pair in blend.items()):
            if not 0.0 < weight < math.inf:
                raise ControlError(f"the weight of {value!r} must be a number above 0, got {weight:g}")
        last = -math.inf
        for second in self.seconds:
            if not last < second < math.inf:
                raise ControlError(f"moments must ascend, all be finite, got {second:g} s after {last:g} s")
            last = second
        alone = tuple(blend if len(blend) > 1 else dict.fromkeys(blend, 1.0) for blend in self.blends)
        object.__setattr__(self, "blends", alone)

    @property
    def changes(self) -> bool:
        return len(self.seconds) > 1

    def shares(self, second: float, values: Sequence[str]) -> NDArray[np.float64]:
        """How much there is of none and of each of `values` at a moment (1 + values,); together 1."""
        after = bisect_right(self.seconds, second)
        before = max(0, after - 1)
        shares = _shares(self.blends[before], values)
        if before == after or after == len(self.seconds):
            return shares
        passed = (second - self.seconds[before]) / (self.seconds[after] - self.seconds[before])
        return shares + passed * (_shares(self.blends[after], values) - shares)

    def __str__(self) -> str:
        """As a player writes it."""
        texts = [
            "+".join(f"{value}:{written(weight)}" for value, weight in blend.items())
            if len(blend) > 1
            else next(iter(blend))
            for blend in self.blends
        ]
        if not self.changes:
            return texts[0]
        return ",".join(f"{text}@{written(second)}" for text, second in zip(texts, self.seconds, strict=True))


def _shares(blend: Mapping[str, float], values: Sequence[str]) -> NDArray[np.float64]:
    shares = np.zeros(1 + len(values))
    for value, weight in blend.items():
        shares[1 + values.index(value)] = weight
    whole: NDArray[np.float64] = shares / shares.sum()
    return whole


def parse_mixture(name: str, asked: Label, values: Sequence[str]) -> Mixture:
    """What the label `name`, which knows `values`, is asked for. A text is the first of these that it can be:

    - one of the values;
    - FILE.csv, of rows seconds,blend, ascending; a first row of names is skipped;
    - blends at moments: "rain@0,rain:0.5+waves:0.5@10,waves@20";
    - a blend: "rain:0.7+waves:0.3", values and their weights, each 1 where none is given.

    Otherwise it is {value: weight}, or a sequence of (second, blend). Raises ControlError.

    >>> parse_mixture("texture", "rain:7+waves:3", ["rain", "waves"]).shares(0.0, ["rain", "waves"]).tolist()
    [0.0, 0.7, 0.3]
    """
    try:
        mixture = _parse(asked, values)
    except ControlError as error:
        raise ControlError(f"label {name!r}: {error}") from None
    for value in (value for blend in mixture.blends for value in blend):
        check_value(name, value, values)
    return mixture


def _parse(asked: Label, values: Sequence[str]) -> Mixture:
    if isinstance(asked, Mixture):
        return asked
    if isinstance(asked, str) and asked not in values and asked.lower().endswith(".csv"):
        moments = [*read_moments(Path(asked), partial(_blend, values), "a mixture", "a value, a mixture")]
    elif isinstance(asked, str) and asked not in values and "@" in asked:
        moments = [_moment(part.strip(), values) for part in asked.split(",")]
    elif isinstance(asked, str | Mapping):
        moments = [(0.0, _blend(values, asked))]
    else:
        try:
            moments = [(float(second), _blend(values, blend)) for second, blend in asked]
        except (TypeError, ValueError):
            raise ControlError(
                f"must be a value, {{value: weight}} or [(second, one of these)], got {asked!r}"
            ) from None
    return Mixture(tuple(second for second, _ in moments), tuple(blend for _, blend in moments))


def _moment(text: str, values: Sequence[str]) -> tuple[float, dict[str, float]]:
    """(second, blend) of "waves@20"."""
    blend, at, second = text.rpartition("@")
    try:
        return float(second if at else ""), _blend(values, blend)
    except ValueError:
        raise ControlError(
            f"{text!r} needs a moment in seconds, such as {blend if at else text}@20"
        ) from None


def _blend(values: Sequence[str], blend: Blend) -> dict[str, float]:
    """Value: weight. Which values there are decides how a text is read; whether all of them are known does not."""
    if not isinstance(blend, str):
        return {str(value): float(weight) for value, weight in blend.items()}
    found: dict[str, float] = {}
    for part in (part.strip() for part in ([blend] if blend in values else blend.split("+"))):
        value, colon, weight = map(str.strip, part.rpartition(":"))
        if part in values or not colon:
            value, weight = part, "1"
        if value in found:
            raise ControlError(f"{value!r} is given twice in {blend!r}")
        try:
            found[value] = float(weight)
        except ValueError:
            if value in values:
                raise ControlError(
                    f"the weight of {value!r} must be a number above 0, got {weight!r}"
                ) from None
            found[part] = 1.0  # a name with a colon, of which will be said that it is unknown
    return found


def label_mixtures(
    labels: Mapping[str, Label], vocabulary: Mapping[str, Sequence[str]]
) -> tuple[Mixture | None, ...]:
    """What each label of the vocabulary is asked for, in its order; None: nothing.

    Raises ControlError, with what is known, for a label or a value that the vocabulary lacks, and as `parse_mixture`.
    """
    for name in labels:
        check_label(name, vocabulary)
    return tuple(
        None if (asked := labels.get(name)) is None else parse_mixture(name, asked, values)
        for name, values in vocabulary.items()
    )


def settle_labels(labels: Mapping[str, str], vocabulary: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """The same labels, written so that nothing else is needed to read them: files are read, numbers are short.

    Raises ControlError, as `label_mixtures`.

    >>> settle_labels({"texture": "rain : 0.50+waves"}, {"texture": ["rain", "waves"]})
    {'texture': 'rain:0.5+waves:1'}
    """
    found = dict(zip(vocabulary, label_mixtures(labels, vocabulary), strict=True))
    settled = {name: str(found[name]) for name in labels}
    for name, text in settled.items():
        again = None
        with suppress(ControlError):
            again = parse_mixture(name, text, vocabulary[name])
        if again != found[name]:
            raise ControlError(
                f"label {name!r}: values with @ + : or , in their names can be mixed in Python alone, got {text!r}"
            )
    return settled


def ingredients(text: str, values: Collection[str]) -> list[str]:
    """Those of `values` that a label's text names, in its order.

    >>> ingredients("rain:2+waves@0,fire@9.5", ["fire", "rain", "waves"])
    ['rain', 'waves', 'fire']
    """
    parts = [text] if text in values else re.split(r"[+,]", text)
    named = (part if part in values else re.sub(r"[:@].*", "", part) for part in parts)
    return [value for value in dict.fromkeys(named) if value in values]
