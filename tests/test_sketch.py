"""Sketches: drawn curves are curves, draws are guided as the formula says, and nothing about cutting matters."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import call, write_model
from networks import network_settings, random_tensors
from toys import RATE, toy_recipe, write_tones

from audio_gen.audio import read
from audio_gen.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from audio_gen.codec import Codec
from audio_gen.coins import coins
from audio_gen.controls import label_indices
from audio_gen.curves import extract_curves
from audio_gen.data.prepare import prepare
from audio_gen.data.sketches import SketchStore
from audio_gen.data.store import Store
from audio_gen.engine import Engine
from audio_gen.errors import CheckpointError, DataError, RecipeError, SettingError
from audio_gen.evaluation.clips import make
from audio_gen.evaluation.excerpts import Excerpt
from audio_gen.recipe import build_recipe
from audio_gen.sampler import Draw, load
from audio_gen.sampler.model import Model
from audio_gen.sampler.parts import Part, parts_of
from audio_gen.settings import TrainSettings
from audio_gen.settings.train import SketchSettings
from audio_gen.shape import NetworkShape
from audio_gen.sketch import LEVELS, SETTLED, STEP, CurveCodec
from audio_gen.training.sketching import sketch_recipe

BANDS, HOP = 8, 32
LABELS = {"tone": ["high", "low"]}


def random_checkpoint(seed: int = 1) -> Checkpoint:
    """A model of two labels that follows 8 bands of mel, and a sketch of them; all weights are random."""
    parts = []
    for number, settings in enumerate(
        [
            network_settings([2, 3], [16, 16], [BANDS], levels=LEVELS, labels=LABELS),
            network_settings(
                [3, 3], [16, 16], [4], labels=LABELS, curve_channels=BANDS, hop=HOP, predictors=[8], around=1
            ),
        ]
    ):
        shape = NetworkShape.from_dict(settings)
        tensors = random_tensors(shape, seed + number)
        for name in tensors:
            if name.startswith("labels"):
                tensors[name] *= 3.0  # so that guidance has something to do
        parts.append((shape, tensors))
    (sketched, strokes), (shape, tensors) = parts
    sketch = Checkpoint(sketched, CurveCodec(), RATE // HOP * BANDS, strokes)
    return Checkpoint(shape, Codec(), RATE, tensors, ("mel",), card={"name": "random"}, sketch=sketch)


def deaf_checkpoint() -> Checkpoint:
    """The same, but that its sketch hears nothing, and leaves nothing to chance."""
    checkpoint = random_checkpoint()
    assert checkpoint.sketch is not None
    strokes = dict(checkpoint.sketch.tensors)
    strokes["embedding.weight"] = np.repeat(strokes["embedding.weight"][:1], LEVELS, axis=0)
    card = {"name": "deaf", "play": {"sketch_temperature": 0.0, "guidance": 0.0}}
    return replace(checkpoint, sketch=replace(checkpoint.sketch, tensors=strokes), card=card)


@pytest.fixture(scope="module")
def model() -> Model:
    return Model(random_checkpoint())


def test_tokens_of_curves_come_back() -> None:
    codec = CurveCodec()
    tokens = np.arange(LEVELS).reshape(8, 8)
    assert (codec.encode(codec.decode(tokens)) == tokens).all()
    values = np.linspace(-1.0, 1.3, 999)
    assert np.abs(codec.decode(codec.encode(values)) - values).max() <= STEP / 2 + 1e-6
    with pytest.raises(SettingError, match="64 levels"):
        CurveCodec(256)


@pytest.mark.parametrize("guidance", [0.0, 0.5, 3.0])
def test_a_guided_draw_is_the_formula(model: Model, guidance: float) -> None:
    assert model.sketch is not None
    engine = model.sketch.engine
    steps, pairs = 50, 3
    labels = np.zeros((2 * pairs, 1), np.int32)
    labels[::2, 0] = [1, 2, 0]
    tossed = np.repeat(np.stack([coins(5, stream, 0, steps) for stream in range(pairs)]), 2, axis=0)
    draws = [Draw(0.9)] * (2 * pairs)
    drawn = engine.sample(engine.start(labels), tossed, draws, guidance=[guidance] * pairs)
    assert (drawn[::2] == drawn[1::2]).all()
    logits = engine.logits(engine.start(labels), drawn)
    asked, open_ = logits[::2], logits[1::2]
    moved = asked + np.float32(guidance) * (asked - open_)
    assert isinstance(engine, Engine)
    for pair in range(pairs):
        for step in range(steps):
            wanted = engine.draw(
                np.ascontiguousarray(moved[pair, step]), float(tossed[2 * pair, step]), Draw(0.9)
            )
            assert wanted == drawn[2 * pair, step]
    if guidance == 0.0:
        alone = engine.sample(engine.start(labels[::2]), tossed[::2], draws[::2])
        assert (alone == drawn[::2]).all()
    else:  # a pair that asks for nothing is its own guide
        assert (drawn[4] == engine.sample(engine.start(labels[4:5]), tossed[4:5], draws[:1])[0]).all()


def test_guidance_needs_pairs(model: Model) -> None:
    assert model.sketch is not None
    engine = model.sketch.engine
    state = engine.start(np.zeros((3, 1), np.int32))
    with pytest.raises(SettingError, match="pairs"):
        engine.sample(state, np.full((3, 4), 0.5, np.float32), [Draw()] * 3, guidance=[1.0])


def test_both_engines_draw_the_same(model: Model) -> None:
    reference = Model(model.checkpoint, engine="reference")
    settings: dict[str, Any] = {"labels": [{"tone": "low"}, {}, {"tone": "high"}], "seed": 9}
    ours, theirs = (
        model.generate([0.2, 0.1, 0.2], **settings),
        reference.generate([0.2, 0.1, 0.2], **settings),
    )
    assert all(np.array_equal(one, other) for one, other in zip(ours, theirs, strict=True))


def test_chunks_company_and_threads_change_nothing(model: Model) -> None:
    alone = model.generate(0.6, labels={"tone": "low"}, seed=3, guidance=2.0)
    for chunk_seconds in (1 / RATE, 0.007, 5.0):
        chunks = model.stream(0.6, labels={"tone": "low"}, seed=3, guidance=2.0, chunk_seconds=chunk_seconds)
        assert np.array_equal(np.concatenate([*chunks]), alone)
    for threads in (1, 2):
        others = Model(model.checkpoint, threads=threads).generate(
            [0.1, 0.6, 0.3],
            labels=[{}, {"tone": "low"}, {"tone": "high"}],
            seed=3,
            stream=[4, 0, 7],
            guidance=2.0,
        )
        assert np.array_equal(others[1], alone)


def test_settings_of_the_sketch_are_heard_and_given_curves_win(model: Model) -> None:
    clips = [
        model.generate(0.5, labels={"tone": "low"}, seed=3, **settings)
        for settings in ({}, {"guidance": 4.0}, {"sketch_temperature": 0.2})
    ]
    assert not np.array_equal(clips[0], clips[1]) and not np.array_equal(clips[0], clips[2])
    parts = parts_of(RATE, 0.5, {"tone": "low"}, 3)
    sketching = model.start(parts).sketching
    assert sketching is not None
    frames = sketching.frames(0, 40)[0]
    assert np.array_equal(model.generate(0.5, labels={"tone": "low"}, seed=3, curves=frames), clips[0])


def test_a_model_without_a_sketch_has_none_to_steer(tmp_path: Path) -> None:
    toy = write_model(tmp_path / "toy.safetensors")
    called = call("generate", toy, "--guidance", "2", "-o", tmp_path / "never.wav")
    assert called.code == 2 and "has no sketch" in called.errors and not (tmp_path / "never.wav").exists()


def test_bits_are_beside_the_curves_that_a_waveform_has(model: Model) -> None:
    clip = model.generate(0.3, labels={"tone": "low"}, seed=3)
    curves = extract_curves(clip, RATE, ["mel"], HOP, BANDS)
    assert model.bits_per_sample(clip) == model.bits_per_sample(clip, curves=curves)


def test_memory_of_a_long_stream_is_that_of_a_short_one(model: Model) -> None:
    voices = model.start(parts_of(RATE, 100.0))
    for _ in range(20):
        voices.advance(3 * HOP)
    assert voices.sketching is not None
    assert voices.sketching.drawn.shape[1] <= 6 and voices.sketching.first >= 56


def test_a_checkpoint_keeps_its_sketch(model: Model, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, model.checkpoint)
    loaded = load_checkpoint(path)
    assert loaded.sketch is not None and model.checkpoint.sketch is not None
    assert (loaded.hash, loaded.sketch.hash) == (model.checkpoint.hash, model.checkpoint.sketch.hash)
    assert loaded.hash != replace(loaded, sketch=None).hash
    assert loaded.parameters == sum(part.parameters for part in (replace(loaded, sketch=None), loaded.sketch))
    again = load(path).generate(0.2, labels={"tone": "low"}, seed=1)
    assert np.array_equal(again, model.generate(0.2, labels={"tone": "low"}, seed=1))


def test_a_sketch_of_something_else_is_refused(model: Model, tmp_path: Path) -> None:
    other = random_checkpoint()
    assert other.sketch is not None
    narrower = NetworkShape.from_dict({**other.sketch.shape.to_dict(), "pool": [BANDS - 1]})
    wrong = replace(other.sketch, shape=narrower, tensors=random_tensors(narrower, 0))
    save_checkpoint(tmp_path / "wrong.safetensors", replace(other, sketch=wrong))
    with pytest.raises(CheckpointError, match="does not draw what the network follows"):
        load_checkpoint(tmp_path / "wrong.safetensors")


def test_resumed_after_a_kill_as_if_never_stopped(model: Model, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, model.checkpoint)
    arguments = [
        "generate",
        str(path),
        "--label",
        "tone=low",
        "--seconds",
        "6",
        "--seed",
        "2",
        "-q",
        "--guidance",
        "1",
    ]
    whole, killed = tmp_path / "whole.wav", tmp_path / "killed.wav"
    assert call(*arguments, "-o", whole).code == 0
    command = [sys.executable, "-m", "audio_gen", *arguments, "-o", str(killed)]
    process = subprocess.Popen(command)
    while process.poll() is None and not (killed.exists() and killed.stat().st_size > 2000):
        time.sleep(0.001)
    process.send_signal(signal.SIGTERM if os.name == "nt" else signal.SIGKILL)
    process.wait()
    assert call(*arguments, "-o", killed, "--resume").code == 0
    assert killed.read_bytes() == whole.read_bytes()
    changed = [*arguments[:-1], "2", "-o", killed, "--resume"]
    refused = call(*changed)
    assert refused.code == 1 and "guidance" in refused.errors


# ---- Training ----


def sketched(source: Path, **sketch: Any) -> dict[str, Any]:
    """Tables of a toy recipe with a sketch."""
    tables = toy_recipe(source, controls={"curves": ["mel"], "hop": HOP, "mel_bands": BANDS}).to_dict()
    tables["sketch"] = {"channels": [16, 32], "steps": 40, "validate_every": 20, "frames": 8, **sketch}
    return tables


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a toy recipe, through the command line."""
    folder = tmp_path_factory.mktemp("trained")
    write_tones(folder / "recordings")
    (folder / "toy.toml").write_text(
        toml(sketched(folder / "recordings"))
        + '\n[[generate]]\nname = "tones"\nclips = 1\nseconds = 0.1\nlabels = { tone = "*" }\nguidance = 1.0\n'
    )
    called = call("run", folder / "toy.toml", "--run", folder / "run", "--threads", "1", "--device", "cpu")
    assert called.code == 0, called.errors
    assert "training toy-sketch" in called.errors
    return folder / "run"


