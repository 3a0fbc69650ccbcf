"""Transcription: notes that are played are found to be, others not, by any listener and by the real one."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from command_line import call
from test_notes import HOP, pieces_tables, write_pieces
from test_sketch import toml
from toys import RATE

from audio_gen.data.prepare import prepare
from audio_gen.data.store import Store
from audio_gen.evaluation import tracker, transcription
from audio_gen.evaluation.excerpts import Excerpt
from audio_gen.evaluation.transcription import Score, compare
from audio_gen.recipe import build_recipe
from audio_gen.sampler.draw import Draw


@pytest.fixture(scope="module")
def melodies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("melodies") / "recordings"
    write_pieces(folder)
    return folder


@pytest.fixture(scope="module")
def store(melodies: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    path = tmp_path_factory.mktemp("store") / "store"
    prepare(build_recipe(pieces_tables(melodies, ["notes"])), path)
    return Store(path)


def roll_of(store: Store, excerpt: Excerpt, keys: int = 0) -> Any:
    """What a perfect listener hears, so many keys too high."""
    roll = transcription._roll(store, excerpt)
    moments = (
        np.arange(round(excerpt.samples / RATE * tracker.RATE / tracker.HOP)) * tracker.HOP / tracker.RATE
    )
    return np.roll(roll[np.minimum((moments * RATE / HOP).astype(int), len(roll) - 1)], keys, axis=1)


def judged(store: Store, monkeypatch: pytest.MonkeyPatch, copy: Any) -> transcription.Transcription:
    """With a listener that hears all in recordings, and `copy` of that, (frames, keys), in copies."""
    excerpts = [Excerpt(clip, 0, clip.length, {}) for clip in store.clips("valid")]
    monkeypatch.setattr(transcription.clips, "copy", lambda *_: [np.zeros(0, np.float32) for _ in excerpts])
    heard = iter([each for excerpt in excerpts for each in (copy(excerpt), roll_of(store, excerpt))])
    listener = SimpleNamespace(hear=lambda waveform, rate: next(heard))
    return transcription.judge(
        SimpleNamespace(sample_rate=RATE), store, excerpts, 0, Draw(), lambda *_: None, listener
    )  # type: ignore[arg-type]


def test_copies_are_held_against_recordings(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    perfect = judged(store, monkeypatch, lambda excerpt: roll_of(store, excerpt))
    assert perfect.share == 1.0 and perfect.copy.f1 == 1.0 and perfect.copy.sounding > 0
    silent = judged(store, monkeypatch, lambda excerpt: roll_of(store, excerpt) & False)
    assert silent.share == 0.0 and silent.copy.recall == silent.copy.precision == 0.0
    assert judged(store, monkeypatch, lambda excerpt: roll_of(store, excerpt, keys=1)).share < 0.2
    section = perfect.section()
    assert "100.0 %" in section.sentences[0]
    rows = section.blocks[1].rows  # type: ignore[union-attr]
    assert rows[-1][0] == "all" and len(rows) == len(perfect.pieces) + 1


def test_frames_of_different_lengths_meet_in_time() -> None:
    roll = np.zeros((10, 88), np.bool_)
    roll[5:, 40] = True  # from half a second on
    heard = np.zeros((86, 88), np.bool_)
    heard[43:, 40] = True
    score = compare(roll, heard, 0.1)
    assert score.f1 > 0.98 and score.sounding == pytest.approx(43, abs=1)
    assert Score(4, 2, 1).precision == 0.5 and Score(4, 2, 1).recall == 0.25
    assert Score(4, 2, 1).f1 == pytest.approx(1 / 3) and Score().f1 == 0.0


def test_what_is_told_no_notes_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "told notes" in str(transcription.obstacle(SimpleNamespace(told=["mel"]), 3))  # type: ignore[arg-type]
    told: Any = SimpleNamespace(told=["notes"])
    assert "no held-out recordings" in str(transcription.obstacle(told, 0))
    monkeypatch.setattr(tracker, "missing", lambda packages: [*packages])
    assert "needs onnxruntime" in str(transcription.obstacle(told, 1))
    monkeypatch.setattr(tracker, "missing", lambda packages: [])
    monkeypatch.setattr(tracker, "find_spec", lambda name: None)
    assert str(transcription.obstacle(told, 1)).endswith("pip install --no-deps basic-pitch")


def test_one_command_judges_a_model_of_notes(melodies: Path, tmp_path: Path) -> None:
    (tmp_path / "toy.toml").write_text(toml(pieces_tables(melodies, ["notes"])))
    run = tmp_path / "run"
    trained = call("train", tmp_path / "toy.toml", "--run", run, "--device", "cpu", "-q")
    assert trained.code == 0, trained.errors
    told = call("evaluate", run, run, "--only", "transcription", "--copies", 1, "-q", "--json")
    assert told.code == 0, told.errors
    report = json.loads(told.text)
    if tracker.obstacle():
        assert report["left_out"]["transcription"] == tracker.obstacle()
    else:
        (piece,) = report["transcription"]["pieces"]
        assert piece["recording"]["sounding"] == piece["copy"]["sounding"] > 0


@pytest.mark.skipif(tracker.obstacle() is not None, reason="needs the network of basic-pitch")
def test_the_tracker_hears_what_is_played() -> None:
    keys, rate = [45, 52, 57, 61, 64, 69], 16_000
    seconds = np.arange(rate) / rate
    waves = [
        sum(np.sin(2 * np.pi * 440.0 * 2.0 ** ((key - 69) / 12) * k * seconds) / k for k in range(1, 6))
        * np.exp(-2.0 * seconds)
        for key in keys
    ]
    heard = tracker.Tracker().hear(0.2 * np.concatenate(waves).astype(np.float32), rate)
    assert heard.shape == (-(-len(keys) * tracker.RATE // tracker.HOP), 88)
    roll = np.zeros((len(keys) * 10, 88), np.bool_)
    for place, key in enumerate(keys):
        roll[10 * place : 10 * place + 10, key - 21] = True
    assert compare(roll, heard, 0.1).f1 > 0.8
