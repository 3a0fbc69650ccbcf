"""The streams behind AudioWriter: WAV and raw samples, to a file or a pipe.

Each takes waveforms already in [-1, 1] and leaves, after every call, a file that any player opens.
"""

from contextlib import suppress
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from audio_gen.audio import wav
from audio_gen.audio.files import FileSink, Sink, create
from audio_gen.audio.tags import riff_info
from audio_gen.errors import OutputError

Waveform = npt.NDArray[np.float32]


class Output(Protocol):
    """An open stream of mono samples."""

    @property
    def samples(self) -> int:
        """In the stream so far, those found there included."""

    def write(self, waveform: Waveform) -> None:
        """Append (time,) samples in [-1, 1]; OSError if the system refuses."""

    def close(self) -> None:
        """Finish the file; OSError if the system refuses."""

    def abandon(self) -> None:
        """Let go after a failure, leaving what was good; never fails."""


def integers(waveform: Waveform, bits: int) -> npt.NDArray[np.int32]:
    """(time,) in [-1, 1] to integers of 16 or 24 bits: rint(x * 2^(bits-1)), 1.0 to the largest.

    Read back as integer / 2^(bits-1), as libsndfile does, a sample is off by half a step at most (one at
    1.0), so that 16 bits keep mu-law tokens of 256 and 512 levels, and 24 bits those of 1024.
    """
    full = 2 ** (bits - 1)
    steps: Waveform = np.rint(waveform * np.float32(full))
    return np.minimum(steps, np.float32(full - 1)).astype(np.int32)


def sample_bytes(waveform: Waveform, bits: int) -> bytes:
    """Little-endian samples: integers of 16 or 24 bits, or 32-bit floats."""
    if bits == 32:
        return waveform.astype("<f4").tobytes()
    if bits == 16:
        return integers(waveform, bits).astype("<i2").tobytes()
    return integers(waveform, bits).astype("<i4").view(np.uint8).reshape(-1, 4)[:, :3].tobytes()


class SampleFile:
    """WAV, or raw samples (a header of no bytes), in a regular file.

    Data go first and sizes after them, so whenever the process dies the header counts samples that are
    there. What lies behind them then is skipped by players and overwritten by `resume`.
    """

    def __init__(self, path: Path, bits: int, header: bytes, fact_at: int | None, samples: int) -> None:
        self.samples = samples
        self._width = bits // 8
        self._bits = bits
        self._header = header
        self._fact_at = fact_at
        self._sink = FileSink(path)

    @classmethod
    def new(cls, path: Path, sample_rate: int, bits: int, tags: dict[str, str], raw: bool) -> "SampleFile":
        """An empty stream at `path`, in place of what is there."""
        header = b"" if raw else wav.new_header(sample_rate, bits, riff_info(tags))
        create(path, header)
        return cls(path, bits, header, wav.fact_position(header), 0)

    @classmethod
    def resumed(cls, path: Path, sample_rate: int, bits: int, raw: bool) -> "SampleFile":
        """Continue the stream at `path`: drop a torn last sample, put the sizes right. Keeps its tags."""
        size = path.stat().st_size
        header = b""
        claimed = size
        if not raw:
            with path.open("rb") as file:
                found = wav.parse_header(file)
                file.seek(0)
                header = file.read(found.data_start) if found else b""
            _check_same(path, found, sample_rate, bits)
            assert found is not None
            claimed = size if found.unknown_length else found.data_bytes
        samples = min(claimed, size - len(header)) // (bits // 8)
        self = cls(path, bits, header, wav.fact_position(header), samples)
        end = len(header) + samples * self._width
        self._sink.truncate(end)
        self._sink.put(end, self._pad(end))
        self._put_sizes()
        return self

    def write(self, waveform: Waveform) -> None:
        data = sample_bytes(waveform, self._bits)
        end = len(self._header) + self.samples * self._width
        try:
            self._sink.put(end, data + self._pad(end + len(data)))
        except OSError:
            with suppress(OSError):
                self._sink.truncate(end)
            raise
        self.samples += len(waveform)
        self._put_sizes()

    def _pad(self, end: int) -> bytes:
        return b"\0" if self._header and end % 2 else b""  # RIFF chunks are even; the header is

    def _put_sizes(self) -> None:
        if self._header:
            data_bytes = self.samples * self._width
            self._header = wav.with_sizes(self._header, data_bytes, self._width, self._fact_at)
            self._sink.put(0, self._header)

    def close(self) -> None:
        self._sink.close()

    def abandon(self) -> None:
        self._sink.close()


def _check_same(path: Path, found: wav.WavHeader | None, sample_rate: int, bits: int) -> None:
    advice = "give the settings it was made with, or use --force to overwrite it"
    if found is None or not found.can_grow:
        raise OutputError(f"{path}: cannot be resumed, since it was not written by audio-gen; {advice}")
    tag = wav.FLOAT if bits == 32 else wav.PCM
    if (found.format_tag, found.channels, found.sample_rate, found.bits) != (tag, 1, sample_rate, bits):
        raise OutputError(
            f"{path}: cannot be resumed at {sample_rate} Hz, {bits} bits, mono: it has "
            f"{found.sample_rate} Hz, {found.bits} bits, {found.channels} channel(s); {advice}"
        )


class SamplePipe:
    """WAV or raw samples to a pipe, with the right sizes if `total` samples are known, else "unknown"."""

    def __init__(
        self, sink: Sink, sample_rate: int, bits: int, tags: dict[str, str], raw: bool, total: int | None
    ) -> None:
        self.samples = 0
        self._bits = bits
        self._sink: Sink = sink
        self._total = total
        self._gone = 0
        self._padded = not raw
        if not raw:
            header = wav.new_header(sample_rate, bits, riff_info(tags))
            data_bytes = None if total is None else total * bits // 8
            self._put(wav.with_sizes(header, data_bytes, bits // 8, wav.fact_position(header)))

    def _put(self, data: bytes) -> None:
        self._sink.put(self._gone, data)
        self._gone += len(data)

    def write(self, waveform: Waveform) -> None:
        self._put(sample_bytes(waveform, self._bits))
        self.samples += len(waveform)

    def close(self) -> None:
        if self._padded and self._total == self.samples and self._gone % 2:
            self._put(b"\0")
        self._sink.close()

    def abandon(self) -> None:
        self._sink.close()
