"""FLAC as a stream: libFLAC encodes, this keeps the count in the header true while the file grows."""

import os
import struct
from contextlib import suppress
from pathlib import Path
from typing import Any

import soundfile

from audio_gen.audio.decode import open_source
from audio_gen.audio.files import FileSink, PipeSink, Sink, create, part_of
from audio_gen.audio.outputs import Waveform, integers
from audio_gen.audio.tags import VORBIS_NAMES, pack, read_tags
from audio_gen.errors import OutputError, SettingError

_TOTAL_AT = 21  # byte whose low half begins the 36-bit count of samples (RFC 9639, section 8.2)
_HEADER = 42  # bytes: "fLaC" and the STREAMINFO block


class _Bytes:
    """What soundfile takes for a file. Errors are kept, since soundfile would lose them in its callback."""

    def __init__(self, sink: Sink, total: int | None) -> None:
        self.sink = sink
        self.error: OSError | None = None
        self.head = bytearray()
        self._total = total
        self._position = 0
        self._size = 0

    def write(self, data: Any) -> int:
        block = bytes(data)
        if self._position == len(self.head) < _HEADER:
            self.head += block
            if self._total is not None and len(self.head) >= _HEADER:
                block = _with_total(self.head, self._total)[len(self.head) - len(block) :]
        self.put(self._position, block)
        self._position += len(block)
        self._size = max(self._size, self._position)
        return len(block)

    def put(self, position: int, data: bytes) -> None:
        if self.error is None:
            try:
                self.sink.put(position, data)
            except OSError as error:
                self.error = error

    def seek(self, offset: int, whence: int = 0) -> int:
        self._position = offset + (0, self._position, self._size)[whence]
        return self._position

    def tell(self) -> int:
        return self._position


def _with_total(head: bytes | bytearray, total: int) -> bytes:
    old = int.from_bytes(head[_TOTAL_AT : _TOTAL_AT + 5], "big") >> 36 << 36
    count = (old | total % (1 << 36)).to_bytes(5, "big")
    return bytes(head[:_TOTAL_AT]) + count + bytes(head[_TOTAL_AT + 5 :])


