"""Laws of sizes with names: a preset is what it stands for, and leaves no trace of its name."""

import itertools
import math
from pathlib import Path
from typing import Any

import pytest

from audio_gen.engine.pack import check_shape
from audio_gen.errors import RecipeError
from audio_gen.presets import PRESETS, preset_shape
from audio_gen.recipe import build_recipe, load_recipe
from audio_gen.settings import NetworkSettings, Recipe

TIERED = ("nano", "small", "base", "large")


def recipe(network: dict[str, Any]) -> Recipe:
    return build_recipe({"name": "a", "data": {"source": "."}, "network": network})


def refusal(network: dict[str, Any]) -> str:
    with pytest.raises(RecipeError) as caught:
        recipe(network)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_its_sizes_and_nothing_else(name: str) -> None:
    named, spelled = recipe({"preset": name}), recipe(PRESETS[name])
    assert named == spelled and named.to_dict() == spelled.to_dict()
    assert build_recipe(named.to_dict()) == named
    assert "preset" not in named.to_dict()["network"]
    sizes = set(NetworkSettings.model_fields) - {
        "preset",
        "around",
        "predictors",
        "envelope",
        "period",
        "phase",
        "anchor",
    }
    assert set(PRESETS[name]) == sizes, "no size may depend on a default that could change"


def test_what_is_given_beside_a_preset_takes_its_place() -> None:
    given = recipe({"preset": "small", "head_channels": 96, "predictors": [8]}).network
    others = {"around": 0, "envelope": 16, "period": True, "phase": True, "anchor": False}
    expected = {**PRESETS["small"], "head_channels": 96, "predictors": [8], **others}
    assert given.model_dump() == expected
    reshaped = recipe({"preset": "large", "layers": [3], "channels": [32], "pool": []}).network
    assert (reshaped.layers, reshaped.condition_channels) == ([3], PRESETS["large"]["condition_channels"])


def test_a_preset_may_be_chosen_on_the_command_line(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text('[data]\nsource = "."\n[network]\npreset = "nano"\n')
    assert load_recipe(path, ["network.preset=base"]) == load_recipe(path, ['network={preset="base"}'])
    assert load_recipe(path).network.channels == PRESETS["nano"]["channels"]


def test_what_is_no_preset_is_one_line() -> None:
    assert refusal({"preset": "smal"}) == "recipe: network: no preset 'smal'; did you mean small?"
    assert all(name in refusal({"preset": "?"}) for name in PRESETS)
    assert "network.preset: should be a valid string, got 3" in refusal({"preset": 3})
    assert "unknown key network.prset; did you mean preset?" in refusal({"prset": "nano"})
    assert "must describe the same tiers" in refusal({"preset": "base", "layers": [3]})


def test_recipes_without_a_preset_mean_what_they_always_did() -> None:
    """The digest that a training is resumed by is taken of exactly this."""
    assert recipe({}).network.model_dump() == {
        "layers": [4, 6, 7, 7],
        "channels": [64, 96, 160, 192],
        "pool": [4, 4, 4],
        "dilation_cycle": 10,
        "kernel_size": 2,
        "skip_channels": 0,
        "head_channels": 256,
        "condition_channels": 32,
        "around": 0,
        "predictors": None,
        "envelope": 16,
        "period": True,
        "phase": True,
        "anchor": False,
    }


def test_tiered_presets_hear_two_seconds_and_double_in_cost() -> None:
    shapes = [preset_shape(name) for name in TIERED]
    assert all(shape.receptive_field >= 32_000 for shape in shapes)
    costs = [shape.macs_per_sample for shape in shapes]
    assert all(1.7 < after / before < 2.4 for before, after in itertools.pairwise(costs))
    assert 0.25e6 < preset_shape("base").macs_per_sample < 0.4e6


def test_the_engine_and_the_default_crop_fit_every_preset() -> None:
    for name in PRESETS:
        shape = preset_shape(name, predictors=(16, 32))
        check_shape(shape)
        assert recipe({"preset": name}).train.crop % math.prod(shape.pool) == 0
        assert shape.predictors == (16, 32)
