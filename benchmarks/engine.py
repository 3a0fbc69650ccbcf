"""How fast the compiled engine is: `python -m benchmarks.engine`, on one core: `taskset -c 1`.

Rounds visit all rows by turns and measure the limits of the core beside them; shown are medians, with half the
distance between quartiles. The limits are the best ones seen in any round: "roof" is the speed of reading the
network's weights from where they lie, divided by the bytes that one sample needs if it reads every weight it
uses once; "FMA peak" the speed of multiply-accumulates in registers.
"""

import argparse
import ctypes
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from audio_gen.engine import Engine
from audio_gen.engine.build import find_compiler
from audio_gen.engine.pack import aligned, pack, tensor_shapes
from audio_gen.sampler import Draw
from audio_gen.shape import NetworkShape

NETWORKS = {
    "tiny": NetworkShape(256, (20,), (32,), skip_channels=64, head_channels=64),
    "small": NetworkShape(256, (20,), (64,), skip_channels=128, head_channels=128),
    "base": NetworkShape(256, (30,), (64,), skip_channels=256, head_channels=256),
    "large": NetworkShape(256, (30,), (128,), skip_channels=256, head_channels=256),
    "tiers": NetworkShape(256, (4, 6, 7), (64, 128, 256), (4, 4), head_channels=256),
    "tiers-4": NetworkShape(256, (4, 6, 7, 7), (64, 96, 160, 192), (4, 4, 4), head_channels=256),
}
"""The classic shapes (layers, residual, skip channels) and the tiered ones."""


class Limits:
    """The core's measured limits."""

    def __init__(self, folder: Path) -> None:
        compiler = find_compiler()
        assert compiler is not None
        target = folder / "limits.so"
        source = Path(__file__).with_name("limits.c")
        flags = ["-O3", "-march=native", "-mprefer-vector-width=512", "-funroll-loops", "-shared", "-fPIC"]
        subprocess.run([*compiler, *flags, str(source), "-o", str(target)], check=True)
        self._library = ctypes.CDLL(str(target))
        self._library.read_stream.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int32]
        self._library.multiply_accumulate.argtypes = [ctypes.c_int64]

    def bytes_per_second(self, data: NDArray[np.float32]) -> float:
        """Reading `data` again and again."""
        repeats = max(2, int(2e8 // data.nbytes))
        self._library.read_stream(data.ctypes.data, data.size // 128 * 128, 1)
        seconds = _timed(lambda: self._library.read_stream(data.ctypes.data, data.size // 128 * 128, repeats))
        return data.nbytes * repeats / seconds

    def macs_per_second(self) -> float:
        """Fused multiply-accumulates of floats."""
        repeats = 3_000_000
        return (
            16 * self._library.lanes() * repeats / _timed(lambda: self._library.multiply_accumulate(repeats))
        )


@dataclass
class Row:
    """One network, instruction set and number of streams."""

    name: str
    engine: Engine
    streams: int
    weights: NDArray[np.float32]
    bytes_per_sample: float
    macs_per_sample: float
    prime: bool = False
    speeds: list[float] = field(default_factory=list)
    roofs: list[float] = field(default_factory=list)
    peaks: list[float] = field(default_factory=list)

    def measure(self, seconds: float) -> float:
        """Samples per second, over all streams."""
        state = self.engine.start(np.zeros((self.streams, 0), int))
        generator = np.random.default_rng(0)
        steps = 64 if not self.speeds else max(16, int(self.speeds[-1] * seconds / self.streams))
        coins = generator.random((self.streams, steps), np.float32)
        tokens = generator.integers(0, 256, coins.shape).astype(np.uint16)

        def work() -> None:
            if self.prime:
                self.engine.prime(state, tokens)
            else:
                self.engine.sample(state, coins, Draw())

        work()
        return coins.size / _timed(work)


def _timed(work: Callable[[], object]) -> float:
    """Seconds of processor time that `work` takes in this thread: other processes' turns do not count."""
    start = time.thread_time()
    work()
    return time.thread_time() - start


def random_tensors(shape: NetworkShape) -> dict[str, NDArray[np.float32]]:
    generator = np.random.default_rng(0)
    return {
        name: (generator.standard_normal(size) / np.sqrt(size[-1])).astype(np.float32)
        for name, size in tensor_shapes(shape).items()
    }


def _text(values: list[float], scale: float = 1.0, digits: int = 1) -> str:
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75]) * scale
    return f"{middle:.{digits}f} ± {(high - low) / 2:.{digits}f}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=NETWORKS)
    parser.add_argument("--streams", nargs="+", type=int, default=[1])
    parser.add_argument("--isas", nargs="+", default=[""], help="instruction sets; default: the best one")
    parser.add_argument("--prime", action="store_true", help="measure feeding known tokens as well")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.1, help="per row and round")
    arguments = parser.parse_args()
    rows = []
    for name in arguments.networks:
        shape = NETWORKS[name]
        tensors = random_tensors(shape)
        weights = aligned(pack(shape, tensors).size // 128 * 128)
        for isa in arguments.isas:
            engine = Engine(shape, tensors, isa=isa or None)
            for streams in arguments.streams:
                for prime in [False, True] if arguments.prime else [False]:
                    sizes = weights, 4.0 * shape.macs_per_sample, shape.macs_per_sample
                    rows.append(Row(name, engine, streams, *sizes, prime))
    with tempfile.TemporaryDirectory() as folder:
        limits = Limits(Path(folder))
        for row in [*rows, *rows]:  # to learn how many samples fit the time
            row.speeds.append(row.measure(arguments.seconds))
        for _ in range(arguments.rounds):
            for row in rows:
                row.speeds.append(row.measure(arguments.seconds))
                row.roofs.append(limits.bytes_per_second(row.weights) / row.bytes_per_sample)
                row.peaks.append(limits.macs_per_second())
        for row in rows:
            del row.speeds[:2]
    heads = ["1000 samples/s", "% of roof", "% of FMA peak"]
    lines = [f"{'network':8} {'isa':9} {'streams':>7} {'':6} {heads[0]:>18} {heads[1]:>14} {heads[2]:>14}"]
    peak = max(peak for row in rows for peak in row.peaks)
    for row in rows:
        roof = max(other for row_ in rows if row_.name == row.name for other in row_.roofs)
        lines.append(
            f"{row.name:8} {row.engine.isa:9} {row.streams:7} {'prime' if row.prime else 'sample':6} "
            f"{_text(row.speeds, 1e-3, 2):>18} {_text(row.speeds, 100 / roof):>14} "
            f"{_text(row.speeds, 100 * row.macs_per_sample / peak):>14}"
        )
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
