"""The command line: its manners, what it imports, and how it takes bad days."""

import io
import json
import os
import re
import signal
import struct
import subprocess
import sys
import time
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from command_line import LABELS, RATE, Called, call, write_model

import audio_gen
from audio_gen.checkpoint import load_checkpoint
from audio_gen.cli.progress import Live, clock, fitted
from audio_gen.presets import PRESETS

VERBS = [
    "doctor",
    "presets",
    "prepare",
    "train",
    "generate",
    "compose",
    "vocode",
    "replay",
    "evaluate",
    "quantize",
    "batch",
    "page",
    "live",
    "run",
    "models",
    "info",
    "bench",
    "serve",
]
posix = pytest.mark.skipif(sys.platform == "win32", reason="signals, pipes and limits of POSIX")

RECIPE = """
[data]
source = "recordings"
sample_rate = 4000
pattern = "{drum}_{index}"
valid_fraction = 0.3

[controls.labels.drum]
from = "{drum}"

[network]
layers = [2, 2]
channels = [8, 8]
pool = [4]
head_channels = 16

[train]
steps = 4
batch_size = 2
crop = 128
walk = 2
validate_every = 2
valid_seconds = 0.2
preview_seconds = 0.1

[[generate]]
name = "all"
clips = 1
seconds = 0.2
labels = { drum = "*" }
"""


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "toy.safetensors")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    yield tmp_path


@pytest.fixture
def recipe(here: Path) -> Path:
    """A recipe and its recordings: 6 noises of each of two drums."""
    Path("recordings").mkdir()
    generator = np.random.default_rng(1)
    for number in range(12):
        noise = generator.uniform(-0.5, 0.5, RATE // 4) * np.linspace(1, 0, RATE // 4)
        soundfile.write(f"recordings/{'hat' if number % 2 else 'kick'}_{number}.wav", noise, RATE)
    Path("toy.toml").write_text(RECIPE)
    return Path("toy.toml")


def files() -> set[str]:
    """All files here."""
    return {path.as_posix() for path in Path().rglob("*") if path.is_file()}


def fails(called: Called, *words: str, code: int = 1) -> None:
    """One line on stderr, none on stdout, the right exit code."""
    assert called.code == code, called.errors
    assert called.output == b""
    assert re.fullmatch(r"audio-gen: error: .+\n", called.errors), called.errors
    for word in words:
        assert word in called.errors


def start(*arguments: object, encoding: str = "utf-8", **options: Any) -> "subprocess.Popen[bytes]":
    """The program in a process of its own, with Ctrl-C as a terminal would leave it."""
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(Path(audio_gen.__file__).parents[1]),
        "PYTHONIOENCODING": encoding,
    }
    command = [sys.executable, "-m", "audio_gen", *map(str, arguments)]
    return subprocess.Popen(command, env=environment, **pipes | options)


# Help and usage


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_has_an_example_that_parses(verb: str, flag: str) -> None:
    called = call(verb, flag)
    assert called.code == 0 and called.errors == ""
    text = " ".join(called.text.split())
    (example,) = re.findall(r"Example: audio-gen (\S+)", text)
    assert example == verb


def test_help_names_every_verb() -> None:
    called = call("--help")
    assert called.code == 0
    assert re.findall(r"^  ([a-z]+)  ", called.text, re.MULTILINE) == VERBS
    assert call("--version").text == f"audio-gen {audio_gen.__version__}\n"


@pytest.mark.parametrize("verb", VERBS)
def test_every_option_says_what_it_is_for(verb: str) -> None:
    import typer

    from audio_gen.cli.app import app

    group: Any = typer.main.get_command(app)
    for parameter in group.commands[verb].params:
        assert getattr(parameter, "help", None), parameter.name
        for name in parameter.opts:
            assert parameter.param_type_name == "argument" or re.fullmatch(r"--[a-z-]+|-[onqfv]", name), name