def toml(tables: dict[str, Any], name: str = "") -> str:
    """Tables as TOML; of JSON's types, the values are written alike."""
    here = {key: value for key, value in tables.items() if not isinstance(value, dict) and value is not None}
    lines = [f"[{name}]"] if name else []
    lines += [f"{key} = {json.dumps(value)}" for key, value in here.items() if value != []]
    below = {key: value for key, value in tables.items() if isinstance(value, dict)}
    return "\n".join([*lines, *(toml(value, f"{name}.{key}".strip(".")) for key, value in below.items())])


def test_a_sketch_is_trained_as_the_recipe_says(trained: Path) -> None:
    tables = sketched(trained, batch_size=3, walk=5, learning_rate=0.1, ema=0.5, label_dropout=0.3,
                      input_noise=5.0, least_noise=1.0, end_noise=2.0, onset=7.0)  # fmt: skip
    tables["train"]["balance"] = 0.5
    recipe = build_recipe(tables)
    trains = sketch_recipe(recipe, SketchStore(trained / "store")).train
    shared = set(SketchSettings.model_fields) & set(TrainSettings.model_fields)
    assert {"end_noise", "learning_rate"} <= shared and recipe.sketch is not None
    assert {name: getattr(trains, name) for name in shared} == {
        name: getattr(recipe.sketch, name) for name in shared
    }
    assert trains.balance == 0.5, "whose labels are rare is the same for both"
    with pytest.raises(RecipeError, match="least_noise must not be above end_noise, got 3 and 2"):
        build_recipe(sketched(trained, least_noise=3.0, end_noise=2.0))


