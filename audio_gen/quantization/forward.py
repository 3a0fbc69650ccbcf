"""The network in NumPy, on whole sequences, with a look at every activation that int8 has steps for.

Calibration needs what flows inside, which neither the compiled engine nor a plain installation without PyTorch
shows. It is not a sampler: no state, no chunks.
"""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from audio_gen.curves import surround
from audio_gen.engine.predictors import Predictors
from audio_gen.shape import NetworkShape

Array = NDArray[np.float32]
Look = Callable[[str, Array], Array]
"""Given a site's name and what flows there (rows, frames, channels): what the matrix product is to read."""


def forward(
    shape: NetworkShape,
    tensors: Mapping[str, Array],
    tokens: NDArray[np.integer],
    labels: NDArray[np.integer],
    curves: Array | None,
    look: Look,
) -> Array:
    """Logits (rows, time, levels) that predict `tokens` (rows, time), each row from silence.

    `labels` (rows, number of labels) as in the network, 0 is "no label"; `curves` (rows, frames, curve channels).
    """
    before = np.full_like(tokens[:, :1], shape.levels // 2)
    heard = np.concatenate([before, tokens[:, :-1]], axis=1)
    predictors = Predictors(shape)
    codes, places = predictors.hear(predictors.start(len(heard)), 0, heard, curves)
    inputs = [tensors["embedding.weight"][codes].sum(axis=2)]
    for k, pool in enumerate(shape.pool, start=1):
        faster = look(f"tiers.{k}.down.input", inputs[-1])
        rows, frames = len(faster), faster.shape[1] // pool
        pooled = faster[:, : frames * pool].reshape(rows, frames, -1)
        inputs.append(_linear(tensors, f"tiers.{k}.down", pooled))
    condition = _condition(shape, tensors, labels, curves)
    slower: Array | None = None
    skips: Array | None = None
    for k in reversed(range(shape.tiers)):
        a = inputs[k]
        if slower is not None:
            a = a + _spread(shape, tensors, k + 1, look(f"tiers.{k + 1}.up.input", slower), a.shape[1])
        steer = _steer(shape, condition, k, a.shape[1])
        for i in range(shape.layers[k]):
            a, skip = _layer(shape, tensors, k, i, a, steer, look)
            skips = skip if skips is None else skips + (0.0 if skip is None else skip)
        slower = a
    assert slower is not None
    streams = slower if skips is None else skips
    hidden = _linear(tensors, "head.hidden", look("head.hidden.input", np.maximum(streams, 0.0)))
    logits = _linear(tensors, "head.logits", look("head.logits.input", np.maximum(hidden, 0.0)))
    return _anchored(logits, places, shape.levels) if shape.anchored else logits


def _anchored(logits: Array, places: Array, levels: int) -> Array:
    """As anchor.h says."""
    count, told = places.shape[-1], logits[..., levels:]
    powers = np.exp2(np.clip(told, -60.0, 60.0))
    shares = powers[..., :count] / powers[..., :count].sum(axis=-1, keepdims=True)
    place = told[..., count] + (shares * places).sum(axis=-1)
    d = np.arange(levels, dtype=np.float32) - place[..., None]
    sharp, broad = powers[..., count + 1, None], powers[..., count + 2, None]
    return np.asarray(logits[..., :levels] - sharp * (np.hypot(d, broad) - broad), np.float32)


def _linear(tensors: Mapping[str, Array], name: str, x: Array) -> Array:
    return x @ tensors[f"{name}.weight"].T + tensors[f"{name}.bias"]


def _layer(
    shape: NetworkShape,
    tensors: Mapping[str, Array],
    k: int,
    i: int,
    a: Array,
    steer: Array | None,
    look: Look,
) -> tuple[Array, Array | None]:
    """Next residual stream (rows, frames, channels), and the skip's contribution if there is one."""
    name, time, width = f"tiers.{k}.layers.{i}", a.shape[1], shape.channels[k]
    x = look(f"{name}.input", a)
    z = np.tile(tensors[f"{name}.dilated.bias"], (len(a), time, 1))
    for tap, weight in enumerate(np.split(tensors[f"{name}.dilated.weight"], shape.kernel_size, axis=1)):
        delay = (shape.kernel_size - 1 - tap) * shape.dilation(i)
        if delay < time:
            z[:, delay:] += x[:, : time - delay] @ weight.T
    if steer is not None:
        z += steer @ tensors[f"{name}.condition.weight"].T
    with np.errstate(over="ignore"):  # a shut gate
        h = np.asarray(np.tanh(z[..., :width]) / (1.0 + np.exp(-z[..., width:])), np.float32)
    h = look(f"{name}.gated", h)
    skip = _linear(tensors, f"{name}.skip", h) if k == 0 and shape.skip_channels else None
    if shape.has_residual(k, i):
        a = a + _linear(tensors, f"{name}.residual", h)
    return a, skip


def _spread(shape: NetworkShape, tensors: Mapping[str, Array], k: int, slow: Array, time: int) -> Array:
    """What the first `time` frames of tier k - 1 hear of tier k: nothing until its first frame is complete."""
    pool, width = shape.pool[k - 1], shape.channels[k - 1]
    up = _linear(tensors, f"tiers.{k}.up", slow).reshape(len(slow), -1, width)
    silent = np.zeros((len(slow), pool - 1, width), np.float32)
    return np.concatenate([silent, up], axis=1)[:, :time]


def _condition(
    shape: NetworkShape, tensors: Mapping[str, Array], labels: NDArray[np.integer], curves: Array | None
) -> Array | None:
    """(rows, curve frames or 1, condition channels)"""
    if not shape.conditioned:
        return None
    steer = np.zeros((len(labels), 1, shape.condition_channels), np.float32)
    for column, name in enumerate(shape.labels):
        steer = steer + tensors[f"labels.{name}.weight"][labels[:, column]][:, None]
    return steer if curves is None else steer + _linear(tensors, "curves", surround(curves, shape.offsets))


def _steer(shape: NetworkShape, condition: Array | None, k: int, time: int) -> Array | None:
    """The condition of each frame of tier k: that of the curve frame at its last sample."""
    if condition is None or condition.shape[1] == 1:
        return condition
    ends = (np.arange(time) + 1) * shape.pooling[k] - 1
    return condition[:, np.minimum(ends // shape.hop, condition.shape[1] - 1)]
