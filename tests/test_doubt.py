"""Doubt: networks that are told how much noise is in what they hear, and players who say how much to believe."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import call
from networks import network_settings, random_tensors
from test_sketch import random_checkpoint
from test_training import readers
from toys import RATE, learn, toy_recipe, toy_store, write_tones

import audio_gen
from audio_gen.audio import read_tags
from audio_gen.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from audio_gen.codec import Codec
from audio_gen.errors import CheckpointError, RecipeError, SettingError
from audio_gen.recipe import build_recipe
from audio_gen.sampler.model import Model
from audio_gen.shape import DOUBT, DOUBTS, NetworkShape

STEPS = tuple(str(step) for step in range(1, DOUBTS + 1))


def doubting(checkpoint: Checkpoint) -> Checkpoint:
    """The same network, told of doubt besides."""
    shape = replace(checkpoint.shape, labels={**checkpoint.shape.labels, DOUBT: STEPS})
    tensors = random_tensors(shape, 7) | dict(checkpoint.tensors)
    return replace(checkpoint, shape=shape, tensors=tensors)


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    shape = NetworkShape.from_dict(
        network_settings([3, 3], [16, 16], [4], labels={"tone": ["high", "low"], DOUBT: STEPS})
    )
    return Checkpoint(shape, Codec(), RATE, random_tensors(shape, 1), card={"name": "random"})


def test_each_walk_is_told_the_noise_it_hears() -> None:
    clean = readers([500] * 4, crop=200, walk=2)
    noisy = readers([500] * 4, crop=200, walk=2, input_noise=32.0, tell_noise=True)
    seen = set()
    for _ in range(40):
        plain, disturbed = clean.next(), noisy.next()
        assert disturbed.labels.shape[1] == plain.labels.shape[1] + 1
        assert np.array_equal(disturbed.labels[:, :-1], plain.labels)
        for row in np.flatnonzero(plain.weights.all(1)):
            step = int(disturbed.labels[row, -1])
            seen.add(step)
            spread = (disturbed.inputs - plain.inputs)[row].std()
            assert spread == pytest.approx(32.0 * step / DOUBTS, rel=0.25)
    assert seen == set(range(DOUBTS + 1))


def test_doubt_steers_between_the_steps_that_were_learned(checkpoint: Checkpoint) -> None:
    model, reference = Model(checkpoint), Model(checkpoint, engine="reference")
    assert list(model.labels) == ["tone"]
    sure = model.generate(0.2, labels={"tone": "low"})
    assert np.array_equal(sure, model.generate(0.2, labels={"tone": "low"}, doubt=0.0))
    clips = [model.generate(0.2, labels={"tone": "low"}, doubt=doubt) for doubt in (0.5, 0.51, 1.0, 1.5)]
    assert len({clip.tobytes() for clip in [sure, *clips]}) == 5
    again = reference.generate(0.2, labels={"tone": "low"}, doubt=0.51)
    assert np.mean(again == clips[1]) > 0.9  # but for draws on the edge of two tokens
    both = model.generate([0.1, 0.2, 0.15], doubt=[0.0, 1.0, 0.5], stream=[0, 0, 0], labels={"tone": "low"})
    assert np.array_equal(both[1], clips[2]) and np.array_equal(both[0], sure[: len(both[0])])
    tokens = model.codec.encode(sure)
    rows = np.array([[2, 0]], np.int32)
    expected = model.engine.logits(model.engine.start(rows), tokens[None])  # type: ignore[attr-defined]
    costs = -expected[0, np.arange(len(tokens)), tokens] + np.log(np.exp(expected[0]).sum(-1))
    assert np.allclose(model.bits(tokens, labels={"tone": "low"}), costs / np.log(2.0), atol=1e-4)


def test_a_sketch_is_not_asked_for_doubt() -> None:
    plain, model = Model(random_checkpoint()), Model(doubting(random_checkpoint()))
    clip = model.generate(0.2, labels={"tone": "low"}, doubt=0.7)
    pieces = [*model.stream(0.2, labels={"tone": "low"}, doubt=0.7, chunk_seconds=0.03)]
    assert np.array_equal(np.concatenate(pieces), clip)
    parts = [each.start(audio_gen.sampler.parts.parts_of(RATE, 0.2)) for each in (plain, model)]
    drawn = [voices.sketching.frames(0, 5) for voices in parts if voices.sketching is not None]
    assert np.array_equal(*drawn)


def test_who_was_not_told_cannot_doubt(checkpoint: Checkpoint) -> None:
    with pytest.raises(SettingError, match="told of noise"):
        Model(random_checkpoint()).generate(0.1, doubt=0.5)
    with pytest.raises(SettingError, match="doubt must be from 0 to 3, got 4"):
        Model(checkpoint).generate(0.1, doubt=4.0)
    for labels in ({DOUBT: STEPS, "tone": ("high",)}, {DOUBT: ("1", "2")}):
        with pytest.raises(CheckpointError, match="impossible"):
            replace(checkpoint.shape, labels=labels)


def test_noise_that_is_told_is_learned_validated_and_played(tmp_path: Path) -> None:
    train = {"input_noise": 6.0, "tell_noise": True, "steps": 12, "preview_seconds": 0.05}
    tables = toy_recipe(write_tones(tmp_path / "tones", clips=5), **train).to_dict()
    recipe = build_recipe(tables | {"play": {"doubt": 0.5}})
    run = tmp_path / "run"
    _, reports = learn(recipe, toy_store(recipe, run / "store"), run)
    assert reports[-1].valid is not None
    model = audio_gen.load(str(run))
    assert model.checkpoint.shape.doubts and model.draw.doubt == 0.5 and list(model.labels) == ["tone"]
    target = tmp_path / "clip.wav"
    asked: list[Any] = ["generate", run, "--label", "tone=low", "-o", target]
    assert call(*asked, "--seconds", 0.1, "--doubt", 0.25).code == 0
    assert '"doubt": 0.25' in read_tags(target)["comment"]
    refused = call(*asked, "--seconds", 0.2, "--doubt", 0.5, "--resume")
    assert refused.code == 1 and "doubt 0.25" in refused.errors
    assert call(*asked, "--seconds", 0.2, "--doubt", 0.25, "--resume").code == 0
    assert "doubt" in call("info", run).text
    judged = call("evaluate", run, run, "--only", "likelihood", "-q")
    assert judged.code == 0, judged.errors
    quantized = call("quantize", run, "-q")
    assert quantized.code == 0, quantized.errors
    assert load_checkpoint(run / "model.safetensors").quantization


def test_recipes_that_do_not_tell_are_not_played_with_doubt(tmp_path: Path, checkpoint: Checkpoint) -> None:
    tables = toy_recipe(tmp_path).to_dict()
    with pytest.raises(RecipeError, match=r"play\.doubt needs train\.tell_noise"):
        build_recipe(tables | {"play": {"doubt": 0.5}})
    with pytest.raises(RecipeError, match="there is no noise to tell of"):
        build_recipe(tables | {"train": tables["train"] | {"tell_noise": True}})
    named = {"labels": {DOUBT: {"from": "{tone}"}}}
    with pytest.raises(RecipeError, match="call yours otherwise"):
        build_recipe(
            tables | {"controls": named, "train": tables["train"] | {"tell_noise": True, "input_noise": 1.0}}
        )
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, checkpoint)
    assert load_checkpoint(path).shape == checkpoint.shape