def test_a_deaf_sketch_draws_every_frame_from_what_is_told(tmp_path: Path) -> None:
    write_tones(tmp_path / "recordings")
    (tmp_path / "toy.toml").write_text(
        toml(sketched(tmp_path / "recordings", deaf=True, input_noise=0.0, label_dropout=0.01))
    )
    command = ("train", tmp_path / "toy.toml", "--run", tmp_path / "run", "--threads", "1", "--device", "cpu")
    called = call(*command)
    assert called.code == 0, called.errors
    model = load(tmp_path / "run")
    assert model.sketch is not None
    heard = model.sketch.checkpoint.tensors["embedding.weight"]
    assert np.ptp(heard, axis=0).max() == 0.0
    tone = model.labels["tone"][0]
    drawn = []
    for seed in (0, 1):
        draw = Draw(sketch_temperature=0.0, guidance=0.0)
        sketching = model.start([Part({"tone": tone}, seed, draw=draw)]).sketching
        assert sketching is not None
        drawn.append(sketching.frames(0, 40)[0])
    assert np.array_equal(*drawn)


def test_what_a_deaf_sketch_draws_without_chance_is_a_quantile() -> None:
    model = Model(deaf_checkpoint())
    assert model.sketch is not None and model.sketch.checkpoint.deaf and not model.checkpoint.deaf
    sketching = model.start([Part({"tone": "low"}, draw=model.draw)]).sketching
    assert sketching is not None
    drawn = model.sketch.codec.encode(sketching.frames(0, 9)[0]).ravel()
    state = model.sketch.engine.start(
        np.array([label_indices({"tone": "low"}, model.sketch.labels)], np.int32)
    )
    logits = model.sketch.engine.logits(state, np.zeros((1, drawn.size), np.uint16))[0].astype(np.float64)
    shares = np.exp(logits - logits.max(-1, keepdims=True))
    below = np.cumsum(shares / shares.sum(-1, keepdims=True), axis=-1)
    assert np.abs(below - SETTLED).min() > 1e-4, "no ties, which rounding might decide"
    assert np.array_equal(drawn, (below > SETTLED).argmax(-1))
    assert (drawn != logits.argmax(-1)).any()
    other = model.start([Part({"tone": "low"}, seed=5, draw=model.draw)]).sketching
    assert other is not None and np.array_equal(other.frames(0, 9), sketching.frames(0, 9))


