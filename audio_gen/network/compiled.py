"""What the compiled library does of a training step on a CPU: one pass where PyTorch takes several.

Plain functions of tensors, without gradients: `fused.py` makes operations of them that have some. What matrix products
read and write are numbers in float32 or, under autocast, bfloat16; all else is float32. Threads share the rows, or the
channels where rows are summed.
"""

import ctypes
from functools import cache
from typing import TypeVar

import torch
from torch import Tensor

from audio_gen.engine.binding import (
    CAdding,
    CAnchoring,
    CEmbedding,
    CEntropy,
    CGating,
    choose_isa,
    library_path,
    load_library,
)
from audio_gen.engine.team import work_together

Work = TypeVar("Work", bound=ctypes.Structure)
NUMBERS = (torch.float32, torch.bfloat16)
LANES = 16
"""Channels come in multiples of this."""
SHARE = 1 << 18
"""Numbers that are worth a thread of their own."""


def usable(like: Tensor, *widths: int) -> bool:
    """Is this what the library knows: on a CPU, of float32 or bfloat16, in whole vectors?"""
    return (
        like.device.type == "cpu"
        and numbers() in NUMBERS
        and like.dtype in NUMBERS
        and all(width % LANES == 0 for width in widths)
    )


def numbers() -> torch.dtype:
    """What matrix products of float32 read and write on a CPU."""
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else torch.float32