@pytest.mark.parametrize(
    "arguments",
    [
        ("frobnicate",),
        ("--frobnicate",),
        *((verb, "--frobnicate") for verb in VERBS),
        *((verb, "a", "b", "c") for verb in VERBS if verb != "serve"),  # which takes any number of models
        ("generate",),
        ("generate", "m", "--seconds", "long"),
        ("generate", "m", "--count", "0"),
        ("generate", "m", "--seed", "-1"),
        ("generate", "m", "--format", "mp3"),
        ("generate", "m", "--engine", "steam"),
        ("train", "r", "--threads", "0"),
        ("doctor", ".", "--jobs", "0"),
    ],
)
def test_wrong_usage(arguments: tuple[str, ...]) -> None:
    called = call(*arguments)
    assert called.code == 2 and called.output == b""
    assert "Usage: audio-gen" in called.errors and "Traceback" not in called.errors
    assert not files()


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("--seconds", "0"), "--seconds must be above 0"),
        (("--seconds", "nan"), "--seconds must be above 0"),
        (("--temperature", "-1"), "temperature must be from 0 to 10"),
        (("--temperature", "nan"), "temperature must be from 0 to 10"),
        (("--top-p", "2"), "top_p"),
        (("--min-p", "-1"), "min_p"),
        (("--label", "kick"), "NAME=VALUE"),
        (("--label", "drum=hat", "--label", "drum=kick"), "given twice"),
        (("--bits", "12"), "16, 24 or 32"),
        (("-o", "a.mp3"), ".wav, .flac or .raw"),
        (("-o", "a.wav", "-n", "2"), "give a folder"),
        (("-o", "-", "-n", "2"), "one clip"),
        (("--seed", str(2**63)), "seed must be from 0 to"),
    ],
)
def test_settings_out_of_range_are_wrong_usage(toy: Path, arguments: tuple[str, ...], word: str) -> None:
    fails(call("generate", toy, *arguments), word, code=2)
    assert not files()


# Streams


def test_stdout_is_for_the_product(toy: Path) -> None:
    called = call("generate", toy, "-o", "a.wav", "--seconds", 0.2)
    assert called.text == "a.wav\n"
    assert re.fullmatch(r"wrote a\.wav \(0\.20 s, [\d.]+× real time, seed 0, fp32\)\n", called.errors)
    piped = call("generate", toy, "-o", "-", "--seconds", 0.2)
    assert soundfile.info(io.BytesIO(piped.output)).frames == RATE // 5
    assert "wrote standard output" in piped.errors


def test_quiet_is_silent(toy: Path, recipe: Path) -> None:
    for arguments in (
        ("generate", toy, "-o", "a.wav", "--seconds", 0.2, "--temperature", 9),
        ("doctor", "recordings"),
        ("prepare", recipe),
        ("batch", recipe, "--model", toy, "--set", "controls.labels={}", "--set", "generate.0.labels={}"),
        ("evaluate", toy, "recordings", "--only", "likelihood,calibration"),
    ):
        called = call(*arguments, "-q")
        assert called.code == 0 and called.errors == "", called.errors
        assert called.output


