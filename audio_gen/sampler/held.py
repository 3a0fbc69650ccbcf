"""Curves of streams that advance together, each its own, the last frame of which is held."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from audio_gen.checkpoint import Checkpoint
from audio_gen.curves import hold_curves
from audio_gen.errors import ControlError, SettingError
from audio_gen.sketch import told_frames

Frames: TypeAlias = NDArray[np.float32]
"""(frames, channels)"""


class Followed(Protocol):
    """Curves of streams that advance together."""

    def frames(self, first: int, last: int) -> NDArray[np.float32]: ...
    def as_sketched(self) -> "Followed": ...
    def keep(self, rows: Sequence[int]) -> "Followed": ...


@dataclass(frozen=True)
class HeldCurves:
    """What each stream follows, however long it plays."""

    rows: tuple[Frames, ...]
    """Of each stream, as many as are given."""
    names: tuple[str, ...]
    """Of the curves."""
    hop_seconds: float

    def frames(self, first: int, last: int) -> NDArray[np.float32]:
        """Frames `first` to `last` of every stream, (rows, frames, channels). What a frame is depends on nothing but
        its stream's own curves, so neither company nor chunks change it."""
        return np.stack(
            [hold_curves(row, first, last + 1, self.names, self.hop_seconds) for row in self.rows]
        )

    def as_sketched(self) -> "HeldCurves":
        """As a sketch follows them."""
        return replace(self, rows=tuple(told_frames(row, self.names) for row in self.rows))

    def keep(self, rows: Sequence[int]) -> "HeldCurves":
        """Those of these streams."""
        return replace(self, rows=tuple(self.rows[row] for row in rows))


def hold(
    checkpoint: Checkpoint, curves: Frames | Sequence[Frames | None] | None, rows: int, hop_seconds: float
) -> HeldCurves | None:
    """What each of `rows` streams of a model follows: `curves` are those of all, or one for each; None for a model
    without. Raises ControlError, SettingError."""
    names = checkpoint.curves
    if not isinstance(curves, Sequence):
        steer = check_frames(checkpoint, curves)
        return None if steer is None else HeldCurves((steer,) * rows, names, hop_seconds)
    if len(curves) != rows:
        raise SettingError(f"curves must be given once, or for each clip: {len(curves)} for {rows}")
    each = [checked for one in curves if (checked := check_frames(checkpoint, one)) is not None]
    return HeldCurves(tuple(each), names, hop_seconds)


def check_frames(checkpoint: Checkpoint, curves: Frames | None) -> Frames | None:
    """`curves` as float32; None for a model without. Raises ControlError for others than it follows."""
    wanted, name = checkpoint.shape.curve_channels, checkpoint.card.get("name", "model")
    if curves is None:
        if wanted:
            raise ControlError(f"{name}: is steered by curves ({', '.join(checkpoint.curves)}); give them")
        return None
    curves = np.asarray(curves, np.float32)
    if not wanted:
        raise ControlError(f"{name}: has no curves to steer")
    if curves.ndim != 2 or curves.shape[1] != wanted or not len(curves):
        raise ControlError(f"{name}: curves must be (frames, {wanted}), got {curves.shape}")
    return curves
