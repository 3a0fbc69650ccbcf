"""Int8 as a step of its own: calibrated on training audio, judged on held-out audio, kept in the checkpoint."""

from audio_gen.quantization.quantize import Quantization, quantize

__all__ = ["Quantization", "quantize"]
