"""The measured limits of the core this runs on: reading speed by footprint, multiply-accumulates by precision."""

import ctypes
import os
import platform
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from audio_gen.engine.build import find_compiler
from audio_gen.engine.pack import aligned

FLAGS = ["-O3", "-march=native", "-mprefer-vector-width=512", "-funroll-loops", "-shared", "-fPIC"]
BYTES = {"fp32": 4, "bf16": 2, "int8": 1}
"""Of a weight, by precision."""
REPEATS = 1_500_000


def processor_seconds(work: Callable[[], object]) -> float:
    """Processor time that `work` takes in this thread: other processes' turns do not count."""
    start = time.thread_time()
    work()
    return time.thread_time() - start


class Limits:
    """Every measurement takes some 10 ms."""

    def __init__(self, folder: Path) -> None:
        compiler = find_compiler()
        assert compiler is not None
        target = folder / "limits.so"
        source = Path(__file__).with_name("limits.c")
        subprocess.run([*compiler, *FLAGS, str(source), "-o", str(target)], check=True)
        self._library = ctypes.CDLL(str(target))
        self._library.read_stream.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int32]
        for name in BYTES:
            getattr(self._library, name).argtypes = [ctypes.c_int64]

    def bytes_per_second(self, footprint: int) -> float:
        """Reading so many bytes again and again."""
        data = aligned(max(128, footprint // 4 // 128 * 128))
        repeats = max(2, int(2e8 // data.nbytes))
        self._library.read_stream(data.ctypes.data, data.size, 1)
        seconds = processor_seconds(lambda: self._library.read_stream(data.ctypes.data, data.size, repeats))
        return data.nbytes * repeats / seconds

    def macs_per_second(self, precision: str) -> float:
        """Multiply-accumulates in registers: of fp32 fused, of bf16 by dot products of pairs, of int8 by fours.

        Where the processor has no such instruction, those of fp32.
        """
        name = precision if getattr(self._library, f"{precision}_lanes")() else "fp32"
        lanes = getattr(self._library, f"{name}_lanes")()
        function = getattr(self._library, name)
        return float(lanes * REPEATS / processor_seconds(lambda: function(REPEATS)))


def hardware() -> str:
    """The processor, and how many of its cores this process may use."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = (line.partition(":") for line in cpuinfo.read_text(encoding="utf-8").splitlines())
        name = next((value.strip() for key, _, value in lines if key.strip() == "model name"), name)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return f"{name}, {cores} core{'s' if cores > 1 else ''}"
