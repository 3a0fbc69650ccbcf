"""The slow, obvious sampler: the PyTorch network stepped through its state. It judges the compiled engine.

In float64 sums over other batch sizes differ by some 1e-16, far below what could move a draw, so its tokens
do not depend on batches or chunks either.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from audio_gen.checkpoint import Checkpoint
from audio_gen.network import Network, NetworkState
from audio_gen.sampler.draw import Draw, draw_token


@dataclass
class ReferenceState:
    """Streams that advance together."""

    labels: torch.Tensor  # (streams, number of labels), or the shares of a mixture: see `Network.forward`
    last: torch.Tensor  # (streams, 1), the token before the next one
    network: NetworkState | None

    @property
    def position(self) -> int:
        """Samples since the streams' start."""
        return self.network.position if self.network else 0

    def select(self, rows: Sequence[int]) -> "ReferenceState":
        """The state of these streams only."""
        chosen = torch.as_tensor(list(rows))
        network = self.network and self.network.select(chosen)
        return ReferenceState(self.labels[chosen], self.last[chosen], network)


class ReferenceEngine:
    """Obeys the same interface as `audio_gen.engine.Engine`; see there for shapes."""

    def __init__(self, network: Network, dtype: torch.dtype = torch.float64) -> None:
        self.network = network.to(dtype).eval()
        self.shape = network.shape

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint) -> "ReferenceEngine":
        from audio_gen.engine.pack import check_tensors

        check_tensors(checkpoint.shape, checkpoint.tensors)  # one error for both engines
        return cls(load_network(checkpoint))

    def start(
        self, labels: NDArray[np.integer], position: int = 0, last: NDArray[Any] | None = None
    ) -> ReferenceState:
        """Fresh streams. `position` > 0: streams whose past is to be primed; see `NetworkState`."""
        indices = torch.as_tensor(np.asarray(labels, np.int64))
        streams = len(indices)
        silence = self.shape.levels // 2
        before = np.full(streams, silence) if last is None else np.asarray(last)
        state = ReferenceState(indices, torch.as_tensor(before.astype(np.int64))[:, None], None)
        if position:
            state.network = self.network.start(streams, position)
        return state

    def ask(self, state: ReferenceState, shares: NDArray[np.floating]) -> None:
        """Ask the streams for mixtures of labels from their next token on."""
        state.labels = torch.as_tensor(np.asarray(shares, np.float64))

    @torch.no_grad()
    def _step(self, state: ReferenceState, tokens: torch.Tensor, curves: NDArray[Any] | None) -> torch.Tensor:
        """Logits (streams, time, levels) that follow `tokens` (streams, time)."""
        dtype = self.network.embedding.weight.dtype
        frames = None if curves is None else torch.as_tensor(np.asarray(curves)).to(dtype)
        logits, state.network = self.network(tokens, state.network, state.labels, frames)
        return logits  # type: ignore[no-any-return]

    def logits(
        self, state: ReferenceState, tokens: NDArray[np.integer], curves: NDArray[Any] | None = None
    ) -> NDArray[np.float32]:
        """Teacher-forced logits float32 (streams, time, levels): [:, t] predict tokens[:, t]."""
        given = torch.as_tensor(np.asarray(tokens, np.int64))
        logits = self._step(state, torch.cat([state.last, given[:, :-1]], 1), curves)
        state.last = given[:, -1:]
        return logits.float().numpy()

    def prime(
        self,
        state: ReferenceState,
        tokens: NDArray[np.integer],
        curves: NDArray[Any] | None = None,
        *,
        first_frame: int = 0,
    ) -> None:
        """Hear `tokens` (streams, time) as if they had been drawn."""
        if np.shape(tokens)[1]:
            self.logits(state, tokens, _from_the_start(curves, first_frame))

    def sample(
        self,
        state: ReferenceState,
        coins: NDArray[np.floating],
        draw: Sequence[Draw],
        curves: NDArray[Any] | None = None,
        *,
        guidance: Sequence[float] | None = None,
        first_frame: int = 0,
    ) -> NDArray[np.uint16]:
        """Draw tokens (streams, time) with `coins` (streams, time), each stream by its own `draw`.

        `guidance`: streams come in pairs, as in the compiled engine.
        """
        curves = _from_the_start(curves, first_frame)
        tokens = np.empty(coins.shape, np.uint16)
        for time in range(coins.shape[1]):
            logits = self._step(state, state.last, curves)[:, 0].numpy()
            if guidance is not None:
                asked, open_ = logits[::2], logits[1::2]
                logits = np.repeat(asked + np.reshape(guidance, (-1, 1)) * (asked - open_), 2, axis=0)
            for stream, row in enumerate(logits):
                tokens[stream, time] = draw_token(row, float(coins[stream, time]), draw[stream])
            state.last = torch.as_tensor(tokens[:, time : time + 1].astype(np.int64))
        return tokens


def _from_the_start(curves: NDArray[Any] | None, first_frame: int) -> NDArray[Any] | None:
    """Curves of the whole stream, of which those before `first_frame` are not needed any more."""
    return curves if curves is None else np.pad(curves, ((0, 0), (first_frame, 0), (0, 0)))


def load_network(checkpoint: Checkpoint) -> Network:
    """The PyTorch network of a checkpoint, float32."""
    network = Network(checkpoint.shape)
    tensors = {
        name: torch.as_tensor(np.asarray(tensor, np.float32)) for name, tensor in checkpoint.tensors.items()
    }
    network.load_state_dict(tensors)
    return network
