"""Composers: notes come back from their tokens, what is composed is played, and nothing about cutting matters."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from command_line import call, write_model
from networks import network_settings, random_tensors
from test_notes import write
from test_sketch import toml
from toys import RATE, toy_recipe

from audio_gen.audio import read
from audio_gen.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from audio_gen.codec import Codec
from audio_gen.composer import COUNTS, CURVE, CURVE_CHANNELS, FIRSTS, LEVELS, TOKENS, NoteCodec, vary
from audio_gen.data.note_lists import TEMPOS, TRANSPOSITIONS, NoteStore
from audio_gen.data.prepare import prepare
from audio_gen.errors import CheckpointError, ControlError, DataError, RecipeError
from audio_gen.notes import CHANNELS, HIGHEST, LOWEST, Notes, notes_beside, read_notes
from audio_gen.recipe import build_recipe
from audio_gen.sampler import load
from audio_gen.sampler.composing import FINGERS, PAUSE
from audio_gen.sampler.model import Model
from audio_gen.shape import NetworkShape
from audio_gen.sketch import LEVELS as STROKES
from audio_gen.sketch import CurveCodec

BANDS, HOP = 8, 32
LABELS = {"tone": ["high", "low"]}
TUNE = Notes(((0.1, 0.6, 60, 99), (0.1, 0.4, 64, 50), (0.35, 0.5, 67, 70), (0.7, 1.4, 72, 120)))


def random_checkpoint(sketched: bool = True) -> Checkpoint:
    """A model of two labels that follows notes, with a composer; and mel, with a sketch. All weights are random."""
    curves, channels, sketch = ("notes",), CHANNELS, None
    if sketched:
        curves, channels = ("mel", "notes"), BANDS + CHANNELS
        drawing = network_settings(
            [2, 3], [16, 16], [BANDS], levels=STROKES, labels=LABELS, curve_channels=CHANNELS, hop=BANDS
        )
        strokes = NetworkShape.from_dict(drawing)
        rate = RATE // HOP * BANDS
        sketch = Checkpoint(strokes, CurveCodec(), rate, random_tensors(strokes, 2), ("notes",))
    composing = NetworkShape.from_dict(
        network_settings(
            [2, 3],
            [16, 16],
            [TOKENS],
            levels=LEVELS,
            labels=LABELS,
            curve_channels=CURVE_CHANNELS,
            hop=TOKENS,
        )
    )
    tensors = random_tensors(composing, 3)
    tensors["head.logits.bias"][np.arange(LEVELS) % COUNTS[0] >= 50] -= (
        20.0  # nobody waits for longer than half a second
    )
    composer = Checkpoint(composing, NoteCodec(), 40, tensors, (CURVE,))
    playing = NetworkShape.from_dict(
        network_settings([3, 3], [16, 16], [4], labels=LABELS, curve_channels=channels, hop=HOP)
    )
    return Checkpoint(
        playing, Codec(), RATE, random_tensors(playing, 4), curves, card={"name": "random"}, sketch=sketch,
        composer=composer,
    )  # fmt: skip


@pytest.fixture(scope="module", params=[True, False], ids=["sketched", "plain"])
def model(request: pytest.FixtureRequest) -> Model:
    return Model(random_checkpoint(request.param))


def roll(model: Model, notes: Notes, seconds: float) -> Any:
    """Frames (frames, keys) of `notes`."""
    moments = (np.arange(int(seconds * RATE / HOP) + 2) + 0.5) * model.hop_seconds
    return notes.frames(moments)


def test_notes_come_back_from_their_tokens() -> None:
    codec, generator = NoteCodec(), np.random.default_rng(1)
    starts = np.cumsum(generator.choice([0.0, 0.013, 0.21, 0.97, 3.0], 500))
    notes = [
        (start, start + generator.uniform(0.05, 9.0), int(key), int(velocity))
        for start, key, velocity in zip(
            starts, generator.integers(LOWEST, HIGHEST + 1, 500), generator.integers(1, 128, 500), strict=True
        )
    ]
    tokens = codec.encode_notes(notes)
    wait, key, velocity, length = codec.decode(tokens).reshape(-1, TOKENS).T
    assert (key == [note[2] for note in notes]).all()
    assert np.abs(velocity - [note[3] for note in notes]).max() <= 2
    assert np.abs(np.log(length / [note[1] - note[0] for note in notes])).max() < 0.07
    # Rounding does not add up: after 500 notes a start is off by half a step of its own wait, 4 %.
    assert np.abs(np.cumsum(wait.astype(float)) - starts).max() < 0.13
    places = np.arange(len(tokens)) % TOKENS
    assert ((tokens >= FIRSTS[places]) & (tokens < FIRSTS[places] + COUNTS[places])).all()
    anything = codec.decode(generator.integers(0, LEVELS, 400)).reshape(-1, TOKENS)
    assert anything.min() >= 0.0 and anything[:, 0].max() <= 8.0 and anything[:, 3].max() <= 16.0
    assert anything[:, 1].min() >= LOWEST and anything[:, 1].max() <= HIGHEST


def test_a_piece_in_other_keys_and_tempos() -> None:
    codec = NoteCodec()
    tokens = codec.encode_notes(TUNE.values)
    assert (vary(tokens, 0, 0) == tokens).all()
    plain, other = (codec.decode(one).reshape(-1, TOKENS) for one in (tokens, vary(tokens, 3, 2)))
    assert (other[:, 1] == plain[:, 1] + 3).all() and (other[:, 2] == plain[:, 2]).all()
    waits = plain[:, 0] > 0.0
    assert waits.tolist() == [True, False, True, True] and other[1, 0] == 0.0
    assert np.allclose(other[waits, 0] / plain[waits, 0], 800 ** (2 / 86), rtol=1e-3)
    assert (other[:, 3] > plain[:, 3]).all()
    edges = codec.encode_notes([(0.0, 1.0, LOWEST, 64), (0.0, 1.0, HIGHEST, 64)])
    assert codec.decode(vary(edges, -2, 0))[1::TOKENS].tolist() == [LOWEST + 10, HIGHEST - 2]
    assert codec.decode(vary(edges, 1, 0))[1::TOKENS].tolist() == [LOWEST + 1, HIGHEST - 11]


def test_what_is_composed_is_what_is_played(model: Model) -> None:
    asked: dict[str, Any] = {"labels": {"tone": "low"}, "seed": 5, "stream": 2}
    notes = model.compose(3.0, **asked)
    assert len(notes.values) > 2 and notes.values[0][0] >= 0.0 and notes.values[-1][0] <= 3.0
    played = model.generate(3.0, **asked)
    assert np.array_equal(model.generate(3.0, **asked, curves=roll(model, notes, 3.0)), played)
    assert np.array_equal(model.generate(3.0, **asked, curves={"notes": notes}), played)
    with pytest.raises(ControlError, match="got notes"):
        model.generate(1.0, curves={"pitch": notes})
    assert model.compose(3.0, **asked) == notes and model.compose(2.0, **asked).values == tuple(
        note for note in notes.values if note[0] < 2.0
    )
    for other in ({"seed": 6}, {"stream": 3}, {"labels": {"tone": "high"}}, {"temperature": 0.3}):
        assert model.compose(3.0, **(asked | other)) != notes


def test_chunks_and_company_change_nothing(model: Model) -> None:
    alone = [model.generate(seconds, seed=7, stream=stream) for stream, seconds in enumerate([2.5, 1.0, 2.0])]
    together = model.generate([2.5, 1.0, 2.0], seed=7, chunk_seconds=0.37)
    assert all(map(np.array_equal, alone, together))
    assert np.array_equal(np.concatenate([*model.stream(2.5, seed=7, chunk_seconds=0.011)]), alone[0])


def test_a_prompt_is_gone_on_from(model: Model) -> None:
    wave = (0.1 * np.sin(np.arange(RATE) * 0.3)).astype(np.float32)
    prompt = model.prompt(wave, notes=TUNE)
    end = len(prompt.waveform) / RATE
    skipped = len(wave) % HOP / RATE  # a prompt is a whole number of frames, from its end backwards
    assert prompt.notes == TUNE.between(skipped, skipped + end) and len(prompt.notes.values) == len(
        TUNE.values
    )
    composed = model.compose(9.0, seed=1, prompt=TUNE)
    assert composed.values and composed.values[0][0] >= 0.0
    assert composed != model.compose(9.0, seed=1)  # which has heard nothing
    clip = model.generate(3.0, seed=1, prompt=prompt)
    assert not np.array_equal(clip, model.generate(3.0, seed=1, prompt=model.prompt(wave)))
    chunks = [*model.stream(3.0, seed=1, prompt=prompt, chunk_seconds=0.05)]
    assert np.array_equal(np.concatenate(chunks), clip)


def test_time_goes_on_whatever_is_drawn() -> None:
    checkpoint = random_checkpoint(sketched=False)
    assert checkpoint.composer is not None
    tensors = dict(checkpoint.composer.tensors)
    tensors["head.logits.bias"] = np.where(
        np.arange(LEVELS) == 0, 99.0, tensors["head.logits.bias"]
    )  # never waits
    cramped = Model(replace(checkpoint, composer=replace(checkpoint.composer, tensors=tensors)))
    starts = [note[0] for note in cramped.compose(2.0).values]
    assert len(starts) == FINGERS * round(2.0 / PAUSE) and starts == sorted(starts)


def test_checkpoints_hold_their_composer(tmp_path: Path) -> None:
    checkpoint = random_checkpoint()
    save_checkpoint(tmp_path / "model.safetensors", checkpoint)
    kept = load_checkpoint(tmp_path / "model.safetensors")
    assert kept.composer is not None and checkpoint.composer is not None
    assert kept.hash == checkpoint.hash != replace(checkpoint, composer=None).hash
    assert kept.composer.hash == checkpoint.composer.hash and isinstance(kept.composer.codec, NoteCodec)
    assert kept.parameters == replace(checkpoint, composer=None).parameters + checkpoint.composer.parameters
    plain = random_checkpoint(sketched=False)
    for wrong in (
        replace(plain, curves=("mel",), shape=replace(plain.shape, curve_channels=BANDS)),
        replace(plain, composer=replace(checkpoint.composer, codec=Codec())),
        replace(plain, composer=plain),
    ):
        save_checkpoint(tmp_path / "wrong.safetensors", wrong)
        with pytest.raises(CheckpointError, match="composer"):
            load_checkpoint(tmp_path / "wrong.safetensors")


def test_the_command_line_composes_and_plays(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, random_checkpoint())
    tune, clip = tmp_path / "tune.csv", tmp_path / "clip.wav"
    called = call("compose", path, "--seconds", 3, "--seed", 4, "--label", "tone=low", "-o", tune)
    assert called.code == 0 and called.text == f"{tune}\n" and "notes, 3 s, seed 4" in called.errors
    notes = load(path).compose(3.0, seed=4, labels={"tone": "low"})
    assert np.allclose(read_notes(tune).values, notes.values, atol=1e-4)
    assert "exists; use --force" in call("compose", path, "-o", tune).errors
    longer = tmp_path / "longer.csv"
    assert call("compose", path, "--prompt", tune, "--seconds", 2, "-o", longer, "-q").code == 0
    assert read_notes(longer).values[: len(notes.values)] == read_notes(tune).values
    assert len(read_notes(longer).values) > len(notes.values)

    assert call("generate", path, "--seconds", 1.5, "--seed", 4, "-o", clip, "-q").code == 0
    whole = read(clip)
    assert call("generate", path, "--seconds", 1, "--seed", 4, "-o", clip, "-q", "--force").code == 0
    assert call("generate", path, "--seconds", 1.5, "--seed", 4, "-o", clip, "-q", "--resume").code == 0
    assert np.array_equal(read(clip), whole)
    assert "composer" in call("info", path).text

    sequence = tmp_path / "tune.mid"
    assert call("compose", path, "--seconds", 3, "--seed", 4, "--label", "tone=low", "-o", sequence).code == 0
    ours = sorted((round(start, 2), key, velocity) for start, _, key, velocity in notes.values)
    assert [(round(start, 2), key, velocity) for start, _, key, velocity in read_notes(sequence).values] == [
        (pytest.approx(start, abs=0.011), key, velocity) for start, key, velocity in ours
    ]
    called = call(
        "generate", path, "--curve", f"notes={sequence}", "--seconds", 0.5, "-o", tmp_path / "m.wav"
    )
    assert called.code == 0, called.errors
    refused = call("compose", path, "-o", tmp_path / "tune.wav")
    assert refused.code == 2 and "written as .csv or .mid" in refused.errors
    refused = call("compose", path, "--seconds", 1e-3, "-o", tmp_path / "none.csv")
    assert refused.code == 2 and "nothing begins" in refused.errors

    other = write_model(tmp_path / "other.safetensors")
    judged = call("evaluate", other, clip, "--only", "composition", "--json", "-q")
    assert json.loads(judged.text)["left_out"] == {"composition": "the model has no composer."}
    refused = call("compose", other)
    assert (refused.code, refused.errors.count("\n")) == (2, 1) and "has no composer" in refused.errors
    refused = call("compose", path, "--seconds", 0, "-o", tmp_path / "none.csv")
    assert refused.code == 2 and "seconds must be above 0" in refused.errors
    refused = call("compose", path, "--label", "tone=loud", "-o", tmp_path / "none.csv")
    assert refused.code == 1 and "loud" in refused.errors and not (tmp_path / "none.csv").exists()


def write_scales(folder: Path) -> Path:
    """Recordings of nothing much, beside notes that climb by fifths and fall again."""
    folder.mkdir(parents=True)
    generator = np.random.default_rng(5)
    for clip in range(8):
        wave = 0.1 * generator.standard_normal(12 * RATE)
        soundfile.write(folder / f"low_{clip}.wav", wave, RATE, subtype="PCM_16")
        notes = [
            (0.25 * step, 0.25 * step + 0.2, 48 + 7 * (step % 3), 64)
            for step in range(clip % 3, 44 + clip % 3)
        ]
        write(notes_beside(folder / f"low_{clip}.wav"), Notes(tuple(notes)))
    return folder


def test_a_store_tells_its_notes(tmp_path: Path) -> None:
    source = write_scales(tmp_path / "scales")
    recipe = toy_recipe(source, controls={"curves": ["notes"], "hop": HOP})
    prepare(recipe, tmp_path / "store")
    pieces = NoteStore(tmp_path / "store")
    assert len(pieces.clips("train")) == 5 * len(TRANSPOSITIONS) * len(TEMPOS)
    assert [clip.source for clip in pieces.clips("valid")] == ["low_0.wav", "low_1.wav", "low_2.wav"]
    held_out = pieces.codec.decode(pieces.tokens(pieces.clips("valid")[1])).reshape(-1, TOKENS)
    assert held_out.shape == (44, TOKENS) and held_out[:3, 1].tolist() == [55, 62, 48]
    first = {pieces.codec.decode(pieces.tokens(clip))[1] for clip in pieces.clips("train")[:60]}
    assert first == {48.0 + keys for keys in TRANSPOSITIONS}  # low_3 begins with the lowest
    clips = tmp_path / "store" / "clips.jsonl"
    clips.write_text(clips.read_text().replace('"notes"', '"tones"'))  # as long as it was
    with pytest.raises(DataError, match="older version"):
        NoteStore(tmp_path / "store").clips("train")


def test_a_composer_is_trained_and_played(tmp_path: Path) -> None:
    recipe = tmp_path / "scales.toml"
    recipe.write_text(
        toml(
            {
                "data": {
                    "source": str(write_scales(tmp_path / "scales")),
                    "sample_rate": RATE,
                    "pattern": "{tone}_{index}",
                    "valid_where": {"index": ["0", "1"]},
                },
                "controls": {"curves": ["notes"], "hop": HOP},
                "network": {"layers": [2, 2], "channels": [8, 8], "pool": [4]},
                "composer": {
                    "steps": 100, "layers": [2, 3], "channels": [32, 32], "notes": 16, "walk": 2,
                    "learning_rate": 5e-3, "validate_every": 50, "temperature": 0.8,
                },
                "train": {"steps": 4, "crop": 128, "batch_size": 2, "preview_seconds": 0},
            }
        )
        + '\n[[generate]]\nname = "own"\nclips = 2\nseconds = 0.5\n'
    )  # fmt: skip
    run = tmp_path / "run"
    called = call("run", recipe, "--run", run, "-q")
    assert called.code == 0, called.errors
    assert len([*(run / "clips" / "own").glob("*.wav")]) == 2
    assert "composed" in (run / "page" / "index.html").read_text(encoding="utf-8")
    model = load(run / "model.safetensors")
    assert model.composer is not None and model.composer.draw.temperature == 0.8
    assert model.composer.card["bits_per_sample"] < 2.0  # 8 before it had learned anything
    keys = np.array([note[2] for note in model.compose(30.0, seed=1).values])
    steps = np.diff(keys)
    assert len(keys) > 40
    near = (np.abs(steps - 7) <= 2) | (np.abs(steps + 14) <= 3)
    assert near.mean() > 0.8  # up, up and down again, as it has learned, in whatever key

    called = call("evaluate", run, run, "--only", "composition", "--seed", 3, "--json", "-q")
    assert called.code == 0, called.errors
    report = json.loads(called.text)["composition"]
    assert np.mean(report["bits"]) == pytest.approx(model.composer.card["bits_per_sample"], abs=0.02)
    assert len(report["unigram"]) == 4 and sum(report["bits"]) < 8.0
    assert report["held_out"]["notes_per_second"] == pytest.approx(4.0, rel=0.05)
    assert report["held_out"]["known"] == [1.0, 1.0, 1.0]  # they are all one scale
    assert report["training"]["known"] == [1.0, 1.0, 1.0]
    assert report["held_out"]["key_bits"] == pytest.approx(1.58, abs=0.01)  # three keys
    assert 0.0 <= report["composed"]["known"][2] <= report["composed"]["known"][0] < 1.0
    text = call("evaluate", run, run, "--only", "composition", "-q").text
    assert "A held-out note costs" in text and "12 keys known" in text


def test_recipes_say_what_a_composer_needs(tmp_path: Path) -> None:
    plain = toy_recipe(tmp_path).to_dict()
    for curves in (["pitch"], ["mel", "notes"], ["notes", "loudness"]):
        with pytest.raises(RecipeError, match="composer"):
            build_recipe(plain | {"composer": {"steps": 1}, "controls": {"curves": curves, "hop": HOP}})
    with pytest.raises(RecipeError, match="steps or minutes"):
        build_recipe(plain | {"composer": {}, "controls": {"curves": ["notes"], "hop": HOP}})
