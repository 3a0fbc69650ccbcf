"""How a network is trained on a CPU: whole parts of it as one operation each, with their gradients.

They compute what `tier.py`, `wavenet.py` and `torch.nn.functional.cross_entropy` say, only with less in between: the
layers of a tier are matrix products and one pass of `compiled.py` after each. The residual stream, and its gradient,
stay float32; under bfloat16 autocast a product reads them rounded once. No operation here has a gradient of its
gradient.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from audio_gen.network import compiled

WEIGHTS = 6
"""Tensors of a layer: dilated weight, steer, then weight and bias of residual and skip, None where it has none."""


@dataclass(frozen=True)
class _Kept:
    """What the gradient of a layer needs; rows are time steps of all streams."""

    heard: Tensor
    z: Tensor
    h: Tensor
    dilated: Tensor
    steer: Tensor
    residual: Tensor | None
    skip: Tensor | None


def run_layers(
    a: Tensor,
    histories: Sequence[Tensor],
    weights: Sequence[Tensor | None],
    dilations: Sequence[int],
    frames: Tensor | None,
) -> tuple[Tensor, Tensor | None, tuple[Tensor, ...]]:
    """The layers of a tier over a (time, streams, width): last residual stream as products read it, skip sum in
    float32 if there is one, new histories.

    `weights` are WEIGHTS tensors per layer; a steer is (frames, streams, 2 width), and `frames` (time,) which one each
    step listens to, None where there is only one. Histories have no gradient.
    """
    last, skips, *kept = _Layers.apply(a, tuple(dilations), frames, *histories, *weights)
    return last, skips, tuple(kept)


def embed(places: Tensor, table: Tensor) -> Tensor:
    """Sums (..., width) of the rows of `table` (any, width) that `places` (..., codes) name."""
    total: Tensor = _Embed.apply(places.contiguous(), table)
    return total


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """(rows,) float32, in nats, of logits (rows, levels) and targets (rows,)."""
    losses: Tensor = _CrossEntropy.apply(logits.contiguous(), targets.contiguous())
    return losses


def anchor(logits: Tensor, place: Tensor, sharp: Tensor, broad: Tensor) -> Tensor:
    """float32 (rows, levels): logits (rows, levels) less sharp (sqrt(d^2 + broad^2) - broad), d = token - place.

    place, sharp, broad (rows,) float32.
    """
    anchored: Tensor = _Anchor.apply(
        logits.contiguous(), place.contiguous(), sharp.contiguous(), broad.contiguous()
    )
    return anchored


class _Layers(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, dilations: tuple[int, ...], frames: Tensor | None, *rest: Any) -> Any:
        time, streams, width = a.shape
        rows, depth, number = time * streams, len(dilations), compiled.numbers()
        histories, weights = rest[:depth], rest[depth:]
        stream = a.reshape(rows, width).to(torch.float32, copy=True)
        skips: Tensor | None = None
        layers: list[_Kept] = []
        after: list[Tensor] = []
        heard, last = _room(histories[0], rows, number)
        last.copy_(stream)
        for place in range(depth):
            dilated, steer, residual, residual_bias, skip, skip_bias = weights[WEIGHTS * place :][:WEIGHTS]
            dilated, steer = dilated.to(number), steer.float().contiguous()
            older = dilations[place] * streams
            taps = dilated.chunk(dilated.shape[1] // width, dim=1)
            z = torch.mm(heard[len(heard) - rows :], taps[-1].t())
            for tap, weight in enumerate(taps[:-1]):
                z.addmm_(heard[tap * older :][:rows], weight.t())
            h = compiled.gate(z.view(time, streams, -1), steer, frames).view(rows, width)
            if skip is not None:
                skip = skip.to(number)
                if skips is None:
                    skips = torch.zeros(rows, len(skip))
                compiled.add(skips, torch.mm(h, skip.t()), skip_bias)
            residual = None if residual is None else residual.to(number)
            layers.append(_Kept(heard, z, h, dilated, steer, residual, skip))
            after.append(heard[rows:].clone().view(-1, streams, width))
            # What the next layer hears is written where it shall stand, behind what that one remembers.
            heard, last = _room(histories[place + 1] if place + 1 < depth else a[:0], rows, number)
            if residual is None:
                last.copy_(stream)
            else:
                compiled.add(stream, torch.mm(h, residual.t()), residual_bias, last)
        ctx.layers, ctx.frames, ctx.dilations = layers, frames, dilations
        ctx.shape, ctx.dtype, ctx.number = (time, streams, width), a.dtype, number
        ctx.mark_non_differentiable(*after)
        ctx.set_materialize_grads(False)
        return (
            last.view(time, streams, width),
            None if skips is None else skips.view(time, streams, -1),
            *after,
        )

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dlast: Tensor | None, dskips: Tensor | None, *_: Tensor) -> Any:
        time, streams, width = ctx.shape
        rows, depth, number = time * streams, len(ctx.layers), ctx.number
        da, rounded = torch.zeros(rows, width), torch.zeros(rows, width, dtype=number)
        sums = torch.zeros(width)
        if dlast is not None:
            compiled.add(da, dlast.to(number).contiguous().view(rows, width), rounded=rounded, sums=sums)
        if dskips is not None:
            dskips = dskips.reshape(rows, -1)
        skipped = None if dskips is None else dskips.to(number)
        gradients: list[Tensor | None] = []
        dz = torch.empty(time, streams, 2 * width, dtype=number)
        for place in reversed(range(depth)):
            layer: _Kept = ctx.layers[place]
            ours: list[Tensor | None] = [None] * 4
            dh: Tensor | None = None
            if layer.residual is not None:
                dh = torch.mm(rounded, layer.residual)
                ours[:2] = torch.mm(rounded.t(), layer.h), sums
            if layer.skip is not None and dskips is not None and skipped is not None:
                dh = torch.mm(skipped, layer.skip) if dh is None else dh.addmm_(skipped, layer.skip)
                ours[2:] = torch.mm(skipped.t(), layer.h), dskips.sum(0)
            if dh is None:
                dh = torch.zeros_like(layer.h)
            dsteer = compiled.gate_back(layer.z.view(dz.shape), layer.steer, ctx.frames, dh, dz)
            each = dz.view(rows, 2 * width)
            taps = layer.dilated.chunk(layer.dilated.shape[1] // width, dim=1)
            older = ctx.dilations[place] * streams
            ddilated = [torch.mm(each.t(), layer.heard[tap * older :][:rows]) for tap in range(len(taps))]
            dheard = torch.mm(each, taps[-1])
            for tap, weight in enumerate(taps[:-1]):
                shift = (len(taps) - 1 - tap) * older
                if shift < rows:
                    dheard[: rows - shift].addmm_(each[shift:], weight)
            sums = torch.zeros(width)
            compiled.add(da, dheard, rounded=rounded, sums=sums)
            gradients = [torch.cat(ddilated, dim=1), dsteer, *ours, *gradients]
        return da.view(ctx.shape).to(ctx.dtype), None, None, *[None] * depth, *gradients


def _room(history: Tensor, rows: int, number: torch.dtype) -> tuple[Tensor, Tensor]:
    """(memory + rows, width): what a layer remembers, and room for what is new; and that room."""
    memory, width = history.shape[0] * history.shape[1], history.shape[2]
    heard = torch.empty(memory + rows, width, dtype=number)
    heard[:memory].copy_(history.reshape(memory, width))
    return heard, heard[memory:]


class _Embed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, places: Tensor, table: Tensor) -> Tensor:
        ctx.save_for_backward(places, table)
        return compiled.embed(places, table)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dsum: Tensor) -> Any:
        places, table = ctx.saved_tensors
        return None, compiled.embed_back(places, table, dsum.float().contiguous())


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor) -> Tensor:
        norms = compiled.log_totals(logits)
        ctx.save_for_backward(logits, targets, norms)
        return norms - logits.gather(1, targets[:, None])[:, 0].float()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dlosses: Tensor) -> Any:
        logits, targets, norms = ctx.saved_tensors
        return compiled.entropy_back(logits, targets, norms, dlosses.contiguous()), None


class _Anchor(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, place: Tensor, sharp: Tensor, broad: Tensor) -> Tensor:
        ctx.save_for_backward(place, sharp, broad)
        ctx.number = logits.dtype
        return compiled.anchor(logits, place, sharp, broad)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, danchored: Tensor) -> Any:
        place, sharp, broad = ctx.saved_tensors
        return compiled.anchor_back(danchored.float().contiguous(), place, sharp, broad, ctx.number)