def test_progress_without_a_terminal_is_lines(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("audio_gen.cli.progress.EVERY_SECONDS", 0.0)
    called = call("generate", toy, "-o", "a.wav", "--seconds", 1)
    *lines, last = called.errors.splitlines()
    assert last.startswith("wrote a.wav") and len(lines) > 3
    assert "\r" not in called.errors and "\x1b" not in called.errors
    shape = r" *(\d+) %  [\d.]+ s of 1\.0 s  [\d,]+ samples/s  [\d.]+× real time(  \d+ s left)?"
    shares = [int(found[1]) for line in lines if (found := re.fullmatch(shape, line))]
    assert len(shares) == len(lines) and shares == sorted(shares) and shares[-1] == 100, lines
    assert "%" not in call("generate", toy, "-o", "a.wav", "--seconds", 1, "-f", "-q").errors


@pytest.mark.parametrize("columns", [1, 10, 20, 40, 79, 80, 200])
@pytest.mark.parametrize("text", ["plain", "длинное название " * 9, "鼓" * 60, "\x1b[31m\nnew\tline" * 9])
@pytest.mark.parametrize("done", [None, 0.0, 0.5, 1.0, 1.2])
def test_the_live_line_is_one_line(columns: int, text: str, done: float | None) -> None:
    from rich.cells import cell_len

    line = fitted(done, text, columns)
    assert cell_len(line) <= columns and line.isprintable()


@posix
def test_on_a_terminal_the_line_is_written_over(toy: Path) -> None:
    import pty

    leader, follower = pty.openpty()
    with start("generate", toy, "-o", "a.wav", "--seconds", 60, stderr=follower) as process:
        os.close(follower)
        shown = b""
        while True:
            try:
                block = os.read(leader, 4096)
            except OSError:  # Linux: the other end is closed
                break
            if not block:
                break
            shown += block
        assert process.wait() == 0
    os.close(leader)
    live, end = shown.decode().rsplit("\r\x1b[2K", 1)
    drawn = live.split("\r\x1b[2K")[1:]
    assert drawn and all(len(line) < 80 and "\n" not in line for line in drawn)
    assert all("real time" in line for line in drawn)
    assert end.startswith("wrote a.wav") and end.count("\n") == 1


def test_terminals_of_few_letters(toy: Path) -> None:
    with start("generate", toy, "-o", "trømme.wav", "--seconds", 0.1, encoding="ascii") as process:
        output, errors = process.communicate()
    assert process.returncode == 0 and output == b"tr\\xf8mme.wav\n"
    assert errors.startswith(b"wrote tr\\xf8mme.wav")


def test_clock() -> None:
    assert [clock(seconds) for seconds in (0.4, 59.6, 3599, 3600, 90_000)] == [
        "0 s",
        "1:00 min",
        "59:59 min",
        "1:00 h",
        "25:00 h",
    ]


def test_nothing_is_drawn_when_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    with Live(quiet=True) as live:
        live.show(0.5, "text")
        live.say("text")
    assert capsys.readouterr() == ("", "")


# Models


def test_info(toy: Path) -> None:
    shown = call("info", toy)
    assert shown.code == 0
    for words in ("A random network.", "CC0 1.0", "4,000 Hz", "hat|kick", "samples, "):
        assert words in shown.text
    facts = json.loads(call("info", toy, "--json").text)
    assert facts["labels"] == LABELS and facts["hash"] == load_checkpoint(toy).hash


def test_models() -> None:
    names = audio_gen.bundled()
    called = call("models")
    assert called.code == 0
    assert re.findall(r"^(\S+): ", called.text, re.MULTILINE) == names
    assert list(json.loads(call("models", "--json").text)) == names
    assert bool(called.errors) == (not names)


def test_presets() -> None:
    called = call("presets")
    assert called.code == 0 and not called.errors
    assert re.findall(r"^(\S+) +[\d,]+ +[\d,]+ +[\d,]+  \d+x\d+", called.text, re.MULTILINE) == list(PRESETS)
    facts = json.loads(call("presets", "--json").text)
    assert {name: fact["network"] for name, fact in facts.items()} == PRESETS
    assert facts["nano"]["parameters"] < facts["small"]["parameters"]


def test_bad_checkpoints(toy: Path) -> None:
    whole = toy.read_bytes()
    Path("cut.safetensors").write_bytes(whole[: len(whole) // 2])
    Path("stub.safetensors").write_bytes(whole[:5])
    Path("empty.safetensors").write_bytes(b"")
    Path("text.safetensors").write_text("not a checkpoint " * 100)
    newer = whole.replace(b'\\"version\\": 1', b'\\"version\\": 9')
    assert newer != whole
    Path("newer.safetensors").write_bytes(newer)
    Path("flipped.safetensors").write_bytes(whole[:-3] + bytes([whole[-3] ^ 1]) + whole[-2:])
    Path("folder").mkdir()
    from safetensors.numpy import save_file

    save_file({"x": np.zeros(3, np.float32)}, "other.safetensors")
    before = files()
    for name in sorted(before | {"folder", "missing.safetensors", "no-such-model"}):
        for verb in (("info", name), ("generate", name), ("evaluate", name, ".")):
            fails(call(*verb), name)
    fails(call("info", "newer.safetensors"), "version 9", "upgrade")
    assert files() == before


# Recordings


def write_oddities(folder: Path) -> dict[str, str]:
    """Strange and broken recordings. Gives what is wrong with those that cannot be used: a word of the reason."""
    folder.mkdir()
    tone = 0.5 * np.sin(np.arange(8000) / 7)
    soundfile.write(folder / "plain.wav", tone, 8000)
    for subtype in ("PCM_24", "PCM_32", "FLOAT", "DOUBLE", "PCM_U8"):
        soundfile.write(folder / f"{subtype}.wav", tone, 8000, subtype=subtype)
    soundfile.write(folder / "surround.wav", np.stack([tone] * 6, 1), 48_000)
    soundfile.write(folder / "fast.wav", np.repeat(tone, 24), 192_000)
    soundfile.write(folder / "one.wav", [0.5], 8000)
    soundfile.write(folder / "zero.wav", np.zeros(0), 8000)
    soundfile.write(folder / "nan.wav", np.where(np.arange(8000) == 77, np.nan, tone), 8000, subtype="FLOAT")
    whole = (folder / "plain.wav").read_bytes()
    (folder / "truncated.wav").write_bytes(whole[:9000])
    lying = bytearray(whole)
    lying[32:34] = struct.pack("<H", 1)  # 16 bits in blocks of 1 byte
    (folder / "lying.wav").write_bytes(lying)
    (folder / "empty.wav").write_bytes(b"")
    (folder / "text.wav").write_text("hello, this is no audio\n" * 50)
    return {
        "zero.wav": "no samples",
        "nan.wav": "NaN",
        "truncated.wav": "",
        "lying.wav": "header",
        "empty.wav": "empty",
        "text.wav": "text",
    }


def test_strange_recordings_are_used_and_broken_ones_named(here: Path) -> None:
    broken = write_oddities(here / "odd")
    Path("odd.toml").write_text('[data]\nsource = "odd"\nsample_rate = 8000\nvalid_fraction = 0.2\n')
    called = call("doctor", "odd")
    for name, word in broken.items():
        assert name in called.text, name
        assert word in called.text
    assert "Traceback" not in called.errors
    diagnosis = json.loads(call("doctor", "odd", "--json").text)
    assert isinstance(diagnosis, dict)
    prepared = call("prepare", "odd.toml")
    assert prepared.code == 0, prepared.errors
    excluded = [json.loads(line) for line in Path("runs/odd/store/excluded.jsonl").read_text().splitlines()]
    clips = [json.loads(line) for line in Path("runs/odd/store/clips.jsonl").read_text().splitlines()]
    reasons = {Path(entry["source"]).name: entry["reason"] for entry in excluded}
    used = {Path(clip["source"]).name for clip in clips}
    assert used | set(reasons) == {path.name for path in Path("odd").iterdir()}
    assert set(broken) - {"truncated.wav"} <= set(reasons)
    assert {"plain.wav", "PCM_24.wav", "FLOAT.wav", "PCM_U8.wav", "surround.wav", "fast.wav"} <= used
    assert all(f"left out: {name}: {reason}" in prepared.errors for name, reason in reasons.items())


def test_folders_without_recordings(recipe: Path) -> None:
    Path("empty").mkdir()
    Path("texts").mkdir()
    for number in range(3):
        Path(f"texts/{number}.wav").write_text("not audio\n" * 20)
    before = files()
    for folder, word in (("empty", "no "), ("nowhere", "no such folder"), ("toy.toml", "toy.toml")):
        fails(call("doctor", folder), folder, word)
        fails(call("prepare", recipe, "--set", f"data.source={folder}", "--run", "run"), folder)
    diagnosis = call("doctor", "texts")
    assert diagnosis.code == 1 and "0 usable" in diagnosis.text and diagnosis.errors == ""
    fails(call("prepare", recipe, "--set", "data.source=texts", "--run", "run"), "texts", "nothing is left")
    assert not Path("run/store/store.json").exists()
    assert {name for name in files() - before if not name.startswith("run/store/")} == set()


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("data.sourc=x", "did you mean source?"),
        ("trian.steps=3", "did you mean train?"),
        ("train.steps=many", "train.steps"),
        ("train.steps=0", "train.steps"),
        ("train.steps=1.5", "train.steps"),
        ("network.layers=[2]", "must describe the same tiers"),
        ("network.channels=[0,8]", "channels must be from 1"),
        ("network.pool=[1]", "pool must be from 2"),
        ("codec.levels=300", "codec.levels"),
        ("train.crop=129", "multiple"),
        ("data.pattern={drum", "template"),
        ("steps", "KEY=VALUE"),
        ("data.source.x=3", "data.source"),
    ],
)
@pytest.mark.parametrize("verb", ["prepare", "train", "run", "batch"])
def test_recipe_mistakes(recipe: Path, verb: str, override: str, words: str) -> None:
    before = files()
    fails(call(verb, recipe, "--set", override), words)
    assert files() == before


def test_recipes_that_are_none(recipe: Path) -> None:
    Path("broken.toml").write_text("[data\n")
    Path("binary.toml").write_bytes(bytes(range(256)))
    before = files()
    for name in ("broken.toml", "binary.toml", "nowhere.toml", "recordings"):
        fails(call("prepare", name), name)
    assert files() == before


def test_labels_missing_for_some_files(recipe: Path) -> None:
    Path("recordings/hat_1.wav").rename("recordings/nameless.wav")
    prepared = call("prepare", recipe)
    assert prepared.code == 0
    clips = [json.loads(line) for line in Path("runs/toy/store/clips.jsonl").read_text().splitlines()]
    (nameless,) = [clip for clip in clips if clip["source"] == "nameless.wav"]
    assert nameless["labels"] == {}
    assert "nameless.wav" in prepared.errors or "1 " in prepared.errors


def test_prepared_twice_is_unchanged(recipe: Path) -> None:
    assert re.search(
        r"prepared .*train \d+ clips \([\d.]+ min\), valid \d clips", call("prepare", recipe).errors
    )
    before = {name: Path(name).read_bytes() for name in files()}
    again = call("prepare", recipe)
    assert ", 12 of them unchanged" in again.errors and again.text == f"{Path('runs/toy/store')}\n"
    assert {name: Path(name).read_bytes() for name in files() if "survey" not in name} == {
        name: content for name, content in before.items() if "survey" not in name
    }


# Training and what follows


def test_from_folder_to_page_and_not_twice(recipe: Path) -> None:
    pytest.importorskip("torch")
    first = call("run", recipe, "--threads", 1)
    assert first.code == 0, first.errors
    page = Path(first.text.strip())
    assert page.name == "index.html" and page.is_file()
    assert (
        "to beat, in bits per sample" in first.errors and "bits per sample on held-out audio" in first.errors
    )
    model = Path("runs/toy/model.safetensors").read_bytes()
    assert "quantised runs/toy/model.safetensors: fp32 " in first.errors
    assert load_checkpoint("runs/toy/model.safetensors").scales
    again = call("run", recipe, "--threads", 1)
    assert again.code == 0 and again.text == first.text
    assert (
        "this training is over" in again.errors
        and "quantised already" in again.errors
        and "2 were there already" in again.errors
    )
    assert Path("runs/toy/model.safetensors").read_bytes() == model
    other = ("--threads", 1, "--set", "train.learning_rate=1e-4")
    fails_late = call("run", recipe, *other)
    assert fails_late.code == 1 and "another recipe" in fails_late.errors
    forced = call("run", recipe, *other, "--force")
    assert forced.code == 0 and Path("runs/toy/model.safetensors").read_bytes() != model
    scored = call("evaluate", "runs/toy", "recordings", "--json", "-q", "--only", "likelihood")
    assert scored.code == 0 and json.loads(scored.text)
    assert call("generate", "runs/toy", "-o", "a.wav", "--label", "drum=kick", "--seconds", 0.1).code == 0


def test_an_existing_training_is_safe(recipe: Path) -> None:
    pytest.importorskip("torch")
    assert call("train", recipe, "--threads", 1, "-q").code == 0
    before = {name: Path(name).read_bytes() for name in files()}
    fails(call("train", recipe, "--set", "data.sample_rate=2000"), "--resume", "--force")
    fails(call("train", recipe, "--run", "other", "--from", "nobody"), "nobody")
    assert {name: Path(name).read_bytes() for name in files()} == before
    over = call("train", recipe, "--threads", 1, "--resume")
    assert over.code == 0 and "training is over" in over.errors
    fails(call("train", recipe, "--run", "other", "--from", "drums", "-q"), "drums", "network", "differ")
    assert call("train", recipe, "--run", "other", "--from", "runs/toy", "--threads", 1, "-q").code == 0


def test_clips_shorter_than_the_receptive_field(recipe: Path) -> None:
    pytest.importorskip("torch")
    for path in Path("recordings").iterdir():
        soundfile.write(path, soundfile.read(path)[0][:50], RATE)
    trained = call("train", recipe, "--threads", 1, "--set", "network.layers=[6, 6]")
    assert trained.code == 0, trained.errors
    assert load_checkpoint("runs/toy/model.safetensors").shape.receptive_field > 50
    scored = call("evaluate", "runs/toy", "runs/toy", "--only", "likelihood")
    assert scored.code == 0 and "bits" in scored.text


@pytest.mark.parametrize("verb", ["train", "run"])
def test_without_the_training_extra(recipe: Path, verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    before = files()
    fails(call(verb, recipe), f"{verb} needs torch", "pip install 'audio-gen[train]'")
    assert files() == before


def test_the_reference_without_torch(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    fails(call("generate", toy, "--engine", "reference"), "--engine reference needs torch")
    assert not files()


def test_verbs_on_runs_that_are_none(recipe: Path, toy: Path) -> None:
    before = files()
    fails(call("page", "nowhere"), "nowhere")
    fails(call("batch", recipe), "runs")
    fails(call("evaluate", toy, "nowhere"), "nowhere")
    assert files() == before


# Outputs


def test_existing_output_needs_force(toy: Path) -> None:
    Path("a.wav").write_bytes(b"precious")
    fails(call("generate", toy, "-o", "a.wav"), "a.wav: exists", "--force")
    assert Path("a.wav").read_bytes() == b"precious" and files() == {"a.wav"}
    assert call("generate", toy, "-o", "a.wav", "--force", "--seconds", 0.1).code == 0
    assert soundfile.info("a.wav").frames == RATE // 10


def test_outputs_that_cannot_be(toy: Path) -> None:
    Path("folder").mkdir()
    Path("file").write_text("")
    fails(call("generate", toy, "-o", "folder"), "is a folder")
    fails(call("generate", toy, "-o", "file/a.wav"), "file")
    assert files() == {"file"}


@posix
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_read_only_folders(toy: Path) -> None:
    Path("locked").mkdir(mode=0o500)
    fails(call("generate", toy, "-o", "locked/a.wav"), "permissions")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_full_disks(toy: Path) -> None:
    fails(call("generate", toy, "-o", "/dev/full"), "/dev/full: cannot be written: No space left")
    with Path("/dev/full").open("wb") as full:
        for arguments in (("generate", toy, "-o", "-"), ("info", toy), ("generate", "--help")):
            process = start(*arguments, stdout=full)
            errors = process.communicate()[1].decode()
            assert process.returncode == 1
            assert re.fullmatch(r"audio-gen: error: .*No space left on device.*\n", errors)


@posix
def test_a_disk_that_fills_up(toy: Path) -> None:
    import resource

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    for name in ("a.wav", "a.flac"):
        process = start("generate", toy, "-o", name, "--seconds", 20, preexec_fn=limit)
        output, errors = process.communicate()
        assert process.returncode == 1 and output == b""
        assert re.fullmatch(rf"audio-gen: error: {name}: cannot be written: .*\n", errors.decode())
        assert soundfile.info(name).frames > RATE
        assert call("generate", toy, "-o", name, "--seconds", 20, "--resume").code == 0
        assert call("generate", toy, "-o", f"whole-{name}", "--seconds", 20).code == 0
        assert Path(name).read_bytes() == Path(f"whole-{name}").read_bytes()


@posix
@pytest.mark.parametrize("form", ["wav", "flac", "raw"])
def test_a_closed_pipe(toy: Path, form: str) -> None:
    with start("generate", toy, "-o", "-", "--format", form, "--seconds", "inf") as process:
        assert process.stdout and process.stderr
        assert len(process.stdout.read(1000)) == 1000
        process.stdout.close()
        errors = process.stderr.read().decode()
        assert process.wait(10) == 1
    assert errors == "audio-gen: error: standard output: closed by the reader\n"


@posix
def test_a_closed_pipe_for_text(toy: Path) -> None:
    with start("info", toy) as process:
        assert process.stdout and process.stderr
        process.stdout.close()
        assert process.stderr.read().decode() == "audio-gen: error: standard output: closed by the reader\n"
        assert process.wait(10) == 1


def grown(path: Path, size: int) -> None:
    """Wait until a file has that many bytes."""
    until = time.monotonic() + 30
    while not path.exists() or path.stat().st_size < size:
        assert time.monotonic() < until
        time.sleep(0.02)


@posix
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("name", ["a.wav", "a.flac"])
def test_interrupting_generate(toy: Path, name: str, number: signal.Signals) -> None:
    with start("generate", toy, "-o", name, "--seconds", "inf") as process:
        grown(Path(name), 20_000)
        process.send_signal(number)
        began = time.monotonic()
        output, errors = process.communicate(timeout=10)
    assert time.monotonic() - began < 2.0  # within about a second, on a busy machine
    assert process.returncode == 130 and output == b""
    stopped, interrupted = errors.decode().splitlines()
    assert re.fullmatch(r"stopped after [\d.]+ s of audio; the same command with --resume continues", stopped)
    assert interrupted == "audio-gen: interrupted"
    seconds = soundfile.info(name).frames / RATE
    assert len(soundfile.read(name)[0]) == soundfile.info(name).frames
    assert abs(seconds - float(stopped.split()[2])) < 0.3
    assert call("generate", toy, "-o", name, "--seconds", seconds + 1, "--resume").code == 0
    assert call("generate", toy, "-o", f"whole-{name}", "--seconds", seconds + 1).code == 0
    assert Path(name).read_bytes() == Path(f"whole-{name}").read_bytes()


@posix
def test_terminating_where_ctrl_c_is_ignored(toy: Path) -> None:
    # As in the background of a script; children inherit it.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        process = start("generate", toy, "-o", "a.wav", "--seconds", "inf")
    finally:
        signal.signal(signal.SIGINT, before)
    with process:
        grown(Path("a.wav"), 20_000)
        process.send_signal(signal.SIGINT)
        grown(Path("a.wav"), Path("a.wav").stat().st_size + 20_000)
        process.send_signal(signal.SIGTERM)
        assert "--resume continues" in process.communicate(timeout=10)[1].decode()
    assert process.returncode == 130


@posix
def test_interrupting_a_pipe_promises_nothing(toy: Path) -> None:
    with start("generate", toy, "-o", "-", "--seconds", "inf", "--format", "raw") as process:
        assert process.stdout and process.stderr
        process.stdout.read(1000)
        process.send_signal(signal.SIGINT)
        process.stdout.read()
        errors = process.stderr.read().decode()
        assert process.wait(10) == 130
    assert re.fullmatch(r"stopped after [\d.]+ s of audio\naudio-gen: interrupted\n", errors)


def test_interrupting_prepare(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    patience = left = 0

    def interrupt(*seen: object) -> None:
        nonlocal left
        left -= 1
        if not left:
            raise KeyboardInterrupt

    monkeypatch.setattr(Live, "show", interrupt)
    assert call("prepare", recipe, "--run", "whole").code == 0
    while True:
        patience += 1
        left = patience
        called = call("prepare", recipe, "--run", "part")
        if called.code == 0:
            break
        assert called.code == 130 and called.output == b""
        assert called.errors == "stopped; the same command continues where it was\naudio-gen: interrupted\n"
    assert patience >= 2
    for name in ("tokens-00000.u16", "clips.jsonl"):
        assert Path("part/store", name).read_bytes() == Path("whole/store", name).read_bytes()


def test_interrupting_train(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    assert call("train", recipe, "--threads", 1, "--run", "whole", "-q").code == 0
    steps = 0

    def interrupt(*seen: object) -> None:
        nonlocal steps
        steps += 1
        if steps == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("audio_gen.cli.train._show", interrupt)
        called = call("train", recipe, "--threads", 1, "--run", "part")
    assert called.code == 130 and called.output == b""
    assert re.search(r"^stopped at step \d and saved; --resume continues\n", called.errors, re.MULTILINE)
    assert "Traceback" not in called.errors
    assert call("train", recipe, "--threads", 1, "--run", "part", "--resume", "-q").code == 0
    hashes = {load_checkpoint(f"{run}/model.safetensors").hash for run in ("whole", "part")}
    assert len(hashes) == 1


# Imports


def imported(*calls: tuple[object, ...]) -> set[str]:
    """Top-level packages that a process has imported after these calls."""
    script = (
        "import json, sys\n"
        "from audio_gen.cli import main\n"
        "for arguments in json.loads(sys.argv[1]):\n"
        "    sys.argv = ['audio-gen', *arguments]\n"
        "    try:\n"
        "        main()\n"
        "    except SystemExit as leaving:\n"
        "        assert leaving.code == 0, arguments\n"
        "print(*{name.partition('.')[0] for name in sys.modules}, file=sys.stderr)\n"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(audio_gen.__file__).parents[1])}
    told = subprocess.run(
        [sys.executable, "-c", script, json.dumps([[str(word) for word in call] for call in calls])],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert told.returncode == 0, told.stderr
    return set(told.stderr.splitlines()[-1].split())


HEAVY = {"numpy", "torch", "soundfile", "soxr", "librosa", "scipy", "PIL", "safetensors", "matplotlib"}


def test_help_imports_nothing_heavy() -> None:
    assert not imported(("--help",), ("--version",)) & (HEAVY | {"pydantic"})
    assert not imported(*((verb, "--help") for verb in VERBS)) & HEAVY  # typer itself may use pydantic here


def test_no_verb_but_training_imports_torch(toy: Path, recipe: Path) -> None:
    plain = ("--set", "controls.labels={}", "--set", "generate.0.labels={}")
    found = imported(
        ("models",),
        ("presets",),
        ("info", toy),
        ("generate", toy, "-o", "a.wav", "--seconds", 0.1),
        ("doctor", "recordings"),
        ("prepare", recipe),
        ("evaluate", toy, "recordings", "--only", "likelihood,calibration"),
        ("evaluate", toy, "runs/toy", "--split", "all", "--only", "likelihood"),
        ("batch", recipe, *plain, "--model", toy),
        ("page", "runs/toy"),
    )
    assert "audio_gen" in found and not found & {"torch", "torchaudio", "matplotlib", "librosa"}


def test_python_m(toy: Path) -> None:
    process = start("--version")
    output, errors = process.communicate()
    assert (process.returncode, output.decode(), errors) == (0, f"audio-gen {audio_gen.__version__}\n", b"")
    with start("generate", toy, "-o", "-", "--seconds", 0.3) as process:
        assert process.stdout
        with wave.open(process.stdout, "rb") as sound:  # type: ignore[arg-type]
            assert sound.getnframes() == round(0.3 * RATE)
            assert len(sound.readframes(10**9)) == 2 * sound.getnframes()


def test_run_says_before_the_training_what_it_could_not_render(tmp_path: Path) -> None:
    for take in range(4):
        soundfile.write(tmp_path / f"kick_{take}.wav", np.random.default_rng(take).normal(0, 0.1, 4000), 8000)
    recipe = tmp_path / "a.toml"
    recipe.write_text(
        f'[data]\nsource = "{tmp_path}"\npattern = "{{drum}}_{{take}}"\n[controls.labels.drum]\nfrom = "{{drum}}"\n'
        '[train]\nsteps = 1\n[[generate]]\nname = "a"\nlabels = { drum = "snare" }\n'
    )
    done = call("run", recipe, "--run", tmp_path / "run")
    assert done.code == 1 and "snare" in done.errors.splitlines()[-1]
    assert not (tmp_path / "run" / "model.safetensors").exists()
