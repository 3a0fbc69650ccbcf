"""The compiled sampler: the network a second time, in C, fast enough to play. Needs no torch."""

from audio_gen.engine.arguments import DrawSettings
from audio_gen.engine.engine import Engine
from audio_gen.engine.state import State

__all__ = ["DrawSettings", "Engine", "State"]
