"""The laws of what a network hears beside the tokens: exact everywhere, causal, forgetful, and right about tones."""

import numpy as np
import pytest
from engine_cases import ISAS
from reference_predictors import reference_rows

from audio_gen.codec import Codec
from audio_gen.engine.predictors import Predictors
from audio_gen.shape import REFIT, WINDOW, NetworkShape


def shape_of(orders=(8, 16, 32, 128), levels=256) -> NetworkShape:
    return NetworkShape(levels, (1,), (8,), predictors=orders)


def music(levels: int, time: int, seed: int = 0) -> np.ndarray:
    """(time,) tokens: silence, then chords that swell and break off, loud enough to reach the outermost tokens."""
    generator = np.random.default_rng(seed)
    wave = np.zeros(time)
    for start in range(time // 8, time, time // 5):
        t = np.arange(time - start)
        for frequency in generator.uniform(0.01, 0.4, 3):
            wave[start:] += np.sin(frequency * t) * np.exp(-t / 400.0) * generator.uniform(0.1, 0.8)
    return Codec(levels).encode(wave + 1e-3 * generator.standard_normal(time))


def rows_of(predictors: Predictors, tokens: np.ndarray, chunk: int) -> np.ndarray:
    memory, time = predictors.start(1), len(tokens)
    parts = [predictors.hear(memory, at, tokens[None, at : at + chunk])[0] for at in range(0, time, chunk)]
    return np.concatenate(parts)


@pytest.mark.parametrize("levels", [256, 1024])
def test_every_instruction_set_and_chunk_equals_the_reference(levels):
    shape, tokens = shape_of(levels=levels), music(levels, 3000)
    expected = reference_rows(shape, tokens)
    assert len(np.unique(expected[:, 1])) > 50
    for isa in ISAS:
        for chunk in (1, 77, 3000):
            assert np.array_equal(rows_of(Predictors(shape, isa), tokens, chunk), expected), (isa, chunk)


def test_streams_do_not_hear_each_other():
    predictors, both = Predictors(shape_of()), np.stack([music(256, 500), music(256, 500, seed=1)])
    together = predictors.hear(predictors.start(2), 0, both)
    for stream, tokens in enumerate(both):
        assert np.array_equal(together[stream], rows_of(predictors, tokens, 500))


def test_the_future_is_not_heard():
    predictors, tokens = Predictors(shape_of()), music(256, 800)
    changed = tokens.copy()
    changed[700:] = 255 - changed[700:]
    before, after = (rows_of(predictors, each, 800) for each in (tokens, changed))
    assert np.array_equal(before[:700], after[:700])
    assert not np.array_equal(before[700:], after[700:])


@pytest.mark.parametrize("order", [8, 32])
def test_what_lies_longer_ago_than_the_formula_says_is_forgotten(order):
    predictors, tokens = Predictors(shape_of((order,))), music(256, 3000)
    whole = rows_of(predictors, tokens, 3000)
    field = WINDOW * order + 2 * (REFIT - 1)  # samples before the newest one
    for begin in range(1000, 1000 + REFIT):
        late = predictors.hear(predictors.start(1), begin, tokens[None, begin:])[0]
        assert np.array_equal(late[field:], whole[begin + field :])


def test_silence_is_expected_to_go_on():
    predictors = Predictors(shape_of((16, 32)))
    rows = rows_of(predictors, np.full(200, 128), 200)
    assert (rows == rows[0]).all() and rows[0, 1] - 256 == 128 and rows[0, 2] == 512


def test_a_tone_is_expected_as_it_comes():
    """Once the window is full, most tokens of a loud tone are expected to within the codec's own noise."""
    tokens = Codec().encode(0.5 * np.sin(0.4 * np.arange(4000)))
    expected = rows_of(Predictors(shape_of((32,))), tokens, 4000)[:, 1].astype(int) - 256
    off = np.abs(expected[1000:-1] - tokens[1001:].astype(int))
    held = np.abs(tokens[1000:-1].astype(int) - tokens[1001:].astype(int))
    assert np.median(off) <= 1 < 4 <= np.median(held)
