"""The measured limits of the core this runs on: reading speed by footprint, multiply-accumulates by precision."""

import ctypes
import math
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

from audio_gen.engine.binding import library_path, load_library
from audio_gen.engine.pack import aligned, tensor_shapes
from audio_gen.shape import NetworkShape

BITS = {"fp32": 32, "bf16": 16, "int8": 8}
"""Of a weight, by precision."""


def processor_seconds(work: Callable[[], object]) -> float:
    """Processor time that `work` takes in this thread: other processes' turns do not count."""
    start = time.thread_time()
    work()
    return time.thread_time() - start


def bytes_per_second(footprint: int, budget: int = 1 << 27) -> float:
    """Reading `footprint` bytes again and again, some `budget` bytes in all."""
    read = load_library(library_path()).audio_gen_read
    read.restype = ctypes.c_float
    read.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int32]
    data = aligned(max(128, footprint // 4 // 128 * 128))
    repeats = max(2, budget // data.nbytes)
    data[:] = 1.0  # pages never written to would all be one
    read(data.ctypes.data, data.size, 1)
    return data.nbytes * repeats / processor_seconds(lambda: read(data.ctypes.data, data.size, repeats))


def macs_per_second(precision: str, repeats: int = 1_000_000) -> float:
    """Multiply-accumulates in registers: of fp32 fused, of bf16 by pairs, of int8 by fours.

    Where the processor has no instruction for these, those of fp32.
    """
    multiply = load_library(library_path()).audio_gen_multiply
    multiply.restype = ctypes.c_int64
    multiply.argtypes = [ctypes.c_int32, ctypes.c_int64]
    bits = BITS[precision] if multiply(BITS[precision], 1) else 32
    return float(multiply(bits, 1) * repeats / processor_seconds(lambda: multiply(bits, repeats)))


def reading(shape: NetworkShape, precision: str) -> list[tuple[float, int]]:
    """Per tier: bytes that one sample needs, each weight read once; and the least memory they can stay in between.

    Between two frames of a tier all faster tiers' weights are read, so theirs and its own compete for the cache.
    """
    found, together = [], 0
    for k, period in enumerate(shape.pooling):
        tier = (f"tiers.{k}.", "head.") if k == 0 else (f"tiers.{k}.",)
        size = sum(math.prod(size) for name, size in tensor_shapes(shape).items() if name.startswith(tier))
        together += size * BITS[precision] // 8
        found.append((size * BITS[precision] / 8 / period, together))
    return found


def hardware() -> str:
    """The processor, and how many of its cores this process may use."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = (line.partition(":") for line in cpuinfo.read_text(encoding="utf-8").splitlines())
        name = next((value.strip() for key, _, value in lines if key.strip() == "model name"), name)
    return f"{name}, {cores()} core{'s' if cores() > 1 else ''}"


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
