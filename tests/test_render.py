"""Takes to files: interruption, order, company and form change nothing."""

import io
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from command_line import RATE, call, write_model

import audio_gen
from audio_gen.audio import read_tags
from audio_gen.errors import OutputError, SettingError
from audio_gen.sampler import Draw, load
from audio_gen.sampler.render import render, samples_in
from audio_gen.sampler.take import Take
from audio_gen.sampler.voices import Voices

KINDS = [(256, 0.0), (256, 0.85), (512, 0.0), (1024, 0.0), (1024, 0.95)]
SETTINGS = ("--label", "drum=kick", "--seed", "3")
forks = pytest.mark.skipif(sys.platform == "win32", reason="kills forks")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[int, float], Path]:
    folder = tmp_path_factory.mktemp("models")
    return {
        (levels, emphasis): write_model(
            folder / f"toy-{levels}-{emphasis}.safetensors", levels=levels, pre_emphasis=emphasis
        )
        for levels, emphasis in KINDS
    }


@pytest.fixture(scope="module")
def toy(models: dict[tuple[int, float], Path]) -> Path:
    return models[256, 0.0]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    yield


def generate(*arguments: object) -> None:
    called = call("generate", *arguments)
    assert called.code == 0, called.errors


def take(model: audio_gen.Model, seconds: float, stream: int = 0, **others: object) -> Take:
    return Take(model.name, model.checkpoint.hash, seconds, stream=stream, **others)  # type: ignore[arg-type]


# Interruption


@pytest.mark.parametrize(("levels", "emphasis"), KINDS)
@pytest.mark.parametrize("suffix", ["wav", "flac"])
@pytest.mark.parametrize("stops", [(1,), (399, 400, 4097, 7001)])
def test_a_file_extended_is_the_file_made_at_once(
    models: dict[tuple[int, float], Path], levels: int, emphasis: float, suffix: str, stops: tuple[int, ...]
) -> None:
    model = models[levels, emphasis]
    name = f"part.{suffix}"
    for samples in stops:
        generate(model, *SETTINGS, "-o", name, "--seconds", samples / RATE, "--resume")
        assert samples_in(name) == samples
    generate(model, *SETTINGS, "-o", name, "--seconds", 2.1, "--resume")
    generate(model, *SETTINGS, "-o", f"whole.{suffix}", "--seconds", 2.1)
    assert Path(name).read_bytes() == Path(f"whole.{suffix}").read_bytes()
    assert np.unique(soundfile.read(name)[0]).size > 50  # it is not about silence


@pytest.mark.parametrize(("levels", "emphasis"), [(256, 0.0), (1024, 0.85)])
def test_clips_at_different_positions_end_alike(
    models: dict[tuple[int, float], Path], levels: int, emphasis: float
) -> None:
    model = load(models.get((levels, emphasis)) or models[1024, 0.95])
    for stream, seconds in ((0, 1.0), (2, 0.3), (3, 2.0)):  # 1 is not there yet, 3 is complete
        render(model, [take(model, seconds, stream)], [f"{stream}.wav"])
    untouched = Path("3.wav").stat().st_mtime_ns
    made: list[int] = []
    takes = [take(model, 2.0, stream) for stream in range(4)]
    render(model, takes, [f"{stream}.wav" for stream in range(4)], resume=True, progress=made.append)
    assert sum(made) == round((1.0 + 2.0 + 1.7) * RATE)
    assert Path("3.wav").stat().st_mtime_ns == untouched
    render(model, takes, [f"whole{stream}.wav" for stream in range(4)])
    for stream in range(4):
        assert Path(f"{stream}.wav").read_bytes() == Path(f"whole{stream}.wav").read_bytes()


def test_endless_clips_keep_together(toy: Path) -> None:
    model = load(toy)
    render(model, [take(model, 0.5)], ["0.wav"])
    made = 0

    def stop(samples: int) -> None:
        nonlocal made
        made += samples
        if made > 4 * RATE:
            raise KeyboardInterrupt

    takes = [take(model, None, stream) for stream in range(2)]  # type: ignore[arg-type]
    with pytest.raises(KeyboardInterrupt):
        render(model, takes, ["0.wav", "1.wav"], resume=True, progress=stop)
    assert abs(samples_in("0.wav") - samples_in("1.wav")) <= RATE // 10
    assert samples_in("0.wav") > 1.5 * RATE