class _Encoder:
    """libFLAC writing to a sink."""

    def __init__(
        self, sink: Sink, sample_rate: int, bits: int, tags: dict[str, str], total: int | None
    ) -> None:
        self.samples = 0
        self._bits = bits
        self._bytes = _Bytes(sink, total)
        self._file = soundfile.SoundFile(self._bytes, "w", sample_rate, 1, f"PCM_{bits}", format="FLAC")
        for name, text in pack(tags, VORBIS_NAMES).items():
            setattr(self._file, name, text)

    def write(self, waveform: Waveform) -> None:
        values = integers(waveform, self._bits)
        left = values << (32 - self._bits)  # libsndfile takes integers of 32 bits by their upper bits
        if len(left):
            self._file.write(left)
        self.samples += len(waveform)
        self._raise_error()

    @property
    def encoded(self) -> int:
        """Samples in the frames that have gone out; the encoder looks one sample past each frame."""
        if len(self._bytes.head) < _HEADER or not self.samples:
            return 0
        frame = struct.unpack(">H", self._bytes.head[8:10])[0]
        return int((self.samples - 1) // frame * frame)

    def put_total(self) -> None:
        """Write the count of whole frames into the header, where until the end libFLAC leaves "unknown"."""
        if self.encoded:
            total = _with_total(self._bytes.head, self.encoded)
            self._bytes.put(_TOTAL_AT, total[_TOTAL_AT : _TOTAL_AT + 5])
        self._raise_error()

    def finish(self) -> None:
        """Encode what is left and complete the header."""
        self._file.close()
        self._raise_error()

    def abandon(self) -> None:
        self._bytes.error = self._bytes.error or OSError()  # nothing more is to be written
        self._file.close()

    def _raise_error(self) -> None:
        if self._bytes.error is not None:
            raise self._bytes.error


class FlacFile:
    """FLAC in a regular file.

    The encoder writes to NAME.part, which takes the name as soon as it holds no less than the file it
    replaces; from then on the file grows in place by whole frames, each counted in the header once it is
    there.
    """

    def __init__(self, path: Path, sample_rate: int, bits: int, tags: dict[str, str]) -> None:
        self._path = path
        self._part: Path | None = part_of(path)
        self._part.write_bytes(b"")
        self._found = 0
        self._sink = FileSink(self._part)
        self._encoder = _Encoder(self._sink, sample_rate, bits, tags, None)

    @property
    def samples(self) -> int:
        """In the stream so far."""
        return self._encoder.samples

    @classmethod
    def new(cls, path: Path, sample_rate: int, bits: int, tags: dict[str, str]) -> "FlacFile":
        """An empty stream at `path`, in place of what is there."""
        create(path, _empty_flac(sample_rate, bits, tags))
        return cls(path, sample_rate, bits, tags)

    @classmethod
    def resumed(cls, path: Path, sample_rate: int, bits: int) -> "FlacFile":
        """Continue the stream at `path`: its samples are encoded once more, since libFLAC cannot append."""
        with open_source(path) as source:
            found = (source.format, source.subtype, source.channels, source.sample_rate)
            if found != ("FLAC", f"PCM_{bits}", 1, sample_rate):
                raise OutputError(
                    f"{path}: cannot be resumed as FLAC of {bits} bits at {sample_rate} Hz, mono: it has "
                    f"{source.format} {source.subtype} at {source.sample_rate} Hz in {source.channels} "
                    "channel(s); "
                    "give the settings it was made with, or use --force to overwrite it"
                )
            self = cls(path, sample_rate, bits, read_tags(path))
            try:
                while len(block := source.read(1 << 16)):
                    self._encoder.write(block[:, 0])  # exact: a float holds 24 bits
            except OSError:
                self.abandon()
                raise
        self._found = self.samples
        return self

    def write(self, waveform: Waveform) -> None:
        """Append (time,) samples in [-1, 1]; OSError if the system refuses."""
        self._encoder.write(waveform)
        self._encoder.put_total()
        if self._part and self.samples and self._encoder.encoded >= self._found and os.name != "nt":
            self._part.replace(self._path)  # Windows renames no open file: there it waits for close
            self._part = None

    def close(self) -> None:
        """Complete the file."""
        self._encoder.finish()
        self._sink.close()
        if self._part and self.samples:
            self._part.replace(self._path)
        elif self._part:  # libsndfile writes no header without samples; `new` or an earlier run has
            self._part.unlink()

    def abandon(self) -> None:
        """Let go after a failure."""
        self._encoder.abandon()
        self._sink.close()
        if self._part:
            with suppress(OSError):
                self._part.unlink()


class FlacPipe:
    """FLAC to a pipe, with the count of samples in its header if `total` is known."""

    def __init__(
        self, sink: PipeSink, sample_rate: int, bits: int, tags: dict[str, str], total: int | None
    ) -> None:
        self._sink = sink
        self._empty = _empty_flac(sample_rate, bits, tags)
        self._encoder = _Encoder(sink, sample_rate, bits, tags, total)

    @property
    def samples(self) -> int:
        """Sent so far."""
        return self._encoder.samples

    def write(self, waveform: Waveform) -> None:
        """Append (time,) samples in [-1, 1]; OSError if the system refuses."""
        self._encoder.write(waveform)

    def close(self) -> None:
        """Send what the encoder still holds."""
        self._encoder.finish()
        if not self.samples:
            self._sink.put(0, self._empty)
        self._sink.close()

    def abandon(self) -> None:
        """Let go after a failure."""
        self._encoder.abandon()
        self._sink.close()


def _empty_flac(sample_rate: int, bits: int, tags: dict[str, str]) -> bytes:
    """A FLAC file without samples (RFC 9639, sections 8.2 and 8.6), which libsndfile cannot write.

    Raises SettingError for a rate FLAC has no room for.
    """
    if not 0 < sample_rate <= 655_350 or (sample_rate > 65_535 and sample_rate % 10):
        raise SettingError(f"FLAC cannot hold a sample rate of {sample_rate} Hz; use WAV")
    numbers = sample_rate << 44 | (bits - 1) << 36  # one channel: 0; total unknown: 0
    stream_info = struct.pack(">HH6xQ16x", 4096, 4096, numbers)
    words = [f"{name.upper()}={text}".encode() for name, text in pack(tags, VORBIS_NAMES).items()]
    vendor = b"audio-gen"
    comments = struct.pack("<I", len(vendor)) + vendor + struct.pack("<I", len(words))
    comments += b"".join(struct.pack("<I", len(word)) + word for word in words)
    return (
        b"fLaC"
        + struct.pack(">I", len(stream_info))
        + stream_info
        + struct.pack(">I", 0x84 << 24 | len(comments))  # the last block, of type 4
        + comments
    )
