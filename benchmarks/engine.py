"""How fast the compiled engine is, on one core: `taskset -c 1 python -m benchmarks.engine --save FILE`.

Every network, precision and number of streams, and two PyTorch steps of the same networks, visited by turns in one
process, the limits of the core measured beside them. Shown are medians of processor time; "±" is half the distance
between quartiles. What can be reached at most is the smaller one of

    reading:      the weights that one sample multiplies, each read once for all streams, at the speed of reading
                  as many bytes as compete for the cache with them;
    arithmetic:   the multiply-accumulates of one sample, at the speed of that precision's in registers.

A single stream may pass the first one, since what is known of later samples is worked out for several at once.
Then the accuracy of every precision (against the PyTorch network in float64), and the gaps between the samples of
a single stream. `--quick` visits fewer rows, fewer times.
"""

import argparse
import datetime
import json
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from audio_gen import __version__
from audio_gen.engine import Engine, limits
from audio_gen.engine.limits import processor_seconds, reading
from audio_gen.sampler import Draw
from audio_gen.shape import NetworkShape
from benchmarks.gaps import clocked_library
from benchmarks.gaps import measure as measure_gaps
from benchmarks.networks import (
    NETWORKS,
    Tensors,
    compiled,
    errors,
    random_tensors,
    random_tokens,
    reference_logits,
)
from benchmarks.peers import LeanStep, ModuleStep, Step

PEERS: dict[str, type[Step]] = {"modules": ModuleStep, "lean": LeanStep}
STREAMS = [1, 2, 4, 8, 16, 32]
CHECKED = 1500
MOST = 1 << 17
"""Steps in one go."""
"""Samples whose logits are compared."""