@pytest.mark.parametrize(("levels", "emphasis"), KINDS)
@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_what_the_file_keeps_is_not_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, levels: int, emphasis: float, suffix: str
) -> None:
    model = write_model(tmp_path / "quiet.safetensors", levels=levels, pre_emphasis=emphasis, quiet=True)
    made: list[int] = []
    really = Voices.next
    monkeypatch.setattr(Voices, "next", lambda self, samples: made.append(samples) or really(self, samples))
    generate(model, "-o", f"whole.{suffix}", "--seconds", 3)
    assert 0.01 < np.abs(soundfile.read(f"whole.{suffix}")[0]).max() < 0.99  # nothing is clipped
    for stop in (1, 2, 50, 4097, 11_999):
        generate(model, "-o", f"{stop}.{suffix}", "--seconds", stop / RATE)
        made.clear()
        generate(model, "-o", f"{stop}.{suffix}", "--seconds", 3, "--resume")
        assert sum(made) == 3 * RATE - stop
        assert Path(f"{stop}.{suffix}").read_bytes() == Path(f"whole.{suffix}").read_bytes()


def test_clipped_samples_do_not_mislead_the_rest(tmp_path: Path) -> None:
    loud = write_model(tmp_path / "loud.safetensors", pre_emphasis=0.95)
    generate(loud, "--temperature", 8, "-o", "whole.wav", "--seconds", 2)
    assert np.abs(soundfile.read("whole.wav")[0]).max() > 0.99
    generate(loud, "--temperature", 8, "-o", "part.wav", "--seconds", 0.7)
    generate(loud, "--temperature", 8, "-o", "part.wav", "--seconds", 2, "--resume")
    assert Path("part.wav").read_bytes() == Path("whole.wav").read_bytes()


@forks
@pytest.mark.parametrize(
    ("kind", "suffix", "count"),
    [((256, 0.0), "wav", 1), ((1024, 0.0), "flac", 1), ((256, 0.85), "flac", 1), ((1024, 0.0), "wav", 3)],
)
def test_kills_change_nothing(
    models: dict[tuple[int, float], Path], kind: tuple[int, float], suffix: str, count: int
) -> None:
    kill_and_compare(models[kind], suffix, count, kills=4, seconds=20)


@forks
@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("suffix", ["wav", "flac"])
@pytest.mark.parametrize("count", [1, 3])
def test_twenty_kills_change_nothing(
    models: dict[tuple[int, float], Path], kind: tuple[int, float], suffix: str, count: int
) -> None:
    kill_and_compare(models[kind], suffix, count, kills=20, seconds=60)


def kill_and_compare(model: Path, suffix: str, count: int, kills: int, seconds: float) -> None:
    kind = ("-n", count, "--format", suffix) if count > 1 else ()
    where = ("killed", "whole") if count > 1 else (f"killed/0.{suffix}", f"whole/0.{suffix}")
    settings = (model, *SETTINGS, "--seconds", seconds, *kind)
    began = os.times().elapsed
    generate(*settings, "-o", where[1])
    longest = 1.5 * (os.times().elapsed - began) / kills
    script = Path(__file__).with_name("generation_kills.py")
    told = subprocess.run(
        [sys.executable, script, str(kills), "9", str(longest), "killed", "generate"]
        + [str(word) for word in (*settings, "-o", where[0], "--resume", "-q")],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        timeout=600,
        check=False,
    )
    assert told.returncode == 0, told.stderr
    assert 0 < int(told.stdout.split()[-1]) <= kills
    names = sorted(path.name for path in Path("whole").iterdir())
    assert sorted(path.name for path in Path("killed").iterdir()) == names
    for name in names:
        assert (Path("killed") / name).read_bytes() == (Path("whole") / name).read_bytes()


# What is resumed


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (("--seed", "4"), "seed 3, now 4"),
        (("--label", "velocity=2"), "labels drum=kick, now drum=kick, velocity=2"),
        (("--temperature", "0.9"), "temperature"),
        (("--top-k", "5"), "top_k"),
        (("--bits", "24"), "16 bits"),
    ],
)
def test_other_settings_are_not_resumed(toy: Path, changed: tuple[str, ...], words: str) -> None:
    generate(toy, *SETTINGS, "-o", "a.wav", "--seconds", 0.2)
    before = Path("a.wav").read_bytes()
    called = call("generate", toy, *SETTINGS, *changed, "-o", "a.wav", "--seconds", 1, "--resume")
    assert called.code == 1 and words in called.errors and called.errors.count("\n") == 1
    assert Path("a.wav").read_bytes() == before
    assert list(Path().iterdir()) == [Path("a.wav")]


