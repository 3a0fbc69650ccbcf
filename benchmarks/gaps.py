"""The time from one sample of a stream to the next, as it is inside the engine: tiers and the work done ahead make
some samples cost more than others. Measured by a library compiled from the same sources with a clock in it."""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from unittest import mock

import numpy as np

from audio_gen.engine import Engine, build
from audio_gen.engine.binding import load_library
from audio_gen.sampler import Draw

SAMPLES = 4096
PASSES = 5


@contextmanager
def clocked_library(folder: Path, *flags: str) -> Iterator[ctypes.CDLL]:
    """Engines made meanwhile can be asked when they draw; `flags` for the compiler."""
    path = folder / build.library_name()
    if not path.exists():
        clock = str(Path(__file__).with_name("gaps.h"))
        build.build(path, flags=["-D_GNU_SOURCE", "-include", clock, *flags])
    with mock.patch("audio_gen.engine.engine.library_path", lambda: path):
        yield load_library(path)


def measure(engine: Engine, library: ctypes.CDLL) -> dict[str, float | int]:
    """Gaps of a single stream in milliseconds: median, 99.9th percentile and worst; and the worst one's phase.

    What happens at a position is the same in every pass, so its least gap is its own, and what is above that is
    somebody else's (an interrupt, another process). "seen" is the worst of all, whoever's it was.
    """
    period = prod(engine.shape.pool)
    coins = np.random.default_rng(0).random((1, SAMPLES), np.float32)
    times = np.zeros(SAMPLES, np.int64)
    pointer = ctypes.c_void_p.in_dll(library, "sample_times")
    state = engine.start(np.zeros((1, 0), int))
    engine.sample(state, coins, Draw())
    passes = []
    try:
        for _ in range(PASSES):
            pointer.value = times.ctypes.data
            engine.sample(state.copy(), coins, Draw())
            passes.append(np.diff(times) / 1e6)
    finally:
        pointer.value = None
    gaps = np.min(passes, axis=0)
    worst = int(np.argmax(gaps))
    return {
        "median_ms": float(np.median(gaps)),
        "p999_ms": float(np.quantile(gaps, 0.999)),
        "worst_ms": float(gaps[worst]),
        "worst_phase": (worst + 1) % period,  # SAMPLES is a multiple of any period
        "period": period,
        "seen_ms": float(np.max(passes)),
    }
