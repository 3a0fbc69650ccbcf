"""Laws of the doctor: every trap is found in exactly the files that have it, and nothing else is accused."""

import json
import struct
import tomllib
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audio_gen.data.doctor import Diagnosis, examine
from audio_gen.data.doctor.measure import BLOCK_SECONDS, measure
from audio_gen.data.doctor.names import infer_pattern, read_names
from audio_gen.errors import DataError, RecipeError, SettingError
from audio_gen.recipe import build_recipe

RATE = 8000


def hit(seed: int, seconds: float = 0.5, peak: float = 0.6, rate: int = RATE) -> np.ndarray:
    """A decaying noise that begins and ends in near silence, (time,)."""
    time = np.arange(round(seconds * rate)) / rate
    envelope = np.minimum(time / 0.01, 1.0) * np.exp(-time * 7 / seconds)
    wave = np.random.default_rng(seed).standard_normal(len(time)) * envelope
    return (wave / np.abs(wave).max() * peak).astype(np.float32)


def save(folder: Path, name: str, wave: np.ndarray, rate: int = RATE, subtype: str = "PCM_16") -> str:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, wave, rate, subtype=subtype)
    return name


def healthy(folder: Path, number: int = 6) -> None:
    for index in range(number):
        save(folder, f"good_{index}.wav", hit(index))


def files_of(diagnosis: Diagnosis, code: str) -> list[str]:
    return [name for a in diagnosis.advice if a.code == code for name in a.files]


def codes_of(diagnosis: Diagnosis) -> set[str]:
    return {a.code for a in diagnosis.advice}


def sentence(diagnosis: Diagnosis, code: str) -> str:
    return next(a.sentence for a in diagnosis.advice if a.code == code)


def recipe_of(diagnosis: Diagnosis) -> dict[str, dict[str, object]]:
    tables = tomllib.loads(diagnosis.recipe)
    build_recipe({"name": "proposed", **tables})
    return tables


def test_healthy_folder_has_no_errors_or_named_files(tmp_path: Path) -> None:
    healthy(tmp_path)
    diagnosis = examine(tmp_path)
    assert diagnosis.ok
    assert all(not a.files for a in diagnosis.advice)
    assert codes_of(diagnosis) <= {"too-little", "few-files", "no-labels", "labels"}


def test_missing_and_empty_folders(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        examine(tmp_path / "nowhere")
    with pytest.raises(DataError, match="nothing at all"):
        examine(tmp_path)
    (tmp_path / "readme.txt").write_text("no sound here")
    with pytest.raises(DataError, match=r"1 \.txt"):
        examine(tmp_path)


def test_bad_arguments(tmp_path: Path) -> None:
    healthy(tmp_path)
    with pytest.raises(RecipeError):
        examine(tmp_path, pattern="{open")
    with pytest.raises(SettingError):
        examine(tmp_path, jobs=0)


def test_each_bad_file_is_named_once_with_its_fault(tmp_path: Path) -> None:
    healthy(tmp_path)
    (tmp_path / "text.wav").write_text("these are words, " * 20)
    (tmp_path / "bytes.wav").write_bytes(b"")
    save(tmp_path, "nothing.wav", np.zeros(0, np.float32))
    save(tmp_path, "single.wav", np.full(1, 0.5, np.float32))
    save(tmp_path, "whole.wav", hit(50))
    whole = (tmp_path / "whole.wav").read_bytes()
    (tmp_path / "cut.wav").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "whole.wav").unlink()
    lying = bytearray(whole)
    at = whole.index(b"fmt ") + 20
    lying[at : at + 2] = struct.pack("<H", 1)  # blocks of one byte, for 16 bits
    (tmp_path / "liar.wav").write_bytes(bytes(lying))
    wave = hit(60)
    wave[100] = np.nan
    save(tmp_path, "nan.wav", wave, subtype="FLOAT")
    diagnosis = examine(tmp_path)
    expected = {
        "not-audio": ["text.wav"],
        "empty-file": ["bytes.wav"],
        "no-samples": ["nothing.wav"],
        "one-sample": ["single.wav"],
        "truncated": ["cut.wav"],
        "not-finite": ["nan.wav"],
    }
    for code, names in expected.items():
        assert files_of(diagnosis, code) == names, code
    faults = {f.name: f.fault for f in diagnosis.files if f.fault}
    assert set(faults) == {name for names in expected.values() for name in names} | {"liar.wav"}
    assert not diagnosis.ok
    assert len(diagnosis.usable) == 6