def test_another_model_is_not_resumed(models: dict[tuple[int, float], Path]) -> None:
    generate(models[256, 0.0], "-o", "a.wav", "--seconds", 0.2)
    called = call("generate", models[512, 0.0], "-o", "a.wav", "--seconds", 1, "--resume")
    assert called.code == 1 and "another model" in called.errors


def test_files_of_others_are_not_resumed(toy: Path) -> None:
    soundfile.write("a.wav", np.zeros(100), RATE)
    Path("b.wav").write_text("hello")
    Path("c.wav").write_bytes(b"")
    for name in ("a.wav", "b.wav", "c.wav"):
        before = Path(name).read_bytes()
        called = call("generate", toy, "-o", name, "--resume")
        assert called.code == 1 and called.errors.startswith(f"audio-gen: error: {name}:"), called.errors
        assert Path(name).read_bytes() == before


def test_what_cannot_be_resumed_says_so(models: dict[tuple[int, float], Path], toy: Path) -> None:
    generate(models[1024, 0.0], "-o", "coarse.wav", "--bits", 16, "--seconds", 0.1)
    refused = call("generate", models[1024, 0.0], "-o", "coarse.wav", "--bits", 16, "--resume")
    assert refused.code == 1 and "--bits 24" in refused.errors
    generate(toy, "-o", "a.raw", "--seconds", 0.1)
    assert "only WAV and FLAC" in call("generate", toy, "-o", "a.raw", "--resume").errors
    assert "give a file" in call("generate", toy, "-o", "-", "--resume").errors
    assert call("generate", toy, "-o", "a.wav", "--resume", "--force").code == 2


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_a_complete_file_is_left_alone(toy: Path, suffix: str) -> None:
    name = f"a.{suffix}"
    generate(toy, "-o", name, "--seconds", 0.5)
    before = written(Path(name))
    for seconds in (0.5, 0.2):
        called = call("generate", toy, "-o", name, "--seconds", seconds, "--resume")
        assert called.code == 0 and called.text == f"{name}\n"
        assert "complete already, 0.50 s" in called.errors
        assert written(Path(name)) == before


def written(path: Path) -> tuple[int, int, int]:
    """What changes when a file is written to or replaced; reading it may change the rest of what is known of it."""
    known = path.stat()
    return known.st_ino, known.st_size, known.st_mtime_ns


def test_resuming_nothing_starts_afresh(toy: Path) -> None:
    generate(toy, "-o", "a.wav", "--seconds", 0.2, "--resume")
    generate(toy, "-o", "b.wav", "--seconds", 0.2)
    assert Path("a.wav").read_bytes() == Path("b.wav").read_bytes()


def test_a_changed_curve_is_another_take(tmp_path: Path) -> None:
    steered = write_model(tmp_path / "steered.safetensors", curves=("loudness",))
    Path("fall.csv").write_text("0,-10\n1,-40\n")
    generate(steered, "--curve", "loudness=fall.csv", "-o", "a.wav", "--seconds", 0.2)
    shutil.copy("a.wav", "part.wav")
    generate(steered, "--curve", "loudness=fall.csv", "-o", "part.wav", "--seconds", 1, "--resume")
    generate(steered, "--curve", "loudness=fall.csv", "-o", "whole.wav", "--seconds", 1)
    assert Path("part.wav").read_bytes() == Path("whole.wav").read_bytes()
    Path("fall.csv").write_text("0,-10\n1,-30\n")
    called = call(
        "generate", steered, "--curve", "loudness=fall.csv", "-o", "a.wav", "--seconds", 1, "--resume"
    )
    assert called.code == 1 and "curves" in called.errors


def test_each_take_may_have_curves_of_its_own(tmp_path: Path) -> None:
    """Whatever their lengths, side by side or alone, stopped or not; beyond its end a curve stays as it was."""
    model = load(write_model(tmp_path / "steered.safetensors", curves=("loudness",)))
    dice = np.random.default_rng(1)
    curves = [dice.uniform(-1, 1, (frames, 1)).astype(np.float32) for frames in (3, 17, 9)]
    takes = [take(model, seconds, seed=4) for seconds in (0.5, 1.0, 0.7)]
    names = [f"{number}.wav" for number in range(3)]
    render(model, [replace(each, seconds=0.3) for each in takes], names, curves=curves)
    render(model, takes, names, curves=curves, resume=True)
    for number, each in enumerate(takes):
        render(model, [each], ["alone.wav"], curves=curves[number], force=True)
        assert Path("alone.wav").read_bytes() == Path(names[number]).read_bytes()
    assert len({Path(name).read_bytes()[:4000] for name in names}) == 3
    listed = model.generate([0.5, 1.0, 0.7], seed=4, stream=[0, 0, 0], curves=curves)
    assert np.array_equal(listed[2], model.generate(0.7, seed=4, curves=curves[2]))
    with pytest.raises(SettingError, match="2 for 3"):
        model.generate([0.5, 1.0, 0.7], curves=curves[:2])


