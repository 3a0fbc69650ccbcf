"""Notes as a curve: the roll is what the file says, wherever it is cut; a store of notes, and a model of them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from command_line import call
from test_sketch import toml
from toys import RATE, toy_recipe

from audio_gen.checkpoint import load_checkpoint
from audio_gen.curves import CurveExtractor, extract_curves
from audio_gen.data.store import Store
from audio_gen.errors import ControlError
from audio_gen.notes import CHANNELS, HELD, LOWEST, Notes, notes_beside, read_notes
from audio_gen.player_curves import parse_curve, player_frames

HOP = 32
PIECE = Notes(((0.0, 0.5, 60, 127), (0.2, 0.2001, 64, 64), (0.3, 0.9, 67, 100), (0.4, 0.8, 60, 100)))


def write(path: Path, notes: Notes) -> Path:
    path.write_text(
        "start,end,key,velocity\n" + "".join(",".join(map(str, note)) + "\n" for note in notes.values)
    )
    return path


def test_the_roll_is_what_the_notes_say() -> None:
    seconds = np.arange(100) * 0.01
    roll = PIECE.frames(seconds)
    assert roll.shape == (100, CHANNELS) and roll.min() == 0.0 and roll.max() == 1.0
    held = roll[:, 60 - LOWEST]
    assert held[0] == 1.0 and HELD < held[39] < 0.4 and held[40] == np.float32(100 / 127)  # struck again
    assert held[79] > 0.0 == held[80]
    assert np.count_nonzero(roll[:, 64 - LOWEST]) == 3  # none is too short to be seen
    others = np.delete(roll, [60 - LOWEST, 64 - LOWEST, 67 - LOWEST], axis=1)
    assert not others.any()


def test_where_it_is_cut_changes_nothing() -> None:
    seconds = (np.arange(100) + 0.5) * 0.013
    whole = PIECE.frames(seconds)
    for cut in (1, 7, 30, 99):
        parts = [PIECE.frames(seconds[at : at + cut]) for at in range(0, 100, cut)]
        assert np.array_equal(np.concatenate(parts), whole)
    wave = np.random.default_rng(0).standard_normal(40 * RATE).astype(np.float32)  # of several segments
    extractor = CurveExtractor(RATE, ["loudness", "notes"], HOP, notes=PIECE.frames)
    blocks = [rows for at in range(0, len(wave), 999) for rows in extractor.push(wave[at : at + 999])]
    found = np.concatenate([*blocks, extractor.finish()])
    moments = (np.arange(len(found)) + 0.5) * (HOP / RATE)
    assert np.array_equal(found[:, 1:], PIECE.frames(moments))
    assert np.array_equal(found[:, :1], extract_curves(wave, RATE, ["loudness"], HOP))


def test_a_player_gives_the_same_roll(tmp_path: Path) -> None:
    curve = parse_curve(f"notes={write(tmp_path / 'piece.csv', PIECE)}")
    assert curve == PIECE and curve.end == 0.9
    frames = player_frames([curve], ["notes"], RATE, HOP, 3, 20)
    assert np.array_equal(frames, PIECE.frames((np.arange(3, 23) + 0.5) * (HOP / RATE)))
    with pytest.raises(ControlError, match=r"needs the curve 'notes'; give notes=FILE\.csv"):
        player_frames([], ["notes"], RATE, HOP, 0, 9)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0,1,60\n", "line 1: must be start,end,key,velocity"),
        ("a,b,c,d\n0,1,60,x\n", "line 2: must be start"),
        ("0,1,20,64\n", "a key from 21 to 108"),
        ("0,1,60,0\n", "velocity from 1 to 127"),
        ("2,1,60,64\n", "must not end before it starts"),
        ("0,inf,60,64\n", "must not end before"),
        ("start,end,key,velocity\n", "line 1"),
        ("", "holds no notes"),
    ],
)
def test_what_are_no_notes_is_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "piece.csv").write_text(text)
    with pytest.raises(ControlError, match=message):
        read_notes(tmp_path / "piece.csv")
    with pytest.raises(ControlError, match="cannot be read"):
        read_notes(tmp_path / "none.csv")


def test_notes_are_not_measured() -> None:
    with pytest.raises(ControlError, match="cannot be measured"):
        extract_curves(np.zeros(99), RATE, ["notes"], HOP)


def write_pieces(folder: Path, count: int = 4) -> None:
    """Melodies of pure tones, their notes beside them."""
    generator = np.random.default_rng(1)
    folder.mkdir()
    for piece in range(count):
        keys = generator.integers(40, 70, 6)
        notes = Notes(tuple((0.1 + 0.3 * i, 0.35 + 0.3 * i, int(key), 90) for i, key in enumerate(keys)))
        t = np.arange(2 * RATE) / RATE
        wave = sum(
            np.where((t >= start) & (t < end), 0.3 * np.sin(2 * np.pi * 440 * 2 ** ((key - 69) / 12) * t), 0)
            for start, end, key, _ in notes.values
        )
        soundfile.write(folder / f"piece_{piece}.wav", wave, RATE)
        write(notes_beside(folder / f"piece_{piece}.wav"), notes)


def pieces_tables(recordings: Path, curves: list[str]) -> dict[str, Any]:
    """A recipe for them; of each the end is held out."""
    controls = {"curves": curves, "hop": HOP, "mel_bands": 8, "labels": {}}
    data = {"pattern": "", "valid_where": {}, "split": "time", "gap_seconds": 0.1, "valid_fraction": 0.3}
    tables: dict[str, Any] = toy_recipe(recordings, controls=controls, data=data).to_dict()
    return tables


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pieces")
    recordings = folder / "recordings"
    write_pieces(recordings)
    wave, _ = soundfile.read(recordings / "piece_3.wav")
    soundfile.write(recordings / "piece_9.wav", wave, RATE)  # without notes
    tables = pieces_tables(recordings, ["mel", "notes"])
    tables["sketch"] = {"channels": [16, 32], "steps": 10, "validate_every": 10, "frames": 8}
    (folder / "toy.toml").write_text(toml(tables))
    called = call("run", folder / "toy.toml", "--run", folder / "run", "--device", "cpu")
    assert called.code == 0, called.errors
    assert "piece_9.wav: controls.curves has notes" in called.errors
    return folder


def test_each_clip_has_the_notes_of_its_part(trained: Path) -> None:
    store = Store(trained / "run" / "store")
    for split in ("train", "valid"):
        clips = store.clips(split)
        assert len(clips) == 4
        for clip in clips:
            frames = store.curves_of(clip)
            assert frames is not None
            notes = read_notes(notes_beside(trained / "recordings" / clip.source))
            start = 0.0 if split == "train" else (2 * RATE - clip.length) / RATE
            expected = notes.frames((np.arange(len(frames)) + 0.5) * (HOP / RATE) + start)
            assert np.allclose(frames[:, 8:], expected, atol=1e-3)  # stored in half precision


def test_a_model_plays_the_notes_it_is_given(trained: Path, tmp_path: Path) -> None:
    model = trained / "run" / "model.safetensors"
    assert load_checkpoint(model).curves == ("mel", "notes")
    piece = write(tmp_path / "piece.csv", PIECE)
    call_it = ("generate", model, "--curve", f"notes={piece}", "--seconds", "1")
    assert call(*call_it, "-o", tmp_path / "one.wav").code == 0
    write(piece, Notes(PIECE.values[:1]))
    changed = call(*call_it, "-o", tmp_path / "one.wav", "--resume")
    assert changed.code == 1 and "curves" in changed.errors
    refused = call("generate", model, "-o", tmp_path / "none.wav")
    assert refused.code == 1 and "needs the curve 'notes'" in refused.errors
