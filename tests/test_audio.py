"""Laws of reading: every format gives the same waveform, blocks join to the whole, bad files say why."""

import os
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from audio_gen.audio import AudioProblemError, find_audio, probe, read, read_blocks, read_tags
from audio_gen.errors import AudioFileError, DataError, SettingError

RATE = 16_000
RNG = np.random.default_rng(1)
NOISE = RNG.uniform(-0.9, 0.9, 40_000).astype(np.float32)


def wav_bytes(
    data: bytes,
    *,
    claimed: int | None = None,
    channels: int = 1,
    bits: int = 16,
    tag: int = 1,
    rate: int = RATE,
    align: int | None = None,
) -> bytes:
    claimed = len(data) if claimed is None else claimed
    align = channels * bits // 8 if align is None else align
    fmt = struct.pack("<4sIHHIIHH", b"fmt ", 16, tag, channels, rate, rate * align % 2**32, align, bits)
    head = b"WAVE" + fmt + struct.pack("<4sI", b"data", claimed)
    return struct.pack("<4sI", b"RIFF", (len(head) + claimed) % 2**32) + head + data


def save(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("suffix", "subtype", "tolerance"),
    [
        ("wav", "PCM_U8", 2**-7), ("wav", "PCM_16", 2**-15), ("wav", "PCM_24", 2**-23),
        ("wav", "PCM_32", 2**-23),
        ("wav", "FLOAT", 0), ("wav", "DOUBLE", 0), ("wav", "ULAW", 2**-5), ("rf64", "PCM_16", 2**-15),
        ("w64", "PCM_24", 2**-23), ("flac", "PCM_16", 2**-15), ("flac", "PCM_24", 2**-23),
        ("aiff", "PCM_16", 2**-15), ("au", "PCM_16", 2**-15), ("caf", "FLOAT", 0),
    ],
)  # fmt: skip
def test_every_bit_depth_gives_the_same_waveform(
    tmp_path: Path, suffix: str, subtype: str, tolerance: float
) -> None:
    path = tmp_path / f"x.{suffix}"
    soundfile.write(path, NOISE, RATE, subtype)
    info = probe(path)
    assert (info.sample_rate, info.channels, info.frames, info.subtype) == (RATE, 1, len(NOISE), subtype)
    assert not info.truncated
    assert info.seconds == len(NOISE) / RATE
    waveform = read(path)
    assert waveform.dtype == np.float32
    assert np.abs(waveform - NOISE).max() <= tolerance


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS", "MPEG_LAYER_III"])
def test_lossy_formats_keep_length_and_tone(tmp_path: Path, subtype: str) -> None:
    path = tmp_path / ("x.mp3" if subtype.startswith("MPEG") else "x.ogg")
    tone = (0.5 * np.sin(np.arange(2 * RATE) * 2 * np.pi * 440 / RATE)).astype(np.float32)
    soundfile.write(path, tone, RATE, subtype)
    waveform = read(path)
    assert len(waveform) == len(tone) == probe(path).frames
    assert np.corrcoef(waveform, tone)[0, 1] > 0.98


