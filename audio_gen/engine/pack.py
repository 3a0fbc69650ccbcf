"""Checked weights, laid out in the order in which the compiled engine reads them.

Every check of sizes and values happens here: the C code trusts what it is given.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audio_gen.engine.predictors import envelope_tables, token_amplitudes
from audio_gen.errors import EngineError
from audio_gen.shape import NetworkShape

Array = NDArray[np.float32]
Words = NDArray[np.uint32]
Part = Words | Array | NDArray[np.int32]

PRECISIONS = {"fp32": 32, "bf16": 16, "int8": 8}
"""Bits per weight of a matrix, in the order of engine.h."""

PANEL = 64  # as in engine.h
NARROW = 32
GATE_GROUP = 16
MAX_TIERS = 8
MAX_TAPS = 8
MAX_LEVELS = 1024
MAX_CHANNELS = 4096
MAX_WEIGHTS = 1 << 28
MAX_STATE = 1 << 28
MIN_STEP, MAX_STEP = 1e-30, 1e30
"""Of an int8 activation; the reciprocals of both are normal numbers."""


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
        shape.curve_inputs,
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
    if weight_count(shape) > MAX_WEIGHTS or state > MAX_STATE:
        raise EngineError(
            f"network too large for the engine: over 1 GiB of weights or state; got {shape.to_dict()}"
        )


def tensor_shapes(shape: NetworkShape) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of a network."""
    return dict(_tensor_shapes(shape))


def _tensor_shapes(shape: NetworkShape) -> Iterator[tuple[str, tuple[int, ...]]]:
    condition = shape.condition_channels
    yield "embedding.weight", (shape.input_rows, shape.channels[0])
    for name, values in shape.labels.items():
        yield f"labels.{name}.weight", (len(values) + 1, condition)
    if shape.curve_channels:
        yield from _linear("curves", condition, shape.curve_inputs)
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
    yield from _linear("head.logits", shape.logit_rows, shape.head_channels)


