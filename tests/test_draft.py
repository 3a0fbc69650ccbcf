"""A recipe for any folder: of the right kind, ready to run, and never in the way of what is there."""

import errno
import os
import tomllib
from pathlib import Path

import numpy as np
import pytest
import soundfile
from command_line import call

from audio_gen.data.doctor import draft_recipe, examine, write_recipe
from audio_gen.errors import DataError, OutputError, SettingError
from audio_gen.recipe import build_recipe, load_recipe
from audio_gen.settings import Recipe

RATE = 8000
QUICK = (
    "train.steps=2", "sketch.steps=2", "train.batch_size=2", "train.walk=2", "train.preview_seconds=0.0",
    "network.layers=[2,2,2,2]", "network.channels=[8,8,8,8]", "sketch.channels=[8,8]", "generate.0.clips=1",
    "generate.0.seconds=0.1", "generate.1.most_seconds=0.2",
)  # fmt: skip


def save(path: Path, seconds: float, seed: int = 0, fade: bool = True) -> None:
    """Noise, coloured a little; with `fade` a hit."""
    time = np.arange(round(seconds * RATE)) / RATE
    wave = np.random.default_rng(seed).standard_normal(len(time)).clip(-3, 3) * 0.2
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, wave * np.exp(-7 * time / seconds) if fade else wave, RATE)


def clips(folder: Path) -> None:
    for number in range(20):
        for drum in ("kick", "snare"):
            save(folder / f"{drum}_{number}.wav", 0.4, number)


def endless(folder: Path) -> None:
    for number, name in enumerate(("rain", "wind", "sea")):
        save(folder / f"{name}.wav", 21.0, number, fade=False)


def pitches(folder: Path) -> None:
    for number, note in enumerate(("a1", "c2", "eb2", "gb2", "a2", "c3")):
        for take in range(2):
            save(folder / f"{note}_rr{take + 1}.wav", 0.8, number)


def roll(folder: Path) -> None:
    for number in range(11):
        save(folder / f"piece_{number}.wav", 1.5, number)
        (folder / f"piece_{number}.notes.csv").write_text("0.1,0.4,60,80\n0.5,0.9,64,70\n")


KINDS = {"clips": clips, "endless": endless, "pitches": pitches, "roll": roll}


def drafted(folder: Path, minutes: float = 60.0) -> Recipe:
    return build_recipe({"name": "drafted", **tomllib.loads(draft_recipe(examine(folder), minutes))})


def test_each_kind_is_told_what_it_needs(tmp_path: Path) -> None:
    recipes = {}
    for kind, make in KINDS.items():
        make(tmp_path / kind)
        recipes[kind] = drafted(tmp_path / kind)
    assert {kind: recipe.controls.curves for kind, recipe in recipes.items()} == {
        "clips": ["mel"], "endless": ["mel"], "pitches": ["mel", "pitch"], "roll": ["mel", "notes"],
    }  # fmt: skip
    assert recipes["clips"].train.starts == 1.0 and recipes["endless"].train.starts == 0.0
    assert recipes["clips"].train.flip and not recipes["pitches"].train.flip
    assert recipes["endless"].data.split == "time"
    assert recipes["pitches"].controls.pitch == "{note}" and "note" not in recipes["pitches"].controls.labels
    assert recipes["pitches"].data.group == "{note}", "a whole pitch is held out"
    assert recipes["pitches"].generate[0].curves == {"pitch": ["a1", "c2", "gb2", "c3"]}
    assert recipes["roll"].sketch is not None and recipes["roll"].sketch.deaf
    assert recipes["roll"].data.dither == -66
    assert recipes["roll"].composer is not None
    assert (
        recipes["clips"].generate[0].labels == {"name": "*"} and recipes["clips"].generate[0].seconds <= 0.6
    )


def test_a_field_called_note_need_not_tell_notes(tmp_path: Path) -> None:
    for number in range(3):
        for note in ("soft", "loud", "a2"):
            save(tmp_path / f"{note}_{number}.wav", 0.2, number)
    text = draft_recipe(examine(tmp_path, pattern="{note}_{take}"))
    recipe = build_recipe({"name": "drafted", **tomllib.loads(text)})
    assert recipe.controls.curves == ["mel"] and "note" in recipe.controls.labels


