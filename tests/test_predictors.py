"""The laws of what a network hears beside the tokens: exact everywhere, causal, forgetful, and right about tones."""

import numpy as np
import pytest
from engine_cases import ISAS
from reference_predictors import reference_places, reference_rows
from scipy.signal import lfilter

from audio_gen.codec import Codec
from audio_gen.curves import extract_curves
from audio_gen.engine.predictors import Predictors
from audio_gen.pitch import run_phase, scale_pitch
from audio_gen.shape import PHASES, REFIT, SPREADS, NetworkShape, fit_window, refit_of


def shape_of(orders=(8, 32, 128, 512), levels=256) -> NetworkShape:
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
    parts = [predictors.hear(memory, at, tokens[None, at : at + chunk])[0][0] for at in range(0, time, chunk)]
    return np.concatenate(parts)


@pytest.mark.parametrize("levels", [256, 1024])
def test_every_instruction_set_and_chunk_equals_the_reference(levels):
    shape, tokens = shape_of(levels=levels), music(levels, 3000)
    expected, places = reference_rows(shape, tokens), reference_places(shape, tokens)
    assert len(np.unique(expected[:, 1])) > 50
    first = levels + np.arange(len(shape.predictors)) * (levels + SPREADS)
    assert (np.abs(places - (expected[:, 1::2] - first)) <= 1.0).all()
    for isa in ISAS:
        for chunk in (1, 77, 3000):
            assert np.array_equal(rows_of(Predictors(shape, isa), tokens, chunk), expected), (isa, chunk)
        predictors = Predictors(shape, isa)
        assert np.array_equal(predictors.hear(predictors.start(1), 0, tokens[None])[1][0], places), isa


def test_streams_do_not_hear_each_other():
    predictors, both = Predictors(shape_of()), np.stack([music(256, 500), music(256, 500, seed=1)])
    together, _ = predictors.hear(predictors.start(2), 0, both)
    for stream, tokens in enumerate(both):
        assert np.array_equal(together[stream], rows_of(predictors, tokens, 500))


def test_the_future_is_not_heard():
    predictors, tokens = Predictors(shape_of()), music(256, 800)
    changed = tokens.copy()
    changed[700:] = 255 - changed[700:]
    before, after = (rows_of(predictors, each, 800) for each in (tokens, changed))
    assert np.array_equal(before[:700], after[:700])
    assert not np.array_equal(before[700:], after[700:])


@pytest.mark.parametrize("order", [8, 32, 136])
def test_what_lies_longer_ago_than_the_formula_says_is_forgotten(order):
    predictors, tokens = Predictors(shape_of((order,))), music(256, 5000)
    whole = rows_of(predictors, tokens, 5000)
    field = fit_window(order) + refit_of(order) - 1 + REFIT - 1  # samples before the newest one
    for begin in range(1000, 1000 + refit_of(order)):
        late = predictors.hear(predictors.start(1), begin, tokens[None, begin:])[0][0]
        assert np.array_equal(late[field:], whole[begin + field :])


