"""Laws of the token store: what is in it, what is not and why, and that no interruption harms it."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from audio_gen.audio import read
from audio_gen.controls import extract_curves
from audio_gen.data.prepare import Report, prepare
from audio_gen.data.store import Store
from audio_gen.errors import AudioGenError, DataError, OutputError, RecipeError
from audio_gen.recipe import build_recipe
from audio_gen.settings import Recipe

RATE = 8000
DIGIT = "{digit}_{speaker}_{index}"


def write(path: Path, seconds: float = 0.05, peak: float = 0.5, seed: int = 0, rate: int = RATE) -> Path:
    """Noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).normal(0, 1, max(1, round(seconds * rate)))
    soundfile.write(path, noise / np.abs(noise).max() * peak, rate)
    return path


def recipe(source: Path, labels: Any = None, controls: Any = None, codec: Any = None, **data: Any) -> Recipe:
    tables = {"source": str(source), "sample_rate": RATE, **data}
    controls = {"labels": labels or {}, **(controls or {})}
    network = {"layers": [1], "channels": [1], "pool": []}
    return build_recipe(
        {"name": "test", "data": tables, "controls": controls, "codec": codec or {}, "network": network}
    )


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    """3 digits of 2 speakers, 4 takes each; one speaker is quiet."""
    folder = tmp_path / "digits"
    for seed in range(24):
        digit, speaker, index = seed % 3, ("ann", "bob")[seed // 3 % 2], seed // 6
        peak = 0.5 if speaker == "ann" else 0.02
        write(folder / f"{digit}_{speaker}_{index}.flac", 0.02 + 0.003 * seed, peak, seed)
    return folder


def contents(store: Path) -> dict[str, bytes]:
    """All files of a store but the cache of the survey."""
    return {path.name: path.read_bytes() for path in store.iterdir() if path.name != "survey.sqlite"}


def everything(store: Store) -> dict[str, str]:
    """{source: split}"""
    return {clip.source: clip.split for split in ("train", "valid") for clip in store.clips(split)}


def test_a_clip_is_the_encoded_file_times_its_gain_then_silence(digits: Path, tmp_path: Path) -> None:
    write(digits / "0_ann_9.wav", 0.5, 0.4, 7, rate=22_050)
    for pre_emphasis in (0.0, 0.85):
        codec = {"levels": 512, "pre_emphasis": pre_emphasis}
        report = prepare(recipe(digits, codec=codec, end_seconds=0.01), tmp_path / "store")
        store = Store(tmp_path / "store")
        clips = store.clips("train") + store.clips("valid")
        assert len(clips) == report.clips == 25
        assert sum(clip.length for clip in clips) / RATE == pytest.approx(report.seconds)
        for clip in clips:
            wave = read(digits / clip.source, RATE) * np.float32(clip.gain)
            wave = np.concatenate([wave, np.zeros(80, np.float32)])
            assert np.array_equal(store.tokens(clip), store.codec.encode(wave))
        assert report.clipped == 0 or pre_emphasis


def test_a_long_file_is_streamed_to_the_same_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "in/a.wav", 25.0, rate=11_025)  # three blocks
    prepare(recipe(tmp_path / "in", controls={"curves": ["loudness"]}), tmp_path / "store")
    store = Store(tmp_path / "store")
    (clip,) = store.clips("train")
    wave = read(tmp_path / "in/a.wav", RATE) * np.float32(clip.gain)
    assert np.array_equal(store.tokens(clip), store.codec.encode(wave))
    monkeypatch.setattr("audio_gen.data.prepare._SMALL_TOKENS", 0)
    prepare(recipe(tmp_path / "in", controls={"curves": ["loudness"]}), tmp_path / "streamed")
    assert contents(tmp_path / "streamed") == contents(tmp_path / "store")


@pytest.mark.parametrize("gain", ["dataset", "file", "none", "{speaker}"])
def test_gain_is_shared_by_its_group_alone(digits: Path, tmp_path: Path, gain: str) -> None:
    prepare(recipe(digits, pattern=DIGIT, gain=gain, peak=0.8), tmp_path / "store")
    store = Store(tmp_path / "store")
    peaks: dict[str, list[float]] = {}
    for clip in store.clips("train") + store.clips("valid"):
        wave = read(digits / clip.source, RATE)
        speaker = clip.source.split("_")[1]
        group = {"dataset": "", "none": "", "file": clip.source}.get(gain, speaker)
        peaks.setdefault(group, []).append(float(np.abs(wave).max()) * clip.gain)
        if gain == "none":
            assert clip.gain == 1.0
        elif gain != "file":
            assert clip.gain == store.manifest["gains"][group]
    for found in peaks.values():
        if gain != "none":
            assert 0.8 - 1e-4 < max(found) <= 0.8


