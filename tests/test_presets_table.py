"""Laws of the table of presets: it says what was measured of the presets as they are, and what was not."""

import importlib
import json
from pathlib import Path
from typing import Any

import pytest

from audio_gen.engine.pack import weight_count
from audio_gen.shape import NetworkShape

ROOT = Path(__file__).parents[1]
SHAPE = NetworkShape(256, (3, 2), (16, 16), (4,), head_channels=16)
STUDY = """
recipes = ["piano.toml"]
sources = ["piano"]
budget = []
minutes = [10, 60]
seeds = [0, 1]

[variants]
tiny = ['network.preset="tiny"']
other = ['network.preset="other"']
"""


@pytest.fixture
def presets(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The benchmark, of two presets of one size."""
    monkeypatch.syspath_prepend(str(ROOT))
    module = importlib.import_module("benchmarks.presets")
    monkeypatch.setattr(module, "shapes", lambda: {"tiny": SHAPE, "other": SHAPE})
    return module


@pytest.fixture
def options(tmp_path: Path) -> list[str]:
    (tmp_path / "study.toml").write_text(STUDY)
    (tmp_path / "page.md").write_text("# Title\n<!-- presets:begin -->\n<!-- presets:end -->\nThe end.\n")
    places = {"--saved": "speeds.json", "--study": "study.toml", "--page": "page.md"}
    return [word for option, name in places.items() for word in (option, str(tmp_path / name))]


def cells(page: Path) -> dict[str, list[str]]:
    """By preset; the head under "preset"."""
    lines = [line for line in page.read_text().splitlines() if line.startswith("| ")]
    return {
        row[0]: row[1:] for row in ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    }


def save_speeds(path: Path, shape: NetworkShape) -> None:
    speeds = {"fp32": 32_000.0, "bf16": 64_000.0, "int8": 168_000.0}
    measured = {"tiny": {"shape": shape.to_dict(), "samples_per_second": speeds}}
    facts = {"version": 1, "hardware": "A processor, 1 core", "isa": "avx2", "date": "2026-01-02"}
    path.write_text(json.dumps(facts | {"presets": measured}))


def save_trainings(presets: Any, folder: Path, shape: NetworkShape) -> None:
    """Both seeds of tiny's 10 minutes, on two days."""
    network = {"parameters": weight_count(shape), "macs_per_sample": round(shape.macs_per_sample)}
    rows = [
        trial.facts
        | network
        | {
            "valid": 3.0 + trial.seed,
            "hardware": "A, 1 cores",
            "threads": 1,
            "date": f"2026-01-0{trial.seed + 1}",
        }
        for trial in presets.Study.load(folder / "study.toml").trials()
        if trial.variant == "tiny" and trial.minutes == 10
    ]
    (folder / "study.json").write_text(json.dumps(rows))


def test_the_page_is_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    assert importlib.import_module("benchmarks.presets").main(["--check"]) == 0


def test_the_study_has_every_preset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    module = importlib.import_module("benchmarks.presets")
    study, _ = module.read_study(module.STUDY)
    assert list(study.variants) == list(module.PRESETS)
    assert all(study.variants[name] == [f'network.preset="{name}"'] for name in module.PRESETS)


def test_what_is_not_there_is_said(presets: Any, tmp_path: Path, options: list[str]) -> None:
    assert presets.main(options) == 0
    found = cells(tmp_path / "page.md")
    assert len({len(row) for row in found.values()}) == 1
    assert found["preset"][-3:] == ["bits, 10 minutes", "bits, 60 minutes", "trained on"]
    sizes = [f"{weight_count(SHAPE):,}", f"{SHAPE.macs_per_sample:,.0f}", "2"]
    assert found["tiny"] == [*sizes, *["not measured yet"] * 3, *["not trained yet"] * 2, "–"]
    assert "svg" not in (tmp_path / "page.md").read_text()


def test_speeds_and_trainings_are_shown(presets: Any, tmp_path: Path, options: list[str]) -> None:
    save_speeds(tmp_path / "speeds.json", SHAPE)
    save_trainings(presets, tmp_path, SHAPE)
    assert presets.main([*options, "--check"]) == 1
    assert presets.main(options) == 0 and presets.main([*options, "--check"]) == 0
    page = (tmp_path / "page.md").read_text()
    assert page.startswith("# Title\n") and page.endswith("\nThe end.\n")
    assert "Speeds: A processor, 1 core, avx2, 2026-01-02." in page and "/study.svg)" in page
    found = cells(tmp_path / "page.md")
    trained = "A, 1 cores, 1 thread, 2026-01-01; A, 1 cores, 1 thread, 2026-01-02"
    assert found["tiny"][3:] == ["2.0", "4.0", "10.5", "3.500", "not trained yet", trained]
    assert found["other"][3:] == [*["not measured yet"] * 3, *["not trained yet"] * 2, "–"]


def test_what_was_measured_of_a_preset_that_has_changed_does_not_count(
    presets: Any, tmp_path: Path, options: list[str]
) -> None:
    former = NetworkShape(256, (3, 3), (16, 16), (4,), head_channels=16)
    save_speeds(tmp_path / "speeds.json", former)
    save_trainings(presets, tmp_path, former)
    assert presets.main(options) == 0
    assert cells(tmp_path / "page.md")["tiny"][3:] == [
        *["not measured yet"] * 3,
        *["not trained yet"] * 2,
        "–",
    ]


def test_measured_is_every_precision_of_every_preset(
    presets: Any, tmp_path: Path, options: list[str]
) -> None:
    presets.save(presets.measure(rounds=1, seconds=0.002), tmp_path / "speeds.json")
    assert presets.main(options) == 0
    found = cells(tmp_path / "page.md")
    assert all(float(cell) > 0.0 for name in ("tiny", "other") for cell in found[name][3:6])


def test_what_cannot_be_read_is_one_line(
    presets: Any, tmp_path: Path, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "speeds.json").write_text('{"version": 0}')
    assert presets.main(options) == 1
    (tmp_path / "speeds.json").unlink()
    (tmp_path / "study.toml").unlink()
    assert presets.main(options) == 1
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 2 and "speeds.json" in told[0] and "study.toml" in told[1]
