"""The networks that speed is measured on, with random weights, and what their logits should be."""

import math

import numpy as np
from numpy.typing import NDArray

from audio_gen.engine import Engine
from audio_gen.engine.pack import tensor_shapes
from audio_gen.settings import NetworkSettings
from audio_gen.shape import NetworkShape

DEFAULT = NetworkSettings()
NETWORKS = {
    "tiny": NetworkShape(256, (20,), (32,), skip_channels=64, head_channels=64),
    "small": NetworkShape(256, (20,), (64,), skip_channels=128, head_channels=128),
    "base": NetworkShape(256, (30,), (64,), skip_channels=256, head_channels=256),
    "large": NetworkShape(256, (30,), (128,), skip_channels=256, head_channels=256),
    "tiers-drums": NetworkShape(256, (4, 6, 7, 6), (64, 96, 128, 128), (4, 4, 4), predictors=(16, 32)),
    "tiers": NetworkShape(
        256,
        tuple(DEFAULT.layers),
        tuple(DEFAULT.channels),
        tuple(DEFAULT.pool),
        head_channels=DEFAULT.head_channels,
        predictors=(16, 32),
    ),
}
"""Four classic shapes (one tier with skips), a small one in tiers and a recipe's default, with
two linear predictors."""

Tensors = dict[str, NDArray[np.float32]]


def random_tensors(shape: NetworkShape) -> Tensors:
    """Weights that keep activations near unit variance; logits spread by about 2."""
    generator = np.random.default_rng(0)
    tensors = {}
    for name, size in tensor_shapes(shape).items():
        values = generator.standard_normal(size)
        if name.endswith(".bias"):
            values *= 0.1
        elif name == "embedding.weight":
            values /= math.sqrt(shape.input_codes)
        else:
            values /= math.sqrt(size[1])
        if ".residual." in name or ".skip." in name:  # a tier adds up its layers
            values *= 3.0 / math.sqrt(shape.layers[int(name.split(".")[1])])
        if name == "head.logits.weight":
            values *= 1.5
        tensors[name] = values.astype(np.float32)
    return tensors


def compiled(shape: NetworkShape, tensors: Tensors, precision: str, isa: str | None = None) -> Engine:
    """The engine in a precision; int8 with steps that hold the largest activations of some random music."""
    if precision == "fp32":
        return Engine(shape, tensors, isa=isa)
    scales = _scales(shape, tensors) if precision == "int8" else None
    return Engine(shape, tensors, isa=isa, precision=precision, scales=scales)


def _scales(shape: NetworkShape, tensors: Tensors) -> Tensors:
    from audio_gen.quantization.forward import forward

    scales: Tensors = {}

    def look(name: str, activations: NDArray[np.float32]) -> NDArray[np.float32]:
        largest = np.abs(activations).max(axis=(0, 1))
        scales[name] = np.maximum(largest, 1e-3 * largest.max() + 1e-6).astype(np.float32) / np.float32(127)
        return activations

    tokens = random_tokens(shape, 4, 2048, seed=1)
    forward(shape, tensors, tokens, np.zeros((4, 0), int), None, look)
    return scales


def random_tokens(shape: NetworkShape, streams: int, time: int, seed: int = 0) -> NDArray[np.uint16]:
    """uint16 (streams, time)."""
    return np.random.default_rng(seed).integers(0, shape.levels, (streams, time)).astype(np.uint16)


def reference_logits(
    shape: NetworkShape, tensors: Tensors, tokens: NDArray[np.uint16]
) -> NDArray[np.float64]:
    """(time, levels) by the PyTorch network in float64, for one stream's tokens (1, time)."""
    import torch

    from audio_gen.network import Network

    network = Network(shape).double()
    network.load_state_dict({name: torch.from_numpy(tensor).double() for name, tensor in tensors.items()})
    before = np.concatenate([[shape.levels // 2], tokens[0, :-1].astype(np.int64)])
    with torch.no_grad():
        logits: NDArray[np.float64] = network(torch.from_numpy(before)[None])[0][0].numpy()
    return logits


def errors(ours: NDArray[np.float32], reference: NDArray[np.float64]) -> dict[str, float]:
    """Largest difference of a logit, and bits per sample that drawing from ours costs (mean KL divergence)."""
    ours = ours.astype(np.float64)
    p, q = _log_softmax(reference), _log_softmax(ours)
    kl = float((np.exp(p) * (p - q)).sum(-1).mean() / math.log(2.0))
    return {"logits": float(np.abs(ours - reference).max()), "kl_bits": max(kl, 0.0)}


def _log_softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    top = logits - logits.max(-1, keepdims=True)
    result: NDArray[np.float64] = top - np.log(np.exp(top).sum(-1, keepdims=True))
    return result
