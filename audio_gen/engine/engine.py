"""Streams of one network, run by the compiled engine."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from audio_gen.engine.binding import DRAW, CNetwork, CWork, choose_isa, library_path, load_library
from audio_gen.engine.pack import (
    PRECISIONS,
    check_scales,
    check_shape,
    check_tensors,
    pack,
    padded,
)
from audio_gen.engine.state import State, aligned_rows
from audio_gen.errors import ControlError, EngineError, SettingError
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


class Engine:
    """The compiled network. All its methods may be called from several threads, on different states.

    Tokens do not depend on how calls are cut into chunks, on the number of streams or threads, or on the
    instruction set: equal arguments give equal bits. One exception: bf16 with and without "avx512bf16".
    """

    def __init__(
        self,
        settings: Mapping[str, Any] | NetworkShape,
        tensors: Mapping[str, NDArray[Any]],
        *,
        threads: int = 1,
        isa: str | None = None,
        precision: str = "fp32",
        scales: Mapping[str, NDArray[Any]] | None = None,
    ) -> None:
        """`settings` are the checkpoint's "network", `tensors` its float32 or float16 weights by name.

        `threads`: groups of streams that run at once. `isa`: "avx512bf16", "avx512vnni", "avx512", "avx2" or
        "baseline" instead of the best one (or the environment's AUDIO_GEN_ISA). `precision` of the weights:
        "fp32", "bf16" or "int8"; int8 needs `scales`, what one step of each activation is worth, by the names of
        `pack.scale_shapes`. Raises EngineError (weights, scales or library), SettingError or CheckpointError
        (settings).
        """
        self.shape = settings if isinstance(settings, NetworkShape) else NetworkShape.from_dict(settings)
        if threads < 1:
            raise SettingError(f"threads must be 1 or more, got {threads}")
        if precision not in PRECISIONS:
            raise SettingError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision}")
        check_shape(self.shape)
        checked = check_tensors(self.shape, tensors)
        steps = check_scales(self.shape, scales) if precision == "int8" else None
        library = load_library(library_path())
        index, self.isa = choose_isa(library, isa)
        self.precision = precision
        packed = pack(self.shape, checked, precision, steps)
        self._network = CNetwork(library, self.shape, packed, list(PRECISIONS).index(precision), index)
        self._embeddings = [checked[f"labels.{name}.weight"] for name in self.shape.labels]
        self._curve_bias = checked["curves.bias"] if self.shape.curve_channels else None
        self.threads = threads
        self._pool = ThreadPoolExecutor(threads, "audio-gen-engine") if threads > 1 else None

    @property
    def levels(self) -> int:
        """Number of tokens."""
        return self.shape.levels

    @property
    def weight_bytes(self) -> int:
        """Memory of the packed weights, of which each sample reads most."""
        return self._network.weight_bytes

    @property
    def silence(self) -> int:
        """The token of silence."""
        return self.shape.levels // 2

    @property
    def receptive_field(self) -> int:
        """Samples of input that one draw can depend on, at the phase where that is most."""
        return self.shape.receptive_field

    def start(
        self, labels: Indices, position: int = 0, last: NDArray[np.integer] | Sequence[int] | None = None
    ) -> State:
        """Fresh streams. int32 `labels` (streams, number of labels): 0 is "no label", i + 1 the i-th value.

        With `position` > 0, streams that go on at that absolute position after silence: once the last
        `receptive_field` tokens before a position are primed, with `last` (streams,) the token before those
        (default: silence), the state continues bit for bit like that of the uninterrupted stream.
        Raises ControlError for an unknown label index or token.
        """
        rows = self._checked_labels(labels)
        if position < 0 or position >= 1 << 62:
            raise SettingError(f"position must be from 0 to 2**62 - 1 samples, got {position}")
        before = np.full(len(rows), self.silence, np.uint16)
        if last is not None:
            before = self._checked_tokens(np.reshape(last, (-1, 1)), len(rows))[:, 0].copy()
        asked = [embedding[rows[:, column]] for column, embedding in enumerate(self._embeddings)]
        memory = aligned_rows(len(rows), self._network.state_count)
        return State(position, position, before, self._condition(asked, len(rows)), memory)

    def ask(self, state: State, shares: NDArray[np.floating]) -> None:
        """Ask the streams for mixtures of labels from their next token on, whatever they were asked for before.

        `shares` (streams, rows): how much of each row of every label's embedding, one label after another, "no
        label" first; those of a label add up to 1. A mixture is the sum of so much of each row, and a row with a
        share of 1 and nothing else is what `start` makes of its index. Raises ControlError.
        """
        exact, sizes = np.asarray(shares, np.float64), self.shape.label_rows
        if exact.shape != (state.streams, sum(sizes)) or not np.isfinite(exact).all():
            raise ControlError(
                f"shares must be finite, (streams = {state.streams}, {sum(sizes)}), got {exact.shape}"
            )
        ends = np.cumsum(sizes)
        asked = [
            _mix(exact[:, end - size : end], embedding)
            for end, size, embedding in zip(ends, sizes, self._embeddings, strict=True)
        ]
        state.condition, state.renewed = self._condition(asked, state.streams), True

    def _condition(self, asked: Sequence[NDArray[np.float32]], streams: int) -> NDArray[np.float32]:
        """The share of the condition (streams, padded channels) that does not change with the curves, from each
        label's (streams, channels)."""
        width = self.shape.condition_channels
        condition = np.zeros((streams, padded(width)), np.float32)
        for one in asked:
            condition[:, :width] += one
        if self._curve_bias is not None:
            condition[:, :width] += self._curve_bias
        return condition

    def prime(
        self,
        state: State,
        tokens: NDArray[np.integer],
        curves: NDArray[np.floating] | None = None,
        *,
        first_frame: int = 0,
    ) -> None:
        """Feed known uint16 `tokens` (streams, time), as if they had been drawn.

        `curves`: float32 (streams, frames, curve channels), the frames of the whole stream from `first_frame` on;
        the last one is held. Raises ControlError for tokens or curves of a wrong size or range.
        """
        known = self._checked_tokens(tokens, state.streams)
        self._run(state, known.shape[1], curves, first_frame, known=known)

    def logits(
        self, state: State, tokens: NDArray[np.integer], curves: NDArray[np.floating] | None = None
    ) -> NDArray[np.float32]:
        """Feed known tokens like `prime`. float32 (streams, time, levels): [:, t] predict tokens[:, t]."""
        known = self._checked_tokens(tokens, state.streams)
        logits = np.empty((*known.shape, self.levels), np.float32)
        self._run(state, known.shape[1], curves, known=known, logits=logits)
        return logits

    def log_probabilities(
        self, state: State, tokens: NDArray[np.integer], curves: NDArray[np.floating] | None = None
    ) -> NDArray[np.float32]:
        """Feed known tokens like `prime`. float32 (streams, time): log2 of the probability of each of them."""
        known = self._checked_tokens(tokens, state.streams)
        found = np.empty(known.shape, np.float32)
        self._run(state, known.shape[1], curves, known=known, log_probabilities=found)
        return found

    def sample(
        self,
        state: State,
        coins: NDArray[np.float32],
        draw: DrawSettings | Sequence[DrawSettings],
        curves: NDArray[np.floating] | None = None,
        log_probabilities: NDArray[np.float32] | None = None,
        *,
        guidance: Sequence[float] | None = None,
        first_frame: int = 0,
    ) -> NDArray[np.uint16]:
        """Draw uint16 tokens (streams, time), one per float32 coin (streams, time) in [0, 1).

        `draw`: one for all streams, or one per stream. `log_probabilities`: float32 (streams, time), to be
        filled with log2 of the probability of each token under the network's own distribution.
        `guidance` (pairs,): streams come in pairs that hear the same; draws are the first one's, with its logits
        moved away from those of the second, which was asked for nothing, by so many times their difference.
        `curves`, `first_frame`: as in `prime`.
        Raises SettingError for coins, a draw or guidance out of range, ControlError for curves, EngineError if
        the network's output is not finite.
        """
        coins = np.ascontiguousarray(coins, np.float32)
        if coins.ndim != 2 or coins.shape[0] != state.streams:
            raise SettingError(f"coins must be (streams = {state.streams}, time), got {coins.shape}")
        if coins.size and not (coins.min() >= 0.0 and coins.max() < 1.0):
            raise SettingError("coins must be numbers from 0 to below 1")
        draws = _c_draws(draw, state.streams)
        drawn = np.empty(coins.shape, np.uint16)
        scores = log_probabilities
        if scores is not None and (scores.shape != coins.shape or scores.dtype != np.float32):
            got = f"{scores.dtype} {scores.shape}"
            raise SettingError(f"log_probabilities must be float32 {coins.shape}, got {got}")
        more = {}
        if scores is not None:
            more["log_probabilities"] = np.empty(coins.shape, np.float32)
        if guidance is not None:
            more["guidance"] = _pairs(guidance, state.streams)
        self._run(state, coins.shape[1], curves, first_frame, coins=coins, draws=draws, drawn=drawn, **more)
        if scores is not None:
            scores[...] = more["log_probabilities"]
        return drawn

    def draw(self, logits: NDArray[np.float32], coin: float, draw: DrawSettings) -> int:
        """The token that one coin draws from `logits` (levels,). Raises SettingError, EngineError."""
        logits = np.ascontiguousarray(logits, np.float32)
        if logits.shape != (self.levels,) or not 0.0 <= coin < 1.0:
            raise SettingError(f"a draw needs ({self.levels},) logits and a coin from 0 to below 1")
        token = self._network.draw(logits, _c_draws(draw, 1), coin)
        if token < 0:
            raise EngineError("logits hold NaN or infinity")
        return token

    def _run(
        self,
        state: State,
        steps: int,
        curves: NDArray[np.floating] | None,
        first_frame: int = 0,
        **arrays: NDArray[Any],
    ) -> None:
        """One call's work, on groups of streams when there are threads."""
        if steps == 0:
            return
        first = state.position // self.shape.hop
        last = (state.position + steps - 1) // self.shape.hop
        frames = self._checked_curves(curves, state.streams, first - first_frame, last - first_frame)
        unit = 2 if "guidance" in arrays else 1  # pairs stay together
        groups = min(self.threads, state.streams // unit)
        bounds = [state.streams // unit * group // groups * unit for group in range(groups + 1)]
        rows = [slice(first, end) for first, end in pairwise(bounds)]
        works = [self._work(state, steps, first, frames, some, arrays) for some in rows]
        run_all = map if self._pool is None else self._pool.map
        results = list(run_all(self._network.run, works))
        if any(results):
            raise EngineError(
                f"the network's output is not finite after sample {state.position}; "
                "its weights have diverged: use an earlier checkpoint"
            )
        state.position += steps
        state.renewed = False

    def _work(
        self,
        state: State,
        steps: int,
        first: int,
        frames: NDArray[np.float32] | None,
        rows: slice,
        arrays: Mapping[str, NDArray[Any]],
    ) -> CWork:
        """The call for some of the streams."""
        work = CWork(
            origin=state.origin,
            position=state.position,
            steps=steps,
            streams=rows.stop - rows.start,
            renewed=state.renewed,
            state=state.memory[rows].ctypes.data,
            last=state.last[rows].ctypes.data,
            condition=state.condition[rows].ctypes.data,
            curves=None if frames is None else frames[rows].ctypes.data,
            first_curve=first,
            curve_frames=0 if frames is None else frames.shape[1],
        )
        for name, array in arrays.items():
            setattr(work, name, array[rows].ctypes.data)
        return work

    def _checked_labels(self, labels: Indices) -> NDArray[np.int32]:
        rows = np.asarray(labels)
        if rows.size == 0 and rows.ndim == 2:
            rows = rows.astype(np.int32)
        wanted = len(self.shape.labels)
        if rows.ndim != 2 or rows.shape[1] != wanted or not np.issubdtype(rows.dtype, np.integer):
            raise ControlError(
                f"labels must be whole numbers (streams, {wanted}), got {rows.dtype} {rows.shape}"
            )
        if not 1 <= len(rows) <= 1 << 20:
            raise ControlError(f"there must be from 1 to {1 << 20} streams, got {len(rows)}")
        if len(rows) * self._network.state_count > MAX_MEMORY:
            raise ControlError(
                f"{len(rows)} streams of this model need over 16 GiB of state; ask for fewer at once"
            )
        for column, (name, values) in enumerate(self.shape.labels.items()):
            if rows[:, column].min() < 0 or rows[:, column].max() > len(values):
                raise ControlError(f"label {name}: index must be from 0 (none) to {len(values)}")
        return rows.astype(np.int32)

    def _checked_tokens(self, tokens: NDArray[np.integer], streams: int) -> NDArray[np.uint16]:
        tokens = np.asarray(tokens)
        if tokens.ndim != 2 or tokens.shape[0] != streams or not np.issubdtype(tokens.dtype, np.integer):
            got = f"{tokens.dtype} {tokens.shape}"
            raise ControlError(f"tokens must be whole numbers (streams = {streams}, time), got {got}")
        if tokens.size and (tokens.min() < 0 or tokens.max() >= self.levels):
            raise ControlError(
                f"tokens must be from 0 to {self.levels - 1}, got {tokens.min()} to {tokens.max()}"
            )
        return np.ascontiguousarray(tokens, np.uint16)

    def _checked_curves(
        self, curves: NDArray[np.floating] | None, streams: int, first: int, last: int
    ) -> NDArray[np.float32] | None:
        """Frames `first` to `last`, or the held last one, as the library wants them; None for a model without."""
        channels = self.shape.curve_channels
        if curves is None:
            if channels:
                raise ControlError(f"this model is steered by curves: give (streams, frames, {channels})")
            return None
        if not channels:
            raise ControlError("this model has no curves; leave them out")
        if first < 0:
            raise ControlError(f"the curves begin {-first} frames too late")
        curves = np.asarray(curves)
        if (
            curves.ndim != 3
            or curves.shape[0] != streams
            or curves.shape[1] < 1
            or curves.shape[2] != channels
        ):
            raise ControlError(
                f"curves must be (streams = {streams}, frames, {channels}), got {curves.shape}"
            )
        used = np.ascontiguousarray(curves[:, min(first, curves.shape[1] - 1) : last + 1], np.float32)
        if not np.isfinite(used).all():
            raise ControlError("curves hold NaN or infinity")
        return used


def _mix(shares: NDArray[np.float64], embedding: NDArray[np.float32]) -> NDArray[np.float32]:
    """Sum (streams, channels) of so much of each row, from `shares` (streams, rows) of an embedding (rows, channels).

    Row after row, where a matrix product would sum in another order for other streams.
    """
    mixed = np.zeros((len(shares), embedding.shape[1]))
    for row in np.flatnonzero(shares.any(axis=0)):
        mixed += shares[:, row, None] * embedding[row]
    return mixed.astype(np.float32)


def _c_draws(draw: DrawSettings | Sequence[DrawSettings], streams: int) -> NDArray[Any]:
    """struct Draw of engine.h, one per stream."""
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


def _pairs(guidance: Sequence[float], streams: int) -> NDArray[np.float32]:
    """(streams,): a value for either stream of each pair."""
    values = np.repeat(np.asarray(guidance, np.float32), 2)
    if values.shape != (streams,) or not ((values >= 0.0) & (values <= 100.0)).all():
        raise SettingError(
            f"guidance must be a number from 0 to 100 for each of {streams / 2:g} pairs of streams"
        )
    return values