def test_what_a_sketch_learns_from_are_the_curves(trained: Path) -> None:
    store, sketches = Store(trained / "store"), SketchStore(trained / "store")
    for split in ("train", "valid"):
        for clip, sketch in zip(store.clips(split), sketches.clips(split), strict=True):
            tokens, frames = sketches.tokens(sketch), store.curves_of(clip)
            assert frames is not None and len(tokens) == sketch.length == frames.size
            assert (
                np.abs(sketches.codec.decode(tokens).reshape(frames.shape) - frames).max() <= STEP / 2 + 1e-3
            )


def test_a_trained_sketch_plays(trained: Path) -> None:
    model = load(trained)
    assert model.sketch is not None
    assert model.sketch.card["bits_per_sample"] < 4.0  # of 6
    sketching = model.start(parts_of(RATE, 0.25, [{"tone": "low"}, {"tone": "high"}])).sketching
    assert sketching is not None
    low, high = (np.exp(sketching.frames(2, 12)).mean(axis=1) @ np.arange(BANDS)).tolist()
    assert low < high  # where its energy lies
    told = call("info", trained).text
    assert "sketch" in told
    assert {path.name for path in (trained / "previews").iterdir()}


def test_what_is_judged_is_drawn_by_the_sketch(trained: Path) -> None:
    """Not said again after the held-out recordings, as it is in models without a sketch."""
    model, store = load(trained), Store(trained / "store")
    excerpts = [Excerpt(clip, 0, clip.length, clip.labels) for clip in store.clips("valid")[:2]]
    made = make(model, store, excerpts, 2, 7, Draw(), lambda done, total: None)
    for clip in made:
        seconds = len(clip.waveform) / RATE
        alone = model.generate(seconds, labels=clip.excerpt.labels, seed=7, stream=clip.stream)
        assert np.array_equal(clip.waveform, alone)


