"""One sample by PyTorch, eagerly, in two plain ways: what the compiled engine is compared with.

`ModuleStep` is what most implementations do: a Conv1d module per convolution, fed from queues of past inputs.
`LeanStep` is the leanest eager step we could write: views cut beforehand, one matrix-vector product for a
layer's past, one for its present, one for residual and skip together. Both do what audio_gen's network does,
tiers included (kernel size 2, no labels or curves), and draw with a given coin.
"""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from audio_gen.engine.predictors import Predictors
from audio_gen.shape import NetworkShape

Tensors = Mapping[str, NDArray[np.float32]]


class Step(ABC):
    """A stream: `draw(coin)` gives the next token, `logits()` what it is drawn from."""

    def __init__(self, shape: NetworkShape, tensors: Tensors) -> None:
        assert shape.kernel_size == 2 and not shape.conditioned
        self.shape = shape
        self.weights = {
            name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in tensors.items()
        }
        self.token, self.position = shape.levels // 2, 0
        self.embedding = list(self.weights["embedding.weight"])
        self.predictors = Predictors(shape)
        self.memory = self.predictors.start(1)
        self.pooled: list[list[Tensor]] = [[] for _ in shape.layers]
        """Frames of each tier's faster one that are not yet pooled."""
        self.above: list[list[Tensor]] = [[] for _ in shape.layers]
        """What each tier still has to say to the frames of the faster one."""

    @torch.inference_mode()
    def draw(self, coin: float) -> int:
        """The next token, by inverse CDF."""
        cumulative = torch.softmax(self.logits(), 0).cumsum(0)
        self.token = min(int(torch.searchsorted(cumulative, coin)), self.shape.levels - 1)
        return self.token

    @torch.inference_mode()
    def feed(self, token: int) -> Tensor:
        """The logits that `token` would be drawn from; then it is taken as drawn."""
        logits = self.logits()
        self.token = token
        return logits

    def logits(self) -> Tensor:
        """Of the token that follows (levels,)."""
        rows = self.predictors.hear(self.memory, self.position, np.array([[self.token]]))[0][0, 0]
        x = self.embedding[rows[0]]
        for row in rows[1:]:
            x = x + self.embedding[row]
        skip = self._frame(0, x)
        self.position += 1
        return self.head(skip)

    def _frame(self, k: int, x: Tensor) -> Tensor:
        """One frame of tier k; slower tiers whose frame it completes go first."""
        if k + 1 < self.shape.tiers:
            gathered = self.pooled[k + 1]
            gathered.append(x)
            if len(gathered) == self.shape.pool[k]:
                slow = F.linear(torch.cat(gathered), *self._linear(f"tiers.{k + 1}.down"))
                gathered.clear()
                said = F.linear(self._frame(k + 1, slow), *self._linear(f"tiers.{k + 1}.up"))
                self.above[k + 1] = list(said.chunk(self.shape.pool[k]))
            if self.above[k + 1]:
                x = x + self.above[k + 1].pop(0)
        return self.layers(k, x)

    def _linear(self, name: str) -> tuple[Tensor, Tensor]:
        return self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]

    @abstractmethod
    def layers(self, k: int, x: Tensor) -> Tensor:
        """The last residual stream of tier k, or the sum of the skips."""

    @abstractmethod
    def head(self, x: Tensor) -> Tensor:
        """Logits from the last layer's output."""


class ModuleLayer(nn.Module):
    """One layer of convolution modules and its queue."""

    def __init__(self, step: Step, k: int, i: int) -> None:
        super().__init__()
        name, width = f"tiers.{k}.layers.{i}", step.shape.channels[k]
        kernel = torch.stack(step.weights[f"{name}.dilated.weight"].chunk(2, 1), 2)
        bias = step.weights[f"{name}.dilated.bias"]
        self.filter = _conv(kernel[:width], bias[:width])
        self.gate = _conv(kernel[width:], bias[width:])
        self.residual, self.skip = (
            _conv(step.weights[f"{name}.{key}.weight"][..., None], step.weights[f"{name}.{key}.bias"])
            if f"{name}.{key}.weight" in step.weights
            else None
            for key in ("residual", "skip")
        )
        dilation = step.shape.dilation(i)
        self.queue: deque[Tensor] = deque([torch.zeros(1, width, 1)] * dilation, maxlen=dilation)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """x (1, C, 1) to the next residual stream and the skip's share."""
        pair = torch.cat([self.queue[0], x], 2)
        self.queue.append(x)
        h = torch.tanh(self.filter(pair)) * torch.sigmoid(self.gate(pair))
        skip = None if self.skip is None else self.skip(h)
        return (x if self.residual is None else x + self.residual(h)), skip


