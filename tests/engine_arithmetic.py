"""The engine's arithmetic in every precision, written plainly in NumPy float32. It judges the engine to the last bit.

One stream, whole sequences at once; every line is one operation per number, in the order that engine.h states. All
arrays of activations are (time, channels).
"""

import numpy as np
from reference_predictors import heard, reference_places

from audio_gen.curves import surround

FULL_EXP2 = [0.00015353362, 0.0013398875, 0.00961843692, 0.0555033237, 0.240226477, 0.693147182, 1.0]


def rounded(x):
    """To bfloat16 and back, half to even."""
    bits = x.view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)


def full_exp2(x):
    x = np.clip(x, np.float32(-60), np.float32(60))
    power = np.rint(x)
    f = x - power
    p = np.float32(FULL_EXP2[0])
    for c in FULL_EXP2[1:]:
        p = p * f + np.float32(c)
    return np.ldexp(p, power.astype(np.int32))


class Arithmetic:
    """A network in one precision; `scales` are the steps of int8."""

    def __init__(self, shape, tensors, precision, scales=None):
        self.shape, self.w, self.precision, self.scales = shape, tensors, precision, scales

    def product(self, y, matrices, inputs, name):
        """y + sum of matrix @ input, where y is start + bias already."""
        if self.precision == "int8":
            steps = self.scales[name].astype(np.float64)
            largest = np.max([np.abs(matrix * steps).max(1) for matrix in matrices], axis=0)
            scale = np.maximum(largest / 127, 2.0**-126).astype(np.float32)
            total = np.zeros((len(inputs[0]), len(scale)), np.int64)
            for matrix, x in zip(matrices, inputs, strict=True):
                weights = np.rint(matrix * steps / scale[:, None].astype(np.float64)).astype(np.int64)
                reciprocal = np.float32(1.0) / self.scales[name]
                total += np.rint(np.clip(x * reciprocal, -127, 127)).astype(np.int64) @ weights.T
            return y + scale * total.astype(np.float32)
        for matrix, x in zip(matrices, inputs, strict=True):
            if self.precision == "bf16":
                count = matrix.shape[1]
                pairs = np.arange(count + count % 2) ^ 1  # the second of each pair first
                order = pairs[pairs < count]
                y = self.ascending(y, rounded(matrix)[:, order], rounded(x)[:, order])
            else:
                y = self.ascending(y, matrix, x)
        return y

    @staticmethod
    def ascending(y, matrix, x):
        for column, scalar in zip(matrix.T, x.T, strict=True):
            y = y + column * scalar[:, None]
        return y

    def exp2(self, x):
        if self.precision != "int8":
            return full_exp2(x)
        x = np.clip(x, np.float32(-60), np.float32(60))
        power = np.rint(x)
        f = x - power
        low = f * np.float32(0.693282888) + np.float32(1)
        p = low + (f * f) * (f * np.float32(0.0550091019) + np.float32(0.24221098))
        return np.ldexp(p, power.astype(np.int32))

    def gate(self, z):
        signal, gate = (self.exp2(half) for half in np.split(z, 2, axis=1))
        one = np.float32(1)
        return (one - signal) / ((one + signal) * (one + gate))

    def gate_rows(self, matrix):
        """Rows times the constants that turn exponentials into powers of two."""
        half = len(matrix) // 2
        factors = np.array([-2.0 / np.log(2.0), -1.0 / np.log(2.0)]).astype(np.float32)
        return np.concatenate([matrix[:half] * factors[0], matrix[half:] * factors[1]])

    def logits(self, tokens, labels, curves):
        """(time, levels): [t] predict tokens[t]."""
        shape, w = self.shape, self.w
        inputs = np.concatenate([[shape.levels // 2], tokens[:-1]]).astype(int)
        x = [heard(shape, inputs, w["embedding.weight"], curves)]
        for k, pool in enumerate(shape.pool, start=1):
            frames, name = len(x[-1]) // pool, f"tiers.{k}.down"
            y = np.repeat(w[f"{name}.bias"][None], frames, 0)
            for slot, matrix in enumerate(np.split(w[f"{name}.weight"], pool, 1)):
                y = self.product(y, [matrix], [x[-1][slot : frames * pool : pool]], f"{name}.input")
            x.append(y)
        above = None
        for k in reversed(range(shape.tiers)):
            a = x[k] if above is None else self.spread(k, x[k], above)
            above, skip = self.layers(k, a, self.conditions(k, len(a), labels, curves))
        g = np.maximum(skip if shape.skip_channels else above, np.float32(0))
        hidden = self.product(w["head.hidden.bias"], [w["head.hidden.weight"]], [g], "head.hidden.input")
        hidden = np.maximum(hidden, np.float32(0))
        logits = self.product(w["head.logits.bias"], [w["head.logits.weight"]], [hidden], "head.logits.input")
        return self.anchored(logits, reference_places(shape, inputs, curves)) if shape.anchored else logits

    @staticmethod
    def anchored(logits, places):
        count, levels = places.shape[1], logits.shape[1] - places.shape[1] - 3
        told = logits[:, levels:]
        powers = full_exp2(told)
        total, mean = powers[:, 0], powers[:, 0] * places[:, 0]
        for i in range(1, count):
            total, mean = total + powers[:, i], mean + powers[:, i] * places[:, i]
        place = told[:, count] + mean / total
        sharp, broad = powers[:, count + 1, None], powers[:, count + 2, None]
        d = np.arange(levels, dtype=np.float32) - place[:, None]
        return logits[:, :levels] - sharp * (np.sqrt(d * d + broad * broad) - broad)

    def spread(self, k, a, slow):
        """Frame i hears slot (i + 1) mod p of the slower frame (i + 1) div p - 1."""
        pool, name, a = self.shape.pool[k], f"tiers.{k + 1}.up", a.copy()
        biases = np.split(self.w[f"{name}.bias"], pool)
        for slot, matrix in enumerate(np.split(self.w[f"{name}.weight"], pool)):
            heard = np.array([i for i in range(pool - 1, len(a)) if (i + 1) % pool == slot], int)
            y = slow[(heard + 1) // pool - 1]
            a[heard] = self.product(a[heard] + biases[slot], [matrix], [y], f"{name}.input")
        return a

    def conditions(self, k, time, labels, curves):
        """c of the curve frame that each frame of tier k uses, or None."""
        shape, w = self.shape, self.w
        if not shape.conditioned:
            return None
        c = np.zeros((1, shape.condition_channels), np.float32)
        for name, index in zip(shape.labels, labels, strict=True):
            c = c + w[f"labels.{name}.weight"][index]
        if shape.curve_channels:
            told = surround(curves, shape.offsets)
            c = self.ascending(c + w["curves.bias"], w["curves.weight"], told)
            frames = [((n + 1) * shape.pooling[k] - 1) // shape.hop for n in range(time)]
            return c[np.minimum(frames, len(curves) - 1)]
        return np.repeat(c, time, 0)

    def layers(self, k, a, c):
        shape, w = self.shape, self.w
        biases = [w[f"tiers.0.layers.{i}.skip.bias"] for i in range(shape.layers[0]) if shape.skip_channels]
        skip = np.sum(biases, axis=0, dtype=np.float64).astype(np.float32) if biases else None
        for i in range(shape.layers[k]):
            name = f"tiers.{k}.layers.{i}"
            z = np.repeat(self.gate_rows(w[f"{name}.dilated.bias"])[None], len(a), 0)
            if c is not None:
                z = self.ascending(z, self.gate_rows(w[f"{name}.condition.weight"]), c)
            delays = [tap * shape.dilation(i) for tap in reversed(range(shape.kernel_size))]
            past = [np.concatenate([np.zeros((d, a.shape[1]), np.float32), a])[: len(a)] for d in delays]
            taps = np.split(w[f"{name}.dilated.weight"], shape.kernel_size, 1)
            h = self.gate(self.product(z, [self.gate_rows(tap) for tap in taps], past, f"{name}.input"))
            if k == 0 and shape.skip_channels:
                skip = self.product(skip, [w[f"{name}.skip.weight"]], [h], f"{name}.gated")
            if shape.has_residual(k, i):
                start = a + w[f"{name}.residual.bias"]
                a = self.product(start, [w[f"{name}.residual.weight"]], [h], f"{name}.gated")
        return a, skip