def _linear(name: str, outputs: int, inputs: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", (outputs, inputs)
    yield f"{name}.bias", (outputs,)


def weight_count(shape: NetworkShape) -> int:
    """Parameters of a network: values in all of its tensors."""
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


def scale_shapes(shape: NetworkShape) -> dict[str, int]:
    """Name and channels of every vector of activations that int8 reads in steps."""
    sizes = {}
    for k, width in enumerate(shape.channels):
        if k:
            sizes[f"tiers.{k}.down.input"] = shape.channels[k - 1]
        for i in range(shape.layers[k]):
            sizes[f"tiers.{k}.layers.{i}.input"] = width
            sizes[f"tiers.{k}.layers.{i}.gated"] = width
        if k:
            sizes[f"tiers.{k}.up.input"] = width
    sizes["head.hidden.input"] = shape.head_inputs
    sizes["head.logits.input"] = shape.head_channels
    return sizes


def check_scales(shape: NetworkShape, scales: Mapping[str, NDArray[Any]] | None) -> dict[str, Array]:
    """The steps of int8 as float32. Raises EngineError unless there is one above 0 for every channel."""
    wanted, given = scale_shapes(shape), scales or {}
    for name in wanted.keys() ^ given.keys():
        problem = "are missing" if name in wanted else "belong to no part of this network"
        raise EngineError(f"int8 scales {name} {problem}: calibrate the model again")
    checked: dict[str, Array] = {}
    for name, channels in wanted.items():
        steps = np.asarray(given[name])
        if steps.shape != (channels,) or steps.dtype not in (np.float32, np.float64):
            raise EngineError(
                f"int8 scales {name} must be float32 ({channels},), got {steps.dtype} {steps.shape}: "
                "calibrate the model again"
            )
        if not ((steps >= MIN_STEP) & (steps <= MAX_STEP)).all():
            raise EngineError(
                f"int8 scales {name} must be from {MIN_STEP:g} to {MAX_STEP:g}: calibrate the model again"
            )
        checked[name] = steps.astype(np.float32)
    return checked


def pack(
    shape: NetworkShape,
    tensors: Mapping[str, Array],
    precision: str = "fp32",
    scales: Mapping[str, Array] | None = None,
) -> Words:
    """All weights one after another, 32-bit words (count,), 64-byte aligned, in the order of `library.c`.

    `tensors` as `check_tensors` returns them; `scales`, for int8, as `check_scales` does.
    """
    parts = list(_Packing(shape, tensors, PRECISIONS[precision], scales or {}).parts())
    packed = aligned(sum(part.size for part in parts)).view(np.uint32)
    np.concatenate([np.ascontiguousarray(part).reshape(-1).view(np.uint32) for part in parts], out=packed)
    return packed


def aligned(count: int) -> Array:
    """Zeros, float32 (count,), at a 64-byte boundary."""
    room = np.zeros(count + 16, np.float32)
    start = -room.ctypes.data % 64 // 4
    return room[start : start + count]


@dataclass(frozen=True)
class _Packing:
    """The parts of the packed weights, one after another."""

    shape: NetworkShape
    tensors: Mapping[str, Array]
    bits: int
    """Per weight of a matrix."""
    scales: Mapping[str, Array]

    def parts(self) -> Iterator[Part]:
        shape, tensors = self.shape, self.tensors
        if shape.predictor_count:
            yield token_amplitudes(shape.levels).view(np.uint32)
        if shape.envelope:
            tables = [table.reshape(-1).view(np.uint32) for table in envelope_tables(shape).values()]
            before = shape.levels + sum(table.size for table in tables)
            yield from tables
            yield np.zeros(padded(before) - before, np.uint32)
        yield _pad_rows(tensors["embedding.weight"].T).T
        if shape.curve_channels:
            yield _panels(_pad_rows(tensors["curves.weight"]))
        for k in reversed(range(shape.tiers)):
            yield from self._tier(k)
        if shape.skip_channels:
            skips = [tensors[f"tiers.0.layers.{i}.skip.bias"] for i in range(shape.layers[0])]
            yield _pad_rows(np.asarray(np.sum(skips, axis=0, dtype=np.float64), np.float32))
        for name in ("head.hidden", "head.logits"):
            yield from self._steps(f"{name}.input")
            yield _pad_rows(tensors[f"{name}.bias"])
            yield from self._matrices([tensors[f"{name}.weight"]], f"{name}.input")

    def _tier(self, k: int) -> Iterator[Part]:
        name, pool = f"tiers.{k}", self.shape.pool[k - 1] if k else 0
        if k:
            yield _pad_rows(self.tensors[f"{name}.down.bias"])
            yield from self._steps(f"{name}.down.input")
            for slot in np.split(self.tensors[f"{name}.down.weight"], pool, axis=1):
                yield from self._matrices([slot], f"{name}.down.input")
        for i in range(self.shape.layers[k]):
            yield from self._layer(k, i)
        if k:
            yield from self._steps(f"{name}.up.input")
            for bias in np.split(self.tensors[f"{name}.up.bias"], pool):
                yield _pad_rows(bias)
            for slot in np.split(self.tensors[f"{name}.up.weight"], pool, axis=0):
                yield from self._matrices([slot], f"{name}.up.input")

    def _layer(self, k: int, i: int) -> Iterator[Part]:
        shape, tensors, name = self.shape, self.tensors, f"tiers.{k}.layers.{i}"
        yield _gate_rows(tensors[f"{name}.dilated.bias"])
        if shape.conditioned:
            yield _panels(_gate_rows(tensors[f"{name}.condition.weight"]))
        yield from self._steps(f"{name}.input")
        taps = np.split(tensors[f"{name}.dilated.weight"], shape.kernel_size, axis=1)
        yield from self._matrices([_gate_rows(tap) for tap in taps], f"{name}.input")
        yield from self._steps(f"{name}.gated")
        if k == 0 and shape.skip_channels:
            yield from self._matrices([tensors[f"{name}.skip.weight"]], f"{name}.gated")
        if shape.has_residual(k, i):
            yield _pad_rows(tensors[f"{name}.residual.bias"])
            yield from self._matrices([tensors[f"{name}.residual.weight"]], f"{name}.gated")

    def _steps(self, name: str) -> Iterator[Array]:
        """int8: how many steps of each channel make 1."""
        if self.bits == 8:
            yield _pad_rows(np.float32(1.0) / self.scales[name])

    def _matrices(self, matrices: list[Array], inputs: str) -> Iterator[Part]:
        """Matrices (outputs, inputs) that read the same kind of inputs into the same sums."""
        padded_rows = [_pad_rows(matrix) for matrix in matrices]
        if self.bits == 8:
            scale, rounded = quantised(padded_rows, self.scales[inputs])
            yield scale
            yield np.asarray(-128 * sum(matrix.sum(axis=1, dtype=np.int64) for matrix in rounded), np.int32)
            yield from (_panels(matrix, np.int8) for matrix in rounded)
        elif self.bits == 16:
            yield from (_panels(_bfloat16(matrix), np.uint16) for matrix in padded_rows)
        else:
            yield from (_panels(matrix) for matrix in padded_rows)


def quantised(matrices: list[Array], steps: Array) -> tuple[Array, list[NDArray[np.int8]]]:
    """Row scales float32 (outputs,) and whole weights from -127 to 127, of matrices (outputs, inputs).

    `steps` (inputs,): what one step of each input channel is worth. All matrices share a row's scale.
    """
    products = [matrix.astype(np.float64) * steps for matrix in matrices]
    largest = np.max([np.abs(product).max(axis=1) for product in products], axis=0)
    scale = np.maximum(largest / 127.0, 2.0**-126).astype(np.float32)
    return scale, [
        np.clip(np.rint(product / scale[:, None].astype(np.float64)), -127, 127).astype(np.int8)
        for product in products
    ]


def _bfloat16(values: Array) -> NDArray[np.uint16]:
    """The upper halves of the nearest bfloat16 numbers, half to even; the largest one instead of infinity."""
    bits = values.view(np.uint32)
    rounded = (bits.astype(np.uint64) + 0x7FFF + (bits >> 16 & 1)) >> 16
    endless = (rounded & 0x7FFF) == 0x7F80
    return np.asarray(rounded - endless, np.uint16)


def _pad_rows(matrix: Array) -> Array:
    """Zero rows up to a multiple of 32."""
    missing = padded(len(matrix)) - len(matrix)
    return np.concatenate([matrix, np.zeros((missing, *matrix.shape[1:]), np.float32)])


def _panels(weight: NDArray[Any], kind: type = np.float32) -> Words:
    """(outputs padded, inputs) as words of 1 float32, 2 uint16 or 4 int8 inputs: 64 outputs side by side for each
    group of inputs; then the next 64 outputs. Missing inputs weigh nothing."""
    together = 4 // np.dtype(kind).itemsize
    outputs, inputs = weight.shape
    columns = np.zeros((-(-inputs // together) * together, outputs), kind)
    columns[:inputs] = weight.T
    groups = columns.reshape(-1, together, outputs).transpose(0, 2, 1)
    words = np.ascontiguousarray(groups).view(np.uint32)[..., 0]
    return np.concatenate([words[:, start : start + PANEL].ravel() for start in range(0, outputs, PANEL)])


def _gate_rows(matrix: Array) -> Array:
    """(2 C, ...) tanh rows, then sigmoid rows, as 16 and 16 by turns, times the exponents' constants.

    tanh(a) needs exp(-2 a) = 2 ** (-2 log2(e) a), sigmoid(b) needs exp(-b) = 2 ** (-log2(e) b).
    """
    scales = np.array([-2.0 / np.log(2.0), -1.0 / np.log(2.0)]).astype(np.float32)
    halves = np.split(matrix, 2)
    scaled = [_pad_rows(half * scale) for half, scale in zip(halves, scales, strict=True)]
    groups = [half.reshape(-1, GATE_GROUP, *matrix.shape[1:]) for half in scaled]
    return np.stack(groups, axis=1).reshape(-1, *matrix.shape[1:])
