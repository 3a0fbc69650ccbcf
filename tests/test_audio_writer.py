"""Laws of writing: playable at every moment, resumed to the same bytes, tokens and tags survive."""

import errno
import io
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from audio_gen.audio import AudioWriter, ClosedPipeError, probe, read, read_tags, wav
from audio_gen.audio import files as audio_files
from audio_gen.codec import Codec
from audio_gen.errors import OutputError, SettingError

RATE = 16_000
KILLS = 5  # each takes half a second
NOISE = np.random.default_rng(2).uniform(-0.9, 0.9, 20_001).astype(np.float32)
TAGS = {"title": "kick", "seed": "7", "model": "drums", "comment": "žluťoučký"}
KINDS = [("wav", 16), ("wav", 24), ("wav", 32), ("flac", 16), ("flac", 24)]
each_kind = pytest.mark.parametrize(("suffix", "bits"), KINDS)


def save(path: Path, waveform: np.ndarray, block: int = 777, **settings: object) -> AudioWriter:
    with AudioWriter(path, RATE, **settings) as writer:  # type: ignore[arg-type]
        for start in range(0, len(waveform), block):
            writer.write(waveform[start : start + block])
    return writer


def half_step(bits: int) -> float:
    return 0 if bits == 32 else 2.0**-bits


@each_kind
def test_what_is_written_is_read_within_half_a_step(tmp_path: Path, suffix: str, bits: int) -> None:
    path = tmp_path / "deep" / "folder" / f"x.{suffix}"
    writer = save(path, NOISE, bits=bits, tags=TAGS)
    found, rate = soundfile.read(path, dtype="float32")
    assert rate == RATE
    assert writer.samples_written == len(found) == len(NOISE)
    assert np.abs(found - NOISE).max() <= half_step(bits)
    assert read_tags(path) == TAGS
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


@each_kind
def test_the_file_is_whole_after_every_write(tmp_path: Path, suffix: str, bits: int) -> None:
    path = tmp_path / f"x.{suffix}"
    with AudioWriter(path, RATE, bits=bits, tags=TAGS) as writer:
        assert path.exists()
        assert read_tags(path) == TAGS
        for start in range(0, len(NOISE), 777):
            writer.write(NOISE[start : start + 777])
            made = writer.samples_written
            if suffix == "flac" and made <= 4096:
                continue  # no frame is full yet
            found, _ = soundfile.read(path, dtype="float32")
            assert made - len(found) <= (4096 if suffix == "flac" else 0)
            assert np.abs(found - NOISE[: len(found)]).max() <= half_step(bits)
            assert probe(path).frames == len(found)
            assert not probe(path).truncated


@pytest.mark.parametrize(
    ("levels", "bits"), [(256, 16), (512, 16), (256, 24), (512, 24), (1024, 24), (1024, 32)]
)
@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_tokens_survive_the_file(tmp_path: Path, levels: int, bits: int, suffix: str) -> None:
    if (suffix, bits) == ("flac", 32):
        return
    codec = Codec(levels)
    tokens = np.arange(levels, dtype=np.uint16)
    path = tmp_path / f"x.{suffix}"
    writer = save(path, codec.decode(tokens), bits=bits)
    found, _ = soundfile.read(path, dtype="float32")
    np.testing.assert_array_equal(codec.encode(found), tokens)
    assert writer.samples_clipped == 0


@each_kind
def test_samples_beyond_one_are_clipped_and_counted(tmp_path: Path, suffix: str, bits: int) -> None:
    path = tmp_path / f"x.{suffix}"
    writer = save(path, np.array([0, 1, -1, 1.001, -7, np.inf, 0.5], np.float32), bits=bits)
    assert writer.samples_clipped == 3
    np.testing.assert_allclose(read(path), [0, 1, -1, 1, -1, 1, 0.5], atol=2 * half_step(bits))


