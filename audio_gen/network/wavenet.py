"""The whole network: tokens in, logits of the next token out, state in and out.

    tokens -> linear predictors -> embedding -> tiers, slowest first, each feeding the faster one -> head -> logits

Each sample is heard as its token, the token that each linear predictor expects next, and how far off that predictor
was of late: every one has a row of the embedding, and the rows are added. So has the phase of a pitch, where one is
told. LPCNet (Valin and Skoglund 2019, arXiv:1810.11846) showed how much a linear prediction spares a network; here it
is one more thing to hear, and the network still says the next token itself.

The state is an argument: None is the silence before a stream. One pass over a whole clip, passes over its
chunks, and single steps are the same code and give the same logits.
"""

from dataclasses import dataclass
from math import prod
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audio_gen.engine.predictors import Predictors
from audio_gen.network import compiled, fused
from audio_gen.network.columns import amplitude_columns, turns, waves
from audio_gen.network.tier import Condition, Tier, TierState
from audio_gen.shape import SPREADS, NetworkShape


@dataclass(frozen=True)
class NetworkState:
    """Everything a stream remembers. All streams of a batch stand at the same position."""

    position: int
    """Samples heard since the stream's start."""
    tiers: tuple[TierState, ...]
    predictors: Tensor | None = None
    """int32 (streams, words): what the linear predictors remember, if there are any."""

    def detach(self) -> "NetworkState":
        """The same past, cut off from the gradient."""
        return self._map(lambda tensor: tensor.detach())

    def keep(self, rows: Tensor) -> "NetworkState":
        """The same past for streams where `rows` (batch,) is True, silence for the others."""
        return self._map(lambda tensor: tensor * rows.to(tensor)[:, None])

    def select(self, rows: Tensor) -> "NetworkState":
        """The past of these streams only."""
        return self._map(lambda tensor: tensor[:, rows] if tensor.dim() == 3 else tensor[rows])

    def tensors(self) -> list[Tensor]:
        """All tensors in a fixed order."""
        found: list[Tensor] = []
        self._map(lambda tensor: found.append(tensor) or tensor)  # type: ignore[func-returns-value]
        return found

    def replaced(self, tensors: list[Tensor]) -> "NetworkState":
        """This state with other tensors, in the order of `tensors()`."""
        rest = iter(tensors)
        return self._map(lambda _: next(rest))

    def _map(self, function) -> "NetworkState":  # type: ignore[no-untyped-def]
        tiers = tuple(
            TierState(
                tuple(function(history) for history in tier.histories),
                None if tier.pending is None else function(tier.pending),
                None if tier.queue is None else function(tier.queue),
            )
            for tier in self.tiers
        )
        predictors = None if self.predictors is None else function(self.predictors)
        return NetworkState(self.position, tiers, predictors)


class Head(nn.Module):
    """Two layers from the streams to the logits."""

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        self.hidden = nn.Linear(shape.head_inputs, shape.head_channels)
        self.logits = nn.Linear(shape.head_channels, shape.logit_rows)
        self.levels, self.anchored = shape.levels, shape.anchored

    def forward(self, a: Tensor, places: Tensor | None = None) -> Tensor:
        """(..., head_inputs) to (..., levels). `places` (..., predictors): where they expect the next
        sample, of which an anchor is made."""
        hidden = F.relu(self.hidden(F.relu(a)))
        if not self.anchored:
            logits: Tensor = self.logits(hidden)
            return logits
        # The same product as one would be, in two parts: so nothing as large as the logits has to be cut or joined.
        weight, bias = self.logits.weight, self.logits.bias
        free = F.linear(hidden, weight[: self.levels], bias[: self.levels])
        told = F.linear(hidden, weight[self.levels :], bias[self.levels :])
        return self._anchor(free, told.to(torch.promote_types(told.dtype, torch.float32)), _known(places))

    def _anchor(self, free: Tensor, told: Tensor, places: Tensor) -> Tensor:
        """As engine/anchor.h says: `free` (..., levels) are the logits without, `told` what is said of the anchor."""
        count = places.shape[-1]
        powers = torch.exp2(told.clamp(-60.0, 60.0))
        shares = powers[..., :count] / powers[..., :count].sum(-1, keepdim=True)
        place = told[..., count] + (shares * places).sum(-1)
        sharp, broad = powers[..., count + 1], powers[..., count + 2]
        if compiled.usable(free, self.levels):
            rows = [each.reshape(-1) for each in (place, sharp, broad)]
            return fused.anchor(free.reshape(-1, self.levels), *rows).view(free.shape)
        d = torch.arange(self.levels, device=free.device) - place[..., None]
        return free - sharp[..., None] * (torch.hypot(d, broad[..., None]) - broad[..., None])


