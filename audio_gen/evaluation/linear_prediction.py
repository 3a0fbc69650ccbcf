"""Backward-adaptive linear prediction with a Laplace residual: what lossless audio coders know."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from audio_gen.codec import Codec
from audio_gen.evaluation.context_table import Unigram
from audio_gen.evaluation.corpus import Corpus, Floats, Integers

BLOCK = 32  # samples between two fits of the coefficients; no less than MAX_ORDER
CHUNK = 1024  # blocks worked on at once, which bounds the memory
MAX_ORDER = 32
SETTINGS = tuple((order, memory) for order in (16, 32) for memory in (128.0, 512.0, 2048.0, 8192.0))
PRIOR_SAMPLES = 4.0  # average training audio weighs as much as so many samples of the clip's own past
RIDGE = 1e-5  # white noise added to that average, as a share of its power
SCALE_MEMORIES = (4.0, 16.0, 64.0, 256.0)  # samples
LEAST_SCALE = 0.05  # of a residual, in widths of the narrowest token
FIT_TOKENS = 200_000  # training tokens that choose the settings and the weights
UNIGRAM_FLOOR = 1e-4  # the least weight of the unigram, so that no token is impossible


def amplitudes(codec: Codec) -> Floats:
    """The amplitude of each token, (levels,), by mu-law expansion, moved so that SILENCE is exactly 0."""
    values = _expand(np.arange(codec.levels, dtype=np.float64), codec)
    moved: Floats = values - values[codec.silence]
    return moved


def edges(codec: Codec) -> Floats:
    """Where one token's amplitudes end and the next one's begin, (levels + 1,), moved like `amplitudes`."""
    inner = _expand(np.arange(1, codec.levels, dtype=np.float64) - 0.5, codec)
    silence = _expand(np.array([float(codec.silence)]), codec)
    return np.concatenate(([-np.inf], inner - silence, [np.inf]))


def _expand(positions: Floats, codec: Codec) -> Floats:
    mu = codec.levels - 1
    companded = 2.0 * positions / mu - 1.0
    expanded: Floats = np.sign(companded) * np.expm1(np.abs(companded) * np.log1p(mu)) / mu
    return expanded


@dataclass(frozen=True)
class _Blocks:
    """The amplitudes of a corpus in blocks, each clip after a block of silence and filled up with silence."""

    values: Floats  # (blocks, BLOCK)
    positions: Integers  # (time,) where each token stands among the flattened values
    resets: NDArray[np.bool_]  # (blocks,) the block of silence before a clip

    @classmethod
    def cut(cls, corpus: Corpus) -> Self:
        blocks = 1 + -(-corpus.lengths // BLOCK)
        firsts = np.cumsum(blocks) - blocks
        shift = (firsts + 1) * BLOCK - corpus.starts
        positions = np.arange(corpus.tokens.size) + np.repeat(shift, corpus.lengths)
        values = np.zeros(int(blocks.sum()) * BLOCK)
        values[positions] = amplitudes(corpus.codec)[corpus.tokens]
        resets = np.zeros(int(blocks.sum()), dtype=np.bool_)
        resets[firsts] = True
        return cls(values.reshape(-1, BLOCK), positions, resets)

    def windows(self, first: int, last: int, order: int) -> Floats:
        """Each sample of blocks first to last after its `order` predecessors, (blocks, BLOCK, order + 1)."""
        flat = np.concatenate((np.zeros(order), self.values.ravel()))
        spanned = sliding_window_view(flat[first * BLOCK : last * BLOCK + order], order + 1)
        return np.ascontiguousarray(spanned).reshape(-1, BLOCK, order + 1)


def _statistics(windows: Floats, finest: float) -> Floats:
    """Products of each block's samples and their predecessors, (blocks, order + 1, order + 1)."""
    power = np.square(windows[:, :, -1]).mean(axis=1) + finest**2
    products: Floats = windows.transpose(0, 2, 1) @ windows
    # Residuals grow with the signal, so loud blocks must weigh less than their power. Divided by all of it,
    # loud and quiet would weigh alike; the exponent was best by trial on speech and drums.
    weighted: Floats = products / power[:, None, None] ** 0.75
    return weighted


def _predict(blocks: _Blocks, prior: Floats, order: int, memory: float, codec: Codec) -> Floats:
    """Predicts each sample, (blocks, BLOCK), by coefficients fitted to the blocks before its own in its clip.

    Weighted least squares (the covariance method): a block's weight fades by e in `memory` samples, and the
    `prior` statistics, (order + 1, order + 1), of training data never fade.
    """
    keep = float(np.exp(-BLOCK / memory))
    prior = prior[-order - 1 :, -order - 1 :]
    finest = _finest(codec)
    result = np.zeros_like(blocks.values)
    past = np.zeros_like(prior)
    for first in range(0, len(result), CHUNK):
        last = min(first + CHUNK, len(result))
        windows = blocks.windows(first, last, order)
        products = _statistics(windows, finest)
        known = np.empty_like(products)
        for index in range(last - first):
            known[index] = past
            past = np.zeros_like(past) if blocks.resets[first + index] else keep * past + products[index]
        known += prior
        coefficients = np.linalg.solve(known[:, :-1, :-1], known[:, :-1, -1:])
        result[first:last] = (windows[:, :, :-1] @ coefficients)[:, :, 0]
    return result


