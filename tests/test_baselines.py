import math

import numpy as np
import pytest

from audio_gen.codec import LEVELS, Codec
from audio_gen.errors import DataError, SettingError
from audio_gen.evaluation.baselines import fit_and_score
from audio_gen.evaluation.context_table import TABLE_CELLS, ContextTable, Unigram
from audio_gen.evaluation.corpus import Corpus
from audio_gen.evaluation.linear_prediction import LinearPrediction, amplitudes, edges, laplace_mass

CODEC = Codec(256)


def sine_clips(codec, seed, clips=12, time=4000):
    rng = np.random.default_rng(seed)
    phases = rng.uniform(0.0, 2.0 * np.pi, clips)
    waves = 0.5 * np.sin(0.07 * np.arange(time) + phases[:, None]) + 1e-3 * rng.standard_normal((clips, time))
    return [codec.encode(wave) for wave in waves]


def uniform_clips(levels, seed, clips, time):
    return list(np.random.default_rng(seed).integers(levels, size=(clips, time)).astype(np.uint16))


def corpus_of(clips, codec=CODEC):
    return Corpus.gather(clips, codec, 1 << 30, "test")


def models(train):
    corpus = corpus_of(train)
    unigram = Unigram.fit(corpus)
    return [unigram, ContextTable.fit(corpus, unigram), LinearPrediction.fit(corpus, unigram)]


@pytest.fixture(scope="module")
def fitted():
    return models(sine_clips(CODEC, 0) + uniform_clips(256, 1, 2, 3000))


def bits(scores):
    return {score.name: score.bits_per_sample for score in scores}


@pytest.mark.parametrize("past", [0, 1, 2, 31, 32, 33, 200])
@pytest.mark.parametrize("kind", ["sine", "noise", "silence"])
def test_probabilities_sum_to_one_after_any_past(fitted, past, kind):
    clip = {
        "sine": sine_clips(CODEC, 2, 1)[0],
        "noise": uniform_clips(256, 3, 1, 300)[0],
        "silence": np.full(300, CODEC.silence, np.uint16),
    }[kind][:past]
    every_next = corpus_of([np.append(clip, token) for token in range(256)])
    for model in fitted:
        last = model.probabilities(every_next).reshape(256, past + 1)[:, -1]
        assert last.min() > 0.0
        assert last.sum() == pytest.approx(1.0, abs=1e-9), model.name


def test_no_probability_depends_on_the_future_or_on_other_clips(fitted):
    rng = np.random.default_rng(4)
    clips = sine_clips(CODEC, 5, 3, 500)
    for cut in (1, 100, 321):
        other = np.append(clips[1][:cut], rng.permutation(clips[1][cut:]))
        changed = [clips[2][: cut + 7], other, clips[0]]
        for model in fitted:
            before = model.probabilities(corpus_of(clips))[500 : 500 + cut]
            after = model.probabilities(corpus_of(changed))[cut + 7 :][:cut]
            np.testing.assert_allclose(after, before, rtol=1e-9, err_msg=model.name)


def test_held_out_clips_do_not_influence_each_others_scores():
    train, valid = sine_clips(CODEC, 6, 11), sine_clips(CODEC, 7, 3, 1000)
    together = bits(fit_and_score(train, valid, CODEC))
    apart = [bits(fit_and_score(train, [clip], CODEC)) for clip in valid]
    for name, value in together.items():
        assert value == pytest.approx(np.mean([single[name] for single in apart]), rel=1e-9)


@pytest.mark.parametrize("levels", LEVELS)
def test_uniform_is_exact_and_nothing_beats_the_entropy_of_uniform_tokens(levels):
    train, valid = uniform_clips(levels, 8, 20, 10_000), uniform_clips(levels, 9, 4, 10_000)
    scores = fit_and_score(train, valid, Codec(levels))
    assert bits(scores)["uniform"] == math.log2(levels)
    assert all(score.bits_per_sample > math.log2(levels) - 0.01 for score in scores)
    assert bits(scores)["unigram"] < math.log2(levels) + 0.02


@pytest.mark.parametrize("codec", [Codec(256), Codec(1024), Codec(256, 0.85)])
def test_linear_prediction_beats_frequencies_by_bits_on_a_sine(codec):
    scores = fit_and_score(sine_clips(codec, 10), sine_clips(codec, 11, 3), codec)
    assert len(scores) == 4
    values = [score.bits_per_sample for score in scores]
    assert values == sorted(values, reverse=True)
    assert bits(scores)["linear prediction, Laplace residual"] < bits(scores)["unigram"] - 3.0