def test_folder_of_text_files_named_wav_is_diagnosed(tmp_path: Path) -> None:
    for index in range(20):
        (tmp_path / f"{index}.wav").write_text("not a sound")
    diagnosis = examine(tmp_path)
    assert len(files_of(diagnosis, "not-audio")) == 20
    assert "nothing-usable" in codes_of(diagnosis)
    assert diagnosis.recipe == ""
    assert "and 17 more" in diagnosis.to_text()


def test_every_sample_format_is_usable_and_only_the_odd_ones_are_named(tmp_path: Path) -> None:
    healthy(tmp_path, 8)
    save(tmp_path, "odd_u8.wav", hit(20), subtype="PCM_U8")
    save(tmp_path, "odd_24.wav", hit(21), subtype="PCM_24")
    save(tmp_path, "odd_float.wav", hit(22), subtype="FLOAT")
    save(tmp_path, "odd_192.wav", hit(23, rate=192_000), 192_000)
    save(tmp_path, "odd_51.wav", np.stack([hit(30 + c) for c in range(6)], axis=1))
    save(tmp_path, "odd_over.wav", 2 * hit(24), subtype="FLOAT")
    diagnosis = examine(tmp_path)
    assert diagnosis.ok
    assert files_of(diagnosis, "eight-bit") == ["odd_u8.wav"]
    assert files_of(diagnosis, "mixed-rates") == ["odd_192.wav"]
    assert files_of(diagnosis, "mixed-channels") == ["odd_51.wav"]
    assert files_of(diagnosis, "over-full-scale") == ["odd_over.wav"]
    assert files_of(diagnosis, "clipped") == []


def test_clipping_is_found_at_any_level_and_quiet_or_low_waves_are_not_accused(tmp_path: Path) -> None:
    time = np.arange(RATE * 2) / RATE
    voice = np.sin(2 * np.pi * 220 * time) + 0.5 * np.sin(2 * np.pi * 443 * time)
    fade = np.minimum(1, np.minimum(time, 2 - time) * 20)
    save(tmp_path, "a_clean.wav", 0.5 * voice * fade)
    save(tmp_path, "b_clipped.wav", np.clip(2 * voice * fade, -0.9999, 0.9999))
    save(tmp_path, "c_clipped_then_lowered.wav", 0.3 * np.clip(2 * voice * fade, -1, 1))
    save(tmp_path, "d_low.wav", 0.9 * np.sin(2 * np.pi * 21 * time) * fade)
    save(tmp_path, "e_faint.wav", 0.003 * np.sin(2 * np.pi * 55 * time) * fade)
    save(tmp_path, "f_coarse.wav", 0.7 * np.sin(2 * np.pi * 97 * time) * fade, subtype="PCM_U8")
    assert files_of(examine(tmp_path), "clipped") == ["b_clipped.wav", "c_clipped_then_lowered.wav"]


def test_copies_silence_and_offset(tmp_path: Path) -> None:
    healthy(tmp_path)
    save(tmp_path, "copy.flac", soundfile.read(tmp_path / "good_3.wav")[0])
    save(tmp_path, "hush.wav", np.zeros(RATE, np.float32))
    save(tmp_path, "hush2.wav", np.zeros(RATE, np.float32))
    save(tmp_path, "shifted.wav", hit(70) * 0.5 + 0.1)
    save(tmp_path, "hole.wav", np.concatenate([hit(71), np.zeros(9 * RATE, np.float32), hit(72)]))
    diagnosis = examine(tmp_path)
    assert sorted(files_of(diagnosis, "duplicate")) == ["copy.flac", "good_3.wav"]
    assert files_of(diagnosis, "silent") == ["hush.wav", "hush2.wav"]
    assert files_of(diagnosis, "dc-offset") == ["shifted.wav"]
    assert files_of(diagnosis, "mostly-silent") == ["hole.wav"]
    assert recipe_of(diagnosis)["data"]["exclude"] == ["hush.wav", "hush2.wav"]


