"""The network's equations in float64 numpy, on whole sequences, slowly. It judges the compiled engine."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from reference_predictors import heard, reference_places

from audio_gen.shape import NetworkShape

Array = NDArray[np.float64]


def reference_logits(
    settings: Mapping[str, Any] | NetworkShape,
    tensors: Mapping[str, NDArray[np.floating]],
    tokens: NDArray[np.integer],
    labels: NDArray[np.integer] | None = None,
    curves: NDArray[np.floating] | None = None,
) -> Array:
    """One stream: logits[t] (time, levels) predict tokens[t] (time,); labels (names,), or the shares of mixtures
    (time, rows of all labels); curves (frames, K)."""
    shape = settings if isinstance(settings, NetworkShape) else NetworkShape.from_dict(settings)
    w = {name: np.asarray(tensor, np.float64) for name, tensor in tensors.items()}
    inputs = np.concatenate([[shape.levels // 2], tokens[:-1]]).astype(int)
    x = [heard(shape, inputs, w["embedding.weight"], curves)]
    for k, pool in enumerate(shape.pool, start=1):
        frames = len(x[-1]) // pool
        x.append(_linear(w, f"tiers.{k}.down", x[-1][: frames * pool].reshape(frames, -1)))
    above = None
    for k in reversed(range(shape.tiers)):
        a = x[k]
        if above is not None:
            a = a + _spread(w, shape, k, above, len(a))
        above, skip = _layers(w, shape, k, a, _conditions(w, shape, k, len(a), labels, curves))
    g = skip if shape.skip_channels else above
    hidden = np.maximum(_linear(w, "head.hidden", np.maximum(g, 0)), 0)
    logits = _linear(w, "head.logits", hidden)
    return _anchored(logits, reference_places(shape, inputs, curves)) if shape.anchored else logits


def _anchored(logits: Array, places: Array) -> Array:
    """Less sharp (sqrt(d^2 + broad^2) - broad), d the distance from where the sample is expected."""
    count = places.shape[1]
    free, shares, told = np.split(logits, [-count - 3, -3], axis=1)
    shares = 2.0**shares / (2.0**shares).sum(axis=1, keepdims=True)
    place, sharp, broad = told[:, 0] + (shares * places).sum(axis=1), 2.0 ** told[:, 1], 2.0 ** told[:, 2]
    d = np.arange(free.shape[1]) - place[:, None]
    return free - sharp[:, None] * (np.hypot(d, broad[:, None]) - broad[:, None])


def _linear(w: Mapping[str, Array], name: str, x: Array) -> Array:
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def _spread(w: Mapping[str, Array], shape: NetworkShape, k: int, slow: Array, time: int) -> Array:
    """What frame i of tier k hears from above: slot (i + 1) mod p of the slower frame (i + 1) div p - 1."""
    pool, heard = shape.pool[k], np.zeros((time, shape.channels[k]))
    up = _linear(w, f"tiers.{k + 1}.up", slow).reshape(len(slow), pool, shape.channels[k])
    for i in range(time):
        j, slot = (i + 1) // pool - 1, (i + 1) % pool
        if j >= 0:
            heard[i] = up[j, slot]
    return heard


def _conditions(
    w: Mapping[str, Array], shape: NetworkShape, k: int, time: int, labels: Any, curves: Any
) -> Array | None:
    """c of the curve frame that each frame of tier k uses, (time, condition channels)."""
    if not shape.conditioned:
        return None
    c = np.zeros((time, shape.condition_channels))
    if np.ndim(labels) == 2:  # (samples, rows): how much of each row, at a frame's last sample
        rows = [w[f"labels.{name}.weight"] for name in shape.labels]
        last = (np.arange(time) + 1) * shape.pooling[k] - 1
        c += labels[last] @ np.concatenate([np.zeros((0, shape.condition_channels)), *rows])
    else:
        for name, index in zip(shape.labels, labels if labels is not None else [], strict=True):
            c += w[f"labels.{name}.weight"][index]
    if shape.curve_channels:
        frames = [((n + 1) * shape.pooling[k] - 1) // shape.hop for n in range(time)]
        last = len(curves) - 1
        near = [np.clip(np.minimum(frames, last) + offset, 0, last) for offset in shape.offsets]
        told = np.concatenate([np.asarray(curves, np.float64)[each] for each in near], axis=-1)
        c += _linear(w, "curves", told)
    return c


def _layers(
    w: Mapping[str, Array], shape: NetworkShape, k: int, a: Array, c: Array | None
) -> tuple[Array, Array]:
    """Last residual stream and skip sum of tier k."""
    width, skip = shape.channels[k], np.zeros((len(a), shape.skip_channels))
    for i in range(shape.layers[k]):
        name, dilation = f"tiers.{k}.layers.{i}", 2 ** (i % shape.dilation_cycle)
        delays = [tap * dilation for tap in reversed(range(shape.kernel_size))]
        past = [np.concatenate([np.zeros((d, width)), a])[: len(a)] for d in delays]
        z = _linear(w, f"{name}.dilated", np.concatenate(past, axis=1))
        if c is not None:
            z += c @ w[f"{name}.condition.weight"].T
        h = np.tanh(z[:, :width]) / (1 + np.exp(-z[:, width:]))
        if k == 0 and shape.skip_channels:
            skip += _linear(w, f"{name}.skip", h)
        if shape.has_residual(k, i):
            a = a + _linear(w, f"{name}.residual", h)
    return a, skip