# Company, chunks and forms


@pytest.mark.parametrize("kind", [(256, 0.0), (1024, 0.95)])
def test_clips_do_not_depend_on_company(
    models: dict[tuple[int, float], Path], kind: tuple[int, float]
) -> None:
    model = load(models[kind])
    generate(models[kind], *SETTINGS, "-n", 3, "-o", "trio", "--seconds", 0.7, "--threads", 2)
    for stream in range(3):
        alone = take(model, 0.7, stream, labels={"drum": "kick"}, seed=3)
        render(model, [alone], [f"{stream}.wav"])
        assert Path(f"{stream}.wav").read_bytes() == Path(f"trio/{stream:03}.wav").read_bytes()
    assert len({path.read_bytes() for path in Path("trio").iterdir()}) == 3


@pytest.mark.parametrize("kind", [(256, 0.0), (1024, 0.95)])
def test_clips_of_one_batch_may_differ_in_everything(
    models: dict[tuple[int, float], Path], kind: tuple[int, float]
) -> None:
    """Each file is finished when its take ends, whoever is still playing; stopped ones go on where they were."""
    model = load(models[kind])
    takes = [
        take(model, 0.7, 0, labels={"drum": "kick"}, seed=3),
        take(model, 0.2, 5, labels={"drum": "hat"}, seed=4, draw=Draw(0.8)),
        take(model, 0.45, 0, seed=3, draw=Draw(top_k=20)),
        take(model, 0.7, 1, labels={"drum": "kick"}, seed=2**40),
    ]
    for number, one in enumerate(takes):
        render(model, [one], [f"{number}.wav"])
    render(model, takes, [f"together{number}.wav" for number in range(4)])
    for stream, seconds in ((0, 0.3), (3, 0.5)):
        render(model, [replace(takes[stream], seconds=seconds)], [f"resumed{stream}.wav"])
    render(model, takes, [f"resumed{number}.wav" for number in range(4)], resume=True)
    for number in range(4):
        whole = Path(f"{number}.wav").read_bytes()
        assert (
            whole == Path(f"together{number}.wav").read_bytes() == Path(f"resumed{number}.wav").read_bytes()
        )


