"""The shared library, its structures and functions, by ctypes (which releases the GIL meanwhile)."""

import ctypes
import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audio_gen.engine.build import library_name
from audio_gen.errors import EngineError
from audio_gen.shape import MAX_PREDICTORS, NetworkShape

VERSION = 12  # ENGINE_VERSION of engine.h
MAX_TIERS = 8
NOT_FINITE = 2
REMEDY = "run `pip install .` (or `pip install -e .`) in the project's folder again"


class CShape(ctypes.Structure):
    """struct Shape of engine.h."""

    _fields_ = [
        ("levels", ctypes.c_int32),
        ("tiers", ctypes.c_int32),
        ("kernel_size", ctypes.c_int32),
        ("dilation_cycle", ctypes.c_int32),
        ("skip_channels", ctypes.c_int32),
        ("head_channels", ctypes.c_int32),
        ("condition_channels", ctypes.c_int32),
        ("curve_channels", ctypes.c_int32),
        ("hop", ctypes.c_int32),
        *((name, ctypes.c_int32 * MAX_TIERS) for name in ("layers", "channels", "pool")),
        ("predictors", ctypes.c_int32),
        ("orders", ctypes.c_int32 * MAX_PREDICTORS),
        ("envelope", ctypes.c_int32),
        ("bands", ctypes.c_int32),
        ("period", ctypes.c_int32),
        ("pitch", ctypes.c_int32),
        ("phases", ctypes.c_int32),
        ("anchored", ctypes.c_int32),
    ]


class CPredictors(ctypes.Structure):
    """struct Predictors of engine.h."""

    _fields_ = [
        ("count", ctypes.c_int32),
        ("longest", ctypes.c_int32),
        ("order", ctypes.c_int32 * MAX_PREDICTORS),
        *((name, ctypes.c_int32) for name in ("levels", "envelope", "bands", "period", "pitch")),
        *((name, ctypes.c_int32) for name in ("phases", "hop", "curve_channels")),
        *((name, ctypes.c_void_p) for name in ("amplitudes", "band", "between", "level", "cosines")),
    ]


class CHearing(ctypes.Structure):
    """struct Hearing of engine.h."""

    _fields_ = [
        ("predictors", ctypes.c_void_p),
        ("position", ctypes.c_int64),
        ("steps", ctypes.c_int64),
        ("streams", ctypes.c_int32),
        ("state", ctypes.c_void_p),
        ("tokens", ctypes.c_void_p),
        ("curves", ctypes.c_void_p),
        ("curve_frames", ctypes.c_int64),
        ("rows", ctypes.c_void_p),
        ("places", ctypes.c_void_p),
    ]


_SHARE = [
    ("rows", ctypes.c_int64),
    ("from", ctypes.c_int64),
    ("to", ctypes.c_int64),
    ("width", ctypes.c_int32),
]


class CGating(ctypes.Structure):
    """struct Gating of engine.h."""

    _fields_ = [
        *_SHARE,
        ("bits", ctypes.c_int32),
        ("streams", ctypes.c_int32),
        *((name, ctypes.c_void_p) for name in ("z", "steer", "frames", "h", "dh", "dz", "dsteer")),
    ]


class CAdding(ctypes.Structure):
    """struct Adding of engine.h."""

    _fields_ = [
        *_SHARE,
        ("bits", ctypes.c_int32),
        *((name, ctypes.c_void_p) for name in ("a", "b", "bias", "rounded", "sums")),
    ]


class CEmbedding(ctypes.Structure):
    """struct Embedding of engine.h."""

    _fields_ = [
        *_SHARE,
        ("codes", ctypes.c_int32),
        *((name, ctypes.c_void_p) for name in ("places", "table", "sum", "dsum", "dtable")),
    ]


class CEntropy(ctypes.Structure):
    """struct Entropy of engine.h."""

    _fields_ = [
        *_SHARE,
        ("bits", ctypes.c_int32),
        *(
            (name, ctypes.c_void_p)
            for name in ("logits", "largest", "total", "targets", "norms", "weights", "dlogits")
        ),
    ]


class CAnchoring(ctypes.Structure):
    """struct Anchoring of engine.h."""

    _fields_ = [
        *_SHARE,
        ("bits", ctypes.c_int32),
        *((name, ctypes.c_void_p) for name in ("logits", "place", "sharp", "broad", "anchored", "danchored")),
        *((name, ctypes.c_void_p) for name in ("dlogits", "dplace", "dsharp", "dbroad")),
    ]


class CTeam(ctypes.Structure):
    """struct Team of engine.h."""

    _fields_ = [
        ("verb", ctypes.c_void_p),
        ("parts", ctypes.c_void_p),
        *((name, ctypes.c_int32) for name in ("size", "isa", "count", "next")),
    ]


DRAW = np.dtype([("temperature", "f4"), ("top_p", "f4"), ("min_p", "f4"), ("top_k", "i4")])
"""struct Draw of engine.h."""


class CWork(ctypes.Structure):
    """struct Work of engine.h."""

    _fields_ = [
        ("origin", ctypes.c_int64),
        ("position", ctypes.c_int64),
        ("steps", ctypes.c_int64),
        ("streams", ctypes.c_int32),
        ("renewed", ctypes.c_int32),
        ("state", ctypes.c_void_p),
        ("last", ctypes.c_void_p),
        ("condition", ctypes.c_void_p),
        ("curves", ctypes.c_void_p),
        ("first_curve", ctypes.c_int64),
        ("curve_frames", ctypes.c_int64),
        ("known", ctypes.c_void_p),
        ("coins", ctypes.c_void_p),
        ("draws", ctypes.c_void_p),
        ("guidance", ctypes.c_void_p),
        ("drawn", ctypes.c_void_p),
        ("logits", ctypes.c_void_p),
        ("log_probabilities", ctypes.c_void_p),
    ]


