"""Where the time of a sample goes: `taskset -c 1 python -m benchmarks.phases` writes benchmarks/ENGINE.md.

A library compiled from the same sources with a clock in it says which share of the time each phase takes; the clock
of processor time says how long a sample takes without it. Beside it stands what the same phase would take if it
did nothing but its multiply-accumulates at the speed they have in registers, and nothing but reading its weights.
"""

import argparse
import ctypes
import datetime
import sys
import tempfile
from pathlib import Path
from unittest import mock

import numpy as np
from numpy.typing import NDArray

from audio_gen.engine import Engine, build, limits
from audio_gen.engine.binding import load_library
from audio_gen.engine.pack import tensor_shapes
from audio_gen.sampler import Draw
from audio_gen.shape import NetworkShape
from benchmarks.networks import NETWORKS, compiled, random_tensors
from benchmarks.results import update_table

PAGE = Path(__file__).with_name("ENGINE.md")
MARKERS = ("<!-- phases:begin -->", "<!-- phases:end -->")
PHASES = {
    "gate": ".dilated.",
    "history": None,
    "skip": ".skip.",
    "residual": ".residual.",
    "between": (".down.", ".up."),
    "head": "head.",
    "draw": None,
}
"""In the order of phases.h: what is in the names of the weights that a phase multiplies."""
ROWS = [("tiny", 1), ("small", 1), ("base", 1), ("tiers-drums", 1), ("base", 8), ("base", 32)]
ROUNDS = 9


def macs(shape: NetworkShape, phase: str) -> float:
    """Multiply-accumulates of one sample in a phase."""
    total, words = 0.0, PHASES[phase]
    for name, size in tensor_shapes(shape).items():
        if words and name.endswith(".weight") and any(word in name for word in np.atleast_1d(words)):
            tier = int(name.split(".")[1]) if name.startswith("tiers.") else 0
            total += float(np.prod(size)) / shape.pooling[tier]
    return total


def measure(
    shares: ctypes.CDLL, engine: Engine, marked: Engine, precision: str, streams: int
) -> tuple[NDArray[np.float64], float, float]:
    """Nanoseconds of a sample in each phase (phases,), multiply-accumulates and bytes per second: medians over
    rounds that measure all of them."""
    coins = np.random.default_rng(0).random((streams, 4096 // streams), np.float32)
    times = (ctypes.c_int64 * (len(PHASES) + 2)).in_dll(shares, "phase_times")
    plain, clocked = (each.start(np.zeros((streams, 0), int)) for each in (engine, marked))
    size = max(size for _, size in limits.reading(engine.shape, precision))
    found, speeds = [], []
    for _ in range(ROUNDS + 1):
        for at in range(len(PHASES) + 1):
            times[at] = 0
        marked.sample(clocked, coins[:, :1], Draw())  # from here on the last mark is of this call
        before = np.array(times[: len(PHASES)])
        marked.sample(clocked, coins, Draw())
        ticks = (np.array(times[: len(PHASES)]) - before).astype(float)
        seconds = limits.processor_seconds(lambda: engine.sample(plain, coins, Draw()))
        found.append(ticks / ticks.sum() * seconds / coins.size * 1e9)
        speeds.append([limits.macs_per_second(precision, 200_000), limits.bytes_per_second(size, 1 << 25)])
    arithmetic, reading = np.median(speeds[1:], axis=0)
    return np.median(found[1:], axis=0), float(arithmetic), float(reading)


def table(precisions: list[str]) -> list[str]:
    """Markdown: a row per network, precision and number of streams; three numbers per phase."""
    lines = ["| network | precision | streams | ns per sample | " + " | ".join(PHASES) + " |"]
    lines.append("|---|---|---:|---:|" + "---:|" * len(PHASES))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / build.library_name()
        build.build(path, flags=["-include", str(Path(__file__).with_name("phases.h"))])
        for precision in precisions:
            for name, streams in ROWS:
                print(name, precision, streams, file=sys.stderr)
                shape = NETWORKS[name]
                tensors = random_tensors(shape)
                engine = compiled(shape, tensors, precision)
                with mock.patch("audio_gen.engine.engine.library_path", lambda: path):
                    marked, library = compiled(shape, tensors, precision), load_library(path)
                found, arithmetic, reading = measure(library, engine, marked, precision, streams)
                cells = [name, precision, str(streams), f"{found.sum():,.0f}"]
                for phase, time in zip(PHASES, found, strict=True):
                    work = macs(shape, phase)
                    least = work / arithmetic * 1e9
                    read = work * limits.BITS[precision] / 8 / streams / reading * 1e9
                    cells.append(f"{time:,.0f} ({least:,.0f}, {read:,.0f})" if work else f"{time:,.0f}")
                lines.append("| " + " | ".join(cells) + " |")
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--precisions", nargs="+", default=["fp32", "int8"], choices=limits.BITS)
    lines = table(parser.parse_args().precisions)
    head = f"{limits.hardware()}, {datetime.date.today().isoformat()}:"
    return update_table(
        PAGE, "\n".join([head, "", *lines]), "python -m benchmarks.phases", check=False, markers=MARKERS
    )


if __name__ == "__main__":
    sys.exit(main())
