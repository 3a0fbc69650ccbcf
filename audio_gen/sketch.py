"""Sketches: what a clip is to be, frame by frame, drawn before its samples.

A network that hears samples one by one knows how sounds go on, and is slow to learn what they are part of. So a
model that follows curves may come with a second, smaller one of the same kind that draws them: its tokens are the
curves' values, channel after channel and frame after frame, and it is asked for the labels. Spectra drawn
autoregressively keep a word together where samples fall apart (MelNet: Vasquez and Lewis 2019, arXiv:1906.01083).

Everything else is shared: the network, its training, its engine, its draws. Only the codec differs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from audio_gen.codec import Codec, Tokens, Waveform
from audio_gen.curves import channels_of
from audio_gen.errors import SettingError

LEVELS = 64
LOWEST = -1.0
STEP = 0.0375
"""Of a curve's scale between two tokens: 1.5 dB, from -80 to 14.5 dB."""
TEMPERATURE = 0.8
GUIDANCE = 0.5
"""What a sketch is drawn with unless told otherwise: on digits the settings that were heard right most often."""
SETTLED = 0.65
"""What a deaf sketch draws at temperature 0: of all that a value may be, so much lies below. The likeliest value is too
soft, and jumps from one guess to another; see benchmarks/LEARNED.md."""
SKETCHABLE = ("loudness", "mel")
"""Curves in decibels, which this codec is for."""


@dataclass(frozen=True)
class CurveCodec(Codec):
    """Values of curves as tokens, on an even scale of decibels.

    >>> codec = CurveCodec()
    >>> codec.encode([-1.0, 0.0, 9.9]).tolist(), codec.decode([0, 27]).tolist()
    ([0, 27, 63], [-1.0, 0.012500000186264515])
    """

    levels: int = LEVELS

    def __post_init__(self) -> None:
        if self.levels != LEVELS or self.pre_emphasis:
            raise SettingError(f"a sketch has {LEVELS} levels and no pre-emphasis, got {self}")

    @property
    def amplitudes(self) -> NDArray[np.float64]:
        """Curve value of each token, (levels,)."""
        return np.asarray(np.arange(LEVELS) * STEP + LOWEST, np.float64)

    def encode(self, waveform: ArrayLike, previous: float = 0.0) -> Tokens:
        """Tokens of curve values, in any shape."""
        steps = np.rint((np.asarray(waveform, np.float64) - LOWEST) / STEP)
        tokens: Tokens = np.clip(steps, 0, LEVELS - 1).astype(np.uint16)
        return tokens

    def decode(self, tokens: ArrayLike, previous: float = 0.0) -> Waveform:
        """Curve values of tokens, in any shape."""
        values: Waveform = self.amplitudes[np.asarray(tokens)].astype(np.float32)
        return values


def told_curves(curves: Sequence[str]) -> list[str]:
    """Those of a network's curves that its sketch does not draw, but follows as the network does: the player's to give.

    >>> told_curves(["mel", "pitch"]), told_curves(["mel"])
    (['pitch'], [])
    """
    return [name for name in curves if name not in SKETCHABLE]


def told_frames(frames: NDArray[np.float32], curves: Sequence[str]) -> NDArray[np.float32]:
    """What a sketch follows of the curves that it is told, (..., frames, channels): it draws no waves, and so it does
    not hear at which phase of a pitch they are."""
    if "pitch" not in curves:
        return frames
    heard = frames.copy()
    heard[..., channels_of("pitch", curves, frames.shape[-1]).stop - 1] = 0.0
    return heard


def can_sketch(curves: Sequence[str]) -> bool:
    """Whether there is anything to draw among curves of these names.

    >>> can_sketch(["mel"]), can_sketch(["mel", "pitch"]), can_sketch(["pitch"])
    (True, True, False)
    """
    return any(name in SKETCHABLE for name in curves)


def drawn_channels(curves: Sequence[str], channels: int) -> NDArray[np.bool_]:
    """Which of the `channels` of a network's curves a sketch draws, (channels,).

    >>> drawn_channels(["mel", "pitch"], 5).tolist()
    [True, True, False, False, False]
    """
    drawn = np.zeros(channels, bool)
    for name in curves:
        drawn[channels_of(name, curves, channels)] = name in SKETCHABLE
    return drawn
