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
budget = ["train.steps=3", "train.validate_every=2", "train.valid_seconds=0.2"]
seeds = [7]

[variants]
none = ["network.predictors=[]"]
one = ["network.predictors=[8]"]
"""


@pytest.fixture
def variants(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]))
    return importlib.import_module("benchmarks.variants")


@pytest.fixture
def curves(variants: Any) -> Any:
    return importlib.import_module("benchmarks.curves")


def row_of(trial: Any, valid: float, **others: Any) -> dict[str, Any]:
    """What a training of `trial` would have come to."""
    curve = {"minutes": [1.0, 2.0, 2.0], "samples": [10, 20, 20], "bits": [4.0, 3.5, valid]}
    measured = {
        "valid": valid,
        "minutes": 2.0,
        "samples": 20,
        "samples_per_second": 10.0,
        "macs_per_sample": 900,
    }
    where = {"hardware": "A processor, 1 cores", "threads": 1, "date": "2026-01-02"}
    return trial.facts | measured | where | {"curve": curve | {"whole": [False, False, True]}} | others


def study_of(variants: Any, folder: Path, text: str) -> Any:
    (folder / "study.toml").write_text(text)
    return variants.Study.load(folder / "study.toml")


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
    for row in rows:
        curve = row["curve"]
        assert curve["whole"] == [False, True] and curve["bits"][-1] == pytest.approx(row["valid"], abs=1e-4)
        assert curve["samples"] == sorted(curve["samples"]) and curve["samples"][-1] == row["samples"]
        assert curve["minutes"][-1] == pytest.approx(row["minutes"], abs=1e-3)
    assert Path("study.svg").read_text().startswith("<?xml")
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


TIMES = STUDY.replace("seeds = [7]", "seeds = [7, 8]\nminutes = [10, 0.5]")


def test_minutes_are_trained_one_after_another_variants_innermost(variants: Any, tmp_path: Path) -> None:
    trials = list(study_of(variants, tmp_path, TIMES).trials())
    assert [trial.name for trial in trials] == [
        f"{variant}-{minutes}min-{seed}"
        for minutes in ("10", "0.5")
        for seed in (7, 8)
        for variant in ("none", "one")
    ]
    assert trials[0].settings[-3:] == ("train.minutes=10", "train.seed=7", "network.predictors=[]")
    assert [trial.name for trial in study_of(variants, tmp_path, STUDY).trials()] == ["none-7", "one-7"]
    slower = TIMES.replace("[variants]", '[lengths]\n10 = ["train.learning_rate=1e-4"]\n\n[variants]')
    trials = list(study_of(variants, tmp_path, slower).trials())
    assert [("train.learning_rate=1e-4" in trial.settings) for trial in trials] == [True] * 4 + [False] * 4


def test_results_of_other_trials_stay_until_their_settings_change(variants: Any, tmp_path: Path) -> None:
    study = study_of(variants, tmp_path, TIMES)
    first, second, *_ = study.trials()
    study.write(study.sort([row_of(second, 3.0), row_of(first, 9.0), row_of(first, 2.0)]))
    assert [row["valid"] for row in study.saved()] == [2.0, 3.0], "in the study's order, the last one of each"
    changed = study_of(variants, tmp_path, TIMES.replace("predictors=[8]", "predictors=[16]"))
    assert [row["valid"] for row in changed.saved()] == [2.0]


def test_a_part_of_a_study(variants: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study, done = study_of(variants, tmp_path, TIMES), []

    def train(trial: Any, data: Path, run: Path) -> dict[str, Any]:
        done.append(run.name)
        return row_of(trial, 3.0)

    monkeypatch.setattr(variants, "train", train)
    for options in (["--only", "one", "--minutes", "0.5"], ["--minutes", "10"]):
        monkeypatch.setattr("sys.argv", ["variants", str(study.path), *options])
        variants.main()
    assert done == [
        "one-0.5min-7",
        "one-0.5min-8",
        "none-10min-7",
        "one-10min-7",
        "none-10min-8",
        "one-10min-8",
    ]
    assert len(study.saved()) == 6
    lines = study.path.with_suffix(".md").read_text().splitlines()
    assert [line.split(" | ")[1] for line in lines[4:7]] == ["none", "one", "one"]
    assert "(study.svg)" in lines[-1]


@pytest.mark.parametrize(
    ("options", "said"),
    [(["--only", "two"], "no two; there is none, one"), (["--minutes", "3"], "no 3.0; there is 10, 0.5")],
)
def test_what_a_study_does_not_have_is_one_line(
    variants: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, options: list[str], said: str
) -> None:
    study = study_of(variants, tmp_path, TIMES)
    monkeypatch.setattr("sys.argv", ["variants", str(study.path), *options])
    with pytest.raises(SystemExit) as left:
        variants.main()
    assert left.value.code == 2 and said in capsys.readouterr().err.splitlines()[-1]
    monkeypatch.setattr("sys.argv", ["variants", str(tmp_path / "none.toml")])
    with pytest.raises(SystemExit) as left:
        variants.main()
    assert left.value.code == 2 and "none.toml" in capsys.readouterr().err.splitlines()[-1]


def test_a_training_that_fails_ends_the_study(
    variants: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    study = study_of(variants, tmp_path, STUDY)
    monkeypatch.setattr("sys.argv", ["variants", str(study.path)])
    with pytest.raises(SystemExit) as left:
        variants.main()
    assert left.value.code == 1 and capfd.readouterr().err.splitlines() == [
        "audio-gen: error: tones.toml: no such recipe"
    ]


def test_curves_are_read_of_what_was_scored(curves: Any, tmp_path: Path) -> None:
    line = {"step": 1, "seconds": 30.0, "samples": 5, "valid": 4.0, "whole": False}
    nothing, last = (
        line | {"valid": None},
        line | {"seconds": 90.0, "samples": 9, "valid": 3.0, "whole": True},
    )
    (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, (line, nothing, last))))
    assert curves.read_curve(tmp_path) == {
        "minutes": [0.5, 1.5],
        "samples": [5, 9],
        "bits": [4.0, 3.0],
        "whole": [False, True],
    }


def test_equal_rows_are_drawn_in_equal_bytes(curves: Any, variants: Any, tmp_path: Path) -> None:
    trials = list(study_of(variants, tmp_path, TIMES).trials())
    rows = [row_of(trial, 3.0) for trial in trials]
    old = trials[0].facts | {"valid": 3.0}  # of the time before there were curves
    for some, name in ((rows, "a.svg"), (rows, "b.svg"), (rows[:1], "c.svg"), ([old], "d.svg")):
        curves.draw_curves(some, tmp_path / name)
    pictures = {path.stem: path.read_bytes() for path in tmp_path.glob("*.svg")}
    assert pictures["a"] == pictures["b"] != pictures["c"] != pictures["d"]
    assert b">one<" in pictures["a"] and b">one<" not in pictures["c"]
    assert all(len(picture) < 60_000 for picture in pictures.values())
