"""Laws of starting, of stopping, and of the memory of a player."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from command_line import RATE, write_model
from networks import random_tensors
from numpy.typing import NDArray

import audio_gen
from audio_gen.checkpoint import Checkpoint
from audio_gen.codec import Codec
from audio_gen.sampler import Model
from audio_gen.sampler.render import render
from audio_gen.sampler.take import Take
from audio_gen.sampler.voices import Voices
from audio_gen.shape import NetworkShape

ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(audio_gen.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
posix = pytest.mark.skipif(sys.platform == "win32", reason="signals and counters of POSIX")
linux = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
AFTER = """
import os, re, sys
from audio_gen.cli import main
sys.argv = ["audio-gen", *sys.argv[1:]]
try:
    main()
except SystemExit as leaving:
    assert leaving.code == 0
sys.stderr.write(" ".join(name for name in sys.modules) + "\\n")
if os.path.exists("/proc/self/status"):
    sys.stderr.write(re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1] + "\\n")
"""


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "toy.safetensors")


def after(*arguments: object) -> list[str]:
    """What a process tells after the command: the modules it has imported, and its largest memory in KiB."""
    command = [sys.executable, "-c", AFTER, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, check=False)
    assert done.returncode == 0, done.stderr
    return done.stderr.splitlines()


def test_a_player_imports_only_what_it_plays_with(toy: Path, tmp_path: Path) -> None:
    """Each of these costs time before the first sample."""
    modules, *_ = after("generate", toy, "-q", "--seconds", 0.1, "-o", tmp_path / "a.wav")
    idle = {
        "soxr",
        "rich",
        "torch",
        "PIL",
        "scipy",
        "audio_gen.recipe",
        "audio_gen.data",
        "audio_gen.network",
    }
    assert "audio_gen.engine" in modules.split() and not idle & {*modules.split()}


@linux
def test_a_bundled_model_plays_in_a_hundred_megabytes(tmp_path: Path) -> None:
    *_, most = after("generate", "drums", "-q", "--seconds", 1, "-o", tmp_path / "a.wav")
    assert int(most) < 100 * 1024


@linux
@pytest.mark.slow
@pytest.mark.parametrize(("count", "long"), [(1, 3600), (3, 300)])
def test_an_hour_takes_the_memory_of_ten_seconds(toy: Path, tmp_path: Path, count: int, long: int) -> None:
    """Of the process at its largest, to within a megabyte of noise."""
    raw = ("--format", "raw", "-q", "-n", count, "--threads", count)
    outputs = [tmp_path / "short", tmp_path / "long"] if count > 1 else ["/dev/null"] * 2
    force = ("--force",) if count == 1 else ()
    brief, whole = (
        int(after("generate", toy, "--seconds", seconds, "-o", output, *raw, *force)[-1])
        for seconds, output in zip((10, long), outputs, strict=True)
    )
    if count > 1:
        assert (tmp_path / "long" / "000.raw").stat().st_size == 2 * long * RATE
    assert whole - brief < 1024


def test_ctrl_c_never_waits_for_more_than_50_ms_of_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine hears nothing while it works, so it works in short pieces, however large the network."""
    shape = NetworkShape(256, (30,), (128,), skip_channels=256, head_channels=256)
    model = Model(Checkpoint(shape, Codec(), 16_000, random_tensors(shape, 0), card={"name": "big"}))
    pieces: list[tuple[float, int]] = []
    really = Voices.next

    def timed(self: Voices, samples: int) -> NDArray[np.float32]:
        began = time.thread_time()
        waveform = really(self, samples)
        pieces.append((time.thread_time() - began, samples))
        return waveform

    monkeypatch.setattr(Voices, "next", timed)
    for count, seconds in ((1, 0.05), (4, 0.03)):
        pieces.clear()
        takes = [Take("big", model.checkpoint.hash, seconds, stream=stream) for stream in range(count)]
        render(model, takes, [tmp_path / f"{count}-{stream}.wav" for stream in range(count)])
        assert sum(samples for _, samples in pieces) == round(16_000 * seconds)
        assert max(work for work, _ in pieces) < 0.05


@posix
def test_ctrl_c_ends_a_stream_at_once(toy: Path) -> None:
    """What was made is there, and hardly anything more is made."""
    command = [sys.executable, "-m", "audio_gen", "generate", str(toy), "--seconds", "inf", "-q", "-o", "-"]
    with subprocess.Popen(
        [*command, "--format", "raw"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=ENVIRONMENT,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:
        assert process.stdout and process.stderr
        for _ in range(10):
            process.stdout.read(RATE)
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
        assert process.wait() == 130
    assert len(rest) < (1 << 16) + 2 * RATE  # what a pipe holds, and what one piece of work may add
