"""One tier: a stack of gated, dilated, causal layers at one rate, and its links to the faster tier.

Everything here is time-major, (time, batch, channels): a shift by any dilation is then one contiguous slice,
and a dilated convolution is a few matrix multiplies without copies.
"""

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audio_gen.network import compiled, fused
from audio_gen.shape import NetworkShape


@dataclass(frozen=True)
class TierState:
    """What a tier remembers of the past. All (time, batch, channels)."""

    histories: tuple[Tensor, ...]
    """Per layer: its last (kernel_size - 1) * dilation inputs, zero before the stream's start."""
    pending: Tensor | None = None
    """Frames of the faster tier that do not fill a frame of this one yet; None in the fastest tier."""
    queue: Tensor | None = None
    """This tier's output, already at the faster rate, that the faster tier has not used yet."""


@dataclass(frozen=True)
class Condition:
    """What steers one chunk: per-frame vectors, and which frame each step of a tier uses."""

    frames: Tensor  # (frames, batch, condition_channels)
    index: Tensor | None  # (time,) frame of each step; None: one frame serves all

    def project(self, layer: nn.Linear) -> Tensor:
        """(time or 1, batch, outputs)"""
        projected: Tensor = layer(self.frames)
        return projected if self.index is None else projected[self.index]


class Layer(nn.Module):
    """z = dilated(a[t - (K-1)d], ..., a[t]) + condition;  h = tanh(z1) sigmoid(z2);  a' = a + residual(h).

    Gated activation, residual and skip after van den Oord et al. 2016 (arXiv:1609.03499).
    """

    def __init__(self, shape: NetworkShape, tier: int, layer: int) -> None:
        super().__init__()
        width = shape.channels[tier]
        self.dilation = shape.dilation(layer)
        self.taps = shape.kernel_size
        self.dilated = nn.Linear(self.taps * width, 2 * width)
        self.condition = (
            nn.Linear(shape.condition_channels, 2 * width, bias=False) if shape.conditioned else None
        )
        self.residual = nn.Linear(width, width) if shape.has_residual(tier, layer) else None
        self.skip = nn.Linear(width, shape.skip_channels) if tier == 0 and shape.skip_channels else None

    @property
    def memory(self) -> int:
        """Past inputs that the next output needs."""
        return (self.taps - 1) * self.dilation

    def weights(self, condition: Condition | None, batch: int) -> tuple[Tensor | None, ...]:
        """What `fused.run_layers` needs of this layer."""
        bias = self.dilated.bias
        if condition is None or self.condition is None:
            steer = bias.expand(1, batch, -1)
        else:
            steer = self.condition(condition.frames).float() + bias
        ways = [(None, None) if way is None else (way.weight, way.bias) for way in (self.residual, self.skip)]
        return self.dilated.weight, steer, *ways[0], *ways[1]

    def forward(
        self, a: Tensor, history: Tensor, condition: Condition | None
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        """Next residual stream, skip contribution if any, and the new history."""
        time = a.shape[0]
        # Under autocast the matrix multiplies read bfloat16: cast once, not once per tap. The residual stream
        # itself keeps its precision.
        dtype = (
            torch.get_autocast_dtype(a.device.type) if torch.is_autocast_enabled(a.device.type) else a.dtype
        )
        heard = torch.cat([history.to(dtype), a.to(dtype)])
        z: Tensor | None = None
        weights = self.dilated.weight.chunk(self.taps, dim=1)
        for tap, weight in enumerate(weights):
            newest = tap == self.taps - 1
            part = F.linear(
                heard[tap * self.dilation : tap * self.dilation + time],
                weight,
                self.dilated.bias if newest else None,
            )
            z = part if z is None else z + part
        assert z is not None
        if condition is not None and self.condition is not None:
            z = z + condition.project(self.condition)
        signal, gate = z.chunk(2, dim=-1)
        h = torch.tanh(signal) * torch.sigmoid(gate)
        skip = self.skip(h) if self.skip is not None else None
        if self.residual is not None:
            a = a + self.residual(h)
        return a, skip, heard[time:]


class Tier(nn.Module):
    """The layers of one rate, `down` from the faster tier's input and `up` to it."""

    def __init__(self, shape: NetworkShape, tier: int) -> None:
        super().__init__()
        self.width = shape.channels[tier]
        self.pool = shape.pool[tier - 1] if tier else 1
        self.faster_width = shape.channels[tier - 1] if tier else 0
        self.layers = nn.ModuleList(Layer(shape, tier, layer) for layer in range(shape.layers[tier]))
        self.down = nn.Linear(self.pool * self.faster_width, self.width) if tier else None
        self.up = nn.Linear(self.width, self.pool * self.faster_width) if tier else None

    def _fuses(self, a: Tensor, histories: tuple[Tensor, ...]) -> bool:
        """Is this how networks are trained on a CPU? Then the layers are one operation."""
        widths = [self.width, *(layer.skip.out_features for layer in self.stack if layer.skip is not None)]
        return (
            compiled.usable(a, *widths)
            and a.numel() > 0
            and not any(history.requires_grad for history in histories)
        )

    @property
    def stack(self) -> list[Layer]:
        """The layers, first to last."""
        return cast(list[Layer], list(self.layers))

    def start(self, batch: int, like: Tensor, phase: int = 0) -> TierState:
        """The state before faster frame `phase`: silence, which is all zeros."""
        histories = tuple(like.new_zeros(layer.memory, batch, self.width) for layer in self.stack)
        if self.down is None:
            return TierState(histories)
        # The first slow frame is complete at fast frame pool - 1; until then the faster tier hears nothing.
        return TierState(
            histories,
            pending=like.new_zeros(phase % self.pool, batch, self.faster_width),
            queue=like.new_zeros(self.pool - 1 - phase % self.pool, batch, self.faster_width),
        )

    def gather(self, faster: Tensor, pending: Tensor) -> tuple[Tensor, Tensor]:
        """Whole frames of this tier from (time, batch, faster channels), and what is left over."""
        assert self.down is not None
        heard = torch.cat([pending.to(faster.dtype), faster])
        frames, batch = heard.shape[0] // self.pool, heard.shape[1]
        whole = heard[: frames * self.pool].view(frames, self.pool, batch, self.faster_width)
        pooled = whole.permute(0, 2, 1, 3).reshape(frames, batch, self.pool * self.faster_width)
        return self.down(pooled), heard[frames * self.pool :]

    def spread(self, slow: Tensor, queue: Tensor, time: int) -> tuple[Tensor, Tensor]:
        """The faster tier's next `time` frames of this tier's output (frames, batch, channels), and the rest."""
        assert self.up is not None
        up: Tensor = self.up(slow)
        frames, batch = slow.shape[:2]
        fast = up.view(frames, batch, self.pool, self.faster_width).permute(0, 2, 1, 3)
        ready = torch.cat([queue.to(up.dtype), fast.reshape(frames * self.pool, batch, self.faster_width)])
        return ready[:time], ready[time:]

    def forward(
        self, a: Tensor, histories: tuple[Tensor, ...], condition: Condition | None
    ) -> tuple[Tensor, Tensor | None, tuple[Tensor, ...]]:
        """Run the layers over (time, batch, channels): last residual stream, skip sum if any, new histories."""
        if self._fuses(a, histories):
            weights = [weight for layer in self.stack for weight in layer.weights(condition, a.shape[1])]
            dilations = [layer.dilation for layer in self.stack]
            frames = None if condition is None else condition.index
            return fused.run_layers(a, histories, weights, dilations, frames)
        skips: Tensor | None = None
        kept: list[Tensor] = []
        for layer, history in zip(self.stack, histories, strict=True):
            a, skip, history = layer(a, history, condition)
            kept.append(history)
            if skip is not None:
                skips = skip if skips is None else skips + skip
        return a, skips, tuple(kept)
