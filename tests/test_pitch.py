"""Pitch that is told: notes by name, in recordings' names and on the command line, followed by sketches and samples."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from command_line import call
from networks import network_settings, random_tensors
from test_batch import tables
from test_sketch import toml
from toys import RATE, toy_recipe

from audio_gen.batch import expand
from audio_gen.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from audio_gen.codec import Codec
from audio_gen.curves import CurveExtractor, extract_curves, hold_curves
from audio_gen.data.prepare import prepare
from audio_gen.data.sketches import SketchStore
from audio_gen.data.store import Store
from audio_gen.errors import CheckpointError, ControlError, RecipeError
from audio_gen.pages.manifest import read_manifest
from audio_gen.pitch import parse_note, run_phase, scale_pitch, unscale_pitch
from audio_gen.player_curves import parse_curve, player_frames
from audio_gen.sampler.model import Model
from audio_gen.sampler.parts import parts_of
from audio_gen.sampler.steering import steer
from audio_gen.shape import LOWEST_PITCH, PHASES, NetworkShape
from audio_gen.sketch import LEVELS, CurveCodec

BANDS, HOP = 8, 32
LABELS = {"tone": ["high", "low"]}


@pytest.mark.parametrize(
    ("text", "hertz"),
    [("a4", 440.0), ("A3", 220.0), ("eb1", 38.891), ("d#1", 38.891), ("f#3", 184.997), ("60", 261.626)],
)
def test_notes_by_name_and_key(text: str, hertz: float) -> None:
    assert parse_note(text) == pytest.approx(hertz, abs=1e-3)
    if text[0].isalpha():
        assert parse_curve(f"pitch={text}").values[0] == parse_note(text)


@pytest.mark.parametrize("text", ["h2", "a", "4", "a9", "a-1", "440.5", "", "999"])
def test_what_is_no_note_is_refused(text: str) -> None:
    with pytest.raises(ControlError):
        parse_note(text)


def test_a_melody_may_be_written_in_notes(tmp_path: Path) -> None:
    path = tmp_path / "melody.csv"
    path.write_text("second,pitch\n0,a2\n1.5,220\n2,eb2\n")
    assert parse_curve(f"pitch={path}").values == pytest.approx((110.0, 220.0, 77.782), abs=1e-3)
    path.write_text("0,a2,7\n")
    with pytest.raises(ControlError, match="line 1"):
        parse_curve(f"pitch={path}")


def random_checkpoint() -> Checkpoint:
    """A model that follows mel and pitch, and a sketch that draws the mel for a pitch; all weights are random."""
    of_sketch = NetworkShape.from_dict(
        network_settings([2, 3], [16, 16], [BANDS], levels=LEVELS, labels=LABELS, curve_channels=3, hop=BANDS)
    )
    shape = NetworkShape.from_dict(
        network_settings(
            [3, 3], [16, 16], [4], labels=LABELS, curve_channels=BANDS + 3, hop=HOP, envelope=[8, BANDS, RATE],
            period=[BANDS, RATE, PHASES],
        )
    )  # fmt: skip
    strokes, tensors = random_tensors(of_sketch, 2), random_tensors(shape, 3)
    sketch = Checkpoint(of_sketch, CurveCodec(), RATE // HOP * BANDS, strokes, ("pitch",))
    return Checkpoint(shape, Codec(), RATE, tensors, ("mel", "pitch"), card={"name": "random"}, sketch=sketch)


@pytest.fixture(scope="module")
def model() -> Model:
    return Model(random_checkpoint())


@pytest.fixture(scope="module")
def told() -> np.ndarray:
    """(12, 3): some frames of one pitch, then of another."""
    return run_phase(scale_pitch([110.0] * 9 + [900.0] * 3), HOP / RATE)


def test_chunks_company_and_engines_change_nothing(model: Model, told: np.ndarray) -> None:
    alone = model.generate(0.6, labels={"tone": "low"}, seed=3, curves=told)
    for chunk_seconds in (1 / RATE, 0.007, 5.0):
        chunks = model.stream(0.6, labels={"tone": "low"}, seed=3, curves=told, chunk_seconds=chunk_seconds)
        assert np.array_equal(np.concatenate([*chunks]), alone)
    company: dict[str, Any] = {"labels": [{}, {"tone": "low"}, {"tone": "high"}], "stream": [4, 0, 7]}
    for other in (Model(model.checkpoint, threads=2), Model(model.checkpoint, engine="reference")):
        clips = other.generate([0.1, 0.6, 0.3], seed=3, curves=[told[:2], told, told[5:]], **company)
        assert np.array_equal(clips[1], alone)


def test_the_sketch_follows_the_pitch_and_both_reach_the_samples(model: Model, told: np.ndarray) -> None:
    def frames(curves: np.ndarray) -> np.ndarray:
        voices = model.start(parts_of(RATE, 0.5, {"tone": "low"}, 3), curves)
        assert voices.sketching is not None
        return voices.sketching.frames(0, 35)[0]

    found, other = frames(told), frames(told[::-1].copy())
    assert found.shape == (36, BANDS + 3)
    assert np.array_equal(found[:, BANDS:], hold_curves(told, 0, 36, ["pitch"], HOP / RATE))
    assert not np.array_equal(found[:, :BANDS], other[:, :BANDS])
    drawn = model.generate(0.5, labels={"tone": "low"}, seed=3, curves=told)
    assert np.array_equal(model.generate(0.5, labels={"tone": "low"}, seed=3, curves=found), drawn)


def test_a_program_tells_the_pitch_by_name_by_number_or_over_time(model: Model, tmp_path: Path) -> None:
    (tmp_path / "glide.csv").write_text("0,a2\n0.2,220\n")
    labels = {"tone": "low"}
    held, _ = steer(model, ["pitch=a2"], None)
    for pitch in ("a2", 110.0, [(0.0, "a2")]):
        assert np.array_equal(
            model.generate(0.5, labels=labels, curves={"pitch": pitch}),
            model.generate(0.5, labels=labels, curves=held),
        )
    glides = ([(0.0, 110.0), (0.2, "a3")], str(tmp_path / "glide.csv"))
    first, second = (model.generate(0.5, labels=labels, curves={"pitch": glide}) for glide in glides)
    assert np.array_equal(first, second)
    beside = model.generate(
        [0.5, 0.5], labels=labels, stream=[0, 0], curves=[{"pitch": 110.0}, {"pitch": glides[0]}]
    )
    assert np.array_equal(beside[1], first) and not np.array_equal(beside[0], first)
    for wrong, said in (
        ({"pitch": "h2"}, "h2"),
        ({"pitch": [(1.0, 110.0), (0.5, 120.0)]}, "rise"),
        ({"pitch": None}, "a number"),
        ({"pitch": []}, "finite"),
        ({"mel": 1.0}, "by hand"),
        ({}, "needs the curve"),
    ):
        with pytest.raises(ControlError, match=said):
            model.generate(0.1, curves=wrong)  # type: ignore[dict-item]


def test_what_has_to_be_given_is_asked_for(model: Model) -> None:
    assert model.told == ["pitch"] and model.drawn.tolist() == [True] * BANDS + [False] * 3
    with pytest.raises(ControlError, match="pitch"):
        model.generate(0.1)
    with pytest.raises(ControlError, match="needs the curve 'pitch'"):
        steer(model, [], 0.1)
    with pytest.raises(ControlError, match="curves must be"):
        model.generate(0.1, curves=np.zeros((3, 5), np.float32))


def test_a_sketch_that_follows_something_else_is_refused(tmp_path: Path) -> None:
    checkpoint = random_checkpoint()
    assert checkpoint.sketch is not None
    save_checkpoint(tmp_path / "right.safetensors", checkpoint)
    assert load_checkpoint(tmp_path / "right.safetensors").hash == checkpoint.hash
    wrong = replace(checkpoint, sketch=replace(checkpoint.sketch, curves=("loudness",)))
    save_checkpoint(tmp_path / "wrong.safetensors", wrong)
    with pytest.raises(CheckpointError):
        load_checkpoint(tmp_path / "wrong.safetensors")


# ---- From recordings to a page ----

NOTES = {"a4": 440.0, "c5": 523.25, "e5": 659.26, "g5": 783.99}


def write_notes(folder: Path) -> None:
    folder.mkdir(parents=True)
    t = np.arange(RATE // 2) / RATE
    for note, hertz in NOTES.items():
        for take in range(3):
            wave = 0.5 * np.sin(2 * np.pi * hertz * t + take) * np.exp(-3.0 * t)
            soundfile.write(folder / f"pluck_{note}_{take}.wav", wave, RATE)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a toy recipe whose notes stand in its recordings' names, through the command line."""
    folder = tmp_path_factory.mktemp("notes")
    write_notes(folder / "recordings")
    controls = {"curves": ["mel", "pitch"], "hop": HOP, "mel_bands": BANDS, "pitch": "{note}"}
    tables = toy_recipe(
        folder / "recordings",
        controls={**controls, "labels": {"how": {"from": "{how}"}}},
        data={"pattern": "{how}_{note}_{take}", "valid_where": {"note": ["c5"]}},
    ).to_dict()
    tables["sketch"] = {"channels": [16, 32], "steps": 20, "validate_every": 20, "frames": 8}
    (folder / "toy.toml").write_text(
        toml(tables)
        + '\n[[generate]]\nname = "notes"\nclips = 1\nseconds = 0.1\nlabels = { how = "*" }\n'
        + 'curves = { pitch = ["c5", "600"] }\nfile = "{how}-{pitch}.wav"\n'
    )
    called = call("run", folder / "toy.toml", "--run", folder / "run", "--threads", "1", "--device", "cpu")
    assert called.code == 0, called.errors
    return folder / "run"


