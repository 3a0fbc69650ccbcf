"""From a file to the bytes of one clip, block by block."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from audio_gen.audio import read_blocks
from audio_gen.codec import Codec
from audio_gen.coins import coins
from audio_gen.curves import CurveExtractor, Moments
from audio_gen.errors import AudioFileError
from audio_gen.notes import Notes


@dataclass(frozen=True)
class Part:
    """Samples [start, stop) of a file at the target rate, times `gain`, then `end` samples of silence."""

    path: Path
    start: int
    stop: int
    end: int
    gain: float
    truncated: bool
    """The file ends before its header says, which is known and accepted."""
    pitch: float | None = None
    """Hz, where it is known."""
    notes: Notes | None = None
    """Of the whole file, where they are known."""
    dither: float | None = None
    """Decibels (RMS, of full scale) of the noise laid under it."""
    seed: int = 0
    """Of that noise."""


@dataclass(frozen=True)
class Form:
    """What clips become: tokens of this codec, and these curves."""

    codec: Codec
    sample_rate: int
    curves: tuple[str, ...]
    hop: int
    mel_bands: int


@dataclass(frozen=True)
class Piece:
    """Some of a clip, ready for the disk."""

    tokens: bytes
    """Little-endian uint16 (time,)."""
    curves: bytes
    """Little-endian float16 (frames, channels); empty without curves."""
    clipped: int
    """Samples that the codec had to clip."""


def waveform(part: Part, sample_rate: int) -> Iterator[NDArray[np.float32]]:
    """Blocks (time,) of the part; joined they are stop - start + end samples.

    Raises AudioFileError for a file that holds less than it did.
    """
    at = part.start
    for piece in _recorded(part, sample_rate):
        yield piece if part.dither is None else piece + _noise(part.dither, part.seed, at, len(piece))
        at += len(piece)


def _recorded(part: Part, sample_rate: int) -> Iterator[NDArray[np.float32]]:
    at = 0
    for block in read_blocks(part.path, sample_rate, allow_truncated=part.truncated):
        piece = block[max(0, part.start - at) : max(0, part.stop - at)]
        at += len(block)
        if len(piece):
            yield piece * np.float32(part.gain)
        if at >= part.stop:
            break
    if at < part.stop:
        raise AudioFileError(f"{part.path}: changed while it was being prepared; prepare again")
    if part.end:
        yield np.zeros(part.end, np.float32)


def _noise(decibels: float, seed: int, start: int, count: int) -> NDArray[np.float32]:
    """White, of triangular density; the same at the same place of a recording, however it is cut."""
    both = coins(seed, 0, start, count) - coins(seed, 1, start, count)
    return both * np.float32(6.0**0.5 * 10.0 ** (decibels / 20.0))


def encode(part: Part, form: Form) -> Iterator[Piece]:
    """Tokens and curves of the part, block by block. Raises AudioFileError."""
    previous = 0.0
    curves = None
    if form.curves:
        roll = None if part.notes is None else _since(part.notes, part.start / form.sample_rate)
        curves = CurveExtractor(form.sample_rate, form.curves, form.hop, form.mel_bands, part.pitch, roll)
    for block in waveform(part, form.sample_rate):
        tokens = form.codec.encode(block, previous).astype("<u2").tobytes()
        rows = b"".join(map(_half, curves.push(block))) if curves else b""
        yield Piece(tokens, rows, _clipped(block, form.codec, previous))
        previous = float(block[-1])
    if curves:
        yield Piece(b"", _half(curves.finish()), 0)


def _since(notes: Notes, start: float) -> Callable[[Moments], NDArray[np.float32]]:
    return lambda moments: notes.frames(moments + start)


def _half(rows: NDArray[np.float32]) -> bytes:
    return rows.astype("<f2").tobytes()


def _clipped(block: NDArray[np.float32], codec: Codec, previous: float) -> int:
    if codec.pre_emphasis:
        before = np.concatenate([np.array([previous], np.float32), block[:-1]])
        return int(np.count_nonzero(np.abs(block - codec.pre_emphasis * before) > 1.0))
    return int(np.count_nonzero(np.abs(block) > 1.0))
