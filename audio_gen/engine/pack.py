"""Checked weights, laid out in the order in which the compiled engine reads them.

Every check of sizes and values happens here: the C code trusts what it is given.
"""

from collections.abc import Iterator, Mapping
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audio_gen.errors import EngineError
from audio_gen.shape import NetworkShape

Array = NDArray[np.float32]

PANEL = 64  # as in engine.h
NARROW = 32
GATE_GROUP = 16
MAX_TIERS = 8
MAX_TAPS = 8
MAX_LEVELS = 1024
MAX_CHANNELS = 4096
MAX_WEIGHTS = 1 << 28
MAX_STATE = 1 << 28


def padded(channels: int) -> int:
    """Room for `channels` values: the next multiple of 32."""
    return -(-channels // NARROW) * NARROW


def check_shape(shape: NetworkShape) -> None:
    """Raises EngineError if `shape` is larger than the engine is built for."""
    widths = [
        *shape.channels,
        shape.skip_channels,
        shape.head_channels,
        shape.condition_channels,
        shape.curve_channels,
    ]
    limits = [
        (shape.levels % NARROW == 0, "levels must be a multiple of 32"),
        (shape.levels <= MAX_LEVELS, f"levels may be at most {MAX_LEVELS}"),
        (shape.tiers <= MAX_TIERS, f"there may be at most {MAX_TIERS} tiers"),
        (shape.kernel_size <= MAX_TAPS, f"kernel_size may be at most {MAX_TAPS}"),
        (max(widths) <= MAX_CHANNELS, f"no part may be wider than {MAX_CHANNELS} channels"),
        (max(shape.layers) <= 200, "a tier may have at most 200 layers"),
        (shape.dilation_cycle <= 16, "dilation_cycle may be at most 16"),
        (max(shape.pool, default=1) <= 256, "pool may be at most 256"),
        (prod(shape.pool) <= 1 << 20, "a frame may be at most 2**20 samples"),
        (not shape.conditioned or shape.condition_channels > 0, "labels and curves need condition_channels"),
    ]
    for holds, law in limits:
        if not holds:
            raise EngineError(f"network too large for the engine: {law}; got {shape.to_dict()}")
    state = sum(
        shape.layers[k]
        * shape.channels[k]
        * (2 << min(shape.dilation_cycle, shape.layers[k]))
        * shape.kernel_size
        for k in range(shape.tiers)
    )
    if _weight_count(shape) > MAX_WEIGHTS or state > MAX_STATE:
        raise EngineError(
            f"network too large for the engine: over 1 GiB of weights or state; got {shape.to_dict()}"
        )


def tensor_shapes(shape: NetworkShape) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of a network."""
    return dict(_tensor_shapes(shape))


def _tensor_shapes(shape: NetworkShape) -> Iterator[tuple[str, tuple[int, ...]]]:
    condition = shape.condition_channels
    yield "embedding.weight", (shape.levels, shape.channels[0])
    for name, values in shape.labels.items():
        yield f"labels.{name}.weight", (len(values) + 1, condition)
    if shape.curve_channels:
        yield from _linear("curves", condition, shape.curve_channels)
    for k, width in enumerate(shape.channels):
        if k:
            faster = shape.pool[k - 1] * shape.channels[k - 1]
            yield from _linear(f"tiers.{k}.down", width, faster)
            yield from _linear(f"tiers.{k}.up", faster, width)
        for i in range(shape.layers[k]):
            layer = f"tiers.{k}.layers.{i}"
            yield from _linear(f"{layer}.dilated", 2 * width, shape.kernel_size * width)
            if shape.conditioned:
                yield f"{layer}.condition.weight", (2 * width, condition)
            if shape.has_residual(k, i):
                yield from _linear(f"{layer}.residual", width, width)
            if k == 0 and shape.skip_channels:
                yield from _linear(f"{layer}.skip", shape.skip_channels, width)
    yield from _linear("head.hidden", shape.head_channels, shape.head_inputs)
    yield from _linear("head.logits", shape.levels, shape.head_channels)


def _linear(name: str, outputs: int, inputs: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", (outputs, inputs)
    yield f"{name}.bias", (outputs,)


def _weight_count(shape: NetworkShape) -> int:
    return sum(prod(size) for _, size in _tensor_shapes(shape))


def check_tensors(shape: NetworkShape, tensors: Mapping[str, NDArray[Any]]) -> dict[str, Array]:
    """The tensors as float32. Raises EngineError unless they are exactly those of `shape`, and finite."""
    wanted = tensor_shapes(shape)
    for name in wanted.keys() ^ tensors.keys():
        problem = "is missing" if name in wanted else "belongs to no part of this network"
        raise EngineError(f"weights: tensor {name} {problem}; the file is damaged or of another program")
    checked: dict[str, Array] = {}
    for name, size in wanted.items():
        tensor = np.asarray(tensors[name])
        if tensor.shape != size or tensor.dtype not in (np.float32, np.float16):
            got = f"{tensor.dtype} {tensor.shape}"
            raise EngineError(
                f"weights: tensor {name} must be float32 or float16 {size}, got {got}; the file is damaged"
            )
        if not np.isfinite(tensor).all():
            raise EngineError(
                f"weights: tensor {name} holds NaN or infinity; train again from an earlier checkpoint"
            )
        checked[name] = tensor.astype(np.float32)
    return checked


def pack(shape: NetworkShape, tensors: Mapping[str, Array]) -> Array:
    """All weights one after another, float32 (count,), 64-byte aligned, in the order of `library.c`."""
    parts = list(_parts(shape, tensors))
    packed = aligned(sum(part.size for part in parts))
    np.concatenate([part.ravel() for part in parts], out=packed)
    return packed


def aligned(count: int) -> Array:
    """Zeros, float32 (count,), at a 64-byte boundary."""
    room = np.zeros(count + 16, np.float32)
    start = -room.ctypes.data % 64 // 4
    return room[start : start + count]


def _parts(shape: NetworkShape, tensors: Mapping[str, Array]) -> Iterator[Array]:
    yield _pad_rows(tensors["embedding.weight"].T).T
    if shape.curve_channels:
        yield _panels(tensors["curves.weight"])
    for k in reversed(range(shape.tiers)):
        yield from _tier(shape, tensors, k)
    if shape.skip_channels:
        skips = [tensors[f"tiers.0.layers.{i}.skip.bias"] for i in range(shape.layers[0])]
        yield _pad_rows(np.asarray(np.sum(skips, axis=0, dtype=np.float64), np.float32))
    for name in ("head.hidden", "head.logits"):
        yield _pad_rows(tensors[f"{name}.bias"])
        yield _panels(tensors[f"{name}.weight"])


def _tier(shape: NetworkShape, tensors: Mapping[str, Array], k: int) -> Iterator[Array]:
    pool = shape.pool[k - 1] if k else 0
    if k:
        yield _pad_rows(tensors[f"tiers.{k}.down.bias"])
        for slot in np.split(tensors[f"tiers.{k}.down.weight"], pool, axis=1):
            yield _panels(slot)
    for i in range(shape.layers[k]):
        yield from _layer(shape, tensors, k, i)
    if k:
        for bias in np.split(tensors[f"tiers.{k}.up.bias"], pool):
            yield _pad_rows(bias)
        for slot in np.split(tensors[f"tiers.{k}.up.weight"], pool, axis=0):
            yield _panels(slot)


def _layer(shape: NetworkShape, tensors: Mapping[str, Array], k: int, i: int) -> Iterator[Array]:
    name = f"tiers.{k}.layers.{i}"
    yield _gate_rows(tensors[f"{name}.dilated.bias"])
    if shape.conditioned:
        yield _panels(_gate_rows(tensors[f"{name}.condition.weight"]))
    for tap in np.split(tensors[f"{name}.dilated.weight"], shape.kernel_size, axis=1):
        yield _panels(_gate_rows(tap))
    if k == 0 and shape.skip_channels:
        yield _panels(tensors[f"{name}.skip.weight"])
    if shape.has_residual(k, i):
        yield _pad_rows(tensors[f"{name}.residual.bias"])
        yield _panels(tensors[f"{name}.residual.weight"])


def _pad_rows(matrix: Array) -> Array:
    """Zero rows up to a multiple of 32."""
    missing = padded(len(matrix)) - len(matrix)
    return np.concatenate([matrix, np.zeros((missing, *matrix.shape[1:]), np.float32)])


def _panels(weight: Array) -> Array:
    """(outputs, inputs) as columns: 64 outputs side by side for each input; then the next 64 outputs."""
    columns = np.ascontiguousarray(_pad_rows(weight).T)
    panels = [columns[:, start : start + PANEL].ravel() for start in range(0, columns.shape[1], PANEL)]
    return np.concatenate(panels)


def _gate_rows(matrix: Array) -> Array:
    """(2 C, ...) tanh rows, then sigmoid rows, as 16 and 16 by turns, times the exponents' constants.

    tanh(a) needs exp(-2 a) = 2 ** (-2 log2(e) a), sigmoid(b) needs exp(-b) = 2 ** (-log2(e) b).
    """
    scales = np.array([-2.0 / np.log(2.0), -1.0 / np.log(2.0)]).astype(np.float32)
    halves = np.split(matrix, 2)
    scaled = [_pad_rows(half * scale) for half, scale in zip(halves, scales, strict=True)]
    groups = [half.reshape(-1, GATE_GROUP, *matrix.shape[1:]) for half in scaled]
    return np.stack(groups, axis=1).reshape(-1, *matrix.shape[1:])
