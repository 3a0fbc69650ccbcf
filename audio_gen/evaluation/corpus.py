"""Clips of tokens laid end to end, with their boundaries: what the baselines are fitted on and judged by."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from audio_gen.codec import Codec
from audio_gen.errors import DataError

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Corpus:
    """Tokens int64 (time,) of all clips end to end, and the length of each, int64 (clips,), above 0."""

    tokens: Integers
    lengths: Integers
    codec: Codec

    @classmethod
    def gather(cls, clips: Iterable[NDArray[np.uint16]], codec: Codec, max_tokens: int, what: str) -> Self:
        """Takes clips, uint16 (time,), until there are `max_tokens`; `what` names them in errors.

        Raises DataError when there are no tokens, or one is not below `codec.levels`.
        """
        taken: list[Integers] = []
        missing = max_tokens
        for clip in clips:
            piece = np.asarray(clip[:missing]).astype(np.int64)
            if piece.size == 0:
                continue
            if piece.min() < 0 or piece.max() >= codec.levels:
                raise DataError(
                    f"a {what} clip holds a token outside 0 to {codec.levels - 1}: "
                    f"prepare the data with a codec of {codec.levels} levels"
                )
            taken.append(piece)
            missing -= piece.size
            if missing == 0:
                break
        if not taken:
            raise DataError(f"there are no {what} tokens to compute baselines with: check the split")
        return cls(np.concatenate(taken), np.array([piece.size for piece in taken]), codec)

    @property
    def starts(self) -> Integers:
        """Where each clip begins, int64 (clips,)."""
        return np.cumsum(self.lengths) - self.lengths

    def before(self, steps: int) -> Integers:
        """The token `steps` before each token in its own clip, int64 (time,); SILENCE before the clip."""
        shifted = np.full_like(self.tokens, self.codec.silence)
        shifted[steps:] = self.tokens[:-steps]
        for step in range(steps):
            begins = self.starts[self.lengths > step] + step
            shifted[begins] = self.codec.silence
        return shifted

    def excerpt(self, max_tokens: int, segment: int = 1 << 14) -> "Corpus":
        """About `max_tokens` tokens: pieces of clips, up to `segment` tokens each, spread evenly over all."""
        if self.tokens.size <= max_tokens:
            return self
        spans = [
            (start + offset, min(segment, length - offset))
            for start, length in zip(self.starts.tolist(), self.lengths.tolist(), strict=True)
            for offset in range(0, length, segment)
        ]
        count = max(1, len(spans) * max_tokens // self.tokens.size)
        chosen = np.arange(count) * len(spans) // count
        picked = [self.tokens[spans[index][0] : sum(spans[index])] for index in chosen.tolist()]
        return Corpus(np.concatenate(picked), np.array([piece.size for piece in picked]), self.codec)