def _scales(residuals: Floats, resets: NDArray[np.bool_], memory: float, start: float) -> Floats:
    """The mean size of the `residuals`, (blocks, BLOCK), before each, fading by e in `memory` samples.

    A clip begins as if residuals of size `start` had gone before.
    """
    keep = float(np.exp(-1.0 / memory))
    sizes = np.abs(residuals)
    ages = np.arange(BLOCK)[:, None] - np.arange(BLOCK)[None, :] - 1
    fading = np.where(ages >= 0, (1.0 - keep) * keep ** np.maximum(ages, 0), 0.0)
    within = sizes @ fading.T
    ends = keep * within[:, -1] + (1.0 - keep) * sizes[:, -1]
    carried = np.empty(len(sizes))
    level = start
    kept = keep**BLOCK
    for index, (end, reset) in enumerate(zip(ends.tolist(), resets.tolist(), strict=True)):
        carried[index] = level
        level = start if reset else kept * level + end
    scales: Floats = within + carried[:, None] * keep ** np.arange(BLOCK)
    return scales


def laplace_mass(lower: Floats, upper: Floats, scale: Floats) -> Floats:
    """The probability that a Laplace variable of mean 0 falls from `lower` to `upper`; shapes broadcast."""
    mirrored = lower > 0.0  # by symmetry, so that two numbers close to 1 are never subtracted
    left = np.where(mirrored, -upper, lower)
    right = np.where(mirrored, -lower, upper)
    left_tail, right_tail = np.exp(left / scale), np.exp(-np.abs(right) / scale)
    one_sided, two_sided = 0.5 * (right_tail - left_tail), 1.0 - 0.5 * (left_tail + right_tail)
    mass: Floats = np.where(right <= 0.0, one_sided, two_sided)
    return mass


@dataclass(frozen=True)
class LinearPrediction:
    """Coefficients fitted to the past of the clip, block after block; a Laplace law around the prediction.

    The law's scale follows the size of the last residuals: a mixture of scales, over several memories, and a
    little of the unigram, whose weights are fitted to training tokens. Each token's probability is the law's
    mass between the token's edges. With pre-emphasis the emphasised amplitudes are predicted, which are those
    that the tokens divide; it changes little, since de-emphasis is linear prediction too.
    """

    unigram: Unigram
    order: int
    memory: float  # samples
    prior: Floats  # (MAX_ORDER + 1, MAX_ORDER + 1) statistics of training audio, see _statistics
    weights: Floats  # (scales + 1,), the unigram's last; sum 1
    name: str = "linear prediction, Laplace residual"

    @classmethod
    def fit(cls, train: Corpus, unigram: Unigram) -> Self:
        """Chooses order and memory, and fits the weights, on an excerpt of the training tokens."""
        excerpt = train.excerpt(FIT_TOKENS)
        blocks = _Blocks.cut(excerpt)
        prior = _prior(blocks, train.codec)
        count = len(SCALE_MEMORIES) + 1
        even = np.full(count, 1.0 / count)
        fits = []
        for order, memory in SETTINGS:
            candidate = cls(unigram, order, memory, prior, even)
            parts = candidate._parts(excerpt, blocks)
            weights = _mixture_weights(parts)
            bits = -float(np.log2(weights @ parts).mean())
            fits.append((bits, replace(candidate, weights=weights)))
        return min(fits, key=lambda fit: fit[0])[1]

    def probabilities(self, corpus: Corpus) -> Floats:
        """The probability of each token after its clip's past, (time,)."""
        result: Floats = self.weights @ self._parts(corpus, _Blocks.cut(corpus))
        return result

    def _parts(self, corpus: Corpus, blocks: _Blocks) -> Floats:
        """The probability of each token under each scale, and the unigram last, (scales + 1, time)."""
        predictions = _predict(blocks, self.prior, self.order, self.memory, corpus.codec)
        residuals = blocks.values - predictions
        centres = predictions.ravel()[blocks.positions]
        limits = edges(corpus.codec)
        lower, upper = limits[corpus.tokens] - centres, limits[corpus.tokens + 1] - centres
        least = _finest(corpus.codec)
        parts = []
        for memory in SCALE_MEMORIES:
            scales = _scales(residuals, blocks.resets, memory, least).ravel()[blocks.positions]
            parts.append(laplace_mass(lower, upper, scales + LEAST_SCALE * least))
        return np.stack([*parts, self.unigram.probabilities(corpus)])


def _finest(codec: Codec) -> float:
    """The width in amplitude of the token of silence, the narrowest there is."""
    limits = edges(codec)
    return float(limits[codec.silence + 1] - limits[codec.silence])


def _prior(blocks: _Blocks, codec: Codec) -> Floats:
    """The statistics of PRIOR_SAMPLES samples of average training audio, (MAX_ORDER + 1, MAX_ORDER + 1)."""
    total = np.zeros((MAX_ORDER + 1, MAX_ORDER + 1))
    for first in range(0, len(blocks.values), CHUNK):
        last = min(first + CHUNK, len(blocks.values))
        products = _statistics(blocks.windows(first, last, MAX_ORDER), _finest(codec))
        total += products[~blocks.resets[first:last]].sum(axis=0)
    total *= PRIOR_SAMPLES / blocks.positions.size
    # A little white noise keeps the equations solvable, whatever the audio, digital silence too.
    noise = RIDGE * total.trace() / len(total) + RIDGE * _finest(codec) ** 0.5
    prior: Floats = total + noise * np.eye(len(total))
    return prior


def _mixture_weights(parts: Floats, rounds: int = 30) -> Floats:
    """The likeliest weights of a mixture, (parts,), given each token's probability in each, (parts, time)."""
    weights = np.full(len(parts), 1.0 / len(parts))
    for _ in range(rounds):
        weights = weights * (parts @ (1.0 / (weights @ parts))) / parts.shape[1]
    weights[-1] = max(weights[-1], UNIGRAM_FLOOR)
    normal: Floats = weights / weights.sum()
    return normal