def test_an_envelope_forgets_as_the_formula_says():
    shape = NetworkShape(256, (1,), (8,), curve_channels=20, hop=64, envelope=(16, 20, 8000))
    predictors, tokens, curves = Predictors(shape), music(256, 1200), vowels(20, 20)
    field = 16 + REFIT - 1  # samples before the newest one
    assert shape.receptive_field == 2 + field
    whole = predictors.hear(predictors.start(1), 0, tokens[None], curves)[0][0]
    for begin in (700, 704, 731):
        late = predictors.hear(predictors.start(1), begin, tokens[None, begin:], curves)[0][0]
        assert np.array_equal(late[field:], whole[begin + field :])
        assert not np.array_equal(late[: field // 2], whole[begin : begin + field // 2])


def vowels(frames: int, bands: int, seed: int = 3) -> np.ndarray:
    """(1, frames, bands) of a mel curve with a peak that wanders, from the floor to full scale."""
    generator = np.random.default_rng(seed)
    place = np.cumsum(generator.uniform(-2.0, 2.5, frames))[:, None] % bands
    curve = generator.uniform(-0.5, 1.0, (frames, 1)) - 0.15 * np.abs(np.arange(bands) - place)
    curve[0] = -1.0
    return np.maximum(curve, -1.0)[None].astype(np.float32)


@pytest.mark.parametrize("predictors", [(), (8, 16)])
def test_the_envelope_equals_the_reference_everywhere(predictors):
    shape = NetworkShape(
        256, (1,), (8,), predictors=predictors, curve_channels=21, hop=96, envelope=(16, 20, 8000)
    )
    tokens, curves = music(256, 1500), vowels(14, 21)
    expected = reference_rows(shape, tokens, curves[0])
    assert len(np.unique(expected[:, -2])) > 50
    for isa in ISAS:
        for chunk in (1, 77, 1500):
            predictors_here = Predictors(shape, isa)
            memory, parts = predictors_here.start(1), []
            for at in range(0, 1500, chunk):
                parts.append(predictors_here.hear(memory, at, tokens[None, at : at + chunk], curves)[0][0])
            assert np.array_equal(np.concatenate(parts), expected), (isa, chunk)


def melody(frames: int, channels: int, column: int, seed: int = 5) -> np.ndarray:
    """(1, frames, channels): the curves of pitch, from below to above what is heard, some frames without."""
    generator = np.random.default_rng(seed)
    curves = generator.standard_normal((1, frames, channels)).astype(np.float32)
    curves[0, :, column] = generator.random(frames) < 0.8
    curves[0, :, column + 1] = generator.uniform(-5.0, 4.0, frames)
    return curves


@pytest.mark.parametrize(("predictors", "envelope", "phases"), [((), (), 0), ((8,), (16, 20, 8000), PHASES)])
def test_the_period_equals_the_reference_everywhere(predictors, envelope, phases):
    column = 20 if envelope else 1
    shape = NetworkShape(
        256, (1,), (8,), predictors=predictors, curve_channels=column + 3, hop=96,
        envelope=envelope, period=(column, 8000, phases),
    )  # fmt: skip
    tokens, curves = music(256, 3000), melody(28, column + 3, column)  # the last frame is held
    if envelope:
        curves[..., :20] = vowels(28, 20)
    expected = reference_rows(shape, tokens, curves[0])
    assert len(np.unique(expected[:, -2 - bool(phases)])) > 50
    assert not phases or len(np.unique(expected[-4 * 96 :, -1])) > 10
    for isa in ISAS:
        for chunk in (1, 77, 3000):
            predictors_here = Predictors(shape, isa)
            memory, parts = predictors_here.start(1), []
            for at in range(0, 3000, chunk):
                parts.append(predictors_here.hear(memory, at, tokens[None, at : at + chunk], curves)[0][0])
            assert np.array_equal(np.concatenate(parts), expected), (isa, chunk)


def test_a_period_forgets_as_the_formula_says():
    shape = NetworkShape(256, (1,), (8,), curve_channels=3, hop=64, period=(0, 8000, PHASES))
    predictors, tokens, curves = Predictors(shape), music(256, 2400), np.array([[[1.0, -5.0, 0.3]]])
    field = 8000 // 25 + 4 + REFIT - 1
    assert shape.receptive_field == 2 + field
    whole = predictors.hear(predictors.start(1), 0, tokens[None], curves)[0][0]
    for begin in (1500, 1504, 1531):
        late = predictors.hear(predictors.start(1), begin, tokens[None, begin:], curves)[0][0]
        assert np.array_equal(late[field:], whole[begin + field :])
        assert not np.array_equal(late[: field // 2], whole[begin : begin + field // 2])


@pytest.mark.parametrize("hertz", [27.5, 41.2, 98.0, 233.08, 1000.0, 1900.0])
def test_a_wave_of_the_pitch_told_is_expected_whatever_its_shape(hertz):
    """Harmonics up to a quarter of the sample rate, far from what low orders can follow."""
    rate, t = 16_000, np.arange(16_000)
    overtones = range(1, 1 + int(rate / 4 / hertz))
    wave = sum(np.sin(2 * np.pi * hertz * k / rate * t + k * k) / k for k in overtones)
    wave *= 0.8 / np.abs(wave).max()
    shape = NetworkShape(256, (1,), (8,), curve_channels=3, hop=64, period=(0, rate, 0))
    curves, codec = run_phase(scale_pitch([hertz]), 64 / rate)[None], Codec()
    tokens = np.concatenate([[codec.silence], codec.encode(wave)[:-1]])
    expected = codec.decode(
        Predictors(shape).hear(Predictors(shape).start(1), 0, tokens[None], curves)[0][0, :, 1] - 256
    )
    off = (expected - wave)[4000:]
    assert 10.0 * np.log10(np.mean(wave**2) / np.mean(off**2)) > 30.0


def test_a_filter_is_expected_from_its_mel_curve():
    """Noise through two resonances is expected to far less than its own power, from the first frame on."""
    rate, hop = 8000, 128
    noise = 0.02 * np.random.default_rng(0).standard_normal(2 * rate)
    poles = [0.97 * np.exp(2j * np.pi * 600 / rate), 0.95 * np.exp(2j * np.pi * 1900 / rate)]
    wave = lfilter([1.0], np.real(np.poly([*poles, *np.conj(poles)])), noise).astype(np.float32)
    wave *= 0.7 / np.abs(wave).max()
    curves = extract_curves(wave, rate, ["mel"], hop, 20)[None]
    shape = NetworkShape(256, (1,), (8,), curve_channels=20, hop=hop, envelope=(16, 20, rate))
    predictors, codec = Predictors(shape), Codec()
    tokens = np.concatenate([[codec.silence], codec.encode(wave)[:-1]])
    expected = codec.decode(predictors.hear(predictors.start(1), 0, tokens[None], curves)[0][0, :, 1] - 256)
    assert 10.0 * np.log10(np.mean(wave**2) / np.mean((expected - wave) ** 2)) > 8.0


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


@pytest.mark.parametrize("streams", [1, 3, 8])
def test_threads_change_nothing(streams: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("audio_gen.engine.predictors.SHARE", 50)
    predictors = Predictors(shape_of((8, 32)))
    tokens = np.random.default_rng(streams).integers(0, 256, (streams, 300))
    alone, shared = predictors.start(streams), predictors.start(streams)
    one, several = predictors.hear(alone, 7, tokens), predictors.hear(shared, 7, tokens, threads=4)
    assert all(np.array_equal(*each) for each in zip(one, several, strict=True))
    assert np.array_equal(alone, shared)
