"""From a model to sound: coins, draws, streams; and the slow reference that judges the compiled engine."""

from audio_gen.sampler.draw import Draw
from audio_gen.sampler.library import bundled, load
from audio_gen.sampler.model import Model

__all__ = ["Draw", "Model", "bundled", "load"]
