"""Log-mel as others measure it, and what `vocode` says of files that hold something else."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from command_line import call
from networks import network_settings, random_tensors
from numpy.typing import NDArray

from audio_gen import features
from audio_gen.checkpoint import Checkpoint, save_checkpoint
from audio_gen.codec import Codec
from audio_gen.curves import curve_channels, extract_curves, window_size
from audio_gen.features import load_features
from audio_gen.shape import NetworkShape

Floats = NDArray[np.floating]
SETTINGS = [(8_000, 128, 20), (16_000, 128, 80)]
"""(sample rate, hop, bands) of the recipes that follow mel."""
SNIPPET = re.search(r"```python\n(.*?)```", features.__doc__ or "", re.DOTALL)[1]  # type: ignore[index]


def chirp(rate: int) -> Floats:
    """From 50 Hz to 95 % of the highest frequency, at a steady number of octaves a second."""
    time, low, high = np.arange(2 * rate) / (2 * rate), 50.0, 0.475 * rate
    turns = 2.0 * low / np.log(high / low) * ((high / low) ** time - 1.0)
    return 0.9 * np.sin(2 * np.pi * turns)


def noise(rate: int) -> Floats:
    return np.random.default_rng(1).uniform(-0.5, 0.5, 2 * rate + 37)


def speech(rate: int) -> Floats:
    """Pulses of a gliding pitch and breath by turns, through three resonances."""
    samples = 2 * rate + 5
    time = np.arange(samples) / rate
    turns = np.cumsum(180.0 * 2.0 ** (0.3 * np.sin(2 * np.pi * 1.3 * time))) / rate
    swell = np.sin(2 * np.pi * 2.0 * time)
    breath = 0.02 * np.random.default_rng(2).standard_normal(samples)
    wave = np.diff(np.floor(turns), prepend=0.0) * np.maximum(swell, 0.0) + breath * np.maximum(-swell, 0.0)
    for hertz, width in ((500, 80), (1500, 120), (2500, 160)):
        ringing = np.arange(rate // 10) / rate
        resonance = np.exp(-np.pi * width * ringing) * np.sin(2 * np.pi * hertz * ringing)
        wave = np.convolve(wave, resonance)[:samples]
    return 0.9 * wave / np.abs(wave).max()


def by_torchaudio(rate: int, hop: int, bands: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Floats:
    """The curves that the documented snippet makes of folder/word.wav."""
    numbers = f"rate, bands, hop, window, peak = {rate}, {bands}, {hop}, {window_size(rate, hop)}, 0.9\n"
    snippet, count = re.subn(r"rate, bands, hop, window, peak = .*\n", numbers, SNIPPET)
    assert count == 1
    monkeypatch.chdir(folder)
    exec(compile(snippet, "features.py", "exec"), {})
    return np.load(folder / "word.npz")["curves"]


def by_librosa(wave: Floats, rate: int, hop: int, bands: int) -> Floats:
    import librosa

    window, frames = window_size(rate, hop), -(-len(wave) // hop)
    before = (window - hop) // 2
    padded = np.pad(wave, (before, (frames - 1) * hop + window - before - len(wave)))
    power = librosa.feature.melspectrogram(
        y=padded, sr=rate, n_fft=window, hop_length=hop, n_mels=bands, center=False, htk=True, norm=None
    )
    power = power.T * (2.0 / librosa.filters.get_window("hann", window).sum()) ** 2
    return 10.0 * np.log10(np.maximum(power, 1e-8)) / 40.0 + 1.0


@pytest.mark.parametrize(("rate", "hop", "bands"), SETTINGS)
@pytest.mark.parametrize("sound", [chirp, noise, speech])
def test_mel_is_what_torchaudio_and_librosa_measure(
    rate: int, hop: int, bands: int, sound: Callable[[int], Floats], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    for package in ("torchaudio", "librosa"):
        pytest.importorskip(package)
    soundfile.write(tmp_path / "word.wav", sound(rate), rate, subtype="FLOAT")
    wave = soundfile.read(tmp_path / "word.wav", dtype="float32")[0]
    wave *= np.float32(0.9) / np.abs(wave).max()
    ours = extract_curves(wave, rate, ["mel"], hop, bands)
    assert np.ptp(ours) > 0.4 and ours.shape == (-(-len(wave) // hop), bands)
    theirs = by_torchaudio(rate, hop, bands, tmp_path, monkeypatch)
    assert theirs.shape == ours.shape and 40.0 * np.abs(theirs - ours).max() < 0.002  # decibels
    assert 40.0 * np.abs(by_librosa(wave, rate, hop, bands) - ours).max() < 0.0001


# Files


def checkpoint(*curves: str, rate: int = 16_000, hop: int = 128, bands: int = 80) -> Checkpoint:
    """A random network that follows these curves."""
    shape = NetworkShape.from_dict(
        network_settings([2, 2], [8, 8], [4], curve_channels=curve_channels(curves, bands), hop=hop)
    )
    gain = {"peak": 0.9, "usual_peak": 0.52}
    return Checkpoint(shape, Codec(), rate, random_tensors(shape, 1), curves, gain, card={"name": "toy"})


@pytest.fixture(scope="module")
def vocoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "toy.safetensors"
    save_checkpoint(path, checkpoint("mel"))
    return path


def test_what_torchaudio_measured_is_played_like_the_recording(
    vocoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torchaudio")
    soundfile.write(tmp_path / "word.wav", speech(16_000)[8_000:16_000], 16_000, subtype="FLOAT")
    monkeypatch.chdir(tmp_path)
    exec(compile(SNIPPET, "features.py", "exec"), {})
    called = call("vocode", "word.npz", "--model", vocoder, "-o", "theirs.wav", "--save", "kept.npz")
    assert called.code == 0, called.errors
    called = call("vocode", "word.wav", "--model", vocoder, "-o", "ours.wav", "--save", "ours.npz")
    assert called.code == 0, called.errors
    assert 40.0 * np.abs(np.load("ours.npz")["curves"] - np.load("kept.npz")["curves"]).max() < 0.002
    frames = -(-8_000 // 128)
    assert soundfile.info("theirs.wav").frames == frames * 128 and soundfile.info("ours.wav").frames == 8_000


GOOD: dict[str, Any] = {
    "curves": np.zeros((4, 80), np.float32),
    "names": ["mel"],
    "sample_rate": 16_000,
    "hop": 128,
}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"hop": 256}, "measured with hop 256, the model follows 128"),
        ({"sample_rate": 22_050}, "measured with sample_rate 22050, the model follows 16000"),
        ({"names": ["loudness"]}, "measured with names ['loudness'], the model follows ['mel']"),
        ({"curves": np.zeros((4, 20))}, "must be (frames, 80), got (4, 20)"),
        ({"curves": np.zeros((80, 4))}, "must be (frames, 80), got (80, 4); transpose it"),
        ({"curves": np.zeros((0, 80))}, "must be (frames, 80), got (0, 80)"),
        ({"curves": np.zeros((1, 4, 80))}, "must be (frames, 80), got (1, 4, 80)"),
        ({"curves": np.full((4, 80), -11.5)}, "mel is on another scale, from -11.50 to -11.50; the model follows"),
        ({"curves": np.full((4, 80), 60.0)}, "mel is on another scale"),
        ({"curves": np.full((4, 80), np.nan)}, "no finite numbers"),
        ({"curves": np.full((4, 80), 1e300)}, "no finite numbers"),
        ({"curves": np.zeros((4, 80), complex)}, "no finite numbers"),
        ({"curves": np.full((4, 80), None)}, "cannot be read as an array"),
    ],
)  # fmt: skip
def test_files_of_another_kind_are_one_clear_line(
    vocoder: Path, tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    np.savez(tmp_path / "mel.npz", **GOOD | change)
    names = ["mel.npz"]
    if "curves" in change:
        np.save(tmp_path / "mel.npy", change["curves"])
        names.append("mel.npy")
    for name in names:
        called = call("vocode", tmp_path / name, "--model", vocoder, "-o", tmp_path / "out.wav")
        assert called.code == 1 and said in called.errors and name in called.errors, called.errors
        assert called.errors.count("\n") == 1 and not (tmp_path / "out.wav").exists()


def test_good_files_are_read_and_damaged_ones_are_not(vocoder: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "mel.npz", **GOOD)
    assert np.array_equal(load_features(tmp_path / "mel.npz", checkpoint("mel")), GOOD["curves"])
    whole = (tmp_path / "mel.npz").read_bytes()
    for name, content in (
        ("cut", whole[:300]),
        ("flipped", whole[:400] + b"\xff" + whole[401:]),
        ("empty", b""),
    ):
        (tmp_path / f"{name}.npz").write_bytes(content)
        called = call("vocode", tmp_path / f"{name}.npz", "--model", vocoder, "-o", tmp_path / "out.wav")
        assert called.code == 1 and called.errors.count("\n") == 1 and "cannot be read" in called.errors


def test_low_pitches_are_on_the_right_scale(tmp_path: Path) -> None:
    """Octaves reach down to -3.1: what bounds decibels does not bound them."""
    follows = checkpoint("pitch", "loudness")
    low = np.array([[1.0, -3.1, 0.4, -0.5]] * 4)
    np.save(tmp_path / "low.npy", low)
    assert np.allclose(load_features(tmp_path / "low.npy", follows), low)
    np.save(tmp_path / "decibels.npy", low * [1.0, 1.0, 1.0, 40.0])
    with pytest.raises(features.ControlError, match="loudness is on another scale"):
        load_features(tmp_path / "decibels.npy", follows)


def test_a_vocoder_that_is_to_generate_names_the_verb_that_plays_it(vocoder: Path, tmp_path: Path) -> None:
    called = call("generate", vocoder, "-o", tmp_path / "out.wav")
    assert called.code == 1 and "`audio-gen vocode`" in called.errors and called.errors.count("\n") == 1


def test_info_says_how_curves_are_measured(vocoder: Path) -> None:
    told = call("info", vocoder).text
    assert "mel: every 128 samples, 8 ms; mel in 80 bands through windows of 1024 samples" in told
    numbers = re.search(r"rate, bands, hop, window, peak = (.*), (.*)", SNIPPET)
    assert numbers and numbers[1] == "16_000, 80, 128, 1024"
    assert f"of recordings that peak at {numbers[2]}" in call("info", "voice").text
