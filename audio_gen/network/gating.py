"""The gated activation of a layer, tanh(z1) sigmoid(z2), with its gradient."""

import ctypes
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import torch
from torch import Tensor

from audio_gen.engine.binding import CGating, choose_isa, library_path, load_library

LANES = 16
"""Channels that the compiled gate handles at a time, at most."""
SHARE = 1 << 19
"""Numbers that are worth a thread of their own."""


def gated(z: Tensor) -> Tensor:
    """tanh of the first half of the last axis times sigmoid of the second: (..., 2 width) to (..., width).

    In bfloat16 on a CPU, which is how networks are trained there, one compiled pass does what takes PyTorch three, and
    four for the gradient; it rounds once. On one core that is 6 to 8 % of a step, on two PyTorch is as fast
    (`python -m benchmarks.training`). Everything else is PyTorch's own.
    """
    width = z.shape[-1] // 2
    if z.dtype == torch.bfloat16 and z.device.type == "cpu" and width % LANES == 0:
        compiled: Tensor = _Gate.apply(z)
        return compiled
    signal, gate = z.chunk(2, dim=-1)
    return torch.tanh(signal) * torch.sigmoid(gate)


class _Gate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        z = z.contiguous()
        ctx.save_for_backward(z)
        h = z.new_empty(*z.shape[:-1], z.shape[-1] // 2)
        _run(z, h)
        return h

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (z,) = ctx.saved_tensors
        dz = torch.empty_like(z)
        _run(z, grads[0].contiguous(), dz)
        return dz


def _run(z: Tensor, h: Tensor, dz: Tensor | None = None) -> None:
    """Fill h (rows, width); or dz (rows, 2 width), then h holds its gradient."""
    library, isa, pool = _library()
    width = h.shape[-1]
    rows = h.numel() // width if width else 0
    shares = max(1, min(torch.get_num_threads(), z.numel() // SHARE))

    def share(place: int) -> None:
        first, last = rows * place // shares, rows * (place + 1) // shares
        once, twice = 2 * first * width, 4 * first * width  # bytes
        gating = CGating(rows=last - first, width=width, z=z.data_ptr() + twice)
        if dz is None:
            gating.h = h.data_ptr() + once
        else:
            gating.dh, gating.dz = h.data_ptr() + once, dz.data_ptr() + twice
        library.audio_gen_gate(ctypes.byref(gating), isa)

    if shares == 1:
        share(0)
    else:
        list(pool.map(share, range(shares)))


@cache
def _library() -> tuple[ctypes.CDLL, int, ThreadPoolExecutor]:
    library = load_library(library_path())
    return library, choose_isa(library, None)[0], ThreadPoolExecutor(thread_name_prefix="gate")