def test_the_curve_is_the_note_of_the_name(trained: Path) -> None:
    store, sketches = Store(trained / "store"), SketchStore(trained / "store")
    assert {clip.source[6:8] for clip in store.clips("valid")} == {"c5"}
    for split in ("train", "valid"):
        for clip, sketch in zip(store.clips(split), sketches.clips(split), strict=True):
            frames, told = store.curves_of(clip), sketches.curves_of(sketch)
            assert frames is not None and told is not None
            assert np.array_equal(frames[:, BANDS : BANDS + 2], told[:, :2]) and not told[:, 2].any()
            assert unscale_pitch(told) == pytest.approx(
                NOTES[clip.source[6:8]], rel=4e-3
            )  # of 3 samples a period
            assert len(sketches.tokens(sketch)) == len(told) * BANDS == sketch.length


def test_a_model_of_notes_plays_any_pitch(trained: Path, tmp_path: Path) -> None:
    model = trained / "model.safetensors"
    assert load_checkpoint(model).shape.period == (BANDS, RATE, PHASES)
    for pitch in ("a4", "555.5"):
        out = tmp_path / f"{pitch}.wav"
        called = call("generate", model, "--curve", f"pitch={pitch}", "--seconds", "0.1", "-o", out)
        assert called.code == 0, called.errors
    assert (tmp_path / "a4.wav").read_bytes() != (tmp_path / "555.5.wav").read_bytes()
    refused = call("generate", model, "-o", tmp_path / "never.wav")
    assert refused.code == 1 and "needs the curve 'pitch'" in refused.errors
    wrong = call("generate", model, "--curve", "pitch=h2", "-o", tmp_path / "never.wav")
    assert wrong.code == 1 and not (tmp_path / "never.wav").exists()


