"""What this machine does with a model: times real time, and how much of what it could do at most."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np

from audio_gen.checkpoint import Checkpoint
from audio_gen.engine import Engine, limits
from audio_gen.sampler.draw import Draw
from audio_gen.shape import NetworkShape

STREAMS = (1, 8)
ROUNDS = 3


@dataclass(frozen=True)
class Speed:
    """One way to run one model."""

    model: str
    precision: str
    streams: int
    threads: int
    instruction_set: str
    samples_per_second: float
    """Over all streams."""
    real_time: float
    """Seconds of audio per second, over all streams."""
    of_limit: float
    """Share of what reading the weights, or multiplying, allows at most on so many cores, as measured just now."""


def speeds(name: str, checkpoint: Checkpoint, seconds: float) -> Iterator[Speed]:
    """Every way to run a model, some `seconds` in all; int8 if it has scales."""
    scales = checkpoint.scales or None
    ways = [
        (precision, streams, threads)
        for precision in ("fp32", "bf16", *(["int8"] if scales else []))
        for streams in STREAMS
        for threads in sorted({1, min(streams, limits.cores())})
    ]
    for precision, streams, threads in ways:
        engine = Engine(
            checkpoint.shape,
            checkpoint.tensors,
            threads=threads,
            precision=precision,
            scales=scales if precision == "int8" else None,
        )
        yield _speed(name, checkpoint.sample_rate, engine, streams, seconds / len(ways))


def _speed(name: str, sample_rate: int, engine: Engine, streams: int, seconds: float) -> Speed:
    shape, precision, threads = engine.shape, engine.precision, engine.threads
    state = engine.start(np.zeros((streams, len(shape.labels)), int))
    channels = shape.curve_channels
    curves = np.zeros((streams, 1, channels), np.float32) if channels else None
    coins = np.random.default_rng(0).random((streams, 1 << 16), np.float32)

    def run(samples: int) -> float:
        began = time.perf_counter()
        engine.sample(state, coins[:, :samples], Draw(), curves)
        return time.perf_counter() - began

    run(100)
    samples = int(min(coins.shape[1], max(100, 1000 / run(1000) * seconds / (ROUNDS + 1))))
    best = streams * samples / min(run(samples) for _ in range(ROUNDS))
    limit = threads * most(shape, precision, streams / threads)
    return Speed(name, precision, streams, threads, engine.isa, best, best / sample_rate, best / limit)


def most(shape: NetworkShape, precision: str, streams: float) -> float:
    """Samples per second, over all streams, that one core could reach at most."""
    needed = sum(size / _reading_speed(footprint) for size, footprint in limits.reading(shape, precision))
    return min(streams / needed, _multiplying_speed(precision) / shape.macs_per_sample)


@cache
def _reading_speed(footprint: int) -> float:
    return max(limits.bytes_per_second(footprint) for _ in range(ROUNDS))


@cache
def _multiplying_speed(precision: str) -> float:
    return max(limits.macs_per_second(precision) for _ in range(ROUNDS))
