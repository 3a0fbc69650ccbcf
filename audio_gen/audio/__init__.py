"""Audio files: find them, read them in blocks, and write a stream that is playable while it grows."""

from audio_gen.audio.find import SUFFIXES, find_audio
from audio_gen.audio.problems import AudioProblemError, ClosedPipeError
from audio_gen.audio.reader import AudioInfo, probe, read, read_blocks
from audio_gen.audio.tags import read_tags
from audio_gen.audio.writer import AudioWriter

__all__ = [
    "SUFFIXES",
    "AudioInfo",
    "AudioProblemError",
    "AudioWriter",
    "ClosedPipeError",
    "find_audio",
    "probe",
    "read",
    "read_blocks",
    "read_tags",
]