def test_a_stray_loud_take_has_a_gain_of_its_own(tmp_path: Path) -> None:
    for name, peak in {"a1": 0.02, "a2": 0.04, "a3": 0.05, "a4": 0.8, "b1": 0.3}.items():
        soundfile.write(
            write(tmp_path / f"in/{name[0]}_{name[1]}.wav"), np.full(400, peak), RATE, subtype="FLOAT"
        )
    settings = {"pattern": "{who}_{take}", "gain": "{who}", "valid_fraction": 0.0}
    gains = {}
    for share in (1.0, 0.75):
        prepare(recipe(tmp_path / "in", gain_share=share, **settings), tmp_path / "store")
        gains[share] = {clip.source: clip.gain for clip in Store(tmp_path / "store").clips("train")}
    all_share = {f"a_{i}.wav": 1.125 for i in (1, 2, 3, 4)} | {"b_1.wav": 3.0}
    assert gains[1.0] == pytest.approx(all_share, rel=1e-4)
    assert gains[0.75] == pytest.approx(all_share | {f"a_{i}.wav": 18.0 for i in (1, 2, 3)}, rel=1e-4)


def test_a_tail_is_cut_once_the_sound_has_faded(tmp_path: Path) -> None:
    time = np.arange(RATE) / RATE
    decay = np.sin(2.0 * np.pi * 200.0 * time) * 10.0 ** (-60.0 * time / 20.0)  # 60 dB in a second
    soundfile.write(write(tmp_path / "in/ring.wav"), decay, RATE, subtype="FLOAT")
    soundfile.write(write(tmp_path / "in/tone.wav"), np.sin(200.0 * time), RATE, subtype="FLOAT")
    lengths = {}
    for tail in (None, 0.0, 0.05, 9.0):
        prepare(recipe(tmp_path / "in", tail_seconds=tail, valid_fraction=0.0), tmp_path / "store")
        lengths[tail] = [clip.length / RATE for clip in Store(tmp_path / "store").clips("train")]
    assert lengths[None] == lengths[9.0] == [1.0, 1.0]
    assert lengths[0.0] == [pytest.approx(54 / 60, abs=0.02), pytest.approx(1.0, abs=0.01)]
    assert lengths[0.05] == [pytest.approx(54 / 60 + 0.05, abs=0.02), 1.0]


def test_dynamics_and_offset_survive_the_gain(tmp_path: Path) -> None:
    soundfile.write(write(tmp_path / "in/loud.wav"), np.full(400, 0.5), RATE, subtype="FLOAT")
    soundfile.write(write(tmp_path / "in/soft.wav"), np.full(400, 0.125), RATE, subtype="FLOAT")
    prepare(recipe(tmp_path / "in", valid_fraction=0.0), tmp_path / "store")
    store = Store(tmp_path / "store")
    loud, soft = (store.codec.decode(store.tokens(clip)).mean() for clip in store.clips("train"))
    assert loud == pytest.approx(0.9, abs=0.02)
    assert soft == pytest.approx(0.9 / 4, abs=0.01)


def test_clipped_samples_are_counted(tmp_path: Path) -> None:
    soundfile.write(write(tmp_path / "in/hot.wav"), np.array([0.5, 1.5, -2.0, 1.0]), RATE, subtype="FLOAT")
    assert prepare(recipe(tmp_path / "in", gain="none"), tmp_path / "none").clipped == 2
    assert prepare(recipe(tmp_path / "in"), tmp_path / "dataset").clipped == 0


