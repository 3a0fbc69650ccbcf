"""Laws of the speed table and of what measures it: the page says what was saved; the steps compute the network."""

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engine_cases import NETWORKS, Case, coins_of, draw

from audio_gen.shape import NetworkShape

ROOT = Path(__file__).parents[1]


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT))
    return lambda name: importlib.import_module(f"benchmarks.{name}")


def row(streams: int, kind: str = "fp32", **others: float) -> dict[str, Any]:
    plain = {"network": "tiny", "kind": kind, "streams": streams, "samples_per_second": 32_000.0 * streams}
    return plain | others


SAVED: dict[str, Any] = {
    "version": 1,
    "hardware": "Some processor, 1 core",
    "isa": "avx2",
    "torch": "2.9",
    "date": "2026-01-02",
    "quick": False,
    "networks": {
        "tiny": {
            "macs_per_sample": 162_816,
            "errors": {
                "fp32": {"logits": 4.7e-6, "kl_bits": 0.0},
                "int8": {"logits": 0.2, "kl_bits": 0.0013},
            },
            "gaps": {"fp32": {"worst_ms": 0.06}, "int8": {"worst_ms": 0.0123}},
        }
    },
    "rows": [
        row(1, of_reading=0.62, of_arithmetic=0.2, over_modules=197.4, over_lean=23.6),
        row(8, of_reading=0.1, of_arithmetic=0.345),
        row(1, "int8", of_reading=0.5, of_arithmetic=0.1, over_modules=500.0, over_lean=60.0),
        row(1, "modules"),
        row(1, "lean"),
    ],
}


def test_the_page_is_what_was_saved(benchmark: Any) -> None:
    assert benchmark("speed").main(["--check"]) == 0


def test_rows_say_what_was_measured_and_gaps_are_shown(benchmark: Any) -> None:
    told = benchmark("speed").text(SAVED).splitlines()
    assert told[0] == "Some processor, 1 core, avx2, PyTorch 2.9, 2026-01-02:"
    head, rule, fp32, int8 = ([cell.strip() for cell in line.strip("|").split("|")] for line in told[2:6])
    assert len(head) == len(rule) == len(fp32) == len(int8)
    assert fp32[:8] == ["tiny", "162,816", "fp32", "32,000", "2.0", "197", "23.6", "62%"]
    assert fp32[8:] == ["256,000", "34%", "–", "–", "5e-06 logit", "0.060"]
    assert int8[8:] == ["–", "–", "–", "–", "1.3e-03 bits", "0.012"]


def test_only_what_lies_between_the_markers_changes(benchmark: Any, tmp_path: Path) -> None:
    speed, page = benchmark("speed"), tmp_path / "SPEED.md"
    begin, end = speed.MARKERS
    page.write_text(f"# Title\n\n{begin}\nold\n{end}\n\nThe end.\n", encoding="utf-8")
    assert speed.main(["--page", str(page), "--check"]) == 1
    assert speed.main(["--page", str(page)]) == 0
    once = page.read_text(encoding="utf-8")
    assert once.startswith("# Title\n\n") and once.endswith("\n\nThe end.\n") and "old" not in once
    assert speed.main(["--page", str(page), "--check"]) == 0


def test_what_was_not_saved_is_one_line(
    benchmark: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "old.json").write_text('{"version": 0}')
    for name in ("none.json", "old.json"):
        assert benchmark("speed").main([str(tmp_path / name)]) == 1
        told = capsys.readouterr()
        assert told.out == "" and len(told.err.splitlines()) == 1 and name in told.err


@pytest.mark.parametrize("kind", ["ModuleStep", "LeanStep"])
@pytest.mark.parametrize("name", ["classic", "tiers"])
def test_the_steps_of_pytorch_compute_the_network(benchmark: Any, kind: str, name: str) -> None:
    """Past every queue's length, and at every phase of the tiers."""
    networks = benchmark("networks")
    shapes = {
        "classic": NetworkShape(256, (7,), (16,), skip_channels=24, head_channels=20, dilation_cycle=5),
        "tiers": NetworkShape(256, (3, 2, 4), (16, 12, 20), (4, 3), head_channels=20),
    }
    shape = shapes[name]
    tensors = networks.random_tensors(shape)
    tokens = networks.random_tokens(shape, 1, 150)
    reference = networks.reference_logits(shape, tensors, tokens)
    step = getattr(benchmark("peers"), kind)(shape, tensors)
    found = np.stack([step.feed(int(token)).clone().numpy() for token in tokens[0]])
    assert np.abs(found - reference).max() < 1e-4
    assert networks.errors(found, reference)["kl_bits"] < 1e-6
    assert networks.errors(found + 1.0, reference)["logits"] == pytest.approx(1.0, abs=1e-4)
    assert networks.errors(0.5 * found, reference)["kl_bits"] > 1e-3


def test_the_clocked_library_draws_the_same_and_knows_when(benchmark: Any, tmp_path: Path) -> None:
    gaps = benchmark("gaps")
    coins = coins_of(1, 3, 60)
    with gaps.clocked_library(tmp_path, "-O1") as library:
        clocked = Case("two-tiers")
        assert np.array_equal(clocked.sample(coins, setting=draw()), Case("two-tiers").sample(coins))
        told = gaps.measure(Case("classic").engine, library)
    assert 0 < told["median_ms"] <= told["p999_ms"] <= told["worst_ms"] <= told["seen_ms"]
    assert told["period"] == 1 and NETWORKS["classic"]["pool"] == []
