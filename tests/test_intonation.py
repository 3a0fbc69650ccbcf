"""Intonation: what is in tune is found to be, what is not is said to be off by as much, and by name."""

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
from command_line import call
from test_sketch import toml
from toys import toy_recipe

from audio_gen.checkpoint import load_checkpoint
from audio_gen.data.prepare import prepare
from audio_gen.data.store import Store
from audio_gen.evaluation import intonation
from audio_gen.evaluation.excerpts import cut
from audio_gen.pitch import parse_note
from audio_gen.sampler.draw import Draw
from audio_gen.shape import PHASES

RATE, HOP = 8000, 64
NOTES = ["e2", "a2", "d3", "g3", "a3"]


def pluck(hertz: float, seconds: float, seed: int = 0) -> np.ndarray:
    """Six harmonics that die away, and a little noise."""
    t = np.arange(round(seconds * RATE)) / RATE
    generator = np.random.default_rng(seed)
    wave = sum(np.sin(2 * np.pi * hertz * k * t + generator.uniform(0, 6)) / k for k in range(1, 7))
    return (0.2 * wave * np.exp(-t) + 1e-4 * generator.standard_normal(len(t))).astype(np.float32)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plucks")
    for place, note in enumerate(NOTES):
        for take in range(3):
            soundfile.write(folder / f"pluck_{note}_{take}.wav", pluck(parse_note(note), 1.0, place), RATE)
    return folder


def notes_recipe(recordings: Path) -> Any:
    return toy_recipe(
        recordings,
        controls={
            "curves": ["pitch"], "hop": HOP, "pitch": "{note}", "labels": {"how": {"from": "{how}"}},
        },
        data={"sample_rate": RATE, "pattern": "{how}_{note}_{take}", "valid_where": {"note": ["d3"]}},
        steps=3,
    )  # fmt: skip


@pytest.fixture(scope="module")
def store(recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    path = tmp_path_factory.mktemp("store") / "store"
    prepare(notes_recipe(recordings), path)
    return Store(path)


def player(cents: dict[int, float] | float = 0.0, silent: tuple[int, ...] = ()) -> Any:
    """What looks like a model, and plays every note so many cents too high: all, or those of some streams."""

    def generate(
        seconds: list[float], labels: Any, seed: int, stream: list[int], curves: Any, **draw: Any
    ) -> Any:
        clips = []
        for number, length, told in zip(stream, seconds, curves, strict=True):
            off = cents if isinstance(cents, float) else cents.get(number, 0.0)
            hertz = told["pitch"] * 2.0 ** (off / 1200.0)
            clips.append(
                np.zeros(round(length * RATE), np.float32)
                if number in silent
                else pluck(hertz, length, number)
            )
        return clips

    return SimpleNamespace(generate=generate, sample_rate=RATE, told=["pitch"], sketch=None)


def judged(model: Any, store: Store, count: int = 24) -> intonation.Intonation:
    train, held = (
        cut([(clip, clip.length, clip.labels) for clip in store.clips(split)], RATE)
        for split in ("train", "valid")
    )
    return intonation.judge(model, store, train, held, count, 0, Draw(), lambda done, total: None)


def test_what_is_in_tune_is_found_to_be(store: Store) -> None:
    found = judged(player(), store)
    assert found.share == 1.0 and len(found.notes) == 24
    lowest, highest = parse_note("e2"), parse_note("a3")
    assert all(lowest * 0.999 <= note.asked <= highest * 1.001 for note in found.notes)
    assert {note.heard for note in found.notes} == {True, False}
    assert len(found.recordings) == 3 and all(note.in_tune and not note.heard for note in found.recordings)
    assert all(note.asked == pytest.approx(parse_note("d3"), rel=1e-3) for note in found.recordings)


def test_what_is_off_is_off_by_as_much(store: Store) -> None:
    found = judged(player({3: 40.0, 5: -1200.0, 7: 1200.0, 8: -60.0}, silent=(9,)), store)
    off = {int(note.name): note.cents for note in found.notes if not note.in_tune}
    assert set(off) == {3, 5, 7, 8, 9} and math.isnan(off.pop(9))
    assert off == {3: pytest.approx(40, abs=8), 5: pytest.approx(-1200, abs=8), 7: pytest.approx(1200, abs=8),
                   8: pytest.approx(-60, abs=8)}  # fmt: skip
    assert found.share == pytest.approx(19 / 24)
    section = found.section()
    counted = section.blocks[0].rows[0]  # type: ignore[union-attr]
    assert counted[:3] == ("notes, all", "24", "79.2 %") and counted[4:] == ("8.3 %", "4.2 %")
    farthest = section.blocks[2].rows  # type: ignore[union-attr]
    assert [row[0] for row in farthest[:2]] == ["9", "5"] or [row[0] for row in farthest[:2]] == ["9", "7"]


def test_a_model_that_is_told_no_pitch_is_not_asked(store: Store) -> None:
    for told in ([], ["mel", "pitch"]):
        assert "told a pitch" in str(intonation.obstacle(SimpleNamespace(told=told), [None]))  # type: ignore[arg-type, list-item]
    assert "no training recordings" in str(intonation.obstacle(player(), []))
    assert intonation.obstacle(player(), [None]) is None  # type: ignore[list-item]


def test_one_command_judges_a_model_of_notes(recordings: Path, tmp_path: Path) -> None:
    (tmp_path / "toy.toml").write_text(toml(notes_recipe(recordings).to_dict()))
    run = tmp_path / "run"
    trained = call("run", tmp_path / "toy.toml", "--run", run, "--device", "cpu", "-q")
    assert trained.code == 0, trained.errors
    assert load_checkpoint(run / "model.safetensors").shape.period == (0, RATE, PHASES)
    command = ("evaluate", run, run, "--only", "intonation", "--clips", 8, "-q")
    told = call(*command, "-o", tmp_path / "report")
    assert told.code == 0, told.errors
    assert "Intonation" in told.text and "held-out recordings" in told.text
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert len(report["intonation"]["notes"]) == 8 and not report["left_out"]
    assert "<h2>Intonation" in (tmp_path / "report" / "report.html").read_text()
    again = call(*command, "--json")
    assert json.loads(again.text)["intonation"] == report["intonation"]
