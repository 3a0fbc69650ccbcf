"""What running streams are asked for: mixtures of labels and temperatures, which may change from frame to frame."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from audio_gen.errors import SettingError
from audio_gen.fades import Fade
from audio_gen.mixtures import Mixture, label_mixtures
from audio_gen.sampler.draw import Draw
from audio_gen.sampler.parts import Labels
from audio_gen.shape import DOUBTS

if TYPE_CHECKING:
    from audio_gen.sampler.model import Model


class AskedEngine(Protocol):
    """An engine whose streams can be asked for something."""

    def ask(self, state: Any, shares: NDArray[np.floating]) -> None: ...


@dataclass
class Asking:
    """Asks for the mixtures of streams that advance together. What a frame is asked for holds for all of it, and is
    what there is at its middle: a function of the frame alone."""

    mixtures: Sequence[Sequence[Mixture | None]]
    """Of each row, for each label of the vocabulary; None is "no label"."""
    vocabulary: Mapping[str, Sequence[str]]
    samples: int
    """Of a frame."""
    seconds: float
    """That a frame lasts."""
    pairs: bool = False
    """After the stream of each row there is one that is asked for nothing."""
    doubts: Sequence[float] | None = None
    """Of each row, what `Draw.doubt` says, for a network that has been told of noise."""
    fades: Sequence[Fade | None] | None = None
    """Of each row, its temperature where that changes."""
    frame: int = -1
    """Whose mixtures were asked for last; -1: none yet."""

    def turn(self, engine: AskedEngine, state: Any, position: int, most: int) -> int:
        """Ask for what holds from sample `position` on; returns how long it holds, at most so many samples."""
        frame = position // self.samples
        mixed = self._mixed()
        if self.frame < 0 or (frame != self.frame and mixed > self._middle(self.frame)):
            engine.ask(state, self._shares(self._middle(frame)))
            self.frame = frame
        constant = max(mixed, self._faded()) <= self._middle(frame)
        return most if constant else min(most, (frame + 1) * self.samples - position)

    def draws(self, draws: Sequence[Draw], position: int) -> list[Draw]:
        """What becomes of the rows' `draws` at sample `position`."""
        if self.fades is None:
            return [*draws]
        second = self._middle(position // self.samples)
        return [
            draw if fade is None else draw.but(fade.at(second))
            for draw, fade in zip(draws, self.fades, strict=True)
        ]

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows only."""
        self.mixtures = [self.mixtures[row] for row in rows]
        if self.doubts is not None:
            self.doubts = [self.doubts[row] for row in rows]
        if self.fades is not None:
            self.fades = [self.fades[row] for row in rows]

    def _middle(self, frame: int) -> float:
        return (frame + 0.5) * self.seconds

    def _mixed(self) -> float:
        """When mixtures have ceased to change, seconds."""
        ends = (
            mixture.seconds[-1] for row in self.mixtures for mixture in row if mixture and mixture.changes
        )
        return max(ends, default=-math.inf)

    def _faded(self) -> float:
        """When temperatures have ceased to change, seconds."""
        return max((fade.end for fade in self.fades or () if fade is not None), default=-math.inf)

    def _shares(self, second: float) -> NDArray[np.float64]:
        """(streams, rows of all labels)"""
        shares = np.zeros((len(self.mixtures), sum(1 + len(values) for values in self.vocabulary.values())))
        for row, mixtures in enumerate(self.mixtures):
            first = 0
            for mixture, values in zip(mixtures, self.vocabulary.values(), strict=True):
                if mixture is None:
                    shares[row, first] = 1.0
                else:
                    shares[row, first : first + 1 + len(values)] = mixture.shares(second, values)
                first += 1 + len(values)
        if self.doubts is not None:
            shares = np.concatenate([shares, doubt_shares(self.doubts)], axis=1)
        if not self.pairs:
            return shares
        nothing = np.zeros_like(shares)
        nothing[:, np.cumsum([0, *(1 + len(values) for values in self.vocabulary.values())])[:-1]] = 1.0
        return np.stack([shares, nothing], axis=1).reshape(2 * len(shares), -1)


def asking_of(
    model: "Model",
    labels: Sequence[Labels],
    doubts: Sequence[float],
    fades: Sequence[Fade | None] = (),
    late: float = 0.0,
) -> Asking:
    """What streams are asked for, each with its `Draw.doubt` and `Part.fade`; the moments of what changes count from
    `late` (seconds). Raises ControlError, SettingError."""
    mixtures = [label_mixtures(each, model.labels) for each in labels]
    later = [[mixture and _shifted(mixture, late) for mixture in row] for row in mixtures]
    shape = model.checkpoint.shape
    if any(doubts) and not shape.doubts:
        raise SettingError(f"{model.name}: has not been told of noise; leave doubt out")
    return Asking(
        later,
        model.labels,
        shape.hop,
        model.hop_seconds,
        doubts=doubts if shape.doubts else None,
        fades=[fade and fade.shifted(late) for fade in fades] if any(fades) else None,
    )


def _shifted(mixture: Mixture, seconds: float) -> Mixture:
    return replace(mixture, seconds=tuple(second + seconds for second in mixture.seconds))


def doubt_shares(doubts: Sequence[float]) -> NDArray[np.float64]:
    """Shares (rows, 1 + DOUBTS) of the steps of doubt, the two nearest ones where there is none of it; beyond the last
    one on the straight line from none to it."""
    exact = np.asarray(doubts, np.float64)
    place = DOUBTS * np.minimum(exact, 1.0)[:, None]
    shares: NDArray[np.float64] = np.maximum(0.0, 1.0 - np.abs(place - np.arange(1 + DOUBTS)))
    beyond = np.maximum(exact - 1.0, 0.0)
    shares[:, 0] -= beyond
    shares[:, -1] += beyond
    return shares
