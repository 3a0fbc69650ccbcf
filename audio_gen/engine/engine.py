"""Streams of one network, run by the compiled engine."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audio_gen.engine.arguments import (
    DrawSettings,
    Indices,
    c_draws,
    check_coins,
    check_curves,
    check_labels,
    check_tokens,
    pairs,
)
from audio_gen.engine.binding import CNetwork, CWork, choose_isa, library_path, load_library
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


class Engine:
    """The compiled network. All its methods may be called from several threads, on different states.

    Tokens do not depend on how calls are cut into chunks, on the number of streams or threads, or on the
    instruction set: equal arguments give equal bits.
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

        `threads`: groups of streams that run at once. `isa`: "avx512bf16", "avx512vnni", "avx512", "avxvnni",
        "avx2", "dotprod" (Arm) or "baseline" instead of the best one (or the environment's AUDIO_GEN_ISA). `precision`
        of the weights: "fp32", "bf16" or "int8"; int8 needs `scales`, what one step of each activation is worth, by the
        names of `pack.scale_shapes`. Raises EngineError (weights, scales or library), SettingError or CheckpointError
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
        rows = check_labels(labels, self.shape, self._network.state_count)
        if position < 0 or position >= 1 << 62:
            raise SettingError(f"position must be from 0 to 2**62 - 1 samples, got {position}")
        before = np.full(len(rows), self.silence, np.uint16)
        if last is not None:
            before = check_tokens(np.reshape(last, (-1, 1)), len(rows), self.levels)[:, 0].copy()
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

        `curves`: float32 (streams, frames, curve channels), the frames of the whole stream from `first_frame` on, which
        begin with those that the network is told of before the present one; the last one is held. Raises ControlError
        for tokens or curves of a wrong size or range.
        """
        known = check_tokens(tokens, state.streams, self.levels)
        self._run(state, known.shape[1], curves, first_frame, known=known)

    def logits(
        self, state: State, tokens: NDArray[np.integer], curves: NDArray[np.floating] | None = None
    ) -> NDArray[np.float32]:
        """Feed known tokens like `prime`. float32 (streams, time, levels): [:, t] predict tokens[:, t]."""
        known = check_tokens(tokens, state.streams, self.levels)
        logits = np.empty((*known.shape, self.levels), np.float32)
        self._run(state, known.shape[1], curves, known=known, logits=logits)
        return logits

    def log_probabilities(
        self, state: State, tokens: NDArray[np.integer], curves: NDArray[np.floating] | None = None
    ) -> NDArray[np.float32]:
        """Feed known tokens like `prime`. float32 (streams, time): log2 of the probability of each of them."""
        known = check_tokens(tokens, state.streams, self.levels)
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
        coins = check_coins(coins, state.streams)
        draws = c_draws(draw, state.streams)
        drawn = np.empty(coins.shape, np.uint16)
        scores = log_probabilities
        if scores is not None and (scores.shape != coins.shape or scores.dtype != np.float32):
            got = f"{scores.dtype} {scores.shape}"
            raise SettingError(f"log_probabilities must be float32 {coins.shape}, got {got}")
        more = {}
        if scores is not None:
            more["log_probabilities"] = np.empty(coins.shape, np.float32)
        if guidance is not None:
            more["guidance"] = pairs(guidance, state.streams)
        self._run(state, coins.shape[1], curves, first_frame, coins=coins, draws=draws, drawn=drawn, **more)
        if scores is not None:
            scores[...] = more["log_probabilities"]
        return drawn

    def draw(self, logits: NDArray[np.float32], coin: float, draw: DrawSettings) -> int:
        """The token that one coin draws from `logits` (levels,). Raises SettingError, EngineError."""
        logits = np.ascontiguousarray(logits, np.float32)
        if logits.shape != (self.levels,) or not 0.0 <= coin < 1.0:
            raise SettingError(f"a draw needs ({self.levels},) logits and a coin from 0 to below 1")
        token = self._network.draw(logits, c_draws(draw, 1), coin)
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
        frames = check_curves(curves, self.shape, state.streams, first - first_frame, last - first_frame)
        if curves is not None:
            first = min(
                first, first_frame + curves.shape[1] - 1
            )  # the frame that is held began when it began
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


def _mix(shares: NDArray[np.float64], embedding: NDArray[np.float32]) -> NDArray[np.float32]:
    """Sum (streams, channels) of so much of each row, from `shares` (streams, rows) of an embedding (rows, channels).

    Row after row, where a matrix product would sum in another order for other streams.
    """
    mixed = np.zeros((len(shares), embedding.shape[1]))
    for row in np.flatnonzero(shares.any(axis=0)):
        mixed += shares[:, row, None] * embedding[row]
    return mixed.astype(np.float32)
