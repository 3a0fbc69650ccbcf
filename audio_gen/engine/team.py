"""Threads for work of the compiled library on whole sequences, which is what training and scoring ask of it."""

import ctypes
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

from audio_gen.engine.binding import CTeam


def work_together(library: ctypes.CDLL, isa: int, name: str, parts: Sequence[ctypes.Structure]) -> None:
    """Do `parts`, whose verb is audio_gen_`name` of the library, all at once: a thread for each."""
    kind = type(parts[0])
    array = (kind * len(parts))(*parts)
    verb = ctypes.cast(getattr(library, f"audio_gen_{name}"), ctypes.c_void_p)
    team = CTeam(verb, ctypes.addressof(array), ctypes.sizeof(kind), isa, len(parts), 0)
    if len(parts) == 1:
        library.audio_gen_take(ctypes.addressof(team))
    else:
        (_openmp() or _pool())(library.audio_gen_take, ctypes.addressof(team), len(parts))


Parallel = Callable[[Any, int, int], None]
"""Calls a C function of a pointer in each of so many threads, and waits for them."""


def _openmp() -> Parallel | None:
    """PyTorch's own threads, if it is there and they are OpenMP's. They keep a processor busy for a while after every
    operation, so that threads of ours would have to wait for them."""
    torch = sys.modules.get("torch")
    return None if torch is None else _openmp_of(Path(torch.__file__ or "").parent / "lib")


@cache
def _openmp_of(folder: Path) -> Parallel | None:
    for path in folder.glob("lib*omp*"):
        # Of GNU's OpenMP, and of LLVM's, which has its names as well.
        run = getattr(ctypes.CDLL(str(path)), "GOMP_parallel", None)
        if run is not None:
            run.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
            run.restype = None
            return lambda verb, team, threads: run(ctypes.cast(verb, ctypes.c_void_p), team, threads, 0)
    return None


@cache
def _pool() -> Parallel:
    """Threads of our own."""
    pool = ThreadPoolExecutor(thread_name_prefix="team")

    def parallel(verb: Any, team: int, threads: int) -> None:
        for _ in pool.map(verb, [team] * threads):
            pass

    return parallel