@pytest.mark.parametrize("kind", ["clips", "roll"])
@pytest.mark.parametrize("minutes", [1.0, 60.0, 600.0])
def test_minutes_are_those_of_all_trainings(tmp_path: Path, kind: str, minutes: float) -> None:
    KINDS[kind](tmp_path)
    recipe = drafted(tmp_path, minutes)
    assert recipe.sketch is not None and recipe.sketch.minutes and recipe.train.minutes
    composing = recipe.composer.minutes if recipe.composer is not None else 0.0
    assert composing is not None and (composing > 0.0) == (kind == "roll")
    assert composing + recipe.sketch.minutes + recipe.train.minutes == pytest.approx(minutes)
    assert recipe.train.learning_rate == (1e-3 if minutes > 120 else 2e-3)


def test_a_page_has_room_for_many_labels(tmp_path: Path) -> None:
    for number in range(30):
        save(
            tmp_path / f"{'abcdefghij'[number % 10] * 2}_{'klmnopqrst'[number // 3] * 2}_{number}.wav",
            0.1,
            number,
        )
    asked = drafted(tmp_path).generate[0]
    assert len(asked.labels) == 1 and asked.clips == 1


@pytest.mark.parametrize("kind", ["endless", "pitches", "roll"])
def test_it_runs(tmp_path: Path, kind: str) -> None:
    """From the folder to the page; the README's commands do so with clips."""
    KINDS[kind](tmp_path / kind)
    recipe, run = tmp_path / "mine.toml", tmp_path / "run"
    called = call("doctor", tmp_path / kind, "-o", recipe, "--minutes", 5)
    assert called.code == 0, called.errors
    assert f"audio-gen run {recipe}" in called.errors
    quick = [*QUICK]
    if kind == "roll":  # whose takes come second, after the copies
        quick = [
            text.replace("generate.0", "generate.X").replace("generate.1", "generate.0") for text in quick
        ]
        quick = [text.replace("generate.X", "generate.1") for text in quick] + ["composer.steps=2"]
    words = [word for text in quick for word in ("--set", text)]
    called = call("run", recipe, "--run", run, "-q", *words)
    assert called.code == 0, called.errors
    page = (run / "page" / "index.html").read_text(encoding="utf-8")
    assert all(table.name in page for table in load_recipe(recipe).generate)


def test_what_is_there_stays(tmp_path: Path) -> None:
    clips(tmp_path / "hits")
    diagnosis = examine(tmp_path / "hits")
    target = tmp_path / "mine.toml"
    target.write_text("precious")
    with pytest.raises(OutputError, match="--force"):
        write_recipe(target, diagnosis)
    assert target.read_text() == "precious"
    write_recipe(target, diagnosis, force=True)
    assert load_recipe(target).name == "mine"
    with pytest.raises(SettingError, match=r"mine\.toml"):
        write_recipe(tmp_path / "mine.txt", diagnosis)
    with pytest.raises(OutputError, match="no folder"):
        write_recipe(tmp_path / "nowhere" / "mine.toml", diagnosis)
    with pytest.raises(SettingError, match=r"my hits\.toml: a recipe's name"):
        write_recipe(tmp_path / "my hits.toml", diagnosis)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hits", "mine.toml"]


def test_a_broken_recording_is_told_of_and_left_out(tmp_path: Path) -> None:
    clips(tmp_path / "hits")
    (tmp_path / "hits" / "text.wav").write_text("these are words, " * 20)
    called = call("doctor", tmp_path / "hits", "-o", tmp_path / "mine.toml")
    assert called.code == 1 and "PROBLEM" in called.text and "text.wav" in called.text
    assert load_recipe(tmp_path / "mine.toml").name == "mine"


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clips(tmp_path / "hits")
    diagnosis = examine(tmp_path / "hits")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match=r"mine\.toml: cannot be written: No space left"):
        write_recipe(tmp_path / "mine.toml", diagnosis)
    assert [path.name for path in tmp_path.iterdir()] == ["hits"]


def test_nothing_to_learn_from(tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("these are words, " * 20)
    with pytest.raises(DataError, match="no recording"):
        draft_recipe(examine(tmp_path))
    clips(tmp_path)
    for minutes in (0.5, float("nan"), float("inf")):
        with pytest.raises(SettingError, match="minutes"):
            draft_recipe(examine(tmp_path), minutes)
