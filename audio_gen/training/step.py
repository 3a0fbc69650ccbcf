"""One training step: loss in bits per sample, gradient, update, average."""

import math
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from audio_gen.data.batches import Batch
from audio_gen.network import Network, NetworkState, compiled, fused
from audio_gen.settings import TrainSettings
from audio_gen.training.optimisers import update
from audio_gen.training.state import TrainingState

BITS = 1.0 / math.log(2.0)
SPIKE = 3.0
"""A step whose loss exceeds the running mean by this many bits is not taken, unless that is owed to the batch ..."""
SETTLED = 500
"""... once this many steps have made the mean mean something. A mean worse than knowing nothing counts as that."""


def loss_bits(
    network: Network, batch: Batch, carried: NetworkState, device: torch.device
) -> tuple[Tensor, NetworkState]:
    """Mean bits per sample over the batch, by its weights, and the state after it."""
    inputs, targets, weights, fresh, labels = (
        torch.from_numpy(array).to(device)
        for array in (batch.inputs, batch.targets, batch.weights, batch.fresh, batch.labels)
    )
    curves = None if batch.curves is None else torch.from_numpy(batch.curves).to(device)
    # Curves come crop by crop, so the position that chooses their frames starts at each crop, after those around it.
    state = replace(carried.keep(~fresh), position=network.shape.around * network.shape.hop)
    logits, state = network(inputs, state, labels, curves)
    # Time-major is how the network leaves them in memory: this way nothing is copied.
    logits, targets = logits.transpose(0, 1), targets.transpose(0, 1)
    losses = cross_entropy(logits.reshape(-1, logits.shape[-1]), targets.reshape(-1))
    weights = weights.transpose(0, 1).reshape(-1)
    return (losses * weights).sum() / weights.sum().clamp(min=1.0) * BITS, state.detach()


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """(rows,) in nats, of logits (rows, levels) and targets (rows,)."""
    if compiled.usable(logits, logits.shape[1]):
        return fused.cross_entropy(logits, targets)
    return F.cross_entropy(logits.float(), targets, reduction="none")


def take_step(
    state: TrainingState, batch: Batch, settings: TrainSettings, rate: float, autocast: torch.autocast
) -> float:
    """Learn from one batch at learning rate `rate`. Returns the loss in bits per sample; NaN if not finite.

    A step with a loss or gradient that is not finite, or a loss far above the running mean, changes no weight
    and drops the carried state, which may hold the damage. Not so where the averaged parameters, which no single
    step harms, find the batch as hard without that state: what is rare and loud has to be learned as well.
    """
    network, progress = state.network, state.progress
    device = next(network.parameters()).device
    with autocast:
        loss, carried = loss_bits(network, batch, state.carried, device)
    loss.backward()  # type: ignore[no-untyped-call]
    norm = torch.nn.utils.clip_grad_norm_(network.parameters(), settings.clip_norm)
    bits = loss.item()
    nothing = math.log2(network.shape.levels)  # what knowing nothing costs
    usual = nothing if progress.smooth_loss is None else min(nothing, progress.smooth_loss)
    harmed = not (math.isfinite(bits) and math.isfinite(norm.item()))
    if not harmed and progress.step >= SETTLED and bits > usual + SPIKE:
        harmed = bits > nothing or averaged_bits(state, batch, autocast) < bits - SPIKE
    if harmed:
        state.carried = network.start(len(batch.fresh))
        progress.skipped += 1
        network.zero_grad()
        return bits
    update(state.optimisers, rate)
    network.zero_grad()
    state.carried = carried
    progress.smooth_loss = bits if progress.smooth_loss is None else 0.98 * progress.smooth_loss + 0.02 * bits
    progress.samples += int(np.count_nonzero(batch.weights))
    average(state, settings.ema)
    return bits


@torch.no_grad()
def averaged_bits(state: TrainingState, batch: Batch, autocast: torch.autocast) -> float:
    """Mean bits per sample that the batch costs with the averaged parameters, from silence."""
    network, parameters = state.network, list(state.network.parameters())
    present = [parameter.data for parameter in parameters]
    for parameter, averaged in zip(parameters, state.average, strict=True):
        parameter.data = averaged
    try:
        with autocast:
            loss, _ = loss_bits(network, batch, network.start(len(batch.fresh)), parameters[0].device)
    finally:
        for parameter, data in zip(parameters, present, strict=True):
            parameter.data = data
    return loss.item()


@torch.no_grad()
def average(state: TrainingState, decay: float) -> None:
    """Move the averaged parameters towards the present ones; early on faster, so that the start is forgotten."""
    decay = min(decay, (1.0 + state.progress.step) / (10.0 + state.progress.step))
    torch._foreach_lerp_(state.average, list(state.network.parameters()), 1.0 - decay)


def deafen(network: Network) -> None:
    """Whatever it hears is the same to it, now and after any step: its rows of the embedding are one vector, and so is
    their gradient. The network stays like any other to those who play it."""
    table = network.embedding.weight
    with torch.no_grad():
        table.copy_(table.mean(0, keepdim=True).expand_as(table).contiguous())
    table.register_hook(  # type: ignore[no-untyped-call]
        lambda gradient: gradient.sum(0, keepdim=True).expand_as(gradient).contiguous()
    )


def learning_rate(settings: TrainSettings, progress: float) -> float:
    """Rate at `progress` in [0, 1] of the run: linear warm-up, plateau, linear fall to 0."""
    if progress < settings.warmup:
        return settings.rate * progress / settings.warmup
    left = (1.0 - progress) / settings.decay if settings.decay else 1.0
    return settings.rate * min(1.0, max(0.0, left))