def test_what_is_not_a_waveform_is_refused_and_the_file_kept(tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    with AudioWriter(path, RATE) as writer:
        writer.write(NOISE[:10])
        for wrong in (np.array([0, np.nan], np.float32), np.zeros((2, 2), np.float32)):
            with pytest.raises(SettingError):
                writer.write(wrong)
        writer.write(NOISE[10:20])
    assert len(read(path)) == 20
    with pytest.raises(OutputError, match="closed"):
        writer.write(NOISE)


@each_kind
@pytest.mark.parametrize("found", [0, 1, 4096, 4097, 10_001])
def test_resume_ends_in_the_bytes_of_one_run(tmp_path: Path, suffix: str, bits: int, found: int) -> None:
    whole, path = tmp_path / f"whole.{suffix}", tmp_path / f"x.{suffix}"
    save(whole, NOISE, bits=bits, tags=TAGS)
    save(path, NOISE[:found], bits=bits, tags=TAGS)
    with AudioWriter(path, RATE, bits=bits, resume=True) as writer:
        assert writer.samples_written == found
        writer.write(NOISE[found:])
    assert path.read_bytes() == whole.read_bytes()
    save(path, NOISE[:0], bits=bits, resume=True)
    assert path.read_bytes() == whole.read_bytes()
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [whole.name, path.name]


@pytest.mark.parametrize("suffix", ["wav", "flac", "raw"])
def test_resume_without_a_file_starts_one(tmp_path: Path, suffix: str) -> None:
    for name in ("none", "empty"):
        path = tmp_path / f"{name}.{suffix}"
        if name == "empty":
            path.touch()
        assert save(path, NOISE, resume=True).samples_written == len(NOISE)


class Crash(BaseException):
    """The process dies here."""


@pytest.mark.parametrize("bits", [16, 24, 32])
def test_a_wav_survives_a_crash_at_every_system_call(
    tmp_path: Path, bits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, path = tmp_path / "whole.wav", tmp_path / "x.wav"
    short = NOISE[:1001]
    save(whole, short, 101, bits=bits, tags=TAGS)
    put = audio_files.FileSink.put
    calls = 0

    def crashing_put(sink: audio_files.FileSink, position: int, data: bytes) -> None:
        nonlocal calls
        calls -= 1
        if calls < 0:
            if position:  # data may be torn anywhere; the header is one page, which the system writes whole
                put(sink, position, data[: len(data) // 2 + calls % 3])
            raise Crash
        put(sink, position, data)

    for crash_at in range(20):
        path.unlink(missing_ok=True)
        monkeypatch.setattr(audio_files.FileSink, "put", crashing_put)
        calls = crash_at
        with pytest.raises(Crash):
            save(path, short, 101, bits=bits, tags=TAGS)
        monkeypatch.setattr(audio_files.FileSink, "put", put)
        found, _ = soundfile.read(path, dtype="float32")
        assert len(found) == crash_at // 2 * 101
        assert read_tags(path) == TAGS
        with AudioWriter(path, RATE, bits=bits, resume=True) as writer:
            writer.write(short[writer.samples_written :])
        assert path.read_bytes() == whole.read_bytes()


KILLED = """
import sys
import numpy as np
from audio_gen.audio import AudioWriter
noise = np.load(sys.argv[1])
with AudioWriter(sys.argv[2], 16_000, bits=int(sys.argv[3]), tags={"seed": "7"}, resume=True) as writer:
    while writer.samples_written < len(noise):
        print(writer.samples_written, flush=True)
        writer.write(noise[writer.samples_written :][:501])
"""
LONG = np.random.default_rng(3).uniform(-0.9, 0.9, 2_000_000).astype(np.float32)


@pytest.mark.parametrize(("suffix", "bits"), [("wav", 24), ("flac", 16)])
def test_a_killed_stream_is_playable_and_resumes_to_the_same_bytes(
    tmp_path: Path, suffix: str, bits: int
) -> None:
    whole, path, source = tmp_path / f"whole.{suffix}", tmp_path / f"x.{suffix}", tmp_path / "noise.npy"
    save(whole, LONG, len(LONG), bits=bits, tags={"seed": "7"})
    np.save(source, LONG)
    found = np.zeros(0, np.float32)
    for delay in np.random.default_rng(4).uniform(0, 0.015, KILLS):  # s; an undisturbed run takes 0.25
        command = [sys.executable, "-c", KILLED, str(source), str(path), str(bits)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            for _ in range(20):  # so that FLAC has filled a frame
                process.stdout.readline()
            time.sleep(delay)
            process.kill()
            reported = [int(line) for line in process.stdout.read().split(b"\n")[:-1]]
        before = len(found)
        found, _ = soundfile.read(path, dtype="float32")
        # Nothing reported is lost but, in FLAC, what the encoder held.
        assert len(found) >= max([before, *(made - 2 * 4096 * (suffix == "flac") for made in reported)])
        assert np.abs(found - LONG[: len(found)]).max() <= half_step(bits)
        assert read_tags(path) == {"seed": "7"}
    assert 0 < len(found) < len(LONG)
    with AudioWriter(path, RATE, bits=bits, resume=True) as writer:
        writer.write(LONG[writer.samples_written :])
    assert path.read_bytes() == whole.read_bytes()


def test_raw_files_hold_samples_only_and_resume_after_the_last_whole_one(tmp_path: Path) -> None:
    path = tmp_path / "x.raw"
    for bits, dtype in ((16, "<i2"), (32, "<f4")):
        save(path, NOISE[:100], bits=bits, force=True)
        with path.open("ab") as file:
            file.write(b"\x01")
        assert save(path, NOISE[100:], bits=bits, resume=True).samples_written == len(NOISE)
        scale = 32768 if bits == 16 else 1
        found = np.frombuffer(path.read_bytes(), dtype) / scale
        assert np.abs(found - NOISE).max() <= half_step(bits)


@pytest.mark.parametrize("bits", [16, 24, 32])
def test_a_wav_past_4_gib_becomes_rf64(tmp_path: Path, bits: int) -> None:
    path = tmp_path / "x.wav"
    save(path, NOISE, bits=bits, tags=TAGS)
    width = bits // 8
    samples = (2**32 - 1000) // width  # as if hours had been written: a hole in the file, which takes no room
    with path.open("r+b") as file:
        header = wav.parse_header(file)
        assert header is not None
        file.seek(0)
        head = file.read(header.data_start)
        os.truncate(path, header.data_start + samples * width)
        file.seek(0)
        file.write(wav.with_sizes(head, samples * width, width, wav.fact_position(head)))
    with AudioWriter(path, RATE, bits=bits, resume=True) as writer:
        assert writer.samples_written == samples
        for start in range(0, len(NOISE), 5000):
            writer.write(NOISE[start : start + 5000])
            assert soundfile.info(path).frames == writer.samples_written
    info = soundfile.info(path)
    assert (info.format, info.frames) == ("RF64", samples + len(NOISE))
    assert path.stat().st_size > 2**32
    found = read(path, None, samples / RATE)
    assert np.abs(found - NOISE).max() <= half_step(bits)
    assert not probe(path).truncated
    assert read_tags(path) == TAGS
    with AudioWriter(path, RATE, bits=bits, resume=True) as writer:
        assert writer.samples_written == samples + len(NOISE)


def run(code: str, **settings: object) -> "subprocess.CompletedProcess[bytes]":
    preamble = (
        "import numpy as np, sys\nfrom audio_gen.audio import *\nfrom audio_gen.errors import OutputError\n"
    )
    return subprocess.run(
        [sys.executable, "-c", preamble + code], capture_output=True, check=False, **settings
    )  # type: ignore[call-overload, no-any-return]


@pytest.mark.parametrize("format", ["wav", "flac", "raw"])
@pytest.mark.parametrize("seconds", [None, 2.0, float("inf")])
def test_standard_output_carries_a_stream_anyone_can_read(
    tmp_path: Path, format: str, seconds: float | None
) -> None:
    noise = np.resize(NOISE, 2 * RATE)
    np.save(tmp_path / "noise.npy", noise)
    done = run(
        f"noise = np.load(r'{tmp_path}/noise.npy')\n"
        f"with AudioWriter('-', {RATE}, format='{format}', bits=24, seconds=float('{seconds or 'inf'}'),"
        f" tags={TAGS}) as writer:\n"
        f"    for start in range(0, len(noise), 999): writer.write(noise[start : start + 999])\n"
    )
    assert (done.returncode, done.stderr) == (0, b"")
    if format == "raw":
        assert len(done.stdout) == 3 * len(noise)
        return
    path = tmp_path / f"x.{format}"
    path.write_bytes(done.stdout)
    assert np.abs(read(path) - noise).max() <= half_step(24)
    assert read_tags(path) == TAGS
    if seconds == 2.0:
        assert soundfile.info(path).frames == len(noise)
        if format == "wav":
            save(tmp_path / "file.wav", noise, bits=24, tags=TAGS)
            assert done.stdout == (tmp_path / "file.wav").read_bytes()
    elif format == "wav":
        assert done.stdout[4:8] == b"\xff\xff\xff\xff"


def test_a_stream_known_to_pass_4_gib_starts_as_rf64(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    with AudioWriter("-", RATE, seconds=2**32 / RATE) as writer:
        writer.write(NOISE)
    out = capsysbinary.readouterr().out
    header = wav.parse_header(io.BytesIO(out))
    assert header is not None
    assert (header.container, header.data_bytes) == ("RF64", 2**33)


def test_a_closed_pipe_is_an_error_of_its_own() -> None:
    code = (
        "try:\n"
        "    with AudioWriter('-', 16000) as writer:\n"
        "        while True: writer.write(np.zeros(100_000, np.float32))\n"
        "except ClosedPipeError as error:\n"
        "    print(error, file=sys.stderr); sys.exit(3)\n"
    )
    preamble = "import numpy as np, sys\nfrom audio_gen.audio import *\n"
    with subprocess.Popen(
        [sys.executable, "-c", preamble + code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(4) == b"RIFF"
        process.stdout.close()
        said = process.stderr.read()
    assert process.returncode == 3
    assert said == b"standard output: closed by the reader\n"  # and no complaint at exit


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is always full")
@pytest.mark.parametrize("format", ["wav", "flac", "raw"])
def test_a_full_disk_is_one_clear_line(format: str) -> None:
    with (
        pytest.raises(OutputError, match=r"^/dev/full: cannot be written: No space left") as caught,
        AudioWriter("/dev/full", RATE, format=format) as writer,  # type: ignore[arg-type]
    ):
        writer.write(NOISE)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_when_space_runs_out_what_was_written_stays_and_resumes(tmp_path: Path, suffix: str) -> None:
    path, whole = tmp_path / f"x.{suffix}", tmp_path / f"whole.{suffix}"
    save(whole, NOISE)
    np.save(tmp_path / "noise.npy", NOISE)
    done = run(
        "import resource\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (25_000, 25_000))\n"
        f"noise = np.load(r'{tmp_path}/noise.npy')\n"
        "try:\n"
        f"    with AudioWriter(r'{path}', {RATE}) as writer:\n"
        "        for start in range(0, len(noise), 777): writer.write(noise[start : start + 777])\n"
        "except OutputError as error:\n"
        "    print(error, file=sys.stderr); sys.exit(3)\n"
    )
    assert done.returncode == 3, done.stderr
    assert done.stderr.decode() == (
        f"{path}: cannot be written: File too large; the file system or ulimit allows no larger file\n"
    )
    found, _ = soundfile.read(path, dtype="float32")
    assert 8_000 < len(found) < 12_500
    assert np.abs(found - NOISE[: len(found)]).max() <= half_step(16)
    with AudioWriter(path, RATE, resume=True) as writer:
        assert writer.samples_written == len(found)
        writer.write(NOISE[len(found) :])
    assert path.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize("suffix", ["wav", "flac", "raw"])
def test_an_existing_file_needs_force_or_resume(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x.{suffix}"
    save(path, NOISE)
    before = path.read_bytes()
    with pytest.raises(OutputError, match="exists; use --force to overwrite it or --resume to continue it"):
        AudioWriter(path, RATE)
    assert path.read_bytes() == before
    save(path, NOISE[:100], force=True)
    assert len(path.read_bytes()) < len(before)


Change = Callable[[Path], None]


@pytest.mark.parametrize(
    ("make", "settings"),
    [
        (lambda path: save(path, NOISE, bits=24), {}),
        (lambda path: save(path, NOISE), {"bits": 32}),
        (lambda path: soundfile.write(path, NOISE, 8_000), {}),
        (lambda path: soundfile.write(path, NOISE, RATE), {}),  # not ours: no room for RF64 or chunks behind
        (lambda path: soundfile.write(path, np.stack([NOISE, NOISE], 1), RATE), {}),
        (lambda path: path.write_bytes(b"text" * 99), {}),
    ],
)
def test_resume_refuses_a_file_of_another_kind_and_leaves_it(
    tmp_path: Path, make: Change, settings: dict[str, int]
) -> None:
    path = tmp_path / "x.wav"
    make(path)
    before = path.read_bytes()
    with pytest.raises(OutputError, match="cannot be resumed"):
        AudioWriter(path, RATE, resume=True, **settings)  # type: ignore[arg-type]
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("rate", "channels", "subtype"), [(8_000, 1, "PCM_16"), (RATE, 2, "PCM_16"), (RATE, 1, "PCM_24")]
)
def test_resume_refuses_a_flac_of_another_kind(
    tmp_path: Path, rate: int, channels: int, subtype: str
) -> None:
    path = tmp_path / "x.flac"
    soundfile.write(path, np.stack([NOISE] * channels, 1), rate, subtype)
    with pytest.raises(OutputError, match="cannot be resumed"):
        AudioWriter(path, RATE, resume=True)
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.flac"]


def test_settings_that_do_not_fit(tmp_path: Path) -> None:
    for name, rate, wrong in (
        ("x", RATE, {}),
        ("x.mp3", RATE, {}),
        ("x.wav", RATE, {"bits": 8}),
        ("x.flac", RATE, {"bits": 32}),
        ("x.wav", RATE, {"seconds": -1}),
        ("x.wav", RATE, {"format": "mp3"}),
        ("x.wav", 0, {}),
        ("x.flac", 700_000, {}),
    ):
        with pytest.raises(SettingError):
            AudioWriter(tmp_path / name, rate, **wrong)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder.wav").mkdir()
    with pytest.raises(OutputError, match="is a folder"):
        AudioWriter(tmp_path / "folder.wav", RATE)
    with pytest.raises(OutputError, match="cannot be written"):
        AudioWriter(tmp_path / "file" / "x.wav", RATE)
    if os.geteuid():
        (tmp_path / "folder.wav").chmod(0o500)
        with pytest.raises(OutputError, match="cannot be written: Permission denied"):
            AudioWriter(tmp_path / "folder.wav" / "x.wav", RATE)


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.ENOSPC, "free some space"), (errno.EROFS, "check its permissions"), (errno.EIO, "another place")],
)
def test_each_refusal_of_the_system_has_its_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    def refuse(descriptor: int, data: bytes) -> int:
        raise OSError(number, os.strerror(number))

    with AudioWriter(tmp_path / "x.wav", RATE) as writer:
        writer.write(NOISE[:100])
        monkeypatch.setattr(os, "write", refuse)
        with pytest.raises(OutputError, match=words) as caught:
            writer.write(NOISE)
        monkeypatch.undo()
    assert os.strerror(number) in str(caught.value)
    assert len(read(tmp_path / "x.wav")) == 100
    assert issubclass(ClosedPipeError, OutputError)


words = st.text(max_size=20)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(
        st.sampled_from(["title", "comment", "software", "license", "date"]) | words, words, max_size=5
    ),
    st.sampled_from(["wav", "flac"]),
)
def test_any_tags_are_given_back(tmp_path: Path, tags: dict[str, str], suffix: str) -> None:
    path = tmp_path / f"x.{suffix}"
    save(path, NOISE[:10], tags=tags, force=True)
    assert read_tags(path) == tags
    assert len(read(path)) == 10


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_odd_tags_are_given_back(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x.{suffix}"
    for tags in (
        {"recipe": "x" * 100_000},
        {"comment": '{"a": "b"}'},
        {"comment": '{"a": 1}'},
        {"comment": "{"},
        {"title": "a\0b", "": "", "x": "\ud800", "comment": ""},
        {"title": " padded ", "date": "2024\n"},
    ):
        save(path, NOISE, tags=tags, force=True)
        assert read_tags(path) == tags
        assert len(soundfile.read(path)[0]) == len(NOISE)
