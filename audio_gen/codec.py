"""Waveform to tokens and back: mu-law companding, with optional pre-emphasis.

    tokens = quantise(compress(waveform[t] - pre_emphasis * waveform[t - 1]))

Mu-law (ITU-T G.711; van den Oord et al. 2016, arXiv:1609.03499) spends its levels evenly on the logarithm
of the amplitude, so that quiet passages keep their detail. Pre-emphasis lifts the treble before companding
and lowers it again after, and the hiss of the quantiser with it.
"""

from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate

import numpy as np
from numpy.typing import ArrayLike, NDArray

from audio_gen.errors import SettingError

LEVELS = (256, 512, 1024)

Waveform = NDArray[np.float32]  # (time,), in [-1, 1]
Tokens = NDArray[np.uint16]  # (time,), in [0, levels)


@dataclass(frozen=True)
class Codec:
    """How waveforms become tokens. Equal settings decode tokens to equal samples on every machine.

    Raises SettingError for settings outside their range.

    >>> codec = Codec()
    >>> codec.encode([0.0, 0.5, -1.0]).tolist()
    [128, 239, 0]
    >>> codec.decode([codec.silence]).tolist()
    [0.0]
    """

    levels: int = 256
    """Number of tokens: 256 (8 bits), 512 or 1024."""
    pre_emphasis: float = 0.0
    """Coefficient in [0, 0.95] of the one-tap filter before companding; 0 is none. Speech: 0.85."""

    def __post_init__(self) -> None:
        if self.levels not in LEVELS:
            raise SettingError(f"codec levels must be 256, 512 or 1024, got {self.levels}")
        if not 0.0 <= self.pre_emphasis <= 0.95:
            raise SettingError(f"pre_emphasis must be from 0 to 0.95, got {self.pre_emphasis}")

    @property
    def silence(self) -> int:
        """The token of 0.0, which also decodes to exactly 0.0."""
        return self.levels // 2

    @property
    def amplitudes(self) -> NDArray[np.float64]:
        """What each token is worth before de-emphasis, (levels,)."""
        return _amplitudes(self.levels)

    @property
    def ordered(self) -> bool:
        """Whether tokens are steps of one scale: those that are neighbours sound alike."""
        return True

    @property
    def pcm_bits(self) -> int:
        """The fewest bits of integer PCM in which a decoded waveform still encodes to the same tokens."""
        fine = self.levels == 1024 or (self.levels == 512 and self.pre_emphasis > 0.0)
        return 24 if fine else 16

    def encode(self, waveform: ArrayLike, previous: float = 0.0) -> Tokens:
        """Tokens of `waveform` (time,); what lies beyond [-1, 1] is clipped. No normalisation of any kind.

        `previous` is the sample before the first, which pre-emphasis looks back at.
        """
        x = np.asarray(waveform, np.float64)
        if self.pre_emphasis:
            x = x - self.pre_emphasis * np.concatenate([[previous], x[:-1]])
        # 0.0 lies on the lower edge of SILENCE's interval: the dither of a fading tail, or a rounding error,
        # would toss between two tokens. All edges move by a quarter of the finest interval, and silence is SILENCE.
        x = x + self.amplitudes[self.silence + 1] / 6.0
        x = np.clip(x, -1.0, 1.0)
        mu = self.levels - 1
        compressed = np.sign(x) * np.log1p(mu * np.abs(x)) / np.log1p(mu)
        tokens: Tokens = np.floor((compressed + 1.0) / 2.0 * mu + 0.5).astype(np.uint16)
        return tokens

    def decode(self, tokens: ArrayLike, previous: float = 0.0) -> Waveform:
        """Waveform of `tokens` (time,): the middle of each token's interval.

        `previous` is the decoded sample before the first. With pre-emphasis the result may leave [-1, 1].
        """
        x = self.amplitudes[np.asarray(tokens)]
        if self.pre_emphasis:
            # A recursive filter: each sample needs the one before it, so plain Python is the honest loop.
            x = np.fromiter(accumulate(x.tolist(), self._de_emphasise, initial=previous), float)[1:]
        waveform: Waveform = x.astype(np.float32)
        return waveform

    def _de_emphasise(self, previous: float, value: float) -> float:
        """The next sample, rounded to float32 (Veltkamp's splitting), so that it does not matter where calls end."""
        exact = value + self.pre_emphasis * previous
        carried = exact * (2.0**29 + 1.0)
        return carried - (carried - exact)

    def round_trip(self, waveform: ArrayLike) -> Waveform:
        """`waveform` as it sounds through this codec: the reference that generated audio is heard against."""
        return self.decode(self.encode(waveform))


@lru_cache
def _amplitudes(levels: int) -> NDArray[np.float64]:
    """Decoded amplitude of each token, (levels,). Float64 expm1 may differ in its last bit between
    machines; rounding to float32 multiples of 2**-30 makes the table the same everywhere."""
    mu = levels - 1
    compressed = np.arange(levels) / mu * 2.0 - 1.0
    x: NDArray[np.float64] = np.sign(compressed) * np.expm1(np.abs(compressed) * np.log1p(mu)) / mu
    x[levels // 2] = 0.0  # true digital silence; the interval of this token contains 0
    x = np.rint(x * 2.0**30) / 2.0**30
    x.setflags(write=False)
    return x
