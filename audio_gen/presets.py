"""Sizes of networks that have names: `[network] preset = "small"` in a recipe. The table of them, and nothing else.

The tiered ones hear two seconds of their own past at 16 kHz; each costs about twice as much per sample as the one
before. They are shallow at the full rate and wide below, where a layer runs on every 64th sample only. The classic ones
have a single tier and skips, for comparison.
"""

from collections.abc import Sequence
from typing import Any

from audio_gen.shape import NetworkShape

PRESETS: dict[str, dict[str, Any]] = {
    "nano": {
        "layers": [4, 4, 5, 9],
        "channels": [32, 64, 64, 96],
        "pool": [4, 4, 4],
        "dilation_cycle": 10,
        "kernel_size": 2,
        "skip_channels": 0,
        "head_channels": 64,
        "condition_channels": 16,
    },
    "small": {
        "layers": [3, 5, 6, 9],
        "channels": [64, 64, 96, 128],
        "pool": [4, 4, 4],
        "dilation_cycle": 10,
        "kernel_size": 2,
        "skip_channels": 0,
        "head_channels": 128,
        "condition_channels": 32,
    },
    "base": {
        "layers": [4, 6, 7, 9],
        "channels": [64, 96, 160, 192],
        "pool": [4, 4, 4],
        "dilation_cycle": 10,
        "kernel_size": 2,
        "skip_channels": 0,
        "head_channels": 256,
        "condition_channels": 32,
    },
    "large": {
        "layers": [4, 6, 7, 9],
        "channels": [96, 160, 224, 320],
        "pool": [4, 4, 4],
        "dilation_cycle": 10,
        "kernel_size": 2,
        "skip_channels": 0,
        "head_channels": 256,
        "condition_channels": 64,
    },
    "classic-small": {
        "layers": [20],
        "channels": [64],
        "pool": [],
        "dilation_cycle": 10,
        "kernel_size": 2,
        "skip_channels": 128,
        "head_channels": 128,
        "condition_channels": 32,
    },
    "classic-base": {
        "layers": [30],
        "channels": [64],
        "pool": [],
        "dilation_cycle": 10,
        "kernel_size": 2,
        "skip_channels": 256,
        "head_channels": 256,
        "condition_channels": 32,
    },
}
"""Every size that [network] has; what a recipe gives beside the name takes the place of the preset's."""


def preset_shape(name: str, levels: int = 256, predictors: Sequence[int] = ()) -> NetworkShape:
    """The network of a preset, without labels and curves. Raises KeyError for a name that is none."""
    plain = {"levels": levels, "labels": {}, "predictors": predictors, **PRESETS[name]}
    return NetworkShape.from_dict(plain)
