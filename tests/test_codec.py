import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audio_gen.codec import LEVELS, Codec
from audio_gen.errors import SettingError


@pytest.mark.parametrize("levels", LEVELS)
@pytest.mark.parametrize("pre_emphasis", [0.0, 0.5, 0.85, 0.95])
def test_every_token_survives_the_round_trip(levels, pre_emphasis):
    codec = Codec(levels, pre_emphasis)
    tokens = np.arange(levels, dtype=np.uint16)
    for order in (tokens, tokens[::-1], np.random.default_rng(0).permutation(tokens)):
        assert np.array_equal(codec.encode(codec.decode(order)), order)


@given(st.sampled_from(LEVELS), st.sampled_from([0.0, 0.85]), st.integers(0, 2**32), st.integers(1, 400))
def test_any_token_sequence_survives_also_in_two_parts(levels, pre_emphasis, seed, time):
    codec = Codec(levels, pre_emphasis)
    tokens = np.random.default_rng(seed).integers(levels, size=time).astype(np.uint16)
    waveform = codec.decode(tokens)
    assert np.array_equal(codec.encode(waveform), tokens)
    cut = time // 2
    before = float(waveform[cut - 1]) if cut else 0.0
    second = codec.decode(tokens[cut:], previous=before)
    assert np.array_equal(second, waveform[cut:])
    assert np.array_equal(codec.encode(second, previous=before), tokens[cut:])


@pytest.mark.parametrize("levels", LEVELS)
def test_every_token_survives_integer_pcm_of_the_promised_width(levels):
    codec = Codec(levels)
    scale = 2 ** (codec.pcm_bits - 1)
    tokens = np.arange(levels, dtype=np.uint16)
    pcm = np.clip(np.rint(codec.decode(tokens).astype(float) * scale), -scale, scale - 1) / scale
    assert np.array_equal(codec.encode(pcm), tokens)


@pytest.mark.parametrize("levels", LEVELS)
def test_silence_is_the_token_of_zero_and_decodes_to_zero(levels):
    codec = Codec(levels)
    assert codec.encode([0.0]).tolist() == [codec.silence]
    assert codec.decode([codec.silence]).tolist() == [0.0]


@pytest.mark.parametrize("levels", LEVELS)
def test_agrees_with_torchaudio(levels):
    torch = pytest.importorskip("torch")
    functional = pytest.importorskip("torchaudio.functional")
    x = np.linspace(-1.0, 1.0, 20_011)
    quarter = (
        float(Codec(levels).decode([levels // 2 + 1])[0]) / 6
    )  # ours moves the edges by a quarter interval
    theirs = functional.mu_law_encoding(torch.from_numpy(np.clip(x + quarter, -1, 1)), levels).numpy()
    ours = Codec(levels).encode(x)
    assert np.count_nonzero(ours != theirs) <= 1  # an edge met to the last bit
    plain = functional.mu_law_encoding(torch.from_numpy(x), levels).numpy()
    assert np.abs(ours - plain.astype(int)).max() <= 1
    assert np.mean(ours != plain) < 0.02
    tokens = np.delete(np.arange(levels), levels // 2)  # all but SILENCE, which we decode to exactly 0
    decoded = functional.mu_law_decoding(torch.from_numpy(tokens), levels).numpy()
    assert np.allclose(Codec(levels).decode(tokens), decoded, atol=1e-6)


def test_the_dither_of_a_16_bit_recording_is_silence():
    for codec in (Codec(256), Codec(512, 0.0)):
        assert set(codec.encode(np.array([-1, 0, 1, 0, -1]) / 2**17).tolist()) == {codec.silence}
    assert set(Codec(256).encode(np.array([-1, 0, 1]) / 2**15).tolist()) == {128}


def test_louder_in_never_decodes_quieter():
    x = np.linspace(-1.2, 1.2, 5001)
    assert np.all(np.diff(Codec().round_trip(x)) >= 0)


@pytest.mark.parametrize("settings", [{"levels": 255}, {"pre_emphasis": 0.96}, {"pre_emphasis": -0.1}])
def test_impossible_settings_are_refused(settings):
    with pytest.raises(SettingError):
        Codec(**settings)