@dataclass
class Row:
    """Something that makes samples."""

    network: str
    kind: str
    """A precision, or a PyTorch step."""
    streams: int
    make: Callable[[int], object]
    """Makes so many samples of every stream."""
    speeds: list[float] = field(default_factory=list)
    """Samples per second, over all streams."""

    def measure(self, seconds: float) -> None:
        steps = (
            min(MOST, max(16, int(statistics.median(self.speeds) * seconds / self.streams)))
            if self.speeds
            else 64
        )
        self.make(max(8, steps // 4))
        self.speeds.append(steps * self.streams / processor_seconds(lambda: self.make(steps)))


def engine_row(name: str, precision: str, engine: Engine, streams: int) -> Row:
    state = engine.start(np.zeros((streams, 0), int))

    def make(steps: int) -> None:
        assert steps <= MOST, "fewer steps than the row would be counted for"
        engine.sample(state, tossed(streams)[:, :steps], Draw())

    return Row(name, precision, streams, make)


@cache
def tossed(streams: int) -> NDArray[np.float32]:
    """Coins (streams, MOST)."""
    return np.random.default_rng(0).random((streams, MOST), np.float32)


def peer_row(name: str, kind: str, step: Step) -> Row:
    coins = np.random.default_rng(0).random(1 << 16).tolist()

    def make(steps: int) -> None:
        for coin in coins[:steps]:
            step.draw(coin)

    return Row(name, kind, 1, make)


def accuracy(
    shape: NetworkShape, tensors: Tensors, engines: dict[str, Engine], peers: dict[str, Step]
) -> dict[str, Any]:
    """Errors of every precision; and that the PyTorch steps compute this network at all."""
    tokens = random_tokens(shape, 1, CHECKED)
    reference = reference_logits(shape, tensors, tokens)
    for kind, step in peers.items():
        for time in range(100):
            before = step.feed(int(tokens[0, time]))
            if (worst := np.abs(before.numpy() - reference[time]).max()) > 1e-3:
                raise SystemExit(f"{kind}: logits of sample {time} are {worst:g} off; not the same network")
    return {
        precision: errors(engine.logits(engine.start(np.zeros((1, 0), int)), tokens)[0], reference)
        for precision, engine in engines.items()
    }


def measure(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Everything, as plain JSON types."""
    rows: list[Row] = []
    found: dict[str, Any] = {}
    isa = ""
    for name in arguments.networks:
        tell(f"preparing {name}")
        shape = NETWORKS[name]
        tensors = random_tensors(shape)
        engines = {precision: compiled(shape, tensors, precision) for precision in arguments.precisions}
        peers = {kind: step(shape, tensors) for kind, step in PEERS.items()}
        found[name] = {
            "shape": shape.to_dict(),
            "macs_per_sample": round(shape.macs_per_sample),
            "errors": accuracy(shape, tensors, engines, peers),
            "gaps": {},
        }
        for precision, engine in engines.items():
            isa = engine.isa
            rows += [engine_row(name, precision, engine, streams) for streams in arguments.streams]
        rows += [peer_row(name, kind, step) for kind, step in peers.items()]
        with clocked_library(folder) as library:
            for precision in arguments.precisions:
                engine = compiled(shape, tensors, precision)
                found[name]["gaps"][precision] = measure_gaps(engine, library)
    speeds, arithmetic = visit(rows, arguments)
    return {
        "version": 1,
        "audio_gen": __version__,
        "hardware": limits.hardware(),
        "date": datetime.date.today().isoformat(),
        "quick": arguments.quick,
        "isa": isa,
        "torch": torch.__version__,
        "limits": {
            "multiply_accumulates_per_second": {kind: round(best) for kind, best in arithmetic.items()},
            "bytes_per_second": {size: round(best) for size, best in sorted(speeds.items())},
        },
        "networks": found,
        "rows": [describe(row, rows, speeds, arithmetic) for row in rows],
    }


def visit(rows: list[Row], arguments: argparse.Namespace) -> tuple[dict[int, float], dict[str, float]]:
    """Measure all rows by turns, and between them the limits: the best bytes/s by footprint and MAC/s by precision."""
    sizes = {
        size: 0.0
        for name in arguments.networks
        for precision in arguments.precisions
        for _, size in reading(NETWORKS[name], precision)
    }
    arithmetic = dict.fromkeys(arguments.precisions, 0.0)
    for row in [*rows, *rows]:  # to learn how many samples fit the time
        row.measure(arguments.seconds / 4)
    for row in rows:
        row.speeds = row.speeds[-1:]
    for number in range(arguments.rounds):
        tell(f"round {number + 1} of {arguments.rounds}")
        for name in arguments.networks:
            for row in rows:
                if row.network == name:
                    row.measure(arguments.seconds)
            for precision in arguments.precisions:
                arithmetic[precision] = max(arithmetic[precision], limits.macs_per_second(precision))
        for size in sizes:
            sizes[size] = max(sizes[size], limits.bytes_per_second(size))
    for row in rows:
        del row.speeds[0]
    return sizes, arithmetic


def describe(
    row: Row, rows: list[Row], speeds: dict[int, float], arithmetic: dict[str, float]
) -> dict[str, Any]:
    """What is kept of a row."""
    low, middle, high = np.quantile(row.speeds, [0.25, 0.5, 0.75])
    plain = {"network": row.network, "kind": row.kind, "streams": row.streams}
    plain |= {"samples_per_second": round(middle, 1), "spread": round((high - low) / 2, 1)}
    if row.kind in PEERS:
        return plain
    shape = NETWORKS[row.network]
    seconds = sum(needed / speeds[size] for needed, size in reading(shape, row.kind))
    plain |= {
        "of_reading": round(middle * seconds / row.streams, 4),
        "of_arithmetic": round(middle * shape.macs_per_sample / arithmetic[row.kind], 4),
    }
    if row.streams == 1:
        for kind in PEERS:
            (peer,) = (other for other in rows if (other.network, other.kind) == (row.network, kind))
            ratios = np.array(row.speeds) / np.array(peer.speeds)  # of one round
            plain[f"over_{kind}"] = round(float(np.median(ratios)), 1)
    return plain


def report(result: dict[str, Any]) -> str:
    """Two tables."""
    heads = [
        "network",
        "kind",
        "streams",
        "1000 samples/s",
        "% reading",
        "% arithmetic",
        "× modules",
        "× lean",
    ]
    lines = [f"{result['hardware']}, {result['isa']}, {result['date']}", "", _line(heads)]
    for row in result["rows"]:
        speed = f"{row['samples_per_second'] / 1000:.2f} ± {row['spread'] / 1000:.2f}"
        shares = [f"{100 * row[key]:.0f}" if key in row else "" for key in ("of_reading", "of_arithmetic")]
        ratios = [f"{row[key]:.1f}" if key in row else "" for key in ("over_modules", "over_lean")]
        lines.append(_line([row["network"], row["kind"], row["streams"], speed, *shares, *ratios]))
    lines += [
        "",
        _line(["network", "kind", "logits off", "KL, bits", "gap, ms", "99.9 %", "worst", "phase", "seen"]),
    ]
    for name, network in result["networks"].items():
        for kind, error in network["errors"].items():
            gap = network["gaps"][kind]
            errors = [f"{error['logits']:.2g}", f"{error['kl_bits']:.2g}"]
            gaps = [f"{gap[key]:.4f}" for key in ("median_ms", "p999_ms", "worst_ms")]
            phase = f"{gap['worst_phase']}/{gap['period']}"
            lines.append(_line([name, kind, *errors, *gaps, phase, f"{gap['seen_ms']:.4f}"]))
    return "\n".join(lines)


def _line(cells: list[Any]) -> str:
    return f"{cells[0]:12} " + " ".join(f"{cell!s:>15}" for cell in cells[1:])


def tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=NETWORKS)
    parser.add_argument("--precisions", nargs="+", default=list(limits.BITS), choices=limits.BITS)
    parser.add_argument("--streams", nargs="+", type=int, help="default: 1 2 4 8 16 32; quick: 1 8 32")
    parser.add_argument("--rounds", type=int, help="default: 9; quick: 5")
    parser.add_argument("--seconds", type=float, help="per row and round; default: 0.2, quick: 0.05")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--save", type=Path, help="write everything here too, as JSON")
    arguments = parser.parse_args()
    quick = arguments.quick
    arguments.streams = arguments.streams or ([1, 8, 32] if quick else STREAMS)
    arguments.rounds = arguments.rounds or (5 if quick else 9)
    arguments.seconds = arguments.seconds or (0.05 if quick else 0.2)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        result = measure(arguments, Path(folder))
    print(report(result))
    if arguments.save:
        arguments.save.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