def test_a_group_never_stands_on_both_sides(digits: Path, tmp_path: Path) -> None:
    settings = recipe(digits, pattern=DIGIT, group="{speaker}_{index}", valid_fraction=0.4)
    report = prepare(settings, tmp_path / "store")
    sides: dict[str, set[str]] = {}
    store = Store(tmp_path / "store")
    for split in ("train", "valid"):
        for clip in store.clips(split):
            assert clip.group == "_".join(Path(clip.source).stem.split("_")[1:])
            sides.setdefault(clip.group, set()).add(split)
    assert all(len(split) == 1 for split in sides.values())
    assert {split for each in sides.values() for split in each} == {"train", "valid"}
    assert report.splits["train"]["clips"] + report.splits["valid"]["clips"] == 24


def test_a_file_keeps_its_side_whatever_comes_or_goes(digits: Path, tmp_path: Path) -> None:
    settings = recipe(digits, valid_fraction=0.3)
    prepare(settings, tmp_path / "store")
    before = everything(Store(tmp_path / "store"))
    for seed in range(30):
        write(digits / f"new_{seed}.wav", seed=100 + seed)
    (digits / "0_ann_0.flac").unlink()
    prepare(settings, tmp_path / "store")
    after = everything(Store(tmp_path / "store"))
    assert "0_ann_0.flac" in before and "0_ann_0.flac" not in after
    assert len(after) == 53
    assert all(after[source] == split for source, split in before.items() if source in after)


@pytest.mark.parametrize("fraction", [0.001, 0.999])
def test_both_sides_get_at_least_one_group(digits: Path, tmp_path: Path, fraction: float) -> None:
    prepare(recipe(digits, pattern=DIGIT, group="{index}", valid_fraction=fraction), tmp_path / "store")
    store = Store(tmp_path / "store")
    groups = [{clip.group for clip in store.clips(split)} for split in ("train", "valid")]
    assert sorted(map(len, groups)) == [1, 3]
    assert not groups[0] & groups[1]


def test_valid_where_holds_out_exactly_those(digits: Path, tmp_path: Path) -> None:
    where = {"index": ["0", "3"], "speaker": ["bob"]}
    prepare(recipe(digits, pattern=DIGIT, valid_where=where), tmp_path / "store")
    for source, split in everything(Store(tmp_path / "store")).items():
        _, speaker, index = Path(source).stem.split("_")
        assert (split == "valid") == (speaker == "bob" and index in "03")
    with pytest.raises(DataError, match="every file"):
        prepare(recipe(digits, pattern=DIGIT, valid_where={"speaker": ["ann", "bob"]}), tmp_path / "store")


def test_a_split_by_time_holds_out_the_end_behind_a_gap(tmp_path: Path) -> None:
    write(tmp_path / "in/rain.wav", 10.0)
    write(tmp_path / "in/drop.wav", 1.2, seed=1)
    settings = recipe(tmp_path / "in", split="time", valid_fraction=0.2, gap_seconds=0.5, end_seconds=0.1)
    report = prepare(settings, tmp_path / "store")
    store = Store(tmp_path / "store")
    drop, train = store.clips("train")
    (valid,) = store.clips("valid")
    assert (drop.source, train.source, valid.source) == ("drop.wav", "rain.wav", "rain.wav")
    wave = read(tmp_path / "in/rain.wav") * np.float32(train.gain)
    assert np.array_equal(store.tokens(train), store.codec.encode(wave[: round(7.5 * RATE)]))
    ending = np.concatenate([wave[round(8.0 * RATE) :], np.zeros(800, np.float32)])
    assert np.array_equal(store.tokens(valid), store.codec.encode(ending))
    assert any("too short" in warning and "drop.wav" in warning for warning in report.warnings)


def label(template: str, **values: list[str]) -> dict[str, Any]:
    return {"from": template, "values": values}


def test_labels_come_from_names_and_what_nobody_gathers_is_told(digits: Path, tmp_path: Path) -> None:
    write(digits / "0_cat_0.wav", seed=50)
    write(digits / "noise.wav", seed=51)
    labels = {"who": label("{speaker}", robert=["bob"], anna=["ann", "anne"]), "digit": label("{digit}")}
    report = prepare(recipe(digits, labels, pattern=DIGIT, valid_fraction=0.2), tmp_path / "store")
    store = Store(tmp_path / "store")
    assert store.labels == {"who": ["robert", "anna"], "digit": ["0", "1", "2"]}
    found = {clip.source: clip.labels for split in ("train", "valid") for clip in store.clips(split)}
    assert found["1_bob_0.flac"] == {"who": "robert", "digit": "1"}
    assert found["0_cat_0.wav"] == {"digit": "0"}
    assert found["noise.wav"] == {}
    assert sum(sum(split.values()) for split in report.labels["who"].values()) == 24
    assert any("'cat'" in warning and "0_cat_0.wav" in warning for warning in report.warnings)
    assert any("does not match" in warning and "noise.wav" in warning for warning in report.warnings)
    assert not report.excluded


