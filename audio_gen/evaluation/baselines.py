"""Bits per sample of simple predictors on the tokens a network is judged by: they give its number a meaning.

Every predictor here is a valid code: fitted on training tokens alone, its probabilities sum to one after any
past, and it knows nothing of the token it predicts or of those after it. Before a clip's first token lies
silence.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audio_gen.codec import Codec
from audio_gen.errors import SettingError
from audio_gen.evaluation.context_table import ContextTable, Unigram
from audio_gen.evaluation.corpus import Corpus
from audio_gen.evaluation.linear_prediction import LinearPrediction


@dataclass(frozen=True)
class Baseline:
    """A simple predictor's result on held-out tokens."""

    name: str
    bits_per_sample: float


def fit_and_score(
    train: Iterable[NDArray[np.uint16]],
    valid: Sequence[NDArray[np.uint16]],
    codec: Codec,
    *,
    max_train_tokens: int = 4_000_000,
    max_valid_tokens: int = 1_000_000,
) -> list[Baseline]:
    """Fits the baselines on training clips and scores them on held-out clips; from weakest to strongest.

    `train` and `valid` hold clips of tokens, uint16 (time,), each token below `codec.levels`. Clips are taken
    in the given order until the limit (in tokens) is met, the last one cut: where there is more, give them in
    an order that mixes the classes, and judge the network on the same first tokens. Every token of a held-out
    clip counts, the first ones too, and nothing is carried from one clip to another.

    The baselines: uniform; unigram; the best short-context table (ContextTable); linear prediction with a
    Laplace residual (LinearPrediction).

    Raises DataError when a side holds no tokens or a token is out of range, SettingError for a limit below 1.
    """
    for name, limit in (("max_train_tokens", max_train_tokens), ("max_valid_tokens", max_valid_tokens)):
        if limit < 1:
            raise SettingError(f"{name} is {limit}: give at least 1")
    fitted = Corpus.gather(train, codec, max_train_tokens, "training")
    judged = Corpus.gather(valid, codec, max_valid_tokens, "validation")
    unigram = Unigram.fit(fitted)
    models = (unigram, ContextTable.fit(fitted, unigram), LinearPrediction.fit(fitted, unigram))
    scores = [
        Baseline(model.name, float(0.0 - np.log2(model.probabilities(judged)).mean())) for model in models
    ]
    uniform = Baseline("uniform", float(np.log2(codec.levels)))
    return sorted([uniform, *scores], key=lambda baseline: -baseline.bits_per_sample)
