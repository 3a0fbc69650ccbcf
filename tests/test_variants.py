"""Laws of the comparison of trainings: every variant is trained once, alike but for its settings, and reported."""

import importlib
import json
from pathlib import Path
from typing import Any

import pytest
from toys import RATE, write_tones

from audio_gen.checkpoint import load_checkpoint

RECIPE = f"""
[data]
source = "elsewhere"
sample_rate = {RATE}
valid_fraction = 0.3

[network]
layers = [2, 2]
channels = [8, 8]
pool = [2]
head_channels = 16

[train]
minutes = 60
batch_size = 2
crop = 64
"""
STUDY = """
recipes = ["tones.toml"]
sources = ["tones"]
budget = ["train.steps=3"]
seeds = [7]

[variants]
none = ["network.predictors=[]"]
one = ["network.predictors=[8]"]
"""


@pytest.fixture
def variants(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]))
    return importlib.import_module("benchmarks.variants")


def test_every_variant_is_trained_once_and_reported(
    variants: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_tones(Path("tones"), clips=4)
    Path("tones.toml").write_text(RECIPE)
    Path("study.toml").write_text(STUDY)
    monkeypatch.setattr("sys.argv", ["variants", "study.toml", "--data", "."])
    variants.main()
    rows = json.loads(Path("study.json").read_text())
    assert [(row["variant"], row["seed"]) for row in rows] == [("none", 7), ("one", 7)]
    assert all(row["steps"] == 3 and 0.0 < row["valid"] < 20.0 for row in rows)
    assert load_checkpoint(Path("runs/study/tones/one-7/model.safetensors")).card["seed"] == 7
    assert rows[1]["macs_per_sample"] > rows[0]["macs_per_sample"]
    report = Path("study.md").read_text()
    assert "| tones | none | 1 |" in report and "| tones | one | 1 |" in report
    weights = Path("runs/study/tones/none-7/model.safetensors")
    written = weights.stat().st_mtime_ns
    variants.main()
    assert weights.stat().st_mtime_ns == written and Path("study.md").read_text() == report


def test_the_studies_here_can_be_read(variants: Any) -> None:
    root = Path(__file__).parents[1]
    for path in (root / "benchmarks/variants").glob("*.toml"):
        study = variants.Study.load(path)
        assert study.variants and all((root / recipe).is_file() for recipe, _ in study.recipes)