def test_digital_silence_and_dither_at_the_ends(tmp_path: Path) -> None:
    healthy(tmp_path)
    quiet = np.zeros(RATE // 5, np.float32)
    save(tmp_path, "late.wav", np.concatenate([quiet, hit(80)]))
    save(tmp_path, "rest.wav", np.concatenate([hit(81), quiet]))
    dither = np.random.default_rng(0).integers(-1, 2, RATE).astype(np.float32) / 32768
    save(tmp_path, "dither.wav", np.concatenate([hit(82), dither]))
    diagnosis = examine(tmp_path)
    assert files_of(diagnosis, "silence-before") == ["late.wav"]
    assert files_of(diagnosis, "silence-after") == ["rest.wav"]
    assert files_of(diagnosis, "dither-tail") == ["dither.wav"]


def test_tight_clips_need_room_to_end(tmp_path: Path) -> None:
    for index in range(12):
        save(tmp_path, f"word_{index}.wav", hit(index)[: RATE // 10])
    diagnosis = examine(tmp_path)
    assert len(files_of(diagnosis, "tight")) == 12
    assert recipe_of(diagnosis)["data"]["end_seconds"] == 0.25


def test_one_clip_cut_off_among_whole_ones(tmp_path: Path) -> None:
    healthy(tmp_path, 12)
    save(tmp_path, "good_12.wav", hit(99)[: RATE // 20])
    assert files_of(examine(tmp_path), "cut-off") == ["good_12.wav"]


def test_loops_have_no_ending_and_their_folder_is_named(tmp_path: Path) -> None:
    time = np.arange(2 * RATE) / RATE
    for index in range(8):
        tone = np.sin(2 * np.pi * (110 + index) * time).astype(np.float32)
        save(tmp_path, f"looped/a{index % 4}_rr{index // 4}.wav", 0.4 * tone * np.minimum(1, time * 50))
        save(tmp_path, f"plain/b{index % 4}_rr{index // 4}.wav", hit(index, 2.0))
    diagnosis = examine(tmp_path)
    assert len(files_of(diagnosis, "no-ending")) == 8
    assert all(name.startswith("looped/") for name in files_of(diagnosis, "no-ending"))
    assert "(folder looped)" in sentence(diagnosis, "no-ending")


def test_levels_by_speaker_ask_for_a_gain_each(tmp_path: Path) -> None:
    for s, (speaker, peak) in enumerate([("anna", 0.6), ("bert", 0.3), ("cleo", 0.04)]):
        for digit in range(8):
            for index in range(3):
                save(tmp_path, f"{digit}_{speaker}_{index}.wav", hit(100 * s + 10 * digit + index, peak=peak))
    diagnosis = examine(tmp_path, pattern="{digit}_{speaker}_{index}")
    assert "{speaker}" in sentence(diagnosis, "levels-by-field")
    assert "15 times" in sentence(diagnosis, "levels-by-field")
    tables = recipe_of(diagnosis)
    assert tables["data"]["gain"] == "{speaker}"
    assert set(tables["controls"]["labels"]) == {"digit", "speaker"}
    found = examine(tmp_path)  # the same without being told the pattern
    assert found.names.pattern == "{digit}_{name}_{index}"
    assert recipe_of(found)["data"]["gain"] == "{name}"


def test_dynamics_are_never_levelled_out(tmp_path: Path) -> None:
    for kind in ("ks", "sn"):
        for velocity in range(1, 5):
            for repeat in range(1, 4):
                seed = velocity * 10 + repeat + 100 * (kind == "sn")
                wave = hit(seed, peak=0.015 * 2.5**velocity)
                save(tmp_path, f"{kind}_vl{velocity}_rr{repeat}.wav", wave)
    diagnosis = examine(tmp_path)
    assert diagnosis.names.pattern == "{name}_vl{velocity}_rr{repeat}"
    assert "dynamics" in codes_of(diagnosis)
    assert "levels-by-field" not in codes_of(diagnosis)
    assert recipe_of(diagnosis)["data"]["gain"] == "dataset"


def test_quiet_set_and_its_one_loud_file(tmp_path: Path) -> None:
    for index in range(20):
        save(tmp_path, f"say_{index}.wav", hit(index, peak=0.2 + 0.005 * index))
    assert "loud-outlier" not in codes_of(examine(tmp_path))
    save(tmp_path, "say_20.wav", hit(20, peak=0.9))
    diagnosis = examine(tmp_path)
    assert "quiet" in codes_of(diagnosis)
    assert files_of(diagnosis, "loud-outlier") == ["say_20.wav"]
    assert recipe_of(diagnosis)["data"]["exclude"] == ["say_20.wav"]


def test_two_microphones_are_split_by_moment(tmp_path: Path) -> None:
    for kind in ("ks", "sn"):
        for repeat in range(1, 7):
            seconds = 0.4 + 0.01 * repeat
            for place in ("close", "far"):
                seed = repeat + 50 * (place == "far")
                save(tmp_path, f"{place}/{kind}_rr{repeat}.wav", hit(seed, seconds))
    diagnosis = examine(tmp_path)
    assert len(files_of(diagnosis, "two-microphones")) == 24
    tables = recipe_of(diagnosis)
    assert tables["data"]["group"] == "{name}_{repeat}"
    assert set(tables["controls"]["labels"]) == {"name"}


def test_equal_numbers_in_class_folders_are_no_pairs(tmp_path: Path) -> None:
    for index in range(1, 7):
        save(tmp_path, f"kick/{index:02}.wav", hit(index, 0.4 + 0.01 * index))
        save(tmp_path, f"snare/{index:02}.wav", hit(index + 50, 0.6 + 0.01 * index))
    diagnosis = examine(tmp_path)
    assert not codes_of(diagnosis) & {"two-microphones", "same-names"}
    assert set(recipe_of(diagnosis)["controls"]["labels"]) == {"folder"}


def test_prompts_recorded_twice_stay_together(tmp_path: Path) -> None:
    second = 1592700000
    twice = []
    for prompt in range(1, 81):
        for take in range(2 if prompt % 4 == 0 else 1):
            second += 11
            wave = hit(prompt + 1000 * take, 0.3)
            name = save(tmp_path, f"arctic_a{prompt:04}_{second}.wav", wave)
            (tmp_path / name).with_suffix(".txt").write_text("words")
            twice += [name] if prompt % 4 == 0 else []
    diagnosis = examine(tmp_path)
    assert sorted(files_of(diagnosis, "recorded-twice")) == sorted(twice)
    assert recipe_of(diagnosis)["data"]["group"] == "{id}"
    assert [(c.ending, c.files, c.without) for c in diagnosis.companions] == [(".txt", 100, ())]


def test_one_file_a_class_is_split_by_time(tmp_path: Path) -> None:
    for index, name in enumerate(("rain", "wind", "summer-night")):
        noise = np.random.default_rng(index).standard_normal(6 * RATE).clip(-3, 3)
        save(tmp_path, f"{name}.wav", 0.2 * noise)
    diagnosis = examine(tmp_path)
    assert "one-file-a-class" in codes_of(diagnosis)
    tables = recipe_of(diagnosis)
    assert tables["data"]["split"] == "time"
    assert list(tables["controls"]["labels"]) == ["name"]


def test_long_pieces_and_companions_with_two_dots(tmp_path: Path) -> None:
    for index in range(10):
        name = f"schumann_op15_{index + 1}"
        save(tmp_path, f"{name}.flac", hit(index, 21.0, rate=1000), 1000)
        if index != 4:
            (tmp_path / f"{name}.notes.csv").write_text("0,1,60,64")
    (tmp_path / "LICENSE.txt").write_text("free")
    diagnosis = examine(tmp_path)
    assert "long-pieces" in codes_of(diagnosis)
    companion = diagnosis.companions[0]
    assert (companion.ending, companion.files) == (".notes.csv", 9)
    assert companion.without == ("schumann_op15_5.flac",)
    assert diagnosis.others == ("LICENSE.txt",)


def test_one_file_longer_than_all_others(tmp_path: Path) -> None:
    healthy(tmp_path, 12)
    save(tmp_path, "session.wav", np.concatenate([hit(index) for index in range(40)]))
    assert files_of(examine(tmp_path), "long-file") == ["session.wav"]


def test_mains_hum_is_told_from_music(tmp_path: Path) -> None:
    time = np.arange(2 * RATE) / RATE
    for index in range(4):
        noise = 1e-3 * np.random.default_rng(index).standard_normal(len(time))
        wave = noise + 0.01 * np.sin(2 * np.pi * 50 * time)
        wave[: RATE // 2] += hit(index)
        save(tmp_path, f"hum_{index}.wav", wave)
    assert len(files_of(examine(tmp_path), "hum")) == 4
    for index in range(4):
        save(tmp_path, f"hum_{index}.wav", hit(index, 2.0))
    assert "hum" not in codes_of(examine(tmp_path))


def test_names_that_do_not_fit_are_listed(tmp_path: Path) -> None:
    healthy(tmp_path)
    save(tmp_path, "other.wav", hit(40))
    diagnosis = examine(tmp_path, pattern="good_{index}")
    assert files_of(diagnosis, "unmatched") == ["other.wav"]


@pytest.mark.parametrize(
    ("stems", "pattern"),
    [
        (
            [f"{d}_{s}_{i}" for d in range(10) for s in ("al", "bo") for i in range(12)],
            "{digit}_{name}_{index}",
        ),
        ([f"{n}{o}_vl{v}" for n in "ace" for o in (1, 2) for v in (1, 2)], "{note}_vl{velocity}"),
        ([f"loop-{b}bpm-{k}" for b in (90, 120) for k in ("x", "y")], "loop-{bpm}bpm-{name}"),
        ([f"{{x}}_{k}" for k in "pqr"], "{{x}}_{name}"),
        (["alone"], ""),
        (["same", "same"], ""),
        (["rain", "wind", "summer-night"], "{name}"),
        (["one two 3", "four4", "five-six", "se_ven"], ""),
    ],
)
def test_inferred_patterns(stems: list[str], pattern: str) -> None:
    assert infer_pattern(stems) == pattern


def test_inferred_pattern_gives_back_the_fields() -> None:
    paths = [f"oh/{k}_vl{v}_rr{r}" for k in ("ks", "hh") for v in (1, 2) for r in (1, 2, 3)]
    names = read_names(paths)
    assert names.values[0] == {"folder": "oh", "name": "ks", "velocity": "1", "repeat": "1"}
    assert {f.name: f.role for f in names.fields} == {
        "folder": "constant",
        "name": "label",
        "velocity": "velocity",
        "repeat": "index",
    }


def test_measures_of_a_known_wave(tmp_path: Path) -> None:
    """Longer than a block, so that what is carried from block to block is tested too."""
    seconds = 2.5 * BLOCK_SECONDS
    time = np.arange(round(seconds * RATE)) / RATE
    wave = 0.5 * np.sin(2 * np.pi * 100 * time) + 0.01
    wave[: RATE // 2] = 0
    wave[-RATE:] = 0
    save(tmp_path, "tone.wav", wave)
    facts = measure(tmp_path / "tone.wav", "tone.wav")
    assert facts.frames == len(time)
    assert facts.seconds == pytest.approx(seconds)
    assert facts.peak == pytest.approx(0.51, abs=1e-4)
    assert facts.offset == pytest.approx(0.01 * (seconds - 1.5) / seconds, rel=0.02)
    assert facts.loud_db == pytest.approx(20 * np.log10(0.5 / np.sqrt(2)), abs=0.1)
    assert facts.zeros_before == pytest.approx(0.5, abs=1e-3)
    assert facts.zeros_after == pytest.approx(1.0, abs=1e-3)
    assert facts.tail_seconds == pytest.approx(1.0, abs=0.011)
    assert facts.quiet_share == pytest.approx(1.5 / seconds, abs=1e-3)
    assert facts.flat_tops == 0


def test_report_is_short_json_is_complete_and_both_repeat(tmp_path: Path) -> None:
    for index in range(200):
        save(tmp_path, f"k{index % 2}/{'x' * 60}_{index}.wav", hit(index % 90, 0.1)[: RATE // 20] + 0.1)
        (tmp_path / f"bad_{index}.wav").write_text("x")
    progress: list[tuple[int, int, str]] = []
    first = examine(tmp_path, progress=lambda *step: progress.append(step))
    second = examine(tmp_path)
    assert first.to_text() == second.to_text()
    plain = json.dumps(first.to_dict(), allow_nan=False)
    assert plain == json.dumps(second.to_dict(), allow_nan=False)
    assert first.to_text().count("\n") <= 60
    assert len(files_of(first, "not-audio")) == 200
    assert [step[0] for step in progress] == list(range(1, 401))
    assert all(step[1] == 400 for step in progress)
    assert len(json.loads(plain)["files"]) == 400


def test_jobs_do_not_change_the_report(tmp_path: Path) -> None:
    pytest.importorskip("joblib")
    healthy(tmp_path)
    assert examine(tmp_path, jobs=2).to_dict() == examine(tmp_path).to_dict()


def test_a_stray_loud_take_asks_for_a_gain_of_its_own(tmp_path: Path) -> None:
    coins = np.random.default_rng(0)
    for speaker, level in (("ann", 0.5), ("bob", 0.03)):
        for take in range(12):
            peak = 0.9 if (speaker, take) == ("bob", 7) else level
            wave = coins.uniform(-1, 1, 4000) * np.hanning(4000) * peak
            soundfile.write(tmp_path / f"{take % 2}_{speaker}_{take}.wav", wave, 8000)
    diagnosis = examine(tmp_path, pattern="{digit}_{speaker}_{index}")
    assert "data.gain_share = 0.9" in sentence(diagnosis, "levels-by-field")
    assert "gain_share = 0.9" in diagnosis.recipe