def test_folders_are_fields(tmp_path: Path) -> None:
    for seed in range(6):
        write(tmp_path / "in" / ("kick", "snare")[seed % 2] / f"{seed}.wav", seed=seed)
    prepare(recipe(tmp_path / "in", {"drum": label("{folder}")}, valid_fraction=0.0), tmp_path / "store")
    store = Store(tmp_path / "store")
    assert all(clip.labels == {"drum": clip.source.split("/")[0]} for clip in store.clips("train"))
    assert store.labels == {"drum": ["kick", "snare"]}


def test_labels_come_from_a_table(digits: Path, tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    rows = ("file,mood", "0_ann_0.flac,glad", "1_bob_1,sad", "ghost.wav,glad", "./2_ann_3.flac,")
    table.write_text("\n".join(rows), "utf-8-sig")
    settings = recipe(digits, {"mood": label("{mood}")}, labels_csv=str(table), valid_fraction=0.0)
    report = prepare(settings, tmp_path / "store")
    found = {clip.source: clip.labels for clip in Store(tmp_path / "store").clips("train")}
    assert {source: labels for source, labels in found.items() if labels} == {
        "0_ann_0.flac": {"mood": "glad"},
        "1_bob_1.flac": {"mood": "sad"},
    }
    assert any("ghost.wav" in warning for warning in report.warnings)
    for text in ("name,mood\n", "", "file,mood\na,1\na,2\n"):
        table.write_text(text)
        with pytest.raises(DataError, match=r"labels\.csv"):
            prepare(settings, tmp_path / "store")
    with pytest.raises(DataError, match=r"nowhere\.csv"):
        prepare(recipe(digits, labels_csv=str(tmp_path / "nowhere.csv")), tmp_path / "store")


@pytest.mark.parametrize(
    "settings",
    [
        {"group": "{speeker}"},
        {"gain": "{speeker}"},
        {"gain": "loud"},
        {"valid_where": {"speeker": ["ann"]}},
        {"labels": {"who": {"from": "{speeker}"}}},
    ],
)
def test_a_field_that_cannot_exist_is_a_typo(digits: Path, tmp_path: Path, settings: Any) -> None:
    with pytest.raises(RecipeError, match=r"speeker|gain"):
        prepare(recipe(digits, pattern=DIGIT, **settings), tmp_path / "store")


def damage(folder: Path) -> dict[str, str]:
    """Files that cannot be learned from, each with a word of its reason."""
    (folder / "text.wav").write_text("not audio at all")
    (folder / "bytes.flac").write_bytes(bytes(range(256)) * 9)
    (folder / "empty.wav").write_bytes(b"")
    soundfile.write(folder / "zero.wav", np.zeros(0), RATE)
    soundfile.write(folder / "silent.wav", np.zeros(900), RATE)
    soundfile.write(folder / "nan.wav", np.array([0.1, np.nan, 0.2]), RATE, subtype="FLOAT")
    write(folder / "drafts/x.wav", seed=90)
    return {
        "text.wav": "text", "bytes.flac": "audio", "empty.wav": "0 bytes", "zero.wav": "no samples",
        "silent.wav": "silent", "nan.wav": "NaN", "drafts/x.wav": "'drafts'",
    }  # fmt: skip


def test_every_file_is_in_the_store_or_excluded_with_its_reason(digits: Path, tmp_path: Path) -> None:
    bad = damage(digits)
    write(digits / "one.wav", 0.0, seed=91)  # a single sample is a clip
    whole = write(digits / "cut.wav", 1.0, seed=92).read_bytes()
    (digits / "cut.wav").write_bytes(whole[:3000])
    report = prepare(recipe(digits, exclude=["drafts", "*.mp3"]), tmp_path / "store")
    store = Store(tmp_path / "store")
    lines = [json.loads(line) for line in (tmp_path / "store/excluded.jsonl").read_text().splitlines()]
    assert report.excluded == [(line["source"], line["reason"]) for line in lines]
    reasons = dict(report.excluded)
    assert reasons.keys() == bad.keys()
    for source, word in bad.items():
        assert word in reasons[source]
        assert "\n" not in reasons[source] and str(tmp_path) not in reasons[source]
    inside = everything(store)
    assert len(inside) == 24 + 2
    lengths = {clip.source: clip.length for split in ("train", "valid") for clip in store.clips(split)}
    assert lengths["one.wav"] == 1
    assert 1000 < lengths["cut.wav"] < 1500  # what is there of it
    assert any("truncated" in warning and "cut.wav" in warning for warning in report.warnings)
    assert any("*.mp3" in warning for warning in report.warnings)


def test_files_without_a_field_that_the_split_needs_are_excluded(digits: Path, tmp_path: Path) -> None:
    write(digits / "noise.wav")
    for settings in ({"group": "{index}"}, {"gain": "{speaker}"}, {"valid_where": {"index": ["0"]}}):
        report = prepare(recipe(digits, pattern=DIGIT, **settings), tmp_path / "store")
        assert [source for source, _ in report.excluded] == ["noise.wav"]
        assert next(iter(settings)) in report.excluded[0][1]
    assert prepare(recipe(digits, pattern=DIGIT), tmp_path / "store").excluded == []


def test_nothing_to_learn_from_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        prepare(recipe(tmp_path / "nowhere"), tmp_path / "store")
    (tmp_path / "in/drafts").mkdir(parents=True)
    with pytest.raises(DataError, match="holds no audio"):
        prepare(recipe(tmp_path / "in"), tmp_path / "store")
    damage(tmp_path / "in")
    (tmp_path / "in/drafts/x.wav").unlink()
    with pytest.raises(DataError, match="nothing is left to train on"):
        prepare(recipe(tmp_path / "in"), tmp_path / "store")
    with pytest.raises(DataError, match="not complete"):
        Store(tmp_path / "store")


def test_a_label_that_no_file_has_is_an_error(digits: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'who'"):
        prepare(recipe(digits, {"who": label("{speaker}", eve=["eve"])}, pattern=DIGIT), tmp_path / "store")


def test_curves_stand_beside_their_tokens(digits: Path, tmp_path: Path) -> None:
    controls = {"curves": ["mel", "loudness"], "hop": 32, "mel_bands": 8}
    prepare(recipe(digits, controls=controls, end_seconds=0.01), tmp_path / "store")
    store = Store(tmp_path / "store")
    assert (store.curves, store.curve_channels, store.hop) == (["mel", "loudness"], 9, 32)
    for clip in store.clips("train") + store.clips("valid"):
        curves = store.curves_of(clip)
        assert curves is not None and curves.dtype == np.float32
        wave = read(digits / clip.source) * np.float32(clip.gain)
        wave = np.concatenate([wave, np.zeros(80, np.float32)])
        expected = extract_curves(wave, RATE, ["mel", "loudness"], 32, 8)
        assert np.array_equal(curves, expected.astype(np.float16).astype(np.float32))
    prepare(recipe(digits), tmp_path / "store")  # without curves again: nothing of them stays
    assert not list((tmp_path / "store").glob("curves*"))
    assert Store(tmp_path / "store").curves_of(clip) is None


def test_an_unchanged_folder_is_not_redone(digits: Path, tmp_path: Path) -> None:
    damage(digits)
    settings = recipe(digits, {"who": label("{speaker}")}, pattern=DIGIT)
    tokens = tmp_path / "store/tokens-00000.u16"
    first = prepare(settings, tmp_path / "store")
    before = contents(tmp_path / "store"), tokens.stat().st_mtime_ns
    again = prepare(settings, tmp_path / "store")
    assert (contents(tmp_path / "store"), tokens.stat().st_mtime_ns) == before
    assert first.reused == 0 and again.reused == again.clips == first.clips
    assert vars(again) == vars(first) | {"reused": again.reused}


Change = Callable[[Path], dict[str, Any]]
# What is changed, and how many of the 24 clips that leaves as they are.
changes: dict[str, tuple[Change, int]] = {
    "labels": (lambda folder: {"labels": {"who": label("{speaker}", a=["ann"])}}, 24),
    "split": (lambda folder: {"valid_fraction": 0.5}, 24),
    "a new file": (lambda folder: {"": write(folder / "0_ann_9.flac", seed=99)}, 24),
    "a file less": (lambda folder: {"": (folder / "0_ann_0.flac").unlink()}, 23),
    "another file": (lambda folder: {"": write(folder / "1_ann_1.flac", 0.2, 0.4, seed=98)}, 23),
    "touched": (lambda folder: {"": os.utime(folder / "1_ann_1.flac", (1, 1))}, 24),
    "louder": (lambda folder: {"": write(folder / "1_bob_1.flac", 0.2, 0.04, seed=97)}, 12),
    "peak": (lambda folder: {"peak": 0.5}, 0),
    "codec": (lambda folder: {"codec": {"levels": 512}}, 0),
    "curves": (lambda folder: {"controls": {"curves": ["loudness"]}}, 0),
    "rate": (lambda folder: {"sample_rate": 4000}, 0),
}


@pytest.mark.parametrize("what", changes)
def test_only_what_a_change_touches_is_redone(digits: Path, tmp_path: Path, what: str) -> None:
    common: dict[str, Any] = {"pattern": DIGIT, "gain": "{speaker}", "labels": {"who": label("{speaker}")}}
    prepare(recipe(digits, **common), tmp_path / "store")
    change, kept = changes[what]
    settings = recipe(digits, **{key: value for key, value in (common | change(digits)).items() if key})
    assert prepare(settings, tmp_path / "store").reused == kept
    prepare(settings, tmp_path / "fresh")
    assert contents(tmp_path / "store") == contents(tmp_path / "fresh")


def test_the_hash_tells_content_and_settings_alone(digits: Path, tmp_path: Path) -> None:
    def hash_of(settings: Recipe) -> str:
        shutil.rmtree(tmp_path / "store", ignore_errors=True)
        report = prepare(settings, tmp_path / "store")
        assert Store(tmp_path / "store").hash == report.hash
        return report.hash

    here = hash_of(recipe(digits, pattern=DIGIT))
    moved = tmp_path / "elsewhere/copy"
    shutil.copytree(digits, moved, copy_function=shutil.copy)
    assert hash_of(recipe(moved, pattern=DIGIT)) == here
    assert hash_of(recipe(digits, pattern=DIGIT, gain="{speaker}")) != here
    assert hash_of(recipe(digits, {"d": label("{digit}")}, pattern=DIGIT)) != here
    assert hash_of(recipe(digits, pattern=DIGIT, valid_fraction=0.4)) != here
    write(moved / "0_ann_0.flac", 0.02, 0.4, seed=1000)
    assert hash_of(recipe(moved, pattern=DIGIT)) != here


def test_several_processes_make_the_same_store(digits: Path, tmp_path: Path) -> None:
    settings = recipe(digits, pattern=DIGIT, gain="{speaker}")
    prepare(settings, tmp_path / "one", jobs=1)
    prepare(settings, tmp_path / "two", jobs=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


CHILD = """
import json, os, random, signal, sys
from pathlib import Path
import soundfile, soxr
from audio_gen.data import prepare, shards
from audio_gen.recipe import build_recipe

recipe, store = build_recipe(json.loads(Path(sys.argv[1]).read_text())), Path(sys.argv[2])
shards._BATCH_CLIPS, prepare._BATCH, shards.SHARD_TOKENS = 3, 4, 2000
for attempt in range(1000):
    lines = random.Random(attempt).randrange(60, 9000 + 1000 * attempt)
    child = os.fork()
    if not child:
        def trace(frame, event, argument):
            global lines
            if "audio_gen" not in frame.f_code.co_filename:
                return None
            lines -= event == "line"
            if lines < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return trace
        sys.settrace(trace)
        report = prepare.prepare(recipe, store)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    if status == 0:
        print(attempt)
        break
    assert os.WTERMSIG(status) == signal.SIGKILL, status
"""


def run_child(folder: Path, settings: Recipe, store: Path) -> int:
    """Prepare in processes that are killed at random lines until one gets through; how many were killed."""
    tables = folder / "recipe.json"
    tables.write_text(json.dumps(settings.to_dict()))
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-c", CHILD, str(tables), str(store)]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return int(done.stdout)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_kill_at_any_moment_and_the_next_run_continues(digits: Path, tmp_path: Path) -> None:
    damage(digits)
    controls = {"curves": ["loudness"], "hop": 64}
    settings = recipe(digits, controls=controls, pattern=DIGIT, gain="{speaker}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("audio_gen.data.shards.SHARD_TOKENS", 2000)
        prepare(settings, tmp_path / "never")
    killed = run_child(tmp_path, settings, tmp_path / "killed")
    assert killed > 2
    assert len(list((tmp_path / "killed").glob("tokens-*"))) > 2
    assert contents(tmp_path / "killed") == contents(tmp_path / "never")
    # And once more over a store that stands, with other settings.
    settings = recipe(digits, pattern=DIGIT, gain="file", codec={"levels": 512})
    run_child(tmp_path, settings, tmp_path / "killed")
    store = Store(tmp_path / "killed")
    assert store.codec.levels == 512
    for clip in store.clips("train"):
        wave = read(digits / clip.source) * np.float32(clip.gain)
        assert np.array_equal(store.tokens(clip), store.codec.encode(wave))


def test_ctrl_c_keeps_what_was_done(digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("audio_gen.data.shards._BATCH_CLIPS", 2)
    monkeypatch.setattr("audio_gen.data.prepare._BATCH", 6)

    def stop(done: int, total: int, text: str) -> None:
        if text == "encoding" and done >= 12:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(recipe(digits), tmp_path / "store", progress=stop)
    with pytest.raises(DataError, match="not complete"):
        Store(tmp_path / "store")
    assert prepare(recipe(digits), tmp_path / "store").reused == 12
    prepare(recipe(digits), tmp_path / "never")
    assert contents(tmp_path / "store") == contents(tmp_path / "never")


def test_a_full_disk_is_one_line_and_the_next_run_continues(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(OutputError, match="No space left") as error:
            prepare(recipe(digits), tmp_path / "store")
    assert "\n" not in str(error.value)
    prepare(recipe(digits), tmp_path / "store")
    assert len(everything(Store(tmp_path / "store"))) == 24


def test_a_store_goes_only_where_it_may(digits: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path / "file", tmp_path / "file/store", digits):
        with pytest.raises(OutputError):
            prepare(recipe(digits), path)
    assert (tmp_path / "file").read_text() == "mine"
    assert len(list(digits.iterdir())) == 24


def test_two_prepares_never_share_a_store(digits: Path, tmp_path: Path) -> None:
    refusals = []

    def second(done: int, total: int, text: str) -> None:
        with pytest.raises(OutputError, match="another prepare") as refusal:
            prepare(recipe(digits), tmp_path / "store")
        refusals.append(refusal)

    prepare(recipe(digits), tmp_path / "store", progress=second)
    assert refusals


def test_a_damaged_survey_is_made_again(digits: Path, tmp_path: Path) -> None:
    prepare(recipe(digits), tmp_path / "store")
    (tmp_path / "store/survey.sqlite").write_bytes(b"no database" * 500)
    assert prepare(recipe(digits), tmp_path / "store").reused == 24


def store_of(digits: Path, tmp_path: Path) -> Path:
    prepare(recipe(digits), tmp_path / "store")
    return tmp_path / "store"


def test_a_damaged_store_is_refused_and_made_again(digits: Path, tmp_path: Path) -> None:
    store = store_of(digits, tmp_path)
    manifest = json.loads((store / "store.json").read_text())
    future, bare = (json.dumps(manifest | other) for other in ({"version": 99}, {"settings": {}}))
    damages: list[Callable[[], object]] = [
        lambda: (store / "tokens-00000.u16").unlink(),
        lambda: os.truncate(store / "tokens-00000.u16", 100),
        lambda: os.truncate(store / "clips.jsonl", 100),
        lambda: (store / "store.json").unlink(),
        lambda: (store / "store.json").write_text("{"),
        lambda: (store / "store.json").write_text("[]"),
        lambda: (store / "store.json").write_text(future),
        lambda: (store / "store.json").write_text(bare),
    ]
    expected = contents(store)
    for harm in damages:
        harm()
        with pytest.raises(DataError) as error:
            Store(store)
        assert "\n" not in str(error.value)
        prepare(recipe(digits), store)
        assert contents(store) == expected


def test_a_store_that_is_not_there_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(DataError, match="no token store"):
            Store(path)


def test_clips_are_views_that_cannot_be_written(digits: Path, tmp_path: Path) -> None:
    store = Store(store_of(digits, tmp_path))
    clip = store.clips("train")[0]
    assert store.tokens(clip).dtype == np.uint16
    with pytest.raises(ValueError, match="read-only"):
        store.tokens(clip)[0] = 0
    with pytest.raises(DataError, match="train, valid"):
        store.clips("test")


def test_errors_are_ours(digits: Path, tmp_path: Path) -> None:
    for jobs in (0, -1):
        with pytest.raises(AudioGenError, match="jobs"):
            prepare(recipe(digits), tmp_path / "store", jobs=jobs)


def test_hundreds_of_files_are_counted_right(tmp_path: Path) -> None:
    for seed in range(300):
        write(tmp_path / f"in/{seed % 7}_x_{seed}.wav", 0.004, seed=seed)
    calls: list[tuple[int, int, str]] = []
    settings = recipe(tmp_path / "in", {"digit": label("{digit}")}, pattern=DIGIT)
    report: Report = prepare(settings, tmp_path / "store", progress=lambda *call: calls.append(call))
    assert report.clips == 300
    expected = Counter(str(seed % 7) for seed in range(300))
    assert {value: sum(split.values()) for value, split in report.labels["digit"].items()} == expected
    assert 0.05 < report.splits["valid"]["clips"] / 300 < 0.17
    for phase in ("measuring", "encoding"):
        assert [done for done, total, text in calls if text == phase][-1] == 300
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler  # nothing of the caller's is touched


def test_a_lead_cuts_what_precedes_the_sound_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "hits"
    folder.mkdir()
    quiet, sound = np.full(700, 0.004), 0.5 * np.cos(np.arange(900) / 5) * np.exp(-np.arange(900) / 300)
    soundfile.write(folder / "late.wav", np.concatenate([quiet, sound]), 8000)
    soundfile.write(folder / "prompt.wav", sound, 8000)
    soundfile.write(folder / "rising.wav", np.linspace(0, 0.5, 1000), 8000)
    kept = {}
    for lead in (None, 0.001, 10.0):
        data = {"source": str(folder), "sample_rate": 8000, "valid_fraction": 0.0, "gain": "none"}
        recipe = build_recipe({"name": "a", "data": {**data, "lead_seconds": lead}, "train": {"steps": 1}})
        prepare(recipe, tmp_path / "store")
        store = Store(tmp_path / "store")
        kept[lead] = {clip.source: store.tokens(clip).copy() for clip in store.clips("train")}
    assert [len(tokens) for tokens in kept[None].values()] == [1600, 900, 1000]
    assert [len(tokens) for tokens in kept[0.001].values()] == [908, 900, 1000 - 100 + 8]
    assert np.array_equal(kept[0.001]["late.wav"], kept[None]["late.wav"][692:])
    assert all(np.array_equal(kept[10.0][name], kept[None][name]) for name in kept[None])


def test_dither_lies_under_all_that_is_learned(tmp_path: Path) -> None:
    """Silence included, and the same at the same place of a recording however it is split."""
    source, report = tmp_path / "in", Report()
    write(source / "a.wav", 0.5, 0.5)

    def learned(name: str, **data: Any) -> list[np.ndarray]:
        nonlocal report
        report = prepare(recipe(source, end_seconds=0.25, gap_seconds=0.0, **data), tmp_path / name)
        store = Store(tmp_path / name)
        clips = [clip for split in ("train", "valid") for clip in store.clips(split)]
        return [store.codec.decode(store.tokens(clip)).astype(np.float64) for clip in clips]

    (plain,), (noisy,) = (learned("store", valid_fraction=0.0, dither=dither) for dither in (None, -50.0))
    assert not report.reused and not plain[-2000:].any()
    noise = noisy[-2000:]
    assert 20.0 * np.log10(noise.std()) == pytest.approx(-50.0, abs=0.5) and abs(noise.mean()) < 3e-4
    assert np.abs(np.correlate(noise, noise, "full")[: len(noise) - 1]).max() < 0.1 * noise @ noise
    assert np.abs(noisy - plain).max() > np.abs(noise).max() / 4
    first, last = learned("split", split="time", valid_fraction=0.3, dither=-50.0)
    assert np.array_equal(np.concatenate([first, last]), noisy)
