"""What a network hears of each sample: its token, and what linear predictors make of the samples so far.

The predictors are written once, in C (predictor.h), for the engine and for training alike.
"""

import ctypes
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from audio_gen.codec import Codec
from audio_gen.curves import mel_geometry
from audio_gen.engine.binding import CHearing, CPredictors, choose_isa, library_path, load_library
from audio_gen.engine.team import work_together
from audio_gen.shape import MAX_PREDICTORS, POINTS, NetworkShape

BELL = 40.0
"""Hertz."""
SHARE = 2048
"""Tokens that are worth a thread of their own."""

Memory = NDArray[np.int32]
"""(streams, words): all that the predictors of each stream remember; zeros are silence."""


class Predictors:
    """The linear predictors of a network, for streams that advance together.

    Example:
        >>> shape = NetworkShape(levels=256, layers=(2,), channels=(8,), predictors=(8,))
        >>> predictors = Predictors(shape)
        >>> predictors.hear(predictors.start(1), 0, np.full((1, 3), 128))[0].tolist()
        [[[128, 384, 512], [128, 384, 512], [128, 384, 512]]]
    """

    def __init__(self, shape: NetworkShape, isa: str | None = None) -> None:
        """Of a network's levels and orders. `isa` as in `Engine`. Raises EngineError without a library."""
        self._library = load_library(library_path())
        self._isa, _ = choose_isa(self._library, isa)
        self.codes, self.count = shape.input_codes, shape.predictor_count
        self._amplitudes = token_amplitudes(shape.levels)
        self._tables = envelope_tables(shape)
        self._follow = shape.predictors_follow
        orders: Sequence[int] = shape.predictors
        self._settings = CPredictors(
            count=len(orders),
            longest=max(orders, default=0),
            order=(ctypes.c_int32 * MAX_PREDICTORS)(*orders),
            levels=shape.levels,
            envelope=shape.envelope_order,
            bands=shape.envelope_bands,
            period=shape.period_rate,
            pitch=shape.pitch_column,
            phases=shape.phases,
            hop=shape.hop,
            curve_channels=shape.curve_channels,
            amplitudes=self._amplitudes.ctypes.data,
            **{name: table.ctypes.data for name, table in self._tables.items()},
        )
        self.words: int = self._library.audio_gen_predictor_words(ctypes.byref(self._settings))

    def __deepcopy__(self, memo: object) -> Self:
        return self  # nothing here ever changes

    def start(self, streams: int) -> Memory:
        """What fresh streams remember: silence."""
        return np.zeros((streams, self.words), np.int32)

    def hear(
        self,
        memory: Memory,
        position: int,
        tokens: NDArray[np.integer],
        curves: NDArray[np.floating] | None = None,
        threads: int = 1,
    ) -> tuple[NDArray[np.uint16], NDArray[np.float32]]:
        """Rows of the embedding to add up, uint16 (streams, time, codes), after each of `tokens` (streams, time); and
        where each predictor expects the next sample, float32 (streams, time, predictors), between the tokens.

        `memory` (streams, words) is updated. `position`: that of the sample which follows the first token. `curves`
        (streams, frames, curve channels), of the whole stream, are needed where a predictor follows them. The caller
        has checked the range of the tokens. `threads` share the streams, if there is enough to do.
        """
        given = np.ascontiguousarray(tokens, np.uint16)
        streams, steps = given.shape
        assert memory.shape == (streams, self.words) and memory.flags.c_contiguous, memory.shape
        rows = np.empty((streams, steps, self.codes), np.uint16)
        places = np.empty((streams, steps, self.count), np.float32)
        frames = None
        if self._follow:
            assert curves is not None and curves.shape[0] == streams and curves.shape[1] > 0
            frames = np.ascontiguousarray(curves, np.float32)
        shares = max(1, min(threads, streams, given.size // SHARE))

        parts: list[CHearing] = []
        for share in range(shares):
            some = slice(streams * share // shares, streams * (share + 1) // shares)
            part = CHearing(
                predictors=ctypes.addressof(self._settings),
                position=position,
                steps=steps,
                streams=some.stop - some.start,
                state=memory[some].ctypes.data,
                tokens=given[some].ctypes.data,
                curves=None if frames is None else frames[some].ctypes.data,
                curve_frames=0 if frames is None else frames.shape[1],
                rows=rows[some].ctypes.data,
                places=places[some].ctypes.data,
            )
            parts.append(part)
        work_together(self._library, self._isa, "hear", parts)
        return rows, places


def token_amplitudes(levels: int) -> NDArray[np.int32]:
    """Amplitude of each token, (levels,), in units of 2**-30, of which it is a whole number; with pre-emphasis that
    of the emphasised wave, which tokens divide."""
    return np.asarray(np.rint(Codec(levels).decode(np.arange(levels)) * 2.0**30), np.int32)


def envelope_tables(shape: NetworkShape) -> dict[str, NDArray[Any]]:
    """What leads from a frame of the mel curve to an autocorrelation, as predictor.h reads it; {} without an envelope.

    band int32 and between float32 (POINTS,), level float32 (bands,), cosines float32 (order + 1, POINTS). Lags are
    weighted as if each frequency were a bell of 40 Hz, lest the filter rings.
    """
    if not shape.envelope:
        return {}
    order, bands, rate = shape.envelope
    centres, gains = mel_geometry(rate, shape.hop, bands)
    hertz = np.linspace(0.0, rate / 2.0, POINTS)
    place = np.interp(hertz, centres, np.arange(bands))
    band = np.minimum(place.astype(np.int32), bands - 2)
    lags = np.arange(order + 1)[:, None]
    weights = np.full(POINTS, 1.0 / (POINTS - 1))
    weights[[0, -1]] /= 2.0
    bell = np.exp(-0.5 * (2.0 * np.pi * BELL / rate * lags) ** 2)
    cosines = weights * np.cos(np.pi * lags * np.arange(POINTS) / (POINTS - 1)) * bell
    # Rounded to float32, of which the last bits of the machine's own cosine and exponential are no part.
    return {
        "band": band,
        "between": (place - band).astype(np.float32),
        "level": (-4.0 * np.log2(10.0) - np.log2(gains)).astype(np.float32),
        "cosines": cosines.astype(np.float32),
    }
