"""Notes in MIDI files: what is written comes back, and what other programs write is understood."""

from pathlib import Path
from typing import Any

import mido
import numpy as np
import pytest

from audio_gen.errors import ControlError
from audio_gen.midi import TICKS, read_midi
from audio_gen.notes import Notes, notes_beside, read_notes, write_notes


def save(path: Path, *tracks: list[Any], ticks: int = 480) -> Path:
    file = mido.MidiFile(type=1, ticks_per_beat=ticks)
    for messages in tracks:
        file.tracks.append(mido.MidiTrack(messages))
    file.save(path)
    return path


def on(note: int, time: int = 0, velocity: int = 64, channel: int = 0) -> Any:
    return mido.Message("note_on", note=note, velocity=velocity, time=time, channel=channel)


def pedal(value: int, time: int = 0) -> Any:
    return mido.Message("control_change", control=64, value=value, time=time)


@pytest.mark.parametrize("name", ["tune.mid", "tune.MIDI", "tune.csv"])
def test_what_is_written_comes_back(tmp_path: Path, name: str) -> None:
    generator = np.random.default_rng(2)
    starts = np.cumsum(generator.uniform(0.0, 0.3, 200))
    notes = Notes(
        tuple(
            (float(start), float(start) + 0.2, 30 + place % 60, 1 + place % 127)
            for place, start in enumerate(starts)
        )
    )
    write_notes(tmp_path / name, notes)
    found = read_notes(tmp_path / name).values
    assert [note[2:] for note in found] == [note[2:] for note in notes.values]
    assert np.abs(np.array(found) - np.array(notes.values)).max() <= 0.5 / TICKS
    if name.endswith("csv"):
        return
    assert mido.MidiFile(tmp_path / name).length == pytest.approx(notes.end, abs=0.01)


def test_tempo_tracks_and_pedal_are_those_of_the_file(tmp_path: Path) -> None:
    tempo = [
        mido.MetaMessage("set_tempo", tempo=1_000_000),
        mido.MetaMessage("set_tempo", tempo=250_000, time=96),
    ]
    first = [on(60), mido.Message("note_off", note=60, time=48), on(60, 48), on(60, 96, 0)]
    drums = [on(36, 0, 90, 9), on(36, 10, 0, 9)]
    second = [
        on(40, 96, 100),
        pedal(127, 0),
        on(40, 96, 0),
        on(40, 96, 50),
        on(40, 96, 0),
        pedal(0, 96),
        on(41, 0),
    ]
    notes = read_midi(save(tmp_path / "tune.mid", tempo, first, drums, second, ticks=96)).values
    # A beat lasts 1 s at first, and a quarter of it from 1 s on. The pedal holds all keys of its channel until it comes
    # up, or they are struck again; 41, which nobody lets go, ends with the file.
    assert notes == (
        (0.0, 0.5, 60, 64), (1.0, 1.5, 40, 100), (1.0, 2.0, 60, 64), (1.5, 2.0, 40, 50), (2.0, 2.0, 41, 64),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "not a MIDI file"),
        (b"RIFF0000WAVE", "not a MIDI file"),
        (b"MThd\x00\x00\x00\x06\x00\x00\x00\x01\x00\x60MTrk\x00\x00\x00\x09\x00\x90", "not a MIDI file"),
        (
            b"MThd\x00\x00\x00\x06\x00\x00\x00\x01\x00\x60MTrk\x00\x00\x00\x04\x00\xff\x2f\x00",
            "holds no notes",
        ),
    ],
)
def test_what_is_no_midi_is_told(tmp_path: Path, data: bytes, said: str) -> None:
    path = tmp_path / "tune.mid"
    path.write_bytes(data)
    with pytest.raises(ControlError, match=said) as told:
        read_notes(path)
    assert str(told.value).startswith(str(path)) and "\n" not in str(told.value)
    with pytest.raises(ControlError, match="cannot be read"):
        read_notes(tmp_path / "none.mid")
    with pytest.raises(ControlError, match=r"has key 12 at 0\.00 s"):
        read_midi(save(path, [on(12), on(12, 9, 0)]))


def test_notes_stand_beside_recordings(tmp_path: Path) -> None:
    recording = tmp_path / "piece.flac"
    assert notes_beside(recording).name == "piece.notes.csv"  # what is missing, if any
    (tmp_path / "piece.midi").touch()
    assert notes_beside(recording).name == "piece.midi"
    (tmp_path / "piece.notes.csv").touch()
    assert notes_beside(recording).name == "piece.notes.csv"
