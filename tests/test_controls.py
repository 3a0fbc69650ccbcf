"""Laws of field patterns, labels and curves."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audio_gen.controls import (
    CurveExtractor,
    FieldPattern,
    LabelRule,
    PlayerCurve,
    curve_channels,
    extract_curves,
    fill,
    label_indices,
    natural_key,
    parse_curve,
    player_frames,
    template_fields,
)
from audio_gen.curves import scale_decibels, unscale_decibels
from audio_gen.errors import ControlError, DataError, RecipeError
from audio_gen.pitch import scale_pitch, unscale_pitch
from audio_gen.settings import LabelSettings

RATE = 16_000
words = st.text(st.characters(exclude_characters="/_", exclude_categories=["Cs"]), min_size=1)


@given(words, words, words)
def test_what_a_template_writes_its_pattern_reads(a: str, b: str, c: str) -> None:
    fields = {"digit": a, "speaker": b, "index": c}
    for pattern in ("{digit}_{speaker}_{index}", "x/{digit}/{index}_{speaker}"):
        found = FieldPattern(pattern).match(fill(pattern, fields))
        assert found is not None
        assert {name: found[name] for name in fields} == fields


def test_a_pattern_with_a_slash_matches_the_whole_path_and_others_the_name() -> None:
    name, whole = FieldPattern("{note}_vl{velocity}"), FieldPattern("{mic}/{note}_vl{velocity}")
    assert name.match("a/b/c2_vl3") == {"folder": "b", "note": "c2", "velocity": "3"}
    assert name.match("c2_vl3") == {"note": "c2", "velocity": "3"}
    assert whole.match("oh/c2_vl3") == {"folder": "oh", "mic": "oh", "note": "c2", "velocity": "3"}
    assert whole.match("c2_vl3") is None
    assert whole.match("x/oh/c2_vl3") is None
    assert name.match("a/c2_vl") is None  # a field is never empty


def test_fields_are_as_short_as_the_rest_allows_and_repeat_faithfully() -> None:
    assert FieldPattern("{a}_{b}").match("x_y_z") == {"a": "x", "b": "y_z"}
    assert FieldPattern("{a}-{a}").match("x-x") == {"a": "x"}
    assert FieldPattern("{a}-{a}").match("x-y") is None
    assert FieldPattern("({a}).{{b}}").match("(x).{b}") == {"a": "x"}
    assert FieldPattern("").match("folder/anything") == {"folder": "folder"}


@pytest.mark.parametrize("pattern", ["{", "{}", "{0}", "{a!r}", "{a:3}", "{a b}", "{a.b}"])
def test_what_is_no_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(RecipeError):
        FieldPattern(pattern)
    with pytest.raises(RecipeError):
        template_fields(pattern)


def test_filling_names_the_missing_field() -> None:
    with pytest.raises(DataError, match="'speaker'"):
        fill("{speaker}", {"digit": "1"})


def test_label_rules_gather_raw_names() -> None:
    values = {"snare": ["sc", "se"], "kick": ["ks"]}
    rule = LabelRule("drum", LabelSettings(**{"from": "{kind}", "values": values}))
    assert [rule.value({"kind": raw}) for raw in ("ks", "sc", "se", "hh")] == ["kick", "snare", "snare", None]
    assert rule.value({}) is None
    assert rule.vocabulary(["kick"]) == ["snare", "kick"]  # the recipe's order, whatever was seen
    free = LabelRule("velocity", LabelSettings(**{"from": "{velocity}"}))
    assert free.vocabulary(["10", "2", "1", "2"]) == ["1", "2", "10"]
    with pytest.raises(RecipeError, match="'sc'"):
        LabelRule("drum", LabelSettings(**{"from": "{kind}", "values": {"a": ["sc"], "b": ["sc"]}}))


@given(st.lists(st.text(max_size=6), max_size=8))
def test_natural_order_is_total_and_stable(texts: list[str]) -> None:
    assert sorted(texts, key=natural_key) == sorted([*texts[1:], *texts[:1]], key=natural_key)


def test_label_indices_count_from_one_and_zero_is_none() -> None:
    vocabulary = {"digit": ["0", "1", "2"], "speaker": ["a", "b"]}
    assert label_indices({}, vocabulary).tolist() == [0, 0]
    assert label_indices({"speaker": "b", "digit": "0"}, vocabulary).tolist() == [1, 2]
    assert label_indices({}, {}).shape == (0,)
    with pytest.raises(ControlError, match=r"did you mean 'speaker'\? known: digit, speaker"):
        label_indices({"speakr": "a"}, vocabulary)
    with pytest.raises(ControlError, match="known: a, b"):
        label_indices({"speaker": "c"}, vocabulary)


def sine(hertz: float) -> np.ndarray:
    """Half a second at half of full scale."""
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(RATE // 2) / RATE)).astype(np.float32)


@given(st.integers(0, 700), st.integers(1, 97))
def test_frames_cover_every_sample(samples: int, hop: int) -> None:
    curves = extract_curves(np.ones(samples, np.float32), RATE, ["loudness"], hop)
    assert curves.shape == (-(-samples // hop), 1)
    assert (curves[: samples // hop] == 1.0).all()  # 0 dBFS


def test_loudness_is_decibels_of_the_frame_alone() -> None:
    wave = np.zeros(1000, np.float32)
    wave[300:400] = 0.1  # -20 dBFS, and exactly the fourth frame
    loudness = unscale_decibels(extract_curves(wave, RATE, ["loudness"], 100))[:, 0]
    expected = np.full(10, -80.0)
    expected[3] = -20.0
    np.testing.assert_allclose(loudness, expected, atol=1e-4)


def test_curves_do_not_depend_on_how_the_waveform_is_cut() -> None:
    rng = np.random.default_rng(0)
    wave = rng.normal(0, 0.1, 25 * 1000).astype(np.float32)  # three segments of 10 s
    whole = extract_curves(wave, 1000, ["mel", "loudness"], 64, 20)
    extractor = CurveExtractor(1000, ["mel", "loudness"], 64, 20)
    blocks = np.split(wave, np.sort(rng.integers(0, len(wave), 40)))
    rows = [row for block in blocks for row in extractor.push(block)]
    assert np.array_equal(np.concatenate([*rows, extractor.finish()]), whole)
    # Nor do the seams between segments show: a later start gives the same frames away from it.
    later = extract_curves(wave[64 * 50 :], 1000, ["mel", "loudness"], 64, 20)
    np.testing.assert_allclose(later[4:], whole[54:], atol=1e-5)


def test_mel_finds_a_sine_in_its_band_at_its_level_and_hears_everywhere() -> None:
    bands = 40
    peaks = []
    for hertz in (200.0, 1000.0, 5000.0):
        mel = unscale_decibels(extract_curves(sine(hertz), RATE, ["mel"], 256, bands))[10]
        peaks.append(int(mel.argmax()))
        assert -6.02 - 6.0 < mel.max() < -6.02 + 3.0
    assert peaks == sorted(set(peaks))
    noise = np.random.default_rng(1).normal(0, 0.1, 4000).astype(np.float32)
    assert extract_curves(noise, 8000, ["mel"], 64, 256)[10:-10].min() > -1.0  # no deaf band


def test_pitch_is_found_in_tune_and_silence_has_none() -> None:
    wave = np.concatenate([sine(220.0), np.zeros(RATE // 2, np.float32)])
    pitch = unscale_pitch(extract_curves(wave, RATE, ["pitch"], 512))
    assert np.abs(1200 * np.log2(pitch[2:12] / 220.0)).max() < 15.0  # cents
    assert (pitch[-10:] == 0.0).all()


@pytest.mark.parametrize(("samples", "hop"), [(0, 64), (1, 256), (40_000, 16_384), (200, 7)])
def test_curves_of_any_length_and_hop(samples: int, hop: int) -> None:
    wave = np.zeros(samples, np.float32)
    wave[samples // 3 :: 1000] = 1.0
    curves = extract_curves(wave, RATE, ["pitch", "mel", "loudness"], hop, 8)
    assert curves.shape == (-(-samples // hop), 12)
    assert np.isfinite(curves).all() and (np.abs(curves) < 4).all()


def test_scales_invert() -> None:
    decibels = np.linspace(-80, 6, 50)
    np.testing.assert_allclose(unscale_decibels(scale_decibels(decibels)), decibels, atol=1e-4)
    hertz = np.array([0.0, 50.0, 440.0, 2100.0])
    np.testing.assert_allclose(unscale_pitch(scale_pitch(hertz)), hertz, rtol=1e-5)


def test_channels_add_up_and_unknown_curves_are_named() -> None:
    assert curve_channels(["pitch", "mel", "loudness"], 80) == 84
    assert extract_curves(sine(100.0), RATE, ["mel", "loudness"], 256, 9).shape[1] == 10
    with pytest.raises(ControlError, match="loudness, pitch, mel"):
        curve_channels(["volume"], 80)


def test_player_curves_join_points_and_hold_the_ends(tmp_path: Path) -> None:
    (tmp_path / "fade.csv").write_text("seconds,dBFS\n1.0,-60\n2.0,-20\n")
    (tmp_path / "glide.csv").write_text("0,220\n1,880\n2,0\n\n3,440\n")
    texts = [f"pitch={tmp_path / 'glide.csv'}", f"loudness = {tmp_path / 'fade.csv'}"]
    curves = [parse_curve(text) for text in texts]
    rows = player_frames(curves, ["loudness", "pitch"], 100, 10, 0, 40)  # frames of 0.1 s
    assert rows.shape == (40, 4)
    decibels = unscale_decibels(rows[:, 0])
    np.testing.assert_allclose(decibels[[0, 9, 14, 39]], [-60, -60, -42, -20], atol=1e-4)
    pitch = unscale_pitch(rows[:, 1:])
    np.testing.assert_allclose(pitch[[4, 5]], 440 * 2 ** np.array([-0.1, 0.1]), rtol=1e-4)
    np.testing.assert_allclose(pitch[[15, 25, 35]], [880, 0, 440], rtol=1e-5)
    part = player_frames(curves, ["loudness", "pitch"], 100, 10, 7, 9)
    assert np.array_equal(part, rows[7:16])  # any stretch of an endless stream


def test_a_constant_curve_is_a_number() -> None:
    assert parse_curve("pitch=220") == PlayerCurve("pitch", (0.0,), (220.0,))


@pytest.mark.parametrize(
    "text",
    ["loudness", "=3", "loudness=", "loudness=5", "pitch=9", "pitch=nan", "tone=3", "mel=1", "pitch=no.csv"],
)
def test_impossible_player_curves_are_refused(text: str) -> None:
    with pytest.raises(ControlError):
        parse_curve(text)


@pytest.mark.parametrize(
    "rows", ["", "a,b\n", "0,-20\n0,-30\n", "0,-20\n1,x\n", "0,-20,3\n", "0,inf\n", "nan,-3\n"]
)
def test_impossible_curve_files_are_refused(tmp_path: Path, rows: str) -> None:
    (tmp_path / "curve.csv").write_text(rows)
    with pytest.raises(ControlError, match=r"curve\.csv"):
        parse_curve(f"loudness={tmp_path / 'curve.csv'}")


def test_player_curves_must_fit_the_model() -> None:
    loud = parse_curve("loudness=-20")
    for curves, names in (([], ["pitch"]), ([loud], ["pitch"]), ([loud, loud], ["loudness"]), ([loud], [])):
        with pytest.raises(ControlError):
            player_frames(curves, names, RATE, 256, 0, 4)
