"""Waveforms as clips of a page, to be heard."""

import io

import soundfile

from audio_gen.evaluation.blocks import Kind, Sound
from audio_gen.evaluation.spectra import Waveform


def sound(name: str, waveform: Waveform, sample_rate: int, kind: Kind) -> Sound:
    """A clip of a `waveform` (time,) in [-1, 1], 16-bit."""
    file = io.BytesIO()
    soundfile.write(file, waveform, sample_rate, format="WAV", subtype="PCM_16")
    return Sound(name, file.getvalue(), kind)
