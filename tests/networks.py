"""Random networks for tests: any shape, activations and logits of the size that training ends with."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audio_gen.engine.pack import scale_shapes, tensor_shapes
from audio_gen.shape import NetworkShape


def network_settings(
    layers: list[int],
    channels: list[int],
    pool: list[int] | None = None,
    *,
    levels: int = 256,
    labels: dict[str, list[str]] | None = None,
    **others: Any,
) -> dict[str, Any]:
    """The dictionary of a checkpoint's "network", from the sizes that matter and defaults for the rest."""
    settings: dict[str, Any] = {
        "levels": levels,
        "layers": layers,
        "channels": channels,
        "pool": pool or [],
        "dilation_cycle": 10,
        "kernel_size": 2,
        "skip_channels": 0,
        "head_channels": 32,
        "condition_channels": 8,
        "labels": labels or {},
        "curve_channels": 0,
        "hop": 256,
    }
    return settings | others


def random_tensors(settings: Mapping[str, Any] | NetworkShape, seed: int) -> dict[str, NDArray[np.float32]]:
    """Weights by name, float32, that keep activations near unit variance; logits spread by about 2."""
    shape = settings if isinstance(settings, NetworkShape) else NetworkShape.from_dict(settings)
    generator = np.random.default_rng(seed)
    tensors = {}
    for name, size in tensor_shapes(shape).items():
        values = generator.standard_normal(size)
        if name.endswith(".bias"):
            values *= 0.1
        elif name == "embedding.weight":
            values /= np.sqrt(shape.input_codes)
        elif not name.startswith("labels"):
            values /= np.sqrt(size[1])
        if ".residual." in name or ".skip." in name:  # a tier adds up its layers
            values *= 3.0 / np.sqrt(shape.layers[int(name.split(".")[1])])
        if name == "head.logits.weight":
            values *= 1.5
        if name == "head.logits.weight":
            values[shape.levels :] *= 0.3
        if name == "head.logits.bias" and shape.anchored:
            values[-2] -= 5.0  # an anchor that what is said of each token alone is heard beside
        tensors[name] = values.astype(np.float32)
    return tensors


def random_scales(settings: Mapping[str, Any] | NetworkShape, seed: int) -> dict[str, NDArray[np.float32]]:
    """Steps of int8 that suit the activations of `random_tensors`, each channel's another."""
    shape = settings if isinstance(settings, NetworkShape) else NetworkShape.from_dict(settings)
    generator = np.random.default_rng(seed)
    scales = {}
    for name, channels in scale_shapes(shape).items():
        largest = 1.0 if name.endswith(".gated") else 16.0
        scales[name] = (largest / 127.0 * generator.uniform(0.7, 1.0, channels)).astype(np.float32)
    return scales