def test_more_clips_than_rows(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generate(toy, "-n", 5, "-o", "many", "--seconds", 0.2)
    monkeypatch.setattr("audio_gen.sampler.render.ROWS", 2)
    generate(toy, "-n", 5, "-o", "few", "--seconds", 0.2)
    for number in range(5):
        assert Path(f"many/{number:03}.wav").read_bytes() == Path(f"few/{number:03}.wav").read_bytes()


@pytest.mark.parametrize("kind", KINDS)
def test_chunks_do_not_matter(
    models: dict[tuple[int, float], Path], kind: tuple[int, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    generate(models[kind], "-o", "a.wav", "--seconds", 1)
    monkeypatch.setattr("audio_gen.sampler.render.CHUNK_SECONDS", 0.0313)
    generate(models[kind], "-o", "b.wav", "--seconds", 1)
    assert Path("a.wav").read_bytes() == Path("b.wav").read_bytes()


@pytest.mark.parametrize("suffix", ["wav", "flac"])
@pytest.mark.parametrize("bits", [16, 24])
def test_a_pipe_gets_what_a_file_gets(toy: Path, suffix: str, bits: int) -> None:
    piped = call("generate", toy, "-o", "-", "--format", suffix, "--bits", bits, "--seconds", 0.6)
    assert piped.code == 0
    generate(toy, "-o", f"a.{suffix}", "--bits", bits, "--seconds", 0.6)
    sound, rate = soundfile.read(io.BytesIO(piped.output))
    assert rate == RATE and len(sound) == round(0.6 * RATE)
    assert (sound == soundfile.read(f"a.{suffix}")[0]).all()
    assert soundfile.info(f"a.{suffix}").subtype == f"PCM_{bits}"


def test_raw_samples(toy: Path) -> None:
    piped = call("generate", toy, "-o", "-", "--format", "raw", "--seconds", 0.5)
    generate(toy, "-o", "a.raw", "--seconds", 0.5)
    generate(toy, "-o", "a.wav", "--seconds", 0.5)
    whole, _ = soundfile.read("a.wav", dtype="int16")
    assert (np.frombuffer(piped.output, "<i2") == whole).all()
    assert Path("a.raw").read_bytes() == piped.output


def test_floats_hold_what_the_model_made(toy: Path) -> None:
    generate(toy, *SETTINGS, "-o", "a.wav", "--bits", 32, "--seconds", 0.5)
    sound, _ = soundfile.read("a.wav", dtype="float32")
    assert (sound == load(toy).generate(0.5, labels={"drum": "kick"}, seed=3)).all()


def test_the_format_beats_the_suffix(toy: Path) -> None:
    generate(toy, "-o", "a.wav", "--format", "flac", "--seconds", 0.1)
    assert soundfile.info("a.wav").format == "FLAC"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), ["toy-seed0.wav"]),
        (("--format", "flac", "--seed", 5), ["toy-seed5.flac"]),
        (("--label", "drum=hat", "--label", "velocity=2"), ["toy-hat-2-seed0.wav"]),
        (
            ("-n", 2, "--label", "drum=hat"),
            ["toy-hat-seed0/000.wav", "toy-hat-seed0/001.wav"],
        ),
        (("-n", 2, "-o", "x", "--format", "flac"), ["x/000.flac", "x/001.flac"]),
        (("-o", "new/folder/a.wav"), ["new/folder/a.wav"]),
    ],
)
def test_names(toy: Path, arguments: tuple[object, ...], expected: list[str]) -> None:
    called = call("generate", toy, "--seconds", 0.1, *arguments)
    assert called.code == 0, called.errors
    assert called.text.splitlines() == [str(Path(name)) for name in expected]
    assert sorted(path.as_posix() for path in Path().rglob("*.*") if path.is_file()) == sorted(expected)


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_tags_say_how_it_was_made(toy: Path, suffix: str) -> None:
    name = f"a.{suffix}"
    generate(
        toy, *SETTINGS, "--temperature", 0.9, "--top-k", 7, "--min-p", 0.01, "-o", name, "--seconds", 0.3
    )
    tags = read_tags(name)
    assert audio_gen.__version__ in tags["software"] and audio_gen.__version__ in tags["comment"]
    made = Take.from_tags(tags, name)
    model = load(toy)
    assert made == Take("toy", model.checkpoint.hash, 0.3, {"drum": "kick"}, 3, 0, Draw(0.9, 7, 1.0, 0.01))
    again = model.generate(0.3, labels=made.labels, seed=made.seed, **vars(made.draw))
    assert (again * 2**15).round().clip(max=2**15 - 1).tolist() == soundfile.read(name, dtype="int16")[
        0
    ].tolist()


@pytest.mark.parametrize(
    "comment", ["", "5", "[]", '"x"', "{}", '{"version": "1"}', '{"version": "1", "draw": 3}']
)
def test_tags_of_others(comment: str) -> None:
    with pytest.raises(OutputError, match="not made by audio-gen"):
        Take.from_tags({"comment": comment}, "a.wav")


# Nothing half-written


@pytest.mark.parametrize(
    "arguments",
    [
        ("--label", "drum=gong"),
        ("--label", "dum=kick"),
        ("--label", "kick"),
        ("--seed", 2**63),
        ("--seconds", 0),
        ("--seconds", "nan"),
        ("--temperature", 11),
        ("--top-p", 0),
        ("--bits", 8),
        ("--format", "flac", "--bits", 32),
        ("--curve", "loudness=-20"),
    ],
)
@pytest.mark.parametrize("count", [1, 2])
def test_refused_settings_leave_nothing(toy: Path, arguments: tuple[object, ...], count: int) -> None:
    called = call("generate", toy, *arguments, "-n", count)
    assert called.code in (1, 2)
    assert called.errors.startswith("audio-gen: error: ") and called.errors.count("\n") == 1
    assert not list(Path().iterdir())


def test_one_file_in_the_way_stops_all(toy: Path) -> None:
    Path("x").mkdir()
    Path("x/002.wav").write_bytes(b"precious")
    called = call("generate", toy, "-n", 3, "-o", "x")
    assert called.code == 1 and "x/002.wav: exists; use --force" in called.errors.replace(os.sep, "/")
    assert [path.name for path in Path("x").iterdir()] == ["002.wav"]
    assert Path("x/002.wav").read_bytes() == b"precious"
    generate(toy, "-n", 3, "-o", "x", "--force", "--seconds", 0.1)
    assert soundfile.info("x/002.wav").frames == RATE // 10
