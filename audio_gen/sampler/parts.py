"""What each voice plays; and how settings that may be lists, one value per clip, become as many parts."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from audio_gen.coins import coins
from audio_gen.errors import SettingError
from audio_gen.fades import Fade, Number, parse_fade
from audio_gen.mixtures import Label
from audio_gen.sampler.draw import Draw

Value = TypeVar("Value")
Each: TypeAlias = Value | Sequence[Value]
"""One value for all clips, or one for each."""

Labels: TypeAlias = Mapping[str, Label]
"""What each label is asked for: "rain", {"rain": 0.7, "waves": 0.3}, or [(second, one of these)]; see `Mixture`."""


@dataclass(frozen=True)
class Part:
    """What one voice plays. Raises SettingError."""

    labels: Labels
    seed: int = 0
    stream: int = 0
    """Number of the clip among those of one seed."""
    draw: Draw = Draw()  # noqa: RUF009 - frozen
    samples: float = math.inf
    """Where it ends."""
    lane: int = 0
    """Of its coins."""
    coin: float | None = None
    """What every toss comes to, where nothing is left to chance."""
    fade: Fade | None = None
    """Its temperature where that changes, in place of the draw's."""

    def __post_init__(self) -> None:
        coins(self.seed, self.stream, 0, 0)  # refuses impossible seeds

    def toss(self, position: int, samples: int) -> NDArray[np.float32]:
        """Its coins of so many samples, from that one on."""
        if self.coin is not None:
            return np.full(samples, self.coin, np.float32)
        return coins(self.seed, self.stream, position, samples, self.lane)


def is_list(setting: object) -> bool:
    """Whether a setting has a value for each clip."""
    return isinstance(setting, Sequence | np.ndarray) and not isinstance(setting, str)


def parts_of(
    sample_rate: int,
    seconds: Each[float],
    labels: Each[Labels] | None = None,
    seed: Each[int] = 0,
    stream: Each[int] = 0,
    temperature: Each[Number | None] = None,
    top_k: Each[int | None] = None,
    top_p: Each[float | None] = None,
    min_p: Each[float | None] = None,
    sketch_temperature: Each[float | None] = None,
    guidance: Each[float | None] = None,
    doubt: Each[float | None] = None,
    *,
    draw: Draw = Draw(),  # noqa: B008 - frozen
) -> list[Part]:
    """One part per clip. Raises SettingError for settings out of range and lists of different lengths.

    Settings of the draw that are None are those of `draw`.

    Without seeds or streams of their own, clip i plays stream `stream + i`.

    >>> [(part.seed, part.stream) for part in parts_of(8000, 1.0, labels=[{}, {}], seed=7)]
    [(7, 0), (7, 1)]
    >>> [(part.seed, part.stream, part.samples) for part in parts_of(8000, [1.0, 0.5], seed=[7, 8])]
    [(7, 0, 8000), (8, 0, 4000)]
    """
    given: dict[str, Any] = {"seconds": seconds, "labels": {} if labels is None else labels, "seed": seed}
    given |= {"stream": stream, "temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p}
    given |= {"sketch_temperature": sketch_temperature, "guidance": guidance, "doubt": doubt}
    counts = {name: len(value) for name, value in given.items() if is_list(value)}
    if len({*counts.values()}) > 1:
        listed = ", ".join(f"{count} of {name}" for name, count in counts.items())
        raise SettingError(f"lists must have one value per clip, as many in each; got {listed}")
    count = next(iter(counts.values()), 1)
    if count == 0:
        raise SettingError(f"{' and '.join(counts)} must name at least one clip")
    if not counts.keys() & {"seed", "stream"}:
        given["stream"] = [given["stream"] + number for number in range(count)]
    rows = zip(*(value if is_list(value) else [value] * count for value in given.values()), strict=True)
    return [_part(draw, sample_rate, *row) for row in rows]


def _part(
    draw: Draw, sample_rate: int, seconds: float, labels: Labels, seed: int, stream: int, *settings: Any
) -> Part:
    begin, fade = turned(draw, *settings)
    return Part(labels, int(seed), int(stream), begin, samples_of(seconds, sample_rate), fade=fade)


def turned(draw: Draw, temperature: Number | None, *others: Any) -> tuple[Draw, Fade | None]:
    """`draw` but for what is given, in the order of `Draw.but`; where the temperature changes, at its first, and how it
    does. Raises SettingError.

    >>> turned(Draw(), "0.7@0,1.2@20", 40)[0].temperature, str(turned(Draw(), "0.7@0,1.2@20")[1])
    (0.7, '0.7@0,1.2@20')
    """
    asked = None if temperature is None else parse_fade(temperature, "temperature")
    if not isinstance(asked, Fade):
        return draw.but(asked, *others), None
    begin, *_ = [draw.but(value, *others) for value in asked.values]  # all of which are checked
    return begin, asked


def samples_of(seconds: float | None, sample_rate: int) -> float:
    """Samples of a clip of so many seconds, at least 1; inf for an endless one (None or inf). Raises SettingError."""
    if seconds is None or seconds == math.inf:
        return math.inf
    if not seconds > 0.0:
        raise SettingError(f"seconds must be above 0, got {seconds:g}")
    return max(1, round(seconds * sample_rate))