def test_a_batch_of_notes_says_which_it_plays(trained: Path) -> None:
    clips = read_manifest(trained).clips
    assert [(clip.file, clip.curves) for clip in clips] == [
        ("notes/pluck-c5.wav", {"pitch": "c5"}),
        ("notes/pluck-600.wav", {"pitch": "600"}),
    ]
    page = (trained / "page" / "index.html").read_text()
    assert "pitch c5" in page and "pitch 600" in page


def test_of_sketched_copies_the_sketch_draws_what_no_player_tells(tmp_path: Path) -> None:
    """As long as the recording, or as is wanted of it at most."""
    write_notes(tmp_path / "recordings")
    controls = {"curves": ["mel", "pitch"], "hop": HOP, "mel_bands": BANDS, "pitch": "{note}"}
    recipe = toy_recipe(
        tmp_path / "recordings", controls={**controls, "labels": {}},
        data={"pattern": "{how}_{note}_{take}", "valid_where": {"note": ["c5"]}},
    )  # fmt: skip
    prepare(recipe, tmp_path / "store")
    store, model = Store(tmp_path / "store"), Model(random_checkpoint())
    again = {"name": "again", "copies": 2, "sketched": True, "guidance": 1.0}
    whole = expand(tables(again), model, store)
    (short, _) = expand(tables({**again, "most_seconds": 0.1}), model, store)
    assert [job.take.seconds for job in whole] == [0.5, 0.5] and short.take.seconds == 0.1
    curves = short.curves(model)
    assert isinstance(curves, np.ndarray) and curves.shape == (-(-RATE // 10 // HOP), 3)
    assert list(short.take.curves) == ["pitch"] and short.take.draw.guidance == 1.0
    with pytest.raises(ValueError, match="said of copies alone"):
        tables({"name": "new", "sketched": True})
    with pytest.raises(RecipeError, match="leave sketched out"):
        expand(tables(again), Model(replace(random_checkpoint(), sketch=None)), store)


def test_names_without_a_note_are_left_out_and_said(tmp_path: Path) -> None:
    write_notes(tmp_path / "recordings")
    soundfile.write(tmp_path / "recordings" / "pluck_hit_0.wav", np.sin(np.arange(RATE)), RATE)
    recipe = toy_recipe(
        tmp_path / "recordings",
        controls={"curves": ["pitch"], "hop": HOP, "pitch": "{note}", "labels": {"how": {"from": "{how}"}}},
        data={"pattern": "{how}_{note}_{take}", "valid_where": {"take": ["0"]}},
    )
    (tmp_path / "toy.toml").write_text(toml(recipe.to_dict()))
    called = call("prepare", tmp_path / "toy.toml", "--run", tmp_path / "run")
    assert called.code == 0 and "'hit' is no note" in called.errors


@pytest.mark.parametrize("note", ["a0", "c2", "f#3", "e5"])
@pytest.mark.parametrize("cents", [-30.0, 0.0, 12.0])
def test_how_far_a_recording_is_from_its_note_is_found(note: str, cents: float) -> None:
    rate, hop = 16_000, 256
    t = np.arange(12 * rate) / rate  # of several segments
    hertz = parse_note(note) * 2.0 ** (cents / 1200.0)
    wave = sum(np.sin(2 * np.pi * hertz * k * t + k * k) / k for k in range(1, 8)) * np.exp(-0.3 * t)
    wave = (0.3 * wave + 1e-3 * np.random.default_rng(0).standard_normal(len(t))).astype(np.float32)
    extractor = CurveExtractor(rate, ["pitch"], hop, pitch=parse_note(note))
    blocks = [rows for at in range(0, len(wave), 9999) for rows in extractor.push(wave[at : at + 9999])]
    found = np.concatenate([*blocks, extractor.finish()])
    off = 1200.0 * np.log2(unscale_pitch(found) / hertz)
    assert np.abs(off[6:-6]).max() < 3.0
    whole = CurveExtractor(rate, ["pitch"], hop, pitch=parse_note(note))
    assert np.array_equal(np.concatenate([*whole.push(wave), whole.finish()]), found)


@pytest.mark.parametrize("hertz", [41.3, 110.7, 523.0])
def test_the_phase_is_that_of_the_fundamental(hertz: float) -> None:
    """Though overtones be stronger and there be noise."""
    rate, hop = 16_000, 256
    t = np.arange(11 * rate) / rate  # of two segments
    turns = hertz * t + 0.3
    wave = 0.1 * np.cos(2 * np.pi * turns) + 0.5 * np.cos(2 * np.pi * (2 * turns + 0.2))
    wave = (wave + 0.01 * np.random.default_rng(0).standard_normal(len(t))).astype(np.float32)
    extractor = CurveExtractor(rate, ["pitch"], hop, pitch=hertz)
    found = np.concatenate([*extractor.push(wave), extractor.finish()])[:, 2]
    off = (found - turns[::hop] + 0.5) % 1.0 - 0.5
    assert np.abs(off[8:-8]).max() < 0.02


def test_a_pitch_that_is_held_goes_on_where_it_was() -> None:
    long = player_frames([parse_curve("pitch=98.7")], ["pitch"], RATE, HOP, 0, 100)
    held = hold_curves(long[:7], 0, 100, ["pitch"], HOP / RATE)
    assert np.abs((held - long + 0.5) % 1.0 - 0.5).max() < 1e-5
    assert np.array_equal(hold_curves(long[:7], 5, 60, ["pitch"], HOP / RATE), held[5:60])
    assert np.array_equal(player_frames([parse_curve("pitch=98.7")], ["pitch"], RATE, HOP, 5, 9), long[5:14])


def test_noise_has_the_pitch_of_its_note() -> None:
    noise = 0.1 * np.random.default_rng(0).standard_normal(16_000).astype(np.float32)
    for wave in (noise, np.zeros_like(noise)):
        extractor = CurveExtractor(16_000, ["pitch"], 256, pitch=110.0)
        found = np.concatenate([*extractor.push(wave), extractor.finish()])
        assert np.abs(1200.0 * np.log2(unscale_pitch(found) / 110.0)).max() <= 50.0


def test_the_lowest_pitch_is_one_for_curves_and_predictors() -> None:
    assert parse_curve(f"pitch={LOWEST_PITCH}").values == (LOWEST_PITCH,)
    with pytest.raises(ControlError):
        parse_curve(f"pitch={LOWEST_PITCH - 1}")
    low = np.sin(2 * np.pi * 28.0 * np.arange(2 * RATE) / RATE).astype(np.float32)
    found = unscale_pitch(extract_curves(low, RATE, ["pitch"], 256))
    assert np.median(found[2:-2]) == pytest.approx(28.0, rel=0.02)