def test_mono_is_the_mean_of_the_channels_in_5_1_at_192_khz(tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    channels = RNG.uniform(-0.9, 0.9, (192_000, 6)).astype(np.float32)
    soundfile.write(path, channels, 192_000, "FLOAT")
    assert probe(path).channels == 6
    np.testing.assert_allclose(read(path), channels.mean(axis=1), atol=1e-6)
    assert len(read(path, sample_rate=RATE)) == RATE


@pytest.mark.parametrize(("rate", "new_rate"), [(44_100, RATE), (8_000, RATE), (192_000, 8_000)])
def test_blocks_joined_equal_the_whole_however_they_are_cut(tmp_path: Path, rate: int, new_rate: int) -> None:
    path = tmp_path / "x.wav"
    soundfile.write(path, NOISE, rate, "FLOAT")
    whole = soxr.resample(NOISE, rate, new_rate, quality="HQ")
    for block_seconds in (0.0123, 0.1, 10.0):
        blocks = list(read_blocks(path, new_rate, block_seconds))
        assert all(len(block) for block in blocks)
        np.testing.assert_array_equal(np.concatenate(blocks), whole)
    np.testing.assert_array_equal(np.concatenate(list(read_blocks(path, rate, 0.01))), NOISE)


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_a_part_equals_that_part_of_the_whole(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x.{suffix}"
    soundfile.write(path, np.tile(NOISE, 4), RATE)
    whole = read(path)
    slack = 1e-6 if suffix == "mp3" else 0  # its decoder's rounding depends on where it starts
    np.testing.assert_allclose(read(path, None, 2.5, 0.75), whole[40_000:52_000], rtol=0, atol=slack)
    np.testing.assert_allclose(read(path, RATE, 9.5, 100), whole[152_000:], rtol=0, atol=slack)
    resampled = read(path, 11_025)
    for start in (0.1, 2.5, 7.77):
        first = round(start * 11_025)
        part = read(path, 11_025, start, 1.0)
        np.testing.assert_allclose(part, resampled[first : first + 11_025], atol=1e-5)


def test_a_clip_of_one_sample_is_a_clip_at_any_rate(tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    soundfile.write(path, NOISE[:1], 192_000, "FLOAT")
    assert probe(path).frames == 1
    assert read(path).tolist() == NOISE[:1].tolist()
    assert len(read(path, 8_000)) == 1


def test_a_long_file_is_read_in_little_memory(tmp_path: Path) -> None:
    path = save(tmp_path / "x.wav", wav_bytes(b"", claimed=2 * 3600 * RATE * 2))
    os.truncate(path, 44 + 2 * 3600 * RATE * 2)  # two hours of silence that take no room on the disk
    tracemalloc.start()
    try:
        total = sum(len(block) for block in read_blocks(path, block_seconds=10))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert total == 2 * 3600 * RATE
    assert peak < 10e6


def refusal(path: Path) -> AudioProblemError:
    with pytest.raises(AudioProblemError) as caught:
        read(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, AudioFileError)
    return caught.value


PCM = (NOISE * 32767).astype("<i2").tobytes()


@pytest.mark.parametrize(
    ("name", "content", "kind", "words"),
    [
        ("a.wav", b"these are words\n" * 99, "not-audio", "text"),
        ("a.mp3", b"these are words\n" * 99, "not-audio", "text"),
        ("a.flac", "příliš žluťoučký kůň ".encode() * 40, "not-audio", "text"),
        ("a.wav", b"", "empty-file", "0 bytes"),
        ("a.wav", wav_bytes(b""), "no-samples", "length zero"),
        ("a.wav", wav_bytes(PCM, claimed=0), "no-samples", "cut off"),
        ("a.wav", wav_bytes(PCM)[:30], "not-audio", "No 'data' chunk"),
        ("a.wav", bytes(range(256)) * 8, "not-audio", "Format not recognised"),
        ("a.raw", bytes(range(256)) * 8, "not-audio", "no header"),
        ("a.vox", bytes(range(256)) * 8, "not-audio", "no audio header"),
        ("a.wav", wav_bytes(PCM[:2000], claimed=4000), "truncated", "0.06 s are there, its"),
        ("a.wav", wav_bytes(PCM[:1999], claimed=2000), "truncated", "promises"),
        ("a.wav", wav_bytes(PCM, claimed=0x70000000), "truncated", "promises"),
        ("a.wav", wav_bytes(PCM, channels=2, align=3), "lying-header", "blocks of 3 bytes"),
        ("a.wav", wav_bytes(PCM, align=1), "lying-header", "blocks of 1 bytes"),
        ("a.wav", wav_bytes(PCM, rate=2**31 - 1), "lying-header", "2147483647"),
        ("a.wav", wav_bytes(PCM, rate=0), "not-audio", "not readable"),
        ("a.wav", wav_bytes(PCM, channels=0, align=2), "not-audio", "Channel count"),
        ("a.wav", wav_bytes(np.array([0, 1, np.nan], "<f4").tobytes(), bits=32, tag=3), "not-finite", "NaN"),
        ("a.wav", wav_bytes(np.array([0, np.inf, 0], "<f4").tobytes(), bits=32, tag=3), "not-finite", "NaN"),
    ],
)  # fmt: skip
def test_bad_files_say_what_is_wrong(
    tmp_path: Path, name: str, content: bytes, kind: str, words: str
) -> None:
    error = refusal(save(tmp_path / name, content))
    assert error.kind == kind
    assert words in str(error)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.wav").kind == "missing"
    assert refusal(tmp_path).kind == "missing"


@pytest.mark.parametrize("claimed", [0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF024])
def test_sizes_that_mean_unknown_are_read_to_the_end(tmp_path: Path, claimed: int) -> None:
    path = save(tmp_path / "x.wav", wav_bytes(PCM, claimed=claimed))
    assert not probe(path).truncated
    assert len(read(path)) == len(NOISE)


@pytest.mark.parametrize("suffix", ["wav", "rf64", "flac", "aiff", "au", "mp3"])
def test_a_truncated_file_is_told_and_can_still_be_had(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x.{suffix}"
    tone = (0.5 * np.sin(np.arange(4 * RATE) * 0.1)).astype(np.float32)
    soundfile.write(path, tone, RATE)
    whole = read(path)
    os.truncate(path, path.stat().st_size // 2)
    assert refusal(path).kind == "truncated"
    part = read(path, allow_truncated=True)
    assert 0.3 * len(whole) < len(part) < 0.6 * len(whole)
    np.testing.assert_array_equal(part[:-2304], whole[: len(part) - 2304])
    if suffix not in ("flac", "mp3"):  # compressed: the header alone cannot tell
        assert probe(path).truncated
        assert probe(path).frames == len(part)


@pytest.mark.parametrize(("total", "refused"), [(0, False), (10**9, True)])
def test_a_flac_that_does_not_know_its_length_or_lies(tmp_path: Path, total: int, refused: bool) -> None:
    path = tmp_path / "x.flac"
    soundfile.write(path, NOISE, RATE)
    content = bytearray(path.read_bytes())
    content[21] &= 0xF0
    content[22:26] = total.to_bytes(4, "big")
    path.write_bytes(content)
    if refused:
        assert refusal(path).kind == "truncated"
    else:
        assert probe(path).frames == len(NOISE)
    assert len(read(path, allow_truncated=True)) == len(NOISE)


def test_what_libsndfile_cannot_read_goes_to_ffmpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "x.m4a", RNG.bytes(999))
    stereo = np.stack([NOISE, -NOISE / 2], axis=1)
    soundfile.write(tmp_path / "decoded.wav", stereo, 48_000, "FLOAT")
    tool = tmp_path / "bin" / "ffmpeg"
    tool.parent.mkdir()
    tool.write_text(f"#!/bin/sh\nexec cat '{tmp_path}/decoded.wav'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tool.parent), prepend=os.pathsep)
    assert (probe(path).frames, probe(path).sample_rate, probe(path).channels) == (len(NOISE), 48_000, 2)
    np.testing.assert_array_equal(read(path), NOISE / 4)
    np.testing.assert_array_equal(read(path, None, 0.5, 0.1), NOISE[24_000:28_800] / 4)
    tool.write_text("#!/bin/sh\nexit 1\n")
    assert refusal(path).kind == "not-audio"
    monkeypatch.setenv("PATH", "")
    error = refusal(path)
    assert error.kind == "needs-decoder"
    assert "install" in str(error)


def test_settings_out_of_range_and_starts_past_the_end(tmp_path: Path) -> None:
    path = save(tmp_path / "x.wav", wav_bytes(PCM))
    for wrong in ({"sample_rate": 0}, {"start_seconds": -1.0}, {"seconds": 0.0}, {"seconds": float("nan")}):
        with pytest.raises(SettingError):
            read(path, **wrong)  # type: ignore[arg-type]
    with pytest.raises(SettingError):
        read_blocks(path, block_seconds=0)
    for rate in (None, 8_000):
        with pytest.raises(AudioFileError, match=r"ends before the start asked for, 2\.5 s"):
            read(path, rate, start_seconds=2.5)
        with pytest.raises(AudioFileError, match="ends before"):
            read(path, rate, start_seconds=100)


def test_find_audio_is_sorted_recursive_and_skips_the_hidden(tmp_path: Path) -> None:
    names = [
        "b.wav",
        "a/z.FLAC",
        "a/b/c.mp3",
        "a.wav",
        "c/x.m4a",
        "B.aiff",
        "a-1/x.ogg",
        "notes.txt",
        "c/y.csv",
    ]
    hidden = [".x.wav", ".git/x.wav", "a/._z.flac"]
    for name in names + hidden:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "c" / "loop").symlink_to(tmp_path, target_is_directory=True)
    found = list(find_audio(tmp_path))
    assert found == sorted(tmp_path / name for name in names[:7])


def test_find_audio_refuses_what_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "x.wav").touch()
    with pytest.raises(DataError, match="no such folder"):
        find_audio(tmp_path / "none")
    with pytest.raises(DataError, match="not a folder"):
        find_audio(tmp_path / "x.wav")


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg"])
def test_tags_of_other_programs_are_read(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x.{suffix}"
    with soundfile.SoundFile(path, "w", RATE, 1) as file:
        file.title, file.artist, file.comment = "kick", "Zoë", "{not json"
        file.write(NOISE)
    tags = read_tags(path)
    assert (tags["title"], tags["artist"], tags["comment"]) == ("kick", "Zoë", "{not json")
