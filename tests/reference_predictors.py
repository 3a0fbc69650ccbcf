"""What a network hears of each sample, in plain float64 arithmetic, number by number. It judges predictor.h."""

import numpy as np
from numpy.typing import NDArray

from audio_gen.codec import Codec
from audio_gen.shape import (
    LONG,
    LOWEST_PITCH,
    POINTS,
    REFIT,
    SPREADS,
    TAPS,
    NetworkShape,
    fit_window,
    refit_of,
)

UNIT = 2**30


def heard(
    shape: NetworkShape, tokens: NDArray[np.integer], embedding: NDArray, curves: NDArray | None = None
) -> NDArray:
    """The sum of the embedding's rows (time, channels) after each of `tokens` (time,), one after another."""
    total = embedding[np.asarray(tokens)]
    for column in reference_rows(shape, tokens, curves)[:, 1:].T:
        total = total + embedding[column]
    return total


def reference_rows(
    shape: NetworkShape, tokens: NDArray[np.integer], curves: NDArray | None = None
) -> NDArray[np.int64]:
    """(time, codes) of one stream from its start; its first token is the one before its first sample. `curves`
    (frames, channels) are those of the stream."""
    amplitudes = Codec(shape.levels).decode(np.arange(shape.levels)).astype(np.float64)
    columns = [np.asarray(tokens, np.int64)]
    x = amplitudes[np.asarray(tokens)]
    for place, (order, given) in enumerate(_filters(shape, len(x), curves)):
        expected, spreads, _ = _predictor(amplitudes, order, x, given)
        first = shape.levels + place * (shape.levels + SPREADS)
        columns += [first + expected, first + shape.levels + spreads]
    if shape.phases:
        assert curves is not None
        column, rate, phases = shape.period
        codes = [_phase(rate, phases, t, shape.hop, curves[:, column : column + 3]) for t in range(len(x))]
        columns.append(shape.input_rows - 1 - phases + np.array(codes))
    return np.stack(columns, axis=1)


def reference_places(
    shape: NetworkShape, tokens: NDArray[np.integer], curves: NDArray | None = None
) -> NDArray[np.float32]:
    """(time, predictors): where between the tokens each predictor expects the sample after each of `tokens` (time,)."""
    amplitudes = Codec(shape.levels).decode(np.arange(shape.levels)).astype(np.float64)
    found = []
    for order, given in _filters(shape, len(tokens), curves):
        _, _, expected = _predictor(amplitudes, order, amplitudes[np.asarray(tokens)], given)
        found.append(np.interp(expected, amplitudes, np.arange(shape.levels)).astype(np.float32))
    return np.stack(found, axis=1)


