"""What a network hears of each sample: its token, and what linear predictors make of the samples so far.

The predictors are written once, in C (predictor.h), for the engine and for training alike.
"""

import ctypes
from collections.abc import Sequence
from typing import Self

import numpy as np
from numpy.typing import NDArray

from audio_gen.codec import Codec
from audio_gen.engine.binding import CHearing, CPredictors, choose_isa, library_path, load_library
from audio_gen.shape import MAX_PREDICTORS, NetworkShape

Memory = NDArray[np.int32]
"""(streams, words): all that the predictors of each stream remember; zeros are silence."""


class Predictors:
    """The linear predictors of a network, for streams that advance together.

    Example:
        >>> shape = NetworkShape(levels=256, layers=(2,), channels=(8,), predictors=(8,))
        >>> predictors = Predictors(shape)
        >>> predictors.hear(predictors.start(1), 0, np.full((1, 3), 128)).tolist()
        [[[128, 384, 512], [128, 384, 512], [128, 384, 512]]]
    """

    def __init__(self, shape: NetworkShape, isa: str | None = None) -> None:
        """Of a network's levels and orders. `isa` as in `Engine`. Raises EngineError without a library."""
        self._library = load_library(library_path())
        self._isa, _ = choose_isa(self._library, isa)
        self.codes = shape.input_codes
        self._amplitudes = token_amplitudes(shape.levels)
        orders: Sequence[int] = shape.predictors
        self._settings = CPredictors(
            count=len(orders),
            longest=max(orders, default=0),
            order=(ctypes.c_int32 * MAX_PREDICTORS)(*orders),
            levels=shape.levels,
            amplitudes=self._amplitudes.ctypes.data,
        )
        self.words: int = self._library.audio_gen_predictor_words(ctypes.byref(self._settings))

    def __deepcopy__(self, memo: object) -> Self:
        return self  # nothing here ever changes

    def start(self, streams: int) -> Memory:
        """What fresh streams remember: silence."""
        return np.zeros((streams, self.words), np.int32)

    def hear(self, memory: Memory, position: int, tokens: NDArray[np.integer]) -> NDArray[np.uint16]:
        """Rows of the embedding to add up, uint16 (streams, time, codes), after each of `tokens` (streams, time).

        `memory` (streams, words) is updated. `position`: that of the sample which follows the first token. The
        caller has checked the tokens' range.
        """
        given = np.ascontiguousarray(tokens, np.uint16)
        streams, steps = given.shape
        assert memory.shape == (streams, self.words) and memory.flags.c_contiguous, memory.shape
        rows = np.empty((streams, steps, self.codes), np.uint16)
        hearing = CHearing(
            position=position,
            steps=steps,
            streams=streams,
            state=memory.ctypes.data,
            tokens=given.ctypes.data,
            rows=rows.ctypes.data,
        )
        self._library.audio_gen_hear(ctypes.byref(self._settings), ctypes.byref(hearing), self._isa)
        return rows


def token_amplitudes(levels: int) -> NDArray[np.int32]:
    """Amplitude of each token, (levels,), in units of 2**-30, of which it is a whole number; with pre-emphasis that
    of the emphasised wave, which tokens divide."""
    return np.asarray(np.rint(Codec(levels).decode(np.arange(levels)) * 2.0**30), np.int32)