def library_path() -> Path:
    """Where the installation puts the compiled engine."""
    return Path(__file__).parent / library_name()


@cache
def load_library(path: Path) -> ctypes.CDLL:
    """The library, its functions typed. Raises EngineError if missing, foreign or of another version."""
    if not path.exists():
        raise EngineError(f"{path}: the engine is not compiled; {REMEDY}")
    try:
        library = ctypes.CDLL(str(path))
        version = library.audio_gen_version()
    except (OSError, AttributeError) as error:
        reason = str(error).replace("\n", " ")
        raise EngineError(f"{path}: not a library for this machine ({reason}); {REMEDY}") from None
    if version != VERSION:
        raise EngineError(f"{path}: compiled from other sources (version {version}, not {VERSION}); {REMEDY}")
    pointer, size = ctypes.c_void_p, ctypes.c_size_t
    library.audio_gen_isa.restype = ctypes.c_char_p
    library.audio_gen_weight_count.restype = size
    library.audio_gen_weight_count.argtypes = [ctypes.POINTER(CShape), ctypes.c_int32]
    library.audio_gen_network.restype = pointer
    library.audio_gen_network.argtypes = [ctypes.POINTER(CShape), pointer, ctypes.c_int32, ctypes.c_int32]
    library.audio_gen_free.argtypes = [pointer]
    library.audio_gen_free.restype = None
    library.audio_gen_state_count.restype = size
    library.audio_gen_state_count.argtypes = [pointer]
    library.audio_gen_run.argtypes = [pointer, ctypes.POINTER(CWork)]
    library.audio_gen_predictor_words.restype = size
    library.audio_gen_predictor_words.argtypes = [ctypes.POINTER(CPredictors)]
    library.audio_gen_take.argtypes = [pointer]
    library.audio_gen_take.restype = None
    library.audio_gen_draw.argtypes = [pointer, pointer, pointer, ctypes.c_float]
    return library


def usable_isas(library: ctypes.CDLL) -> list[str]:
    """Names of the instruction sets that the library has and this machine can run, best first."""
    return [name for index, name in enumerate(_isas(library)) if library.audio_gen_isa_usable(index)]


def _isas(library: ctypes.CDLL) -> list[str]:
    names: list[str] = []
    while (name := library.audio_gen_isa(len(names))) is not None:
        names.append(name.decode())
    return names


def choose_isa(library: ctypes.CDLL, wanted: str | None) -> tuple[int, str]:
    """Index and name of the set to run: `wanted`, else $AUDIO_GEN_ISA, else the best. Raises EngineError."""
    wanted = wanted or os.environ.get("AUDIO_GEN_ISA") or None
    usable = usable_isas(library)
    if wanted is not None and wanted not in usable:
        raise EngineError(f"instruction set {wanted} (AUDIO_GEN_ISA): this machine has {', '.join(usable)}")
    name = wanted or usable[0]
    return _isas(library).index(name), name


class CNetwork:
    """A network inside the library. Keeps the packed weights alive."""

    def __init__(
        self, library: ctypes.CDLL, shape: NetworkShape, weights: NDArray[np.uint32], precision: int, isa: int
    ) -> None:
        """`precision`: its place in engine.h; `weights` are packed for it."""
        self._library, self._weights, self._handle = library, weights, None
        described = c_shape(shape)
        wanted = library.audio_gen_weight_count(ctypes.byref(described), precision)
        if wanted != weights.size:
            raise EngineError(
                f"engine reads {wanted} words of weights, the packing has {weights.size}; {REMEDY}"
            )
        self._handle = library.audio_gen_network(ctypes.byref(described), weights.ctypes.data, precision, isa)
        if not self._handle:
            raise MemoryError("the engine's network")
        self.weight_bytes = weights.nbytes
        self.state_count: int = library.audio_gen_state_count(self._handle)

    def __del__(self) -> None:
        if self._handle:
            self._library.audio_gen_free(self._handle)

    def run(self, work: CWork) -> int:
        """Do one call's work; releases the GIL. Returns the library's result, 0 if all went well."""
        result: int = self._library.audio_gen_run(self._handle, ctypes.byref(work))
        if result not in (0, NOT_FINITE):
            raise MemoryError("the engine's working memory")
        return result

    def draw(self, logits: NDArray[np.float32], draw: NDArray[Any], coin: float) -> int:
        """One draw from `logits` (levels,) by `draw` (1,) of DRAW; -1 if one of them is not finite."""
        token: int = self._library.audio_gen_draw(self._handle, logits.ctypes.data, draw.ctypes.data, coin)
        return token


def c_shape(shape: NetworkShape) -> CShape:
    def per_tier(values: Sequence[int]) -> Any:
        return (ctypes.c_int32 * MAX_TIERS)(*values)

    return CShape(
        levels=shape.levels,
        tiers=shape.tiers,
        kernel_size=shape.kernel_size,
        dilation_cycle=shape.dilation_cycle,
        skip_channels=shape.skip_channels,
        head_channels=shape.head_channels,
        condition_channels=shape.condition_channels if shape.conditioned else 0,
        curve_channels=shape.curve_inputs,
        hop=shape.hop,
        layers=per_tier(shape.layers),
        channels=per_tier(shape.channels),
        pool=per_tier(shape.pool),
        predictors=len(shape.predictors),
        orders=(ctypes.c_int32 * MAX_PREDICTORS)(*shape.predictors),
        envelope=shape.envelope_order,
        bands=shape.envelope_bands,
        period=shape.period_rate,
        pitch=shape.pitch_column,
        phases=shape.phases,
        anchored=shape.anchored,
    )
