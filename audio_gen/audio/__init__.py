"""Audio files: find them, read them in blocks, and write a stream that is playable while it grows."""

from audio_gen.audio.find import SUFFIXES, find_audio
from audio_gen.audio.problems import AudioProblemError
from audio_gen.audio.reader import AudioInfo, probe, read, read_blocks

__all__ = ["SUFFIXES", "AudioInfo", "AudioProblemError", "find_audio", "probe", "read", "read_blocks"]