def _filters(
    shape: NetworkShape, time: int, curves: NDArray | None
) -> list[tuple[int, list[NDArray] | None]]:
    """Order, and coefficients where they are not fitted, of each predictor."""
    filters: list[tuple[int, list[NDArray] | None]] = [(order, None) for order in shape.predictors]
    if shape.envelope:
        assert curves is not None
        each = [_filter(shape, frame) for frame in curves]
        filters.append((shape.envelope[0], [each[min(t // shape.hop, len(each) - 1)] for t in range(time)]))
    if shape.period:
        assert curves is not None
        column, rate, _ = shape.period
        each = [_comb(rate, *map(float, frame[column : column + 2])) for frame in curves]
        filters.append((len(each[0]), [each[min(t // shape.hop, len(each) - 1)] for t in range(time)]))
    return filters


def _phase(rate: int, phases: int, t: int, hop: int, pitch: NDArray) -> int:
    """In which part of its period sample t is, from 1 on; 0 without a pitch."""
    frame = min(t // hop, len(pitch) - 1)
    voiced, octaves, begins = map(float, pitch[frame])
    if voiced <= 0.5:
        return 0
    period = max(2.0, min(rate // LOWEST_PITCH, rate * (1.0 / 440.0) * 2.0**-octaves))
    turns = min(1.0, max(0.0, begins)) + (t - frame * hop) * (1.0 / period)
    return 1 + int(turns % 1.0 * phases)


def _predictor(
    amplitudes: NDArray, order: int, x: NDArray, given: list[NDArray] | None
) -> tuple[NDArray, NDArray, NDArray]:
    """Token expected after each sample of x (time,), the code of how far the last ones were off, and the amplitude
    expected; by coefficients `given` for each sample, or fitted to the samples."""
    window, finest = fit_window(order), amplitudes[len(amplitudes) // 2 + 1]
    coarse = (amplitudes[-1] - amplitudes[-2]) / amplitudes[-1]
    edges = 0.5 * (amplitudes[:-1] + amplitudes[1:])
    past = np.concatenate([np.zeros(window), x])  # past[window + t] is x[t]
    misses, coefficients, before = [0] * REFIT, np.zeros(order), 0
    tokens, spreads, amounts = [], [], []
    for t, amplitude in enumerate(x):
        misses = [*misses[1:], abs(int(amplitude * UNIT) - before)]
        newest_first = past[window + t :: -1][:window]
        if given is not None:
            coefficients = given[t]
        elif t % refit_of(order) == 0:
            coefficients = _fit(newest_first, order, finest, coarse)
        oldest_first = [pair for pair in zip(coefficients, newest_first, strict=False) if pair[0]][::-1]
        product = _product(*np.array(oldest_first).T) if oldest_first else 0.0
        expected = min(1.0, max(-1.0, product))
        before = int(np.floor(expected * UNIT + 0.5))
        amounts.append(expected)
        tokens.append(np.searchsorted(edges, expected, side="right"))
        size = np.float32(1.0 + sum(misses) * (4.0 / REFIT) / (finest * UNIT))
        spreads.append(min(SPREADS - 1, int(np.floor((size.view(np.int32) - (127 << 23)) / 2**21))))
    return np.array(tokens), np.array(spreads), np.array(amounts)


def _fit(newest_first: NDArray, order: int, finest: float, coarse: float) -> NDArray:
    """Coefficients, newest sample first, of the windowed autocorrelation."""
    age = np.arange(len(newest_first), dtype=np.float64)
    rise, noise = (128, 0.007 * coarse) if order > LONG else (32, 1e-5)
    risen = np.where(age + 1 < rise, (age + 1) * (1.0 / rise), 1.0)
    w = newest_first * (risen * (2.0 - risen) * (1.0 - age * (1.0 / len(age))))
    w = np.concatenate([w, np.zeros(order)])
    r = np.zeros(order + 1)
    for here in range(len(age)):
        r += w[here] * w[here : here + order + 1]
    if r[0] <= 0.0:
        return np.zeros(order)
    r[0] += r[0] * noise + finest * finest
    return _solve(r, order)


def _filter(shape: NetworkShape, frame: NDArray) -> NDArray:
    """Coefficients, newest sample first, of the filter with the envelope that one frame of a mel curve says."""
    order, bands, rate = shape.envelope
    size = 1 << int(np.ceil(np.log2(max(rate * 0.05, shape.hop, 16))))  # of the curve's spectrum
    mel = np.linspace(0.0, 2595.0 * np.log10(1.0 + rate / 1400.0), bands + 2)
    hertz = 700.0 * (10.0 ** (mel / 2595.0) - 1.0)
    bins = np.arange(size // 2 + 1) * (rate / size)
    power = []
    for band, value in enumerate(frame[:bands]):
        low, middle, high = hertz[band : band + 3]
        rising, falling = max(middle - low, rate / size), max(high - middle, rate / size)
        heights = [max(0.0, min((h - middle) / rising + 1.0, (middle - h) / falling + 1.0)) for h in bins]
        level = np.float32(-4.0 * np.log2(10.0) - np.log2(sum(heights)))
        power.append(float(value) * (4.0 * np.log2(10.0)) + float(level))
    places = np.interp(np.linspace(0.0, rate / 2.0, POINTS), hertz[1:-1], np.arange(bands))
    r = np.zeros(order + 1)
    lags = np.arange(order + 1)
    bell = np.exp(-0.5 * (2.0 * np.pi * 40.0 / rate * lags) ** 2)
    for point, place in enumerate(places):
        below = min(int(place), bands - 2)
        between = float(np.float32(place - below))
        here = 2.0 ** (power[below] + between * (power[below + 1] - power[below]))
        share = 1.0 / (POINTS - 1) / (2.0 if point in (0, POINTS - 1) else 1.0)
        r += (share * np.cos(np.pi * lags * point / (POINTS - 1)) * bell).astype(np.float32) * here
    r[0] += r[0] * 1e-4 + 1e-12
    return _solve(r, order)


def _comb(rate: int, voiced: float, octaves: float) -> NDArray:
    """Coefficients, newest sample first, that look back one period, by Lagrange's polynomial between samples."""
    longest = rate // LOWEST_PITCH
    coefficients = np.zeros(longest + TAPS)
    if voiced <= 0.5:
        return coefficients
    period = max(2.0, min(longest, rate * (1.0 / 440.0) * 2.0**-octaves))
    while period < TAPS // 2:
        period *= 2.0
    whole = int(period)
    for tap in range(-TAPS // 2, TAPS // 2):
        product = 1.0
        for other in range(-TAPS // 2, TAPS // 2):
            if other != tap:
                product *= (whole - period - other) * (1.0 / (tap - other))
        coefficients[whole - 1 - tap] = product
    return coefficients


def _solve(r: NDArray, order: int) -> NDArray:
    """Levinson and Durbin."""
    c, error = np.zeros(order), r[0]
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