class Network(nn.Module):
    """A causal dilated convolution network in tiers over `shape.levels` tokens.

    Example:
        >>> import torch
        >>> shape = NetworkShape(levels=256, layers=(3, 3), channels=(8, 16), pool=(4,))
        >>> logits, state = Network(shape)(torch.full((2, 10), 128))
        >>> logits.shape, state.position
        (torch.Size([2, 10, 256]), 10)
    """

    def __init__(self, shape: NetworkShape, ordered: bool = True) -> None:
        """`ordered`: tokens are steps of one scale, as `Codec.ordered` has it, which the first weights know of."""
        super().__init__()
        self.shape = shape
        self.embedding = nn.Embedding(shape.input_rows, shape.channels[0])
        self._predictors = Predictors(shape) if shape.predictor_count else None
        self.labels = nn.ModuleDict()
        for name, values in shape.labels.items():
            # Past ModuleDict's own check, which refuses the names of its methods ("type", "values") as keys.
            self.labels._modules[name] = nn.Embedding(len(values) + 1, shape.condition_channels)
        self.curves = (
            nn.Linear(shape.curve_inputs, shape.condition_channels) if shape.curve_channels else None
        )
        self.tiers = nn.ModuleList(Tier(shape, tier) for tier in range(shape.tiers))
        self.head = Head(shape)
        self._initialise(ordered)

    def _initialise(self, ordered: bool) -> None:
        """Unit-variance streams at the start: every layer adds a little, none drowns the others."""
        for tier in self.stack:
            depth = len(tier.stack)
            for layer in tier.stack:
                nn.init.zeros_(layer.dilated.bias)
                nn.init.normal_(layer.dilated.weight, std=layer.dilated.in_features**-0.5)
                for out in (layer.residual, layer.skip):
                    if out is not None:
                        nn.init.normal_(out.weight, std=2.0 * (out.in_features * depth) ** -0.5)
                        nn.init.zeros_(out.bias)
                if layer.condition is not None:
                    nn.init.normal_(layer.condition.weight, std=layer.condition.in_features**-0.5)
            for link in (tier.down, tier.up):
                if link is not None:
                    nn.init.normal_(link.weight, std=link.in_features**-0.5)
                    nn.init.zeros_(link.bias)
        with torch.no_grad():
            width = self.shape.channels[0]
            blocks = [amplitude_columns(self.shape.levels, width)]
            for _ in range(self.shape.predictor_count):
                blocks += [amplitude_columns(self.shape.levels, width), 0.5 * waves(SPREADS, width)]
            if self.shape.phases:
                blocks.append(turns(self.shape.phases, width))
            if ordered:
                self.embedding.weight.copy_(torch.cat(blocks) * self.shape.input_codes**-0.5)
                outputs = waves(self.shape.levels, self.shape.head_channels)
                self.head.logits.weight[: self.shape.levels].copy_(0.1 * outputs)
            else:
                nn.init.normal_(self.embedding.weight, std=self.shape.input_codes**-0.5)
                nn.init.normal_(self.head.logits.weight, std=0.1)
        nn.init.zeros_(self.head.logits.bias)
        if self.shape.anchored:
            told = slice(self.shape.levels, None)
            nn.init.normal_(self.head.logits.weight[told], std=0.3 * self.shape.head_channels**-0.5)
            nn.init.constant_(self.head.logits.bias[-2:], -0.5)

    @property
    def stack(self) -> list[Tier]:
        """The tiers, fastest first."""
        return cast(list[Tier], list(self.tiers))

    @property
    def receptive_field(self) -> int:
        """Samples, by formula: see NetworkShape.receptive_field."""
        return self.shape.receptive_field

    def start(self, batch: int, position: int = 0) -> NetworkState:
        """The state before the first sample of `batch` streams: zeros everywhere.

        `position` > 0 starts in the middle of a stream whose past is unknown but whose phase in every tier is
        that of `position`; once `receptive_field` samples are heard, nothing differs from having heard them all.
        """
        like = self.embedding.weight
        phases = [position // pooling for pooling in (1, *self.shape.pooling)]
        tiers = tuple(tier.start(batch, like, phase) for tier, phase in zip(self.stack, phases, strict=False))
        return NetworkState(position, tiers, self._silence(batch))

    def _silence(self, batch: int) -> Tensor | None:
        if self._predictors is None:
            return None
        return torch.from_numpy(self._predictors.start(batch)).to(self.embedding.weight.device)

    def hear(
        self, tokens: Tensor, state: NetworkState, curves: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Rows of the embedding to add up (batch, time, codes) after each of `tokens` (batch, time); where between the
        tokens each predictor expects the next sample (batch, time, predictors), float32; and what the predictors
        remember then. `curves` as in `forward`; none are zeros."""
        if self._predictors is None:
            return tokens[..., None], self.embedding.weight.new_zeros(*tokens.shape, 0), None
        memory = _known(state.predictors).cpu().numpy().copy()
        frames = None
        if self.shape.predictors_follow:
            if curves is None:
                curves = torch.zeros(len(tokens), 1, self.shape.curve_channels)
            frames = curves.float().cpu().numpy()
        rows, places = self._predictors.hear(
            memory, state.position, tokens.cpu().numpy(), frames, threads=torch.get_num_threads()
        )
        return (
            torch.from_numpy(rows.astype(np.int64)).to(tokens.device),
            torch.from_numpy(places).to(tokens.device),
            torch.from_numpy(memory).to(tokens.device),
        )

    def _embed(self, rows: Tensor) -> Tensor:
        """(time, batch, channels) of `rows` (time, batch, codes)."""
        table = self.embedding.weight
        if compiled.usable(table, table.shape[1]) and rows.numel():
            return fused.embed(rows, table)
        heard: Tensor = self.embedding(rows).sum(-2)
        return heard

    def condition(self, labels: Tensor | None, curves: Tensor | None, batch: int) -> Tensor | None:
        """Condition vectors (frames, batch, condition_channels): one frame if there are no curves.

        `labels` and `curves` as in `forward`.
        """
        if not self.shape.conditioned:
            return None
        if labels is None:
            labels = torch.zeros(
                batch, len(self.labels), dtype=torch.long, device=self.embedding.weight.device
            )
        frames = self.embedding.weight.new_zeros(1, batch, self.shape.condition_channels)
        first = 0
        for column, embedding in enumerate(self.labels.children()):
            if labels.is_floating_point():
                rows = cast(nn.Embedding, embedding).weight
                frames = frames + labels[:, first : first + len(rows)].to(rows) @ rows
                first += len(rows)
            else:
                frames = frames + embedding(labels[:, column])
        if self.curves is not None:
            if curves is None:
                curves = frames.new_zeros(batch, 1, self.shape.curve_channels)
            frames = frames + self.curves(self._surround(curves).transpose(0, 1))
        return frames

    def _surround(self, curves: Tensor) -> Tensor:
        """(batch, frames, curve_inputs): each frame, and those around it. At either end the outermost one is held."""
        last = curves.shape[1] - 1
        places = torch.arange(last + 1)[:, None] + torch.tensor(self.shape.offsets)
        return curves[:, places.clamp(0, last)].flatten(2)

    def forward(
        self,
        tokens: Tensor,
        state: NetworkState | None = None,
        labels: Tensor | None = None,
        curves: Tensor | None = None,
    ) -> tuple[Tensor, NetworkState]:
        """Logits (batch, time, levels) of the token that follows each of `tokens` (batch, time), and the new state.

        `state` None is the start of a stream. `labels` (batch, number of labels) index the vocabularies from 1,
        0 is "no label"; or, where they are no whole numbers, say (batch, rows) how much of each row of the labels'
        embeddings there is, one label after another, which may change from call to call.
        `curves` (batch, frames, curve_channels) are the frames of the whole stream from its start; the last one is
        held if they end early.
        """
        batch, time = tokens.shape
        state = self.start(batch) if state is None else state
        frames = self.condition(labels, curves, batch)
        position, ended = state.position, state.position + time

        # Down: the input of every tier, each pooled from the faster one.
        rows, places, predictors = self.hear(tokens, state, curves)
        inputs = [self._embed(rows.transpose(0, 1))]
        pending: list[Tensor | None] = [None]
        for tier, before in zip(self.stack[1:], state.tiers[1:], strict=True):
            pooled, left = tier.gather(inputs[-1], _known(before.pending))
            inputs.append(pooled)
            pending.append(left)

        # Up: the slowest tier runs first, and what it says is added to the faster one's input.
        after: list[TierState] = []
        slower: Tensor | None = None
        skips: Tensor | None = None
        queue: Tensor | None = None
        for number in reversed(range(self.shape.tiers)):
            tier, a = self.stack[number], inputs[number]
            if slower is not None:
                link, ready = self.stack[number + 1], state.tiers[number + 1].queue
                heard, queue = link.spread(slower, _known(ready), a.shape[0])
                after[-1] = TierState(after[-1].histories, after[-1].pending, queue)
                a = a + heard
            pooling = prod(self.shape.pool[:number])
            steer = self._steer(frames, position // pooling, ended // pooling, pooling)
            slower, skips, histories = tier(a, state.tiers[number].histories, steer)
            after.append(TierState(histories, pending[number]))

        logits: Tensor = self.head(_known(slower) if skips is None else skips, places.transpose(0, 1))
        return logits.transpose(0, 1), NetworkState(ended, tuple(reversed(after)), predictors)

    def _steer(self, frames: Tensor | None, first: int, last: int, pooling: int) -> Condition | None:
        """The condition of a tier's frames `first` to `last`; a frame listens to the curves at its last sample."""
        if frames is None or self.curves is None:
            return None if frames is None else Condition(frames, None)
        ends = torch.arange(first + 1, last + 1, device=frames.device) * pooling - 1
        return Condition(frames, (ends // self.shape.hop).clamp(max=frames.shape[0] - 1))


def _known(tensor: Tensor | None) -> Tensor:
    """A part of the state that every tier but the fastest has."""
    assert tensor is not None
    return tensor
