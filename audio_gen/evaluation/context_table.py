"""Frequencies of tokens, alone and after their one or two predecessors, with back-off."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from audio_gen.evaluation.corpus import Corpus, Floats, Integers

TABLE_CELLS = 1 << 24  # counts in one table, at most: 64 MB
STRENGTHS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)  # of the back-off; 1 is Witten and Bell's
# How many leading bits of the last token and of the one before it make a context, from coarse to fine.
CONTEXTS = ((4, 0), (6, 0), (8, 0), (9, 0), (10, 0), (5, 5), (6, 6), (7, 7), (8, 8))
HELD_OUT_SHARE = 10  # one in so many of the training clips chooses the depth and the strength


@dataclass(frozen=True)
class Unigram:
    """How often each token occurs, whatever came before."""

    frequencies: Floats  # (levels,), all above 0, sum 1
    name: str = "unigram"

    @classmethod
    def fit(cls, train: Corpus, alpha: float = 0.5) -> Self:
        """Counts tokens; `alpha` is added to each count, so that no token is impossible."""
        counts = np.bincount(train.tokens, minlength=train.codec.levels) + alpha
        return cls(counts / counts.sum())

    def probabilities(self, corpus: Corpus) -> Floats:
        """The probability of each token, (time,)."""
        return self.frequencies[corpus.tokens]


@dataclass(frozen=True)
class _Table:
    """Counts of tokens after one kind of context."""

    context: tuple[int, int]  # leading bits of the last token, and of the one before
    counts: NDArray[np.int32]  # (contexts, levels)
    totals: NDArray[np.int64]  # (contexts,)
    distinct: NDArray[np.int64]  # (contexts,) how many different tokens followed

    @classmethod
    def fit(cls, context: tuple[int, int], train: Corpus, use: NDArray[np.bool_]) -> Self:
        """Counts the tokens that `use`, bool (time,), marks."""
        levels = train.codec.levels
        cells = _contexts(context, train)[use] * levels + train.tokens[use]
        counts = np.bincount(cells, minlength=levels << sum(context)).astype(np.int32).reshape(-1, levels)
        return cls(context, counts, counts.sum(axis=1, dtype=np.int64), np.count_nonzero(counts, axis=1))

    def refine(self, coarser: Floats, strength: float, corpus: Corpus, use: NDArray[np.bool_]) -> Floats:
        """The probabilities of the tokens in `use`, given their probabilities after coarser contexts."""
        context = _contexts(self.context, corpus)[use]
        counts = self.counts[context, corpus.tokens[use]]
        totals = self.totals[context]
        # Witten and Bell (1991): what is new is as likely as the number of different tokens seen so far says.
        novelty = strength * np.maximum(self.distinct[context], 1)
        refined: Floats = (counts + novelty * coarser) / (totals + novelty)
        return refined


def _contexts(context: tuple[int, int], corpus: Corpus) -> Integers:
    bits = corpus.codec.levels.bit_length() - 1
    last, earlier = (corpus.before(step) >> (bits - kept) for step, kept in zip((1, 2), context, strict=True))
    return (last << context[1]) + earlier


@dataclass(frozen=True)
class ContextTable:
    """The best chain of context tables, each backing off to a coarser one, the coarsest to the unigram.

    Contexts are the leading bits of the last token or two, so that no table exceeds TABLE_CELLS. How deep the
    chain goes, and how strongly it backs off, is chosen on a part of the training tokens.
    """

    unigram: Unigram
    tables: tuple[_Table, ...]
    strength: float

    @property
    def name(self) -> str:
        """Says how many past tokens the finest table sees: order 1 or order 2."""
        return f"order-{2 if self.tables[-1].context[1] else 1} table"

    @classmethod
    def fit(cls, train: Corpus, unigram: Unigram) -> Self:
        """Chooses depth and strength on held-back training tokens, then counts all of them."""
        bits = train.codec.levels.bit_length() - 1
        contexts = [
            (last, earlier)
            for last, earlier in CONTEXTS
            if max(last, earlier) <= bits and train.codec.levels << (last + earlier) <= TABLE_CELLS
        ]
        depth, strength = _choose(contexts, train)
        everything = np.ones(train.tokens.size, dtype=np.bool_)
        tables = tuple(_Table.fit(context, train, everything) for context in contexts[:depth])
        return cls(unigram, tables, strength)

    def probabilities(self, corpus: Corpus) -> Floats:
        """The probability of each token after its predecessors, (time,)."""
        everything = np.ones(corpus.tokens.size, dtype=np.bool_)
        result = self.unigram.probabilities(corpus)
        for table in self.tables:
            result = table.refine(result, self.strength, corpus, everything)
        return result


def _choose(contexts: list[tuple[int, int]], train: Corpus) -> tuple[int, float]:
    """The depth of the chain and the strength that held-back training tokens like best."""
    held = _held_back(train)
    frequencies = np.bincount(train.tokens[~held], minlength=train.codec.levels) + 0.5
    start: Floats = (frequencies / frequencies.sum())[train.tokens[held]]
    results = dict.fromkeys(STRENGTHS, start)
    best = (np.inf, 1, 1.0)
    for depth, context in enumerate(contexts, start=1):
        table = _Table.fit(context, train, ~held)
        for strength in STRENGTHS:
            results[strength] = table.refine(results[strength], strength, train, held)
            best = min(best, (-float(np.log2(results[strength]).mean()), depth, strength))
    return best[1:]


def _held_back(train: Corpus) -> NDArray[np.bool_]:
    """Marks one in ten clips, bool (time,), or the last tenth of each where the clips are few."""
    clips = train.lengths.size
    if clips >= HELD_OUT_SHARE:
        return np.repeat(np.arange(clips) % HELD_OUT_SHARE == HELD_OUT_SHARE - 1, train.lengths)
    within = np.arange(train.tokens.size) - np.repeat(train.starts, train.lengths)
    return within >= np.repeat(train.lengths * (HELD_OUT_SHARE - 1) // HELD_OUT_SHARE, train.lengths)
