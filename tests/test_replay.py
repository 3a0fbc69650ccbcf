"""Whatever generate has made is made again from its own words; whatever was changed since is told."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from command_line import RATE, call, write_model

from audio_gen.audio import AudioWriter, read, read_tags


@pytest.fixture
def toy(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return write_model(tmp_path / "toy.safetensors", levels=512, pre_emphasis=0.85)


def generate(*arguments):
    called = call("generate", *arguments)
    assert called.code == 0, called.errors


@pytest.mark.parametrize("name", ["a.wav", "a.flac"])
def test_a_file_is_made_again(toy, name):
    generate(
        toy, "--label", "drum=hat@0,kick@0.3", "--temperature", "0.7@0,1.1@0.4", "--top-k", 9, "--seed", 3,
        "--seconds", 0.5, "-o", name,
    )  # fmt: skip
    called = call("replay", name, "--model", toy)
    assert called.code == 0, called.errors
    assert f"the same, {RATE // 2:,} samples, byte for byte" in called.errors
    assert "toy, drum=hat@0,kick@0.3, seed 3, fp32" in called.errors and called.text.strip() == name
    assert call("replay", name, "--model", toy, "-o", "b.wav").text.strip() == "b.wav"
    assert np.array_equal(read("b.wav"), read(name))
    assert call("replay", name, "--model", toy, "-o", "b.wav").code == 1
    before = Path(name).read_bytes()
    itself = call("replay", name, "--model", toy, "-o", name, "--force")
    assert itself.code == 1 and "is the file itself" in itself.errors and Path(name).read_bytes() == before


def test_a_clip_of_many_is_made_again(toy):
    generate(toy, "-n", 3, "--seconds", 0.2, "-o", "many", "--bits", 32)
    assert "byte for byte" in call("replay", "many/002.wav", "--model", toy).errors


def test_one_sample_changed_is_told(toy):
    generate(toy, "--seconds", 0.3, "-o", "a.wav")
    samples, tags = read("a.wav"), read_tags("a.wav")
    samples[321] += 1e-3
    with AudioWriter("b.wav", RATE, bits=24, seconds=0.3, tags=tags) as writer:
        writer.write(samples)
    called = call("replay", "b.wav", "--model", toy)
    assert called.code == 1 and f"differs from {321 / RATE:.4f} s on" in called.errors
    with AudioWriter("c.wav", RATE, bits=24, seconds=0.2, tags=tags) as writer:
        writer.write(read("a.wav")[: RATE // 5])
    assert (
        "the same, " in call("replay", "c.wav", "--model", toy).errors
    )  # a longer take begins with a shorter one


def test_what_cannot_be_made_again_is_one_line(toy, tmp_path):
    generate(toy, "--seconds", 0.1, "-o", "a.wav")
    soundfile.write("other.wav", np.zeros(100), RATE)
    other = write_model(tmp_path / "more" / "toy.safetensors", levels=512)
    for arguments, words in [
        (("other.wav",), "was not made by audio-gen"),
        (("a.wav",), "toy: neither a bundled model"),
        (("a.wav",), "say where it is with --model"),
        (("a.wav", "--model", other), "was made by another toy"),
        (("missing.wav",), "missing.wav"),
        (("a.wav", "--model", toy, "--prompt", "a.wav"), "goes on from nothing"),
        (("a.wav", "--model", toy, "--curve", "pitch=a2"), "follows no pitch"),
    ]:
        called = call("replay", *arguments)
        assert called.code in (1, 2) and words in called.errors, called.errors
        assert (
            called.errors.splitlines()[-1].startswith("audio-gen: error: ")
            and "Traceback" not in called.errors
        )


def test_a_prompt_has_to_be_given_again(toy):
    generate(toy, "--seconds", 0.3, "-o", "a.wav")
    generate(toy, "--prompt", "a.wav@0-0.2", "--seconds", 0.2, "--seed", 5, "-o", "b.wav")
    called = call("replay", "b.wav", "--model", toy)
    assert called.code == 2 and "goes on from a.wav; say where that is with --prompt" in called.errors
    called = call("replay", "b.wav", "--model", toy, "--prompt", "a.wav")
    assert called.code == 2 and "another part of it" in called.errors
    called = call("replay", "b.wav", "--model", toy, "--prompt", "a.wav@0-0.2")
    assert called.code == 0 and "byte for byte" in called.errors, called.errors


def test_curves_of_files_have_to_be_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    toy = write_model(tmp_path / "toy.safetensors", curves=("loudness",))
    Path("fade.csv").write_text("0,-40\n0.3,-10\n")
    generate(toy, "--curve", "loudness=fade.csv", "--seconds", 0.3, "-o", "a.wav")
    generate(toy, "--curve", "loudness=-20", "--seconds", 0.3, "-o", "b.wav")
    for name in ("a.wav", "b.wav"):
        assert "byte for byte" in call("replay", name, "--model", toy).errors
    Path("fade.csv").rename("moved.csv")
    called = call("replay", "a.wav", "--model", toy)
    assert called.code == 2 and "say where that is with --curve loudness=FILE" in called.errors
    assert call("replay", "a.wav", "--model", toy, "--curve", "loudness=moved.csv").code == 0
    Path("moved.csv").write_text("0,-40\n0.3,-11\n")
    called = call("replay", "a.wav", "--model", toy, "--curve", "loudness=moved.csv")
    assert called.code == 2 and "followed loudness fade.csv" in called.errors


def test_copies_are_made_again_by_vocode(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_model(tmp_path / "v.safetensors", curves=("mel",), curve_channels=8)
    soundfile.write("tone.wav", 0.1 * np.sin(np.arange(RATE // 4)), RATE)
    assert call("vocode", "tone.wav", "--model", "v.safetensors", "-o", "a.wav").code == 0
    called = call("replay", "a.wav", "--model", "v.safetensors")
    assert called.code == 2 and "make it again with audio-gen vocode" in called.errors, called.errors


CLIPS = Path(__file__).parents[1] / "samples"


@pytest.mark.parametrize(
    "clip",
    [
        "drums/clips/drums/kick-2-t0.8-000.flac",
        "digits/clips/digits/7-theo-t1.0-000.flac",
        "textures/clips/textures/rain-000.flac",
        "bass/clips/notes/arco-c2-vl3-t0.9-000.flac",
        "piano/clips/composed/composed-000.flac",
    ],
)
def test_what_another_machine_made_is_made_again(clip, monkeypatch):
    """Clips of the listening pages, in int8 and bf16. The processor that made them has dot products of both."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "zoo"))
    called = call("replay", CLIPS / clip)
    assert called.code == 0 and "the same, " in called.errors, called.errors
