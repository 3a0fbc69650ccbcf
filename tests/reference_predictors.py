"""What a network hears of each sample, in plain float64 arithmetic, number by number. It judges predictor.h."""

import numpy as np
from numpy.typing import NDArray

from audio_gen.codec import Codec
from audio_gen.shape import REFIT, SPREADS, WINDOW, NetworkShape

UNIT = 2**30


def heard(shape: NetworkShape, tokens: NDArray[np.integer], embedding: NDArray) -> NDArray:
    """The sum of the embedding's rows (time, channels) after each of `tokens` (time,), one after another."""
    total = embedding[np.asarray(tokens)]
    for column in reference_rows(shape, tokens)[:, 1:].T:
        total = total + embedding[column]
    return total


def reference_rows(shape: NetworkShape, tokens: NDArray[np.integer]) -> NDArray[np.int64]:
    """(time, codes) of one stream from its start; its first token is the one before its first sample."""
    amplitudes = Codec(shape.levels).decode(np.arange(shape.levels)).astype(np.float64)
    columns = [np.asarray(tokens, np.int64)]
    for place, order in enumerate(shape.predictors):
        expected, spreads = _predictor(amplitudes, order, amplitudes[np.asarray(tokens)])
        first = shape.levels + place * (shape.levels + SPREADS)
        columns += [first + expected, first + shape.levels + spreads]
    return np.stack(columns, axis=1)


def _predictor(amplitudes: NDArray, order: int, x: NDArray) -> tuple[NDArray, NDArray]:
    """Token expected after each sample of x (time,), and the code of how far the last ones were off."""
    window, finest = WINDOW * order, amplitudes[len(amplitudes) // 2 + 1]
    edges = 0.5 * (amplitudes[:-1] + amplitudes[1:])
    past = np.concatenate([np.zeros(window), x])  # past[window + t] is x[t]
    misses, coefficients, before = [0] * REFIT, np.zeros(order), 0
    tokens, spreads = [], []
    for t, amplitude in enumerate(x):
        misses = [*misses[1:], abs(int(amplitude * UNIT) - before)]
        newest_first = past[window + t :: -1][:window]
        if t % REFIT == 0:
            coefficients = _fit(newest_first, order, finest)
        expected = min(1.0, max(-1.0, _product(coefficients[::-1], newest_first[:order][::-1])))
        before = int(np.floor(expected * UNIT + 0.5))
        tokens.append(np.searchsorted(edges, expected, side="right"))
        size = np.float32(1.0 + sum(misses) * (4.0 / REFIT) / (finest * UNIT))
        spreads.append(min(SPREADS - 1, int(np.floor((size.view(np.int32) - (127 << 23)) / 2**21))))
    return np.array(tokens), np.array(spreads)


def _fit(newest_first: NDArray, order: int, finest: float) -> NDArray:
    """Coefficients, newest sample first, of the windowed autocorrelation."""
    age = np.arange(len(newest_first), dtype=np.float64)
    risen = np.where(age + 1 < 32, (age + 1) * (1.0 / 32), 1.0)
    w = newest_first * (risen * (2.0 - risen) * (1.0 - age * (1.0 / len(age))))
    w = np.concatenate([w, np.zeros(order)])
    r = np.zeros(order + 1)
    for here in range(len(age)):
        r += w[here] * w[here : here + order + 1]
    c = np.zeros(order)
    if r[0] <= 0.0:
        return c
    r[0] += r[0] * 1e-5 + finest * finest
    error = r[0]
    for m in range(order):
        reflection = (r[m + 1] - _product(c[:m], r[1 : m + 1][::-1])) / error
        c[:m] = c[:m] - reflection * c[:m][::-1]
        c[m] = reflection
        error *= 1.0 - reflection * reflection
        if error <= 0.0:
            break
    return c


def _product(x: NDArray, y: NDArray) -> float:
    """Eight partial sums, then a tree."""
    part = [0.0] * 8
    for i, product in enumerate(x * y):
        part[i % 8] += product
    part = [part[i] + part[i + 4] for i in range(4)]
    return (part[0] + part[2]) + (part[1] + part[3])
