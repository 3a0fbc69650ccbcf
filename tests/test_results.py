"""Laws of the README's table of results: it says what the cards say; the same cards give the same bytes."""

import importlib
import json
from pathlib import Path
from typing import Any

import pytest
from networks import network_settings, random_tensors

from audio_gen.checkpoint import Checkpoint, save_checkpoint
from audio_gen.codec import Codec
from audio_gen.errors import DataError
from audio_gen.shape import NetworkShape

CARD: dict[str, Any] = {
    "name": "thuds",
    "data": "Thuds | bumps",
    "parameters": 1_234_567,
    "baselines": {
        "uniform": 8.0,
        "unigram": 5.2,
        "order-2 table": 4.25,
        "linear prediction, Laplace residual": 3.5,
    },
    "bits_per_sample": 2.3456,
    "minutes": 59.8,
    "speed": {"fp32": 4.12, "int8": 12.52, "hardware": "Some processor, 1 core", "date": "2026-01-03"},
    "precision": "int8",
    "scored": "all held-out audio",
    "hardware": "Some processor, 2 cores",
    "date": "2026-01-02",
    "recipe": {"data": {"valid_fraction": 0.1, "group": "{hit}", "labels_csv": "/secret/place.csv"}},
}


@pytest.fixture
def results(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]))
    return importlib.import_module("benchmarks.results")


def checkpoint(path: Path, **card: Any) -> Path:
    settings = network_settings([1], [16])
    shape = NetworkShape.from_dict(settings)
    save_checkpoint(path, Checkpoint(shape, Codec(), 8000, random_tensors(settings, 0), card=CARD | card))
    return path


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("| ").replace("\\|", "¦").split("|")]


def test_a_row_says_what_the_card_says(results: Any) -> None:
    head, rule, row = results.table([CARD]).splitlines()
    assert len(cells(head)) == len(cells(rule)) == len(cells(row))
    found = dict(zip(cells(head), cells(row), strict=True))
    assert found == {
        "model": "thuds",
        "data": "Thuds ¦ bumps",
        "held out": "10% of the groups {hit}",
        "minutes": "60",
        "trained on": "Some processor, 2 cores",
        "parameters": "1,234,567",
        "**bits per sample**": "**2.35**",
        "uniform": "8.00",
        "unigram": "5.20",
        "best table": "4.25 (order-2)",
        "linear prediction": "3.50",
        "× real time": "12.5 (int8)",
        "date": "2026-01-02",
    }


def test_rows_do_not_depend_on_the_order_and_gaps_are_shown(results: Any) -> None:
    bare = {"name": "bare", "baselines": {"new one": 3.0}}
    table = results.table([CARD, bare])
    assert table == results.table([bare, CARD])
    head, _, first, second = map(cells, table.splitlines())
    assert first[0] == "bare" and second[0] == "thuds"
    assert first[head.index("new one")] == "3.00" and second[head.index("new one")] == "–"
    assert first[head.index("minutes")] == "–" and first[head.index("**bits per sample**")] == "–"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"valid_where": {"index": ["0", "1"]}}, "index 0, 1"),
        ({"split": "time", "valid_fraction": 0.2}, "last 20% of each file"),
        ({"valid_fraction": 0.05}, "5% of the files"),
    ],
)
def test_what_was_held_out_is_told(results: Any, data: dict[str, Any], words: str) -> None:
    assert results.held_out(CARD | {"recipe": {"data": data}}) == words
    part = CARD | {"recipe": {"data": data}, "scored": "a part of the held-out audio"}
    assert results.held_out(part) == f"{words} (a part)"


def test_a_saved_run_gives_the_same_row(results: Any, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    model = checkpoint(tmp_path / "run" / "model.safetensors")
    saved = results.save(tmp_path / "run", tmp_path / "results")
    assert saved == tmp_path / "results" / "thuds.json"
    assert "secret" not in saved.read_text(encoding="utf-8")
    assert json.loads(saved.read_text(encoding="utf-8"))["bits_per_sample"] == 2.3456
    assert results.table([results.read_card(saved)]) == results.table([results.read_card(model)])


def test_bundled_models_come_before_saved_results_of_the_same_name(results: Any, tmp_path: Path) -> None:
    bundled, saved = tmp_path / "pretrained", tmp_path / "results"
    checkpoint(bundled / "thuds.safetensors")
    results.save(checkpoint(tmp_path / "old.safetensors", bits_per_sample=9.0), saved)
    results.save(checkpoint(tmp_path / "other.safetensors", name="other", bits_per_sample=1.0), saved)
    cards = results.default_cards([bundled], saved)
    assert [(card["name"], card["bits_per_sample"]) for card in cards] == [("thuds", 2.3456), ("other", 1.0)]


def test_only_what_lies_between_the_markers_changes(results: Any, tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(f"# Title\n\n{results.BEGIN}\nold\n{results.END}\n\nThe end.\n", encoding="utf-8")
    model = str(checkpoint(tmp_path / "thuds.safetensors"))
    assert results.main([model, "--readme", str(readme), "--check"]) == 1
    assert "old" in readme.read_text(encoding="utf-8")
    assert results.main([model, "--readme", str(readme)]) == 0
    once = readme.read_text(encoding="utf-8")
    assert once.startswith("# Title\n\n") and once.endswith("\n\nThe end.\n") and "thuds" in once
    assert "old" not in once
    assert results.main([model, "--readme", str(readme)]) == 0
    assert readme.read_text(encoding="utf-8") == once
    assert results.main([model, "--readme", str(readme), "--check"]) == 0


def test_mistakes_are_told_in_one_line(
    results: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = str(checkpoint(tmp_path / "thuds.safetensors"))
    (tmp_path / "plain.md").write_text("no markers")
    (tmp_path / "broken.json").write_text("{")
    for arguments in (
        [model, "--readme", str(tmp_path / "plain.md")],
        [model, "--readme", str(tmp_path / "none.md")],
        [str(tmp_path / "broken.json")],
        [str(tmp_path / "none.safetensors")],
    ):
        assert results.main(arguments) == 1
        told = capsys.readouterr()
        assert told.out == "" and len(told.err.splitlines()) == 1 and str(tmp_path) in told.err
    with pytest.raises(DataError, match="no name"):
        results.read_card(checkpoint(tmp_path / "unnamed.safetensors", name=None))
