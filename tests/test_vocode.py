"""Saying recordings again: what is measured is what the model follows, and files of curves are checked."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from command_line import call, write_model
from test_sketch import BANDS, HOP, random_checkpoint
from toys import RATE

from audio_gen.audio import probe
from audio_gen.checkpoint import save_checkpoint
from audio_gen.curves import extract_curves
from audio_gen.errors import ControlError
from audio_gen.features import load_features, measure, save_features
from audio_gen.sampler import load


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "random.safetensors"
    save_checkpoint(path, random_checkpoint())
    return path


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """A second and a bit, at another rate than the model's."""
    time = np.arange(round(1.1 * 2 * RATE)) / (2 * RATE)
    soundfile.write(tmp_path / "tone.wav", 0.3 * np.sin(2 * np.pi * 200.0 * time), 2 * RATE)
    return tmp_path / "tone.wav"


def test_a_recording_is_said_again(model: Path, recording: Path, tmp_path: Path) -> None:
    called = call(
        "vocode", recording, "--model", model, "-o", tmp_path / "again.wav", "--save", tmp_path / "c.npz"
    )
    assert called.code == 0, called.errors
    found = probe(tmp_path / "again.wav")
    assert (found.frames, found.sample_rate) == (round(1.1 * RATE), RATE)
    # From the curves kept in a file it is the same.
    again = call("vocode", tmp_path / "c.npz", "--model", model, "-o", tmp_path / "twice.wav")
    assert again.code == 0, again.errors
    first, second = (soundfile.read(tmp_path / name)[0] for name in ("again.wav", "twice.wav"))
    assert np.array_equal(first, second[: len(first)]) and 0 <= len(second) - len(first) < HOP


def test_levels_are_those_of_the_training(model: Path) -> None:
    checkpoint = load(model).checkpoint
    wave = (0.1 * np.sin(2 * np.pi * 200.0 * np.arange(RATE) / RATE)).astype(np.float32)
    peak = np.abs(wave).max()
    curves = measure(checkpoint, wave)
    wanted = extract_curves(wave * np.float32(0.9 / peak), RATE, ["mel"], HOP, BANDS)
    assert np.abs(curves - wanted).max() < 1e-4
    assert np.abs(measure(checkpoint, wave, 20.0 * np.log10(0.9 / peak)) - curves).max() < 1e-4
    softer = replace(checkpoint, gain={**checkpoint.gain, "usual_peak": 0.45})
    wanted = extract_curves(wave * np.float32(0.45 / peak), RATE, ["mel"], HOP, BANDS)
    assert np.abs(measure(softer, wave) - wanted).max() < 1e-4
    silent = replace(
        checkpoint, gain={**checkpoint.gain, "usual_peak": 0.0}
    )  # where most of the training audio was
    assert np.array_equal(measure(silent, wave), curves)
    with pytest.raises(ControlError, match="silent"):
        measure(checkpoint, np.zeros(100))


def test_curves_of_another_kind_are_refused(model: Path, tmp_path: Path) -> None:
    checkpoint = load(model).checkpoint
    curves = np.zeros((4, BANDS), np.float32)
    save_features(tmp_path / "good.npz", checkpoint, curves)
    assert np.array_equal(load_features(tmp_path / "good.npz", checkpoint), curves)
    np.save(tmp_path / "bare.npy", curves)
    assert np.array_equal(load_features(tmp_path / "bare.npy", checkpoint), curves)
    np.savez(tmp_path / "hop.npz", curves=curves, hop=HOP + 1)
    np.savez(tmp_path / "none.npz", mel=curves)
    np.save(tmp_path / "wide.npy", np.zeros((4, BANDS + 1)))
    np.save(tmp_path / "nan.npy", np.full((4, BANDS), np.nan))
    (tmp_path / "text.npy").write_text("no array")
    for name, message in [
        ("hop.npz", "hop 33, the model follows 32"),
        ("none.npz", "no `curves`"),
        ("wide.npy", "must be"),
        ("nan.npy", "finite"),
        ("text.npy", "cannot be read"),
        ("missing.npy", "no such file"),
    ]:
        called = call("vocode", tmp_path / name, "--model", model, "-o", tmp_path / "out.wav")
        assert called.code == 1 and message in called.errors and not (tmp_path / "out.wav").exists()


def test_it_never_overwrites(model: Path, recording: Path, tmp_path: Path) -> None:
    before = recording.read_bytes()
    called = call("vocode", recording, "--model", model, "-o", recording, "--force")
    assert called.code == 1 and "the recording itself" in called.errors and recording.read_bytes() == before
    (tmp_path / "there.wav").write_bytes(b"mine")
    kept = tmp_path / "kept.npz"
    called = call("vocode", recording, "--model", model, "-o", tmp_path / "there.wav", "--save", kept)
    assert called.code == 1 and "exists" in called.errors and not kept.exists()


def test_a_model_without_curves_cannot(recording: Path, tmp_path: Path) -> None:
    toy = write_model(tmp_path / "toy.safetensors")
    called = call("vocode", recording, "--model", toy, "-o", tmp_path / "out.wav")
    assert called.code == 1 and "follows no curves" in called.errors