def test_the_table_reaches_the_entropy_rate_of_a_markov_chain():
    rng = np.random.default_rng(12)
    states = rng.choice(256, 40, replace=False)
    chain = rng.dirichlet(np.full(40, 0.3), size=40)
    occupancy = np.linalg.matrix_power(chain, 1000)[0]
    rate = -float(occupancy @ (chain * np.log2(np.maximum(chain, 1e-300))).sum(axis=1))

    def clips(count, time):
        cumulative = np.cumsum(chain, axis=1)
        walk = np.empty((count, time), np.int64)
        walk[:, 0] = rng.integers(40, size=count)
        coins = rng.random((count, time))
        for step in range(1, time):
            later = coins[:, step, None] >= cumulative[walk[:, step - 1]]
            walk[:, step] = np.minimum(later.sum(axis=1), 39)
        return list(states[walk].astype(np.uint16))

    scores = fit_and_score(clips(200, 1500), clips(50, 1500), CODEC)
    table = bits(scores)["order-1 table"]
    assert rate * 0.99 < table < rate * 1.02


def test_a_second_order_table_sees_what_a_first_order_table_cannot():
    rng = np.random.default_rng(13)
    clips = []
    for _ in range(12):
        coarse = [0, 1]
        for flip in rng.random(3000) < 0.02:
            coarse.append((coarse[-1] ^ coarse[-2]) ^ int(flip))
        clips.append((np.array(coarse) * 128 + 64).astype(np.uint16))
    scores = fit_and_score(clips[:10], clips[10:], CODEC)
    assert bits(scores)["order-2 table"] < 0.25  # order 1: 1 bit; the chain itself: 0.14


@pytest.mark.parametrize("levels", LEVELS)
def test_tables_stay_within_their_memory(levels):
    corpus = corpus_of(uniform_clips(levels, 14, 10, 500), Codec(levels))
    table = ContextTable.fit(corpus, Unigram.fit(corpus))
    assert all(part.counts.size <= TABLE_CELLS for part in table.tables)


@pytest.mark.parametrize("levels", LEVELS)
def test_amplitudes_are_the_codecs_and_lie_within_their_edges(levels):
    codec = Codec(levels)
    inner = edges(codec)[1:-1]
    assert np.all(amplitudes(codec)[:-1] < inner) and np.all(inner < amplitudes(codec)[1:])
    assert amplitudes(codec)[codec.silence] == 0.0
    finest = inner[codec.silence] - inner[codec.silence - 1]
    assert np.abs(amplitudes(codec) - codec.decode(np.arange(levels))).max() < finest
    # To the codec the lower edge of SILENCE is a quarter interval below 0; here SILENCE is centred.
    plain = inner - inner[codec.silence - 1] - float(codec.decode([codec.silence + 1])[0]) / 6
    assert np.array_equal(codec.encode(plain + 1e-7), np.arange(1, levels))
    assert np.array_equal(codec.encode(plain - 1e-7), np.arange(levels - 1))


def test_laplace_masses_add_up_however_narrow_or_far():
    limits = edges(CODEC)
    for centre in (-3.0, 0.0, 1e-4, 0.9, 50.0):
        for scale in (1e-7, 1e-3, 1.0, 100.0):
            mass = laplace_mass(limits[:-1] - centre, limits[1:] - centre, np.array(scale))
            assert mass.min() >= 0.0
            assert mass.sum() == pytest.approx(1.0, abs=1e-12)


def test_digital_silence_costs_next_to_nothing():
    silent = [np.full(2000, CODEC.silence, np.uint16)] * 12
    scores = fit_and_score(silent, silent[:2], CODEC)
    # Were 0 on the edge between two tokens, as it is in the codec, linear prediction would pay 1 bit.
    assert all(score.bits_per_sample < 0.03 for score in scores if score.name != "uniform")


def test_equal_data_gives_equal_numbers_and_limits_cut():
    train, valid = sine_clips(CODEC, 15, 12, 800), sine_clips(CODEC, 16, 3, 700)
    first = fit_and_score(iter(train), valid, CODEC)
    assert first == fit_and_score(train, valid, CODEC)
    cut = fit_and_score(train, valid, CODEC, max_train_tokens=1000, max_valid_tokens=900)
    assert cut == fit_and_score([train[0], train[1][:200]], [valid[0], valid[1][:200]], CODEC)


def test_tiny_and_odd_clips_are_scored():
    one = np.array([5], np.uint16)
    empty = np.array([], np.uint16)
    for score in fit_and_score([one, empty], [one, empty, one], CODEC):
        assert np.isfinite(score.bits_per_sample)


def test_what_cannot_be_scored_is_said():
    clip = np.array([1, 2, 3], np.uint16)
    with pytest.raises(DataError, match="no training tokens"):
        fit_and_score([], [clip], CODEC)
    with pytest.raises(DataError, match="no validation tokens"):
        fit_and_score([clip], [], CODEC)
    with pytest.raises(DataError, match="outside 0 to 255"):
        fit_and_score([clip], [np.array([256], np.uint16)], CODEC)
    with pytest.raises(SettingError, match="max_valid_tokens"):
        fit_and_score([clip], [clip], CODEC, max_valid_tokens=0)