class ModuleStep(Step):
    """Convolution modules with queues."""

    def __init__(self, shape: NetworkShape, tensors: Tensors) -> None:
        super().__init__(shape, tensors)
        self.tiers = [[ModuleLayer(self, k, i) for i in range(n)] for k, n in enumerate(shape.layers)]
        self.hidden, self.out = (
            _conv(self.weights[f"head.{name}.weight"][..., None], self.weights[f"head.{name}.bias"])
            for name in ("hidden", "logits")
        )

    def layers(self, k: int, x: Tensor) -> Tensor:
        x, skips = x[None, :, None], None
        for layer in self.tiers[k]:
            x, skip = layer(x)
            if skip is not None:
                skips = skip if skips is None else skips + skip
        return (x if skips is None else skips)[0, :, 0]

    def head(self, x: Tensor) -> Tensor:
        return self.out(torch.relu(self.hidden(torch.relu(x)[None, :, None])))[0, :, 0]


class LeanLayer:
    """One layer's weights, and views of what it writes."""

    def __init__(self, step: Step, k: int, i: int) -> None:
        name, width = f"tiers.{k}.layers.{i}", step.shape.channels[k]
        self.past, self.present = (w.contiguous() for w in step.weights[f"{name}.dilated.weight"].chunk(2, 1))
        self.bias = step.weights[f"{name}.dilated.bias"]
        self.ring = list(torch.zeros(step.shape.dilation(i), width))
        heard = [key for key in ("residual", "skip") if f"{name}.{key}.weight" in step.weights]
        rows = [
            torch.cat([step.weights[f"{name}.{key}.weight"], step.weights[f"{name}.{key}.bias"][:, None]], 1)
            for key in heard
        ]
        self.mix = torch.cat(rows).contiguous()
        """What the gate adds to the residual stream and to the skips, its last column the bias."""
        self.target = slice(width if heard == ["skip"] else 0, None)


class LeanStep(Step):
    """As few operations per layer as eager PyTorch allows: seven."""

    def __init__(self, shape: NetworkShape, tensors: Tensors) -> None:
        super().__init__(shape, tensors)
        self.tiers = [[LeanLayer(self, k, i) for i in range(n)] for k, n in enumerate(shape.layers)]
        self.sums, self.gates, self.frames = [], [], [0] * shape.tiers
        for k, width in enumerate(shape.channels):
            total = torch.zeros(width + (shape.skip_channels if k == 0 else 0))
            targets = [total[layer.target] for layer in self.tiers[k]]
            self.sums.append((total, total[:width], total[width:], targets))
            z, h = torch.zeros(2 * width), torch.ones(width + 1)
            self.gates.append((z, z[:width], z[width:], h, h[:width]))

    def layers(self, k: int, x: Tensor) -> Tensor:
        _, a, skips, targets = self.sums[k]
        z, signal, gate, h, product = self.gates[k]
        a.copy_(x)
        skips.zero_()
        frame = self.frames[k]
        self.frames[k] = frame + 1
        for layer, target in zip(self.tiers[k], targets, strict=True):
            past = layer.ring[frame % len(layer.ring)]
            torch.addmv(layer.bias, layer.past, past, out=z)
            z.addmv_(layer.present, a)
            past.copy_(a)
            torch.mul(signal.tanh_(), gate.sigmoid_(), out=product)
            target.addmv_(layer.mix, h)
        return skips if len(skips) else a

    def head(self, x: Tensor) -> Tensor:
        hidden = torch.addmv(self.weights["head.hidden.bias"], self.weights["head.hidden.weight"], x.relu())
        return torch.addmv(
            self.weights["head.logits.bias"], self.weights["head.logits.weight"], hidden.relu_()
        )


def _conv(kernel: Tensor, bias: Tensor) -> nn.Conv1d:
    """A convolution module with these weights: kernel (outputs, inputs, taps)."""
    module = nn.Conv1d(kernel.shape[1], kernel.shape[0], kernel.shape[2])
    with torch.no_grad():
        module.weight.copy_(kernel)
        module.bias.copy_(bias)  # type: ignore[union-attr]
    return module
