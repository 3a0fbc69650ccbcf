"""What an engine is called with: checked, and as the library wants it."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from audio_gen.curves import surround
from audio_gen.engine.binding import DRAW
from audio_gen.errors import ControlError, SettingError
from audio_gen.shape import NetworkShape

Indices = NDArray[np.integer] | Sequence[Sequence[int]]

MAX_MEMORY = 1 << 32
"""Floats of state that one `start` may ask for."""


class DrawSettings(Protocol):
    """How to draw; `audio_gen.sampler.Draw` is one."""

    @property
    def temperature(self) -> float: ...
    @property
    def top_k(self) -> int: ...
    @property
    def top_p(self) -> float: ...
    @property
    def min_p(self) -> float: ...


def check_labels(labels: Indices, shape: NetworkShape, state_count: int) -> NDArray[np.int32]:
    """Indices (streams, number of labels). Raises ControlError."""
    rows = np.asarray(labels)
    if rows.size == 0 and rows.ndim == 2:
        rows = rows.astype(np.int32)
    wanted = len(shape.labels)
    if rows.ndim != 2 or rows.shape[1] != wanted or not np.issubdtype(rows.dtype, np.integer):
        raise ControlError(f"labels must be whole numbers (streams, {wanted}), got {rows.dtype} {rows.shape}")
    if not 1 <= len(rows) <= 1 << 20:
        raise ControlError(f"there must be from 1 to {1 << 20} streams, got {len(rows)}")
    if len(rows) * state_count > MAX_MEMORY:
        raise ControlError(
            f"{len(rows)} streams of this model need over 16 GiB of state; ask for fewer at once"
        )
    for column, (name, values) in enumerate(shape.labels.items()):
        if rows[:, column].min() < 0 or rows[:, column].max() > len(values):
            raise ControlError(f"label {name}: index must be from 0 (none) to {len(values)}")
    return rows.astype(np.int32)


def check_tokens(tokens: NDArray[np.integer], streams: int, levels: int) -> NDArray[np.uint16]:
    """Tokens (streams, time). Raises ControlError."""
    tokens = np.asarray(tokens)
    if tokens.ndim != 2 or tokens.shape[0] != streams or not np.issubdtype(tokens.dtype, np.integer):
        got = f"{tokens.dtype} {tokens.shape}"
        raise ControlError(f"tokens must be whole numbers (streams = {streams}, time), got {got}")
    if tokens.size and (tokens.min() < 0 or tokens.max() >= levels):
        raise ControlError(f"tokens must be from 0 to {levels - 1}, got {tokens.min()} to {tokens.max()}")
    return np.ascontiguousarray(tokens, np.uint16)


def check_curves(
    curves: NDArray[np.floating] | None, shape: NetworkShape, streams: int, first: int, last: int
) -> NDArray[np.float32] | None:
    """Frames `first` to `last`, or the held last one, with those around them, as the library wants them; None for a
    model without. Raises ControlError."""
    channels = shape.curve_channels
    if curves is None:
        if channels:
            raise ControlError(f"this model is steered by curves: give (streams, frames, {channels})")
        return None
    if not channels:
        raise ControlError("this model has no curves; leave them out")
    if first < 0:
        raise ControlError(f"the curves begin {-first} frames too late")
    curves = np.asarray(curves)
    if curves.ndim != 3 or curves.shape[0] != streams or curves.shape[1] < 1 or curves.shape[2] != channels:
        raise ControlError(f"curves must be (streams = {streams}, frames, {channels}), got {curves.shape}")
    held = curves.shape[1] - 1
    told = surround(curves, shape.offsets, min(first, held), min(last, held))
    used = np.ascontiguousarray(told, np.float32)
    if not np.isfinite(used).all():
        raise ControlError("curves hold NaN or infinity")
    return used


def check_coins(coins: NDArray[np.floating], streams: int) -> NDArray[np.float32]:
    """Coins (streams, time). Raises SettingError."""
    coins = np.ascontiguousarray(coins, np.float32)
    if coins.ndim != 2 or coins.shape[0] != streams:
        raise SettingError(f"coins must be (streams = {streams}, time), got {coins.shape}")
    if coins.size and not (coins.min() >= 0.0 and coins.max() < 1.0):
        raise SettingError("coins must be numbers from 0 to below 1")
    return coins


def c_draws(draw: DrawSettings | Sequence[DrawSettings], streams: int) -> NDArray[Any]:
    """struct Draw of engine.h, one per stream. Raises SettingError."""
    draws = list(draw) if isinstance(draw, Sequence) else [draw] * streams
    if len(draws) != streams:
        raise SettingError(f"there must be one draw setting, or one per stream ({streams}), got {len(draws)}")
    for one in draws:
        calm = 0.0 <= one.temperature < 1e6 and one.top_k >= 0
        if not (calm and 0.0 < one.top_p <= 1.0 and 0.0 <= one.min_p <= 1.0):
            raise SettingError(
                f"draw out of range: temperature {one.temperature:g}, top_k {one.top_k}, "
                f"top_p {one.top_p:g}, min_p {one.min_p:g}"
            )
    rows = [(one.temperature, one.top_p, one.min_p, min(one.top_k, 1 << 30)) for one in draws]
    return np.array(rows, DRAW)


def pairs(guidance: Sequence[float], streams: int) -> NDArray[np.float32]:
    """(streams,): a value for either stream of each pair. Raises SettingError."""
    values = np.repeat(np.asarray(guidance, np.float32), 2)
    if values.shape != (streams,) or not ((values >= 0.0) & (values <= 100.0)).all():
        raise SettingError(
            f"guidance must be a number from 0 to 100 for each of {streams / 2:g} pairs of streams"
        )
    return values
