"""The formulations of a training step that are compared are the same network."""

import importlib
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from audio_gen.shape import NetworkShape


@pytest.fixture
def training(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]))
    module = importlib.import_module("benchmarks.training")
    monkeypatch.setattr(module, "BATCH", 2)
    monkeypatch.setattr(module, "TIME", 64)
    monkeypatch.setattr(module, "PRODUCTS", 1)
    return module


SHAPES = [
    NetworkShape(256, (3,), (16,), skip_channels=8, head_channels=16),
    NetworkShape(256, (2, 2), (16, 32), (4,), head_channels=16, predictors=(8,)),
]


@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_all_formulations_give_the_same_logits(
    training: Any, shape: NetworkShape, narrow: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "multiplies_bf16", lambda: narrow)
    said = training.compare("a toy", shape, False, 1)
    errors = dict(re.findall(r"^\| (\S+, \S+) \|.*\| (\S+e\S+) \|", said, re.MULTILINE))
    assert len(errors) == (8 if narrow else 4)
    assert "fused, fp32" in errors and ("fused, bf16" in errors) == narrow
    for name, error in errors.items():
        assert float(error) < (1e-4 if "fp32" in name else 0.2), name


def test_nothing_is_fused_only_meanwhile(training: Any) -> None:
    ours = training.compiled.usable
    with training.unfused():
        assert not training.compiled.usable(torch.zeros(1), 64)
    assert training.compiled.usable(torch.zeros(1), 64)
    assert training.compiled.usable is ours