def test_a_report_says_what_the_model_was_told(trained: Path) -> None:
    called = call("evaluate", trained, trained, "--only", "likelihood", "--no-baselines")
    assert called.code == 0, called.errors
    assert "told the curves (mel)" in called.text and "sketch needed" in called.text


def test_a_batch_is_drawn_and_its_page_says_how(trained: Path) -> None:
    model = load(trained)
    for tone in ("high", "low"):
        clip = read(trained / "clips" / "tones" / f"{tone}-t1.0-000.wav")
        made = model.generate(0.1, labels={"tone": tone}, guidance=1.0)
        assert np.abs(clip - made).max() < 1e-4  # 16 bits
    assert "sketch at 0.8, guidance 1" in (trained / "page" / "index.html").read_text()


def test_a_sketch_trained_later_is_put_beside_the_model(trained: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    shutil.rmtree(run / "sketch")
    for name in ("model", "best"):
        path = run / f"{name}.safetensors"
        save_checkpoint(path, replace(load_checkpoint(path), sketch=None))
    called = call(
        "train", trained.parent / "toy.toml", "--run", run, "--resume", "--threads", "1", "--device", "cpu"
    )
    assert called.code == 0, called.errors
    found, before = load_checkpoint(run / "model.safetensors"), load_checkpoint(trained / "model.safetensors")
    assert found.hash == before.hash


def test_a_sketch_can_be_trained_where_nothing_is_held_out(tmp_path: Path) -> None:
    tables = sketched(write_tones(tmp_path / "recordings", clips=4), steps=2)
    tables["train"]["steps"] = 2
    tables["data"] |= {"valid_where": {}, "valid_fraction": 0.0}
    (tmp_path / "toy.toml").write_text(toml(tables))
    called = call(
        "train", tmp_path / "toy.toml", "--run", tmp_path / "run", "--threads", "1", "--device", "cpu"
    )
    assert called.code == 0, called.errors
    assert load(tmp_path / "run").sketch is not None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"controls": {"curves": []}}, "draws loudness and mel"),
        ({"controls": {"curves": ["pitch"], "hop": HOP}}, "draws loudness and mel"),
        ({"sketch": {"steps": None}}, "needs steps or minutes"),
        ({"sketch": {"steps": 3, "layers": [1]}}, "two entries"),
        ({"sketch": {"steps": 3, "label_dropout": 0.0}}, "label_dropout"),
    ],
)
def test_impossible_sketches_are_explained(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    tables = {**sketched(tmp_path), **change}
    with pytest.raises(RecipeError, match=message):
        build_recipe(tables)


def test_a_store_without_curves_cannot_be_sketched(tmp_path: Path) -> None:
    write_tones(tmp_path / "recordings", clips=4)
    prepare(toy_recipe(tmp_path / "recordings"), tmp_path / "store")
    with pytest.raises(DataError, match="no curves to sketch"):
        SketchStore(tmp_path / "store")
