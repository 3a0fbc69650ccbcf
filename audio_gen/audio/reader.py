"""Reading recordings of any kind as mono float32, in blocks, at a sample rate of one's choice."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import gcd
from pathlib import Path

import numpy as np
import numpy.typing as npt

from audio_gen.audio.decode import Source, open_source
from audio_gen.audio.problems import AudioProblemError
from audio_gen.errors import AudioFileError, SettingError

Waveform = npt.NDArray[np.float32]
_QUALITY = "HQ"  # soxr: 20 bit precision, pass band to 0.913 of the lower Nyquist frequency
_EDGE_SECONDS = 0.2  # of context when reading from the middle; the resampler's filters are far shorter


@dataclass(frozen=True)
class AudioInfo:
    """What a file holds. `frames` are those to be had, `claimed_frames` what its header promises.

    For compressed formats (FLAC, MP3, OGG) both are the header's word: only reading finds them truncated.
    """

    path: Path
    sample_rate: int  # Hz
    channels: int
    frames: int
    format: str  # as libsndfile names it: WAV, FLAC, ...; OTHER if another decoder reads it
    subtype: str  # PCM_16, FLOAT, VORBIS, ...
    claimed_frames: int

    @property
    def seconds(self) -> float:
        """Length, s."""
        return self.frames / self.sample_rate

    @property
    def truncated(self) -> bool:
        """The header promises more than is there."""
        return self.claimed_frames > self.frames


def probe(path: Path | str) -> AudioInfo:
    """What the file at `path` holds, from its header; decoded to count only where the header does not tell.

    A truncated file is reported (`truncated`), all else that makes a file unusable raises AudioFileError.
    """
    path = Path(path)
    with open_source(path) as source:
        frames = source.frames
        if frames is None:
            frames = sum(len(block) for block in _until_end(source, 1 << 16))
        if frames == 0:
            raise _no_samples(path)
        claimed = frames if source.claimed is None else source.claimed
        return AudioInfo(
            path, source.sample_rate, source.channels, frames, source.format, source.subtype, claimed
        )


def read_blocks(
    path: Path | str,
    sample_rate: int | None = None,
    block_seconds: float = 10.0,
    *,
    allow_truncated: bool = False,
) -> Iterator[Waveform]:
    """The recording as mono float32 blocks (time,) of about `block_seconds`, none of them empty.

    Channels are averaged. With a `sample_rate` (Hz) other than the file's, soxr's stream resampler is used:
    the blocks joined are bit for bit the whole resampled, however they are cut. Integer formats lie in
    [-1, 1); floats are given as they are, beyond 1 too. Memory does not grow with the length of the file.

    Raises AudioFileError for files that cannot be read, hold no samples, hold NaN or infinity, or end before
    their header says (`allow_truncated` gives what is there instead); these two may come after some blocks.
    """
    _check_rate(sample_rate)
    if not block_seconds > 0:
        raise SettingError(f"block_seconds is {block_seconds}; it must be above 0")
    return _read_blocks(Path(path), sample_rate, block_seconds, allow_truncated)


def _read_blocks(
    path: Path, sample_rate: int | None, block_seconds: float, allow_truncated: bool
) -> Iterator[Waveform]:
    with open_source(path) as source:
        blocks = _mono(path, source, max(1, round(block_seconds * source.sample_rate)), allow_truncated)
        yield from _resample(blocks, source.sample_rate, sample_rate or source.sample_rate)


def read(
    path: Path | str,
    sample_rate: int | None = None,
    start_seconds: float = 0.0,
    seconds: float | None = None,
    *,
    allow_truncated: bool = False,
) -> Waveform:
    """The recording, or `seconds` of it from `start_seconds` on, as mono float32 (time,); see `read_blocks`.

    A part equals that part of the whole: bit for bit if neither resampled nor MP3, to 1e-5 otherwise. It is
    shorter than `seconds` where the recording ends before. A start at or past the end raises AudioFileError.
    """
    path = Path(path)
    _check_rate(sample_rate)
    if not start_seconds >= 0 or (seconds is not None and not seconds > 0):
        raise SettingError(f"start_seconds {start_seconds} must be 0 or more, seconds {seconds} above 0")
    with open_source(path) as source:
        rate = sample_rate or source.sample_rate
        first = round(start_seconds * rate)
        count = None if seconds is None else max(1, round(seconds * rate))
        # Start early enough to fill the filters, where an input sample and an output sample coincide.
        step = source.sample_rate // gcd(rate, source.sample_rate)
        early = 0 if rate == source.sample_rate else round(_EDGE_SECONDS * source.sample_rate)
        skipped = max(0, first * source.sample_rate // rate - early) // step * step
        if skipped and source.frames is not None and skipped >= source.frames:
            raise _past_end(path, start_seconds)
        if skipped:
            source.skip(skipped)
        drop = first - skipped * rate // source.sample_rate
        blocks = _mono(path, source, 10 * source.sample_rate, allow_truncated, skipped)
        parts: list[Waveform] = []
        have = 0
        for block in _resample(blocks, source.sample_rate, rate):
            part = block[drop:] if count is None else block[drop : drop + count - have]
            drop = max(0, drop - len(block))
            have += len(part)
            parts.append(part)
            if count is not None and have >= count:
                break
    if not have:
        raise _past_end(path, start_seconds)
    return np.concatenate(parts)


def _mono(path: Path, source: Source, size: int, allow_truncated: bool, start: int = 0) -> Iterator[Waveform]:
    """Blocks (time,) of `size` samples at the source's own rate, checked; the source stands at `start`."""
    if source.frames is not None and source.claimed is not None and source.claimed > source.frames:
        if not allow_truncated:
            raise _truncated(path, source, source.frames)
        if source.frames == 0:
            raise _no_samples(path)
    at = start
    for block in _until_end(source, size):
        bad = np.flatnonzero(~np.isfinite(block).all(axis=1))
        if len(bad):
            second = (at + int(bad[0])) / source.sample_rate
            reason = f"holds NaN or infinity from second {second:.3f} on; export it again or remove it"
            raise AudioProblemError(path, "not-finite", reason)
        at += len(block)
        yield block[:, 0] if source.channels == 1 else block.mean(axis=1, dtype=np.float32)
    if at == 0:
        raise _no_samples(path)
    # An MP3 encoder's count may be out by its padding; every other count is exact.
    tolerance = 2 * 1152 if source.subtype.startswith("MPEG") else 0
    if source.claimed is not None and at + tolerance < source.claimed and not allow_truncated:
        raise _truncated(path, source, at)