def gate(z: Tensor, steer: Tensor, frames: Tensor | None) -> Tensor:
    """tanh of the first half of the last axis times sigmoid of the second, of z + steer.

    z (time, streams, 2 width) numbers; steer (frames, streams, 2 width) float32; frames (time,) int64, which frame of
    the steer each step listens to, or None where there is only one. Returns (time, streams, width) numbers.
    """
    h = z.new_empty(*z.shape[:2], z.shape[2] // 2)
    _run("gate", _gating(z, steer, frames, h=h), len(z) * z.shape[1], z.numel())
    return h


def gate_back(z: Tensor, steer: Tensor, frames: Tensor | None, dh: Tensor, dz: Tensor) -> Tensor:
    """The gradient of `gate`: fills dz, returns that of the steer."""
    dsteer = torch.zeros_like(steer)
    gating = _gating(z, steer, frames, dh=dh, dz=dz, dsteer=dsteer)
    _run("gate", gating, z.shape[2] // 2, z.numel(), step=LANES)
    return dsteer


def _gating(z: Tensor, steer: Tensor, frames: Tensor | None, **others: Tensor) -> CGating:
    time, streams, twice = z.shape
    gating = CGating(rows=time * streams, width=twice // 2, bits=_bits(z), streams=streams)
    return _pointing(gating, z=z, steer=steer, frames=frames, **others)


def add(
    a: Tensor,
    b: Tensor,
    bias: Tensor | None = None,
    rounded: Tensor | None = None,
    sums: Tensor | None = None,
) -> None:
    """a (..., width) float32 becomes a + b + bias, b numbers; `rounded` that as numbers. Its sum over all but the last
    axis is added to `sums` (width,) float32."""
    width = a.shape[-1]
    adding = CAdding(rows=a.numel() // width, width=width, bits=_bits(b))
    _pointing(adding, a=a, b=b, bias=bias, rounded=rounded, sums=sums)
    _run("add", adding, width, a.numel() // 8, step=LANES)  # it reads and writes more than it computes


def embed(places: Tensor, table: Tensor) -> Tensor:
    """The sum (..., width) of the rows of `table` (any, width) that `places` (..., codes) int64 name; all float32."""
    total = table.new_empty(*places.shape[:-1], table.shape[1])
    rows = places.numel() // places.shape[-1]
    embedding = CEmbedding(rows=rows, width=table.shape[1], codes=places.shape[-1])
    _run("embed", _pointing(embedding, places=places, table=table, sum=total), rows, places.numel() * LANES)
    return total


def embed_back(places: Tensor, table: Tensor, dsum: Tensor) -> Tensor:
    """The gradient of `embed` for the table."""
    dtable = torch.zeros_like(table)
    rows = places.numel() // places.shape[-1]
    embedding = CEmbedding(rows=rows, width=table.shape[1], codes=places.shape[-1])
    _pointing(embedding, places=places, dsum=dsum, dtable=dtable)
    _run("embed", embedding, table.shape[1], places.numel() * LANES, step=LANES)
    return dtable


def log_totals(logits: Tensor) -> Tensor:
    """log of the sum of e^logit, (rows,) float32, of logits (rows, levels), numbers; NaN where one is not finite."""
    rows, levels = logits.shape
    largest, total = logits.new_empty(2, rows, dtype=torch.float32)
    entropy = CEntropy(rows=rows, width=levels, bits=_bits(logits))
    _run("entropy", _pointing(entropy, logits=logits, largest=largest, total=total), rows, logits.numel())
    norms: Tensor = largest + total.log()
    return norms


def entropy_back(logits: Tensor, targets: Tensor, norms: Tensor, weights: Tensor) -> Tensor:
    """The gradient of norms - logits[targets] for the logits, times `weights` (rows,); norms are `log_totals`."""
    dlogits = torch.empty_like(logits)
    entropy = CEntropy(rows=len(logits), width=logits.shape[1], bits=_bits(logits))
    _pointing(entropy, logits=logits, targets=targets, norms=norms, weights=weights, dlogits=dlogits)
    _run("entropy", entropy, len(logits), logits.numel())
    return dlogits


def anchor(logits: Tensor, place: Tensor, sharp: Tensor, broad: Tensor) -> Tensor:
    """logits (rows, levels), numbers, less sharp (sqrt(d^2 + broad^2) - broad), d = token - place: float32."""
    anchored = logits.new_empty(logits.shape, dtype=torch.float32)
    anchoring = CAnchoring(rows=len(logits), width=logits.shape[1], bits=_bits(logits))
    _pointing(anchoring, logits=logits, place=place, sharp=sharp, broad=broad, anchored=anchored)
    _run("anchor", anchoring, len(logits), logits.numel())
    return anchored


def anchor_back(
    danchored: Tensor, place: Tensor, sharp: Tensor, broad: Tensor, number: torch.dtype
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The gradients of `anchor`: for the logits, as numbers of that type, and for the others."""
    dlogits = torch.empty_like(danchored, dtype=number)
    dplace, dsharp, dbroad = torch.empty_like(place), torch.empty_like(sharp), torch.empty_like(broad)
    anchoring = CAnchoring(rows=len(danchored), width=danchored.shape[1], bits=_bits(dlogits))
    _pointing(anchoring, place=place, sharp=sharp, broad=broad, danchored=danchored, dlogits=dlogits)
    _pointing(anchoring, dplace=dplace, dsharp=dsharp, dbroad=dbroad)
    _run("anchor", anchoring, len(danchored), danchored.numel())
    return dlogits, dplace, dsharp, dbroad


def _bits(numbers: Tensor) -> int:
    return 8 * numbers.element_size()


def _pointing(work: Work, **tensors: Tensor | None) -> Work:
    """`work` with the addresses of these tensors, which have to be contiguous."""
    for name, tensor in tensors.items():
        if tensor is not None:
            assert tensor.is_contiguous(), name
            setattr(work, name, tensor.data_ptr())
    return work


def _run(name: str, work: ctypes.Structure, amount: int, numbers: int, step: int = 1) -> None:
    """Do all of `work`, whose rows or channels are `amount`, in shares of multiples of `step`."""
    if work.rows == 0:
        return
    shares = max(1, min(torch.get_num_threads(), numbers // SHARE, amount // step))
    parts = [type(work).from_buffer_copy(work) for _ in range(shares)]
    for place, part in enumerate(parts):
        setattr(part, "from", amount // step * place // shares * step)
        part.to = amount // step * (place + 1) // shares * step
    work_together(*_library(), name, parts)


@cache
def _library() -> tuple[ctypes.CDLL, int]:
    library = load_library(library_path())
    return library, choose_isa(library, None)[0]
