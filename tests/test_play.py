"""How a model is played where nobody says otherwise: as its recipe has it, by every verb and from Python."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from command_line import call
from test_sketch import toml
from toys import learn, toy_recipe, toy_store, write_tones

import audio_gen
from audio_gen.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from audio_gen.errors import CheckpointError, RecipeError
from audio_gen.recipe import build_recipe
from audio_gen.sampler import Draw
from audio_gen.sampler.model import Model

PLAY = {"temperature": 0.5, "top_k": 40}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("play")
    tables = toy_recipe(write_tones(folder / "tones")).to_dict() | {"play": PLAY}
    recipe = build_recipe(tables)
    learn(recipe, toy_store(recipe, folder / "run" / "store"), folder / "run")
    (folder / "toy.toml").write_text(toml(tables))
    return folder / "run"


@pytest.fixture(scope="module")
def checkpoint(run: Path) -> Checkpoint:
    return load_checkpoint(run / "model.safetensors")


def test_the_model_is_played_as_its_recipe_has_it(run: Path, checkpoint: Checkpoint, tmp_path: Path) -> None:
    model = audio_gen.load(str(run))
    assert model.draw == Draw(0.5, 40) and checkpoint.card["play"] == PLAY
    clip = model.generate(0.1)
    assert np.array_equal(clip, model.generate(0.1, temperature=0.5, top_k=40))
    assert np.array_equal(
        model.generate(0.1, temperature=1.0, top_k=0), Model(unsaid(checkpoint)).generate(0.1)
    )
    wild = model.generate([0.1, 0.1], seed=0, temperature=[None, 2.0], stream=[0, 0])
    assert np.array_equal(wild[0], clip) and not np.array_equal(wild[1], clip)
    assert call("generate", run, "--seconds", 0.1, "-o", tmp_path / "clip.wav", "-q").code == 0
    assert (
        call("generate", run, "--seconds", 0.1, "--temperature", 0.5, "-o", tmp_path / "same.wav", "-q").code
        == 0
    )
    written, same = (soundfile.read(tmp_path / name)[0] for name in ("clip.wav", "same.wav"))
    assert np.array_equal(written, same) and np.allclose(written, clip, atol=1e-4)


def test_a_card_that_says_nothing_is_the_model_s_own_distribution(checkpoint: Checkpoint) -> None:
    assert Model(unsaid(checkpoint)).draw == Draw()


def unsaid(checkpoint: Checkpoint) -> Checkpoint:
    return replace(checkpoint, card={key: value for key, value in checkpoint.card.items() if key != "play"})


@pytest.mark.parametrize("play", [[1], "loud", {"volume": 1.0}, {"temperature": -1.0}, {"top_p": "much"}])
def test_a_card_that_cannot_be_played_is_one_line(checkpoint: Checkpoint, play: Any, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, replace(checkpoint, card=checkpoint.card | {"play": play}))
    with pytest.raises(CheckpointError, match="how to play it"):
        audio_gen.load(str(path))
    told = call("generate", path, "-o", tmp_path / "clip.wav")
    assert told.code == 1 and len(told.errors.splitlines()) == 1 and not (tmp_path / "clip.wav").exists()


def test_what_no_sketch_draws_has_no_settings_for_it(tmp_path: Path) -> None:
    tables = toy_recipe(tmp_path).to_dict() | {"play": {"guidance": 0.0}}
    with pytest.raises(RecipeError, match="sketch"):
        build_recipe(tables)


def test_only_what_is_given_changes() -> None:
    assert asdict(Draw(0.9).but(min_p=0.1)) == asdict(Draw(0.9)) | {"min_p": 0.1}
    assert Draw(0.9).but(temperature=0.0) == Draw(0.0)
