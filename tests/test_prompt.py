"""Prompts: streams that go on from a recording, as if they had made it themselves."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from command_line import call, write_model
from networks import network_settings, random_tensors
from test_sketch import HOP, random_checkpoint
from toys import RATE

import audio_gen
from audio_gen.audio import read, read_tags
from audio_gen.checkpoint import Checkpoint
from audio_gen.codec import Codec
from audio_gen.curves import curve_channels
from audio_gen.errors import ControlError, SettingError
from audio_gen.sampler.model import Model
from audio_gen.sampler.parts import Part
from audio_gen.sampler.prompt import Prompt
from audio_gen.shape import NetworkShape

LABELS = {"tone": ["high", "low"]}


def plain(engine: Any = "compiled", emphasis: float = 0.0) -> Model:
    shape = NetworkShape.from_dict(network_settings([3, 3], [16, 16], [4], labels=LABELS, predictors=[8]))
    return Model(Checkpoint(shape, Codec(256, emphasis), RATE, random_tensors(shape, 1)), engine=engine)


def told(*names: str) -> Model:
    """A model that follows these curves, none of which a sketch draws."""
    channels = curve_channels(names, 8)
    shape = NetworkShape.from_dict(
        network_settings([3, 3], [16, 16], [4], curve_channels=channels, hop=HOP, predictors=[8], around=1)
    )
    return Model(Checkpoint(shape, Codec(), RATE, random_tensors(shape, 2), names, card={"name": "told"}))


@pytest.fixture(scope="module")
def sketched() -> Model:
    return Model(random_checkpoint())


@pytest.fixture(scope="module")
def tone() -> Any:
    return 0.5 * np.sin(2.0 * np.pi * 110.0 / RATE * np.arange(RATE), dtype=np.float32)


@pytest.mark.parametrize("emphasis", [0.0, 0.85])
@pytest.mark.parametrize("seconds", [0.001, 0.05, 0.3])
@pytest.mark.parametrize("engine", ["compiled", "reference"])
def test_who_goes_on_from_itself_goes_on_as_before(engine: str, emphasis: float, seconds: float) -> None:
    model = plain(engine, emphasis)
    whole = model.generate(0.4, seed=3, labels={"tone": "low"})
    begin = round(seconds * RATE)
    prompt = model.prompt(whole[:begin], decibels=0.0)
    rest = model.generate(0.4 - begin / RATE, seed=3, labels={"tone": "low"}, prompt=prompt)
    assert np.array_equal(rest, whole[begin:])


def test_a_sketch_goes_on_from_the_curves_of_the_prompt(sketched: Model) -> None:
    settings: dict[str, Any] = {"seed": 3, "labels": {"tone": "low"}}
    whole = sketched.generate(0.4, **settings)
    frames = 12
    voices = sketched.start([Part({"tone": "low"}, 3, draw=sketched.draw)])
    assert voices.sketching is not None
    prompt = Prompt(whole[: frames * HOP], voices.sketching.frames(0, frames - 1)[0])
    rest = sketched.generate(0.4 - frames * HOP / RATE, prompt=prompt, **settings)
    assert np.array_equal(rest, whole[frames * HOP :])


def test_chunks_and_company_change_nothing(sketched: Model, tone: Any) -> None:
    prompt = sketched.prompt(tone)
    clip = sketched.generate(0.3, prompt=prompt, seed=5)
    pieces = [*sketched.stream(0.3, prompt=tone, seed=5, chunk_seconds=0.0123)]
    assert np.array_equal(np.concatenate(pieces), clip) and len(clip) == round(0.3 * RATE)
    three = sketched.generate([0.1, 0.3, 0.2], prompt=prompt, seed=5, stream=[1, 0, 2])
    assert np.array_equal(three[1], clip) and not np.array_equal(three[0], clip[: len(three[0])])
    assert not np.array_equal(clip, sketched.generate(0.3, seed=5))


def test_a_prompt_is_as_loud_as_what_was_learned_unless_told(tone: Any) -> None:
    model = plain()
    peak = float(model.checkpoint.gain.get("peak", 0.9))
    assert np.abs(model.prompt(0.01 * tone).waveform).max() == pytest.approx(peak, rel=0.03)
    assert np.abs(model.prompt(0.1 * tone, decibels=6.0).waveform).max() == pytest.approx(0.1, rel=0.05)
    with pytest.raises(ControlError, match="silent"):
        model.prompt(np.zeros(1000))


def test_what_windows_see_beyond_the_end_is_not_heard(tone: Any) -> None:
    """Else every prompt would end in a spectrum that falls to silence."""
    model = told("mel")
    prompt = model.prompt(tone)
    assert prompt.curves is not None and len(prompt.waveform) == len(prompt.curves) * HOP < len(tone)
    loudest = prompt.curves.max(axis=1)
    assert loudest[len(loudest) // 2] == pytest.approx(loudest[-1], abs=0.01)
    with pytest.raises(SettingError, match="too short"):
        model.prompt(tone[: 2 * HOP])


def test_a_pitch_goes_on_in_phase(tone: Any) -> None:
    model = told("loudness")
    pitched = Prompt(tone[: 10 * HOP], np.tile(np.float32([1.0, -2.0, 0.25]), (10, 1)))
    frames = np.tile(np.float32([1.0, -2.0, 0.0]), (3, 1))
    hop = HOP / RATE
    joined = pitched.before(frames, np.ones(3, bool), ["pitch"], hop)
    assert joined.shape == (13, 3) and joined[10, 2] == pytest.approx((0.25 + 110.0 * hop) % 1.0, abs=1e-4)
    assert model.prompt(tone).curves is not None


def test_labels_and_curves_begin_where_the_prompt_ends(tone: Any) -> None:
    model = plain()
    fading = [(0.0, "high"), (0.1, "low")]
    late = [(0.5, "high"), (0.6, "low")]
    half = model.prompt(tone[: RATE // 2])
    clip = model.generate(0.2, prompt=half, labels={"tone": fading})
    same = [*model.start([Part({"tone": fading}, samples=0.7 * RATE)], prompt=half).advance(RATE)]
    assert np.array_equal(same[0][1], clip)
    other = model.generate(0.2, prompt=half, labels={"tone": late})
    assert not np.array_equal(other, clip)

    follower = told("loudness")
    short = follower.prompt(tone[: RATE // 2])
    assert short.curves is not None
    fade = follower.generate(0.2, prompt=short, curves={"loudness": [(0.0, -10.0), (0.2, -60.0)]})
    steps = [(0.0, -10.0), (0.2, -60.0)]
    again = follower.generate(0.2, prompt=short, curves=[{"loudness": steps}] * 2, seed=[0, 1])
    assert np.array_equal(again[0], fade) and not np.array_equal(again[1], fade)
    quiet = follower.generate(0.2, prompt=short, curves={"loudness": -80.0})
    assert not np.array_equal(quiet, fade)


def test_notes_of_a_prompt_stand_beside_it(tone: Any) -> None:
    model = told("notes")
    prompt = model.prompt(tone)
    assert prompt.curves is not None and not prompt.curves.any()
    roll = model.prompt(
        tone, notes=lambda moments: np.repeat(moments[:, None], 88, axis=1).astype(np.float32)
    )
    assert roll.curves is not None
    skipped = RATE % HOP
    assert roll.curves[0, 0] == pytest.approx((skipped + HOP / 2) / RATE)


# Files


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tone: Any) -> Path:
    monkeypatch.chdir(tmp_path)
    soundfile.write("tone.wav", tone, RATE)
    return write_model(tmp_path / "toy.safetensors")


def generate(*arguments: object) -> None:
    called = call("generate", *arguments)
    assert called.code == 0, called.errors


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_a_file_begins_with_its_prompt_and_can_be_resumed(toy: Path, suffix: str) -> None:
    asked = (toy, "--prompt", "tone.wav@0.2-0.5", "--seed", 3)
    generate(*asked, "--seconds", 0.4, "-o", f"whole.{suffix}")
    model = audio_gen.load(str(toy))
    rate = model.sample_rate
    prompt = model.prompt(read("tone.wav", rate, 0.2, 0.3))
    whole = read(f"whole.{suffix}")
    begin = len(prompt.waveform)
    assert len(whole) == begin + round(0.4 * rate)
    assert np.allclose(whole[:begin], prompt.waveform, atol=1e-4)
    assert np.allclose(whole[begin:], model.generate(0.4, prompt=prompt, seed=3), atol=1e-4)
    assert "tone.wav" in read_tags(Path(f"whole.{suffix}"))["comment"]

    generate(*asked, "--seconds", 0.1, "-o", f"part.{suffix}")
    generate(*asked, "--seconds", 0.4, "-o", f"part.{suffix}", "--resume")
    assert np.array_equal(read(f"part.{suffix}"), whole)
    called = call("generate", toy, "--seed", 3, "--seconds", 0.5, "-o", f"part.{suffix}", "--resume")
    assert called.code == 1 and "prompt" in called.errors


def test_a_file_cut_within_its_prompt_is_resumed(toy: Path) -> None:
    asked = (toy, "--prompt", "tone.wav", "--seconds", 0.1, "-q")
    generate(*asked, "-o", "whole.wav")
    for kept in (0, 1, 100, 2000):
        data = Path("whole.wav").read_bytes()
        header = data.index(b"data") + 8
        Path("part.wav").write_bytes(data[: header + 2 * kept])
        generate(*asked, "-o", "part.wav", "--resume")
        assert np.array_equal(read("part.wav"), read("whole.wav")), kept


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--prompt", "none.wav"), 1, "none.wav"),
        (("--prompt", "tone.wav@2-1"), 2, "START-END"),
        (("--prompt", "tone.wav@soon"), 2, "START-END"),
        (("--prompt", "tone.wav@7-8"), 1, "ends before"),
        (("--gain", "3"), 2, "--prompt"),
    ],
)
def test_what_is_no_prompt_is_refused(toy: Path, arguments: tuple[str, ...], code: int, words: str) -> None:
    called = call("generate", toy, "-o", "clip.wav", *arguments)
    assert called.code == code and words in called.errors and not Path("clip.wav").exists()