def _until_end(source: Source, size: int) -> Iterator[Waveform]:
    while len(block := source.read(size)):
        yield block


def _resample(blocks: Iterator[Waveform], rate: int, new_rate: int) -> Iterator[Waveform]:
    if rate == new_rate:
        yield from blocks
        return
    import soxr

    resampler = soxr.ResampleStream(rate, new_rate, 1, dtype="float32", quality=_QUALITY)
    first, made = 0.0, 0
    for block in blocks:
        if not made:
            first = float(block[0])
        out = resampler.resample_chunk(block)
        made += len(out)
        if len(out):
            yield out
    out = resampler.resample_chunk(np.empty(0, np.float32), last=True)
    if len(out):
        yield out
    elif not made:  # shorter than half a new sample; a clip of one sample is still a clip
        yield np.full(1, first, np.float32)


def _check_rate(sample_rate: int | None) -> None:
    if sample_rate is not None and sample_rate < 1:
        raise SettingError(f"sample_rate is {sample_rate} Hz; it must be 1 or more")


def _no_samples(path: Path) -> AudioFileError:
    return AudioProblemError(path, "no-samples", "holds a header but no samples (length zero); remove it")


def _past_end(path: Path, start_seconds: float) -> AudioFileError:
    return AudioProblemError(path, "no-samples", f"ends before the start asked for, {start_seconds} s")


def _truncated(path: Path, source: Source, present: int) -> AudioFileError:
    claimed = source.claimed or 0
    return AudioProblemError(
        path,
        "truncated",
        f"truncated: {present / source.sample_rate:.2f} s are there, its header promises "
        f"{claimed / source.sample_rate:.2f} s; copy it again, or allow truncated files",
    )
