"""The WAV container: reading its header as it stands, and building one that can grow past 4 GiB.

Layout written: RIFF size WAVE | JUNK (28 bytes) | LIST INFO | fmt | fact (float only) | data. When the sizes
outgrow 32 bits the first two chunks turn in place into RF64 and ds64 (EBU Tech 3306, "RF64: An extended file
format for audio data"); nothing behind them moves.
"""

import struct
from dataclasses import dataclass, field
from typing import IO

UNKNOWN_SIZE = 0xFFFFFFFF
RIFF_LIMIT = 0xFFFFFFFF  # bytes; sizes at or past this need RF64
_STREAMED_FROM = 0x7FFFF000  # sox, ffmpeg and others write a size from here up when they cannot know it
_RESERVE = 28  # bytes of a ds64 chunk without a table
PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE


@dataclass(frozen=True)
class WavHeader:
    """What a WAV header says, true or not. Sizes and positions are in bytes."""

    container: str  # RIFF, RIFX, RF64 or BW64
    format_tag: int
    channels: int
    sample_rate: int
    block_align: int
    bits: int
    data_start: int
    data_bytes: int  # as claimed
    can_grow: bool  # there is room for ds64
    fact_at: int | None = None
    info: dict[str, bytes] = field(default_factory=dict)  # LIST INFO before the data

    @property
    def unknown_length(self) -> bool:
        """The writer did not know the length: the data go on to the end of the file."""
        return self.container in ("RIFF", "RIFX") and self.data_bytes >= _STREAMED_FROM

    @property
    def inconsistent(self) -> str | None:
        """How the fmt chunk contradicts itself, or None."""
        if self.format_tag not in (PCM, FLOAT, EXTENSIBLE) or not self.block_align or not self.channels:
            return None  # another codec counts otherwise; zeros are libsndfile's to judge
        width, rest = divmod(self.block_align, self.channels)
        if rest or width * 8 < self.bits:
            return f"{self.channels} channels of {self.bits} bits in blocks of {self.block_align} bytes"
        return None


def parse_header(file: IO[bytes]) -> WavHeader | None:
    """The header of a WAV file or pipe, read up to the first byte of data; None if it is not a whole one.

    Only reads forward, so that it works on a pipe.
    """
    start = file.read(12)
    container = start[:4].decode("latin-1")
    if len(start) < 12 or container not in ("RIFF", "RIFX", "RF64", "BW64") or start[8:] != b"WAVE":
        return None
    order = ">" if container == "RIFX" else "<"
    position = 12
    fmt: tuple[int, ...] | None = None
    long_data_bytes: int | None = None
    can_grow = False
    fact_at: int | None = None
    info: dict[str, bytes] = {}
    while len(head := file.read(8)) == 8:
        name, size = struct.unpack(f"{order}4sI", head)
        position += 8
        if name == b"data":
            if fmt is None:
                return None
            tag, channels, rate, _, align, bits = fmt
            if size == UNKNOWN_SIZE and long_data_bytes is not None:
                size = long_data_bytes
            return WavHeader(
                container, tag, channels, rate, align, bits, position, size, can_grow, fact_at, info
            )
        body = file.read(size + size % 2)
        if len(body) < size:
            return None
        if name == b"fmt " and size >= 16:
            fmt = struct.unpack(f"{order}HHIIHH", body[:16])
        elif name in (b"ds64", b"JUNK") and position == 20 and size == _RESERVE:
            can_grow = order == "<"
            if name == b"ds64":
                long_data_bytes = struct.unpack("<QQ", body[:16])[1]
        elif name == b"fact":
            fact_at = position
        elif name == b"LIST" and body[:4] == b"INFO":
            info.update(_parse_info(body[4:size], order))
        position += len(body)
    return None


def _parse_info(body: bytes, order: str) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    at = 0
    while at + 8 <= len(body):
        name, size = struct.unpack(f"{order}4sI", body[at : at + 8])
        found[name.decode("latin-1")] = body[at + 8 : at + 8 + size].rstrip(b"\0")
        at += 8 + size + size % 2
    return found


def info_after_data(file: IO[bytes], header: WavHeader) -> dict[str, bytes]:
    """LIST INFO chunks that stand behind the data, where many programs put them; `file` must be seekable."""
    order = ">" if header.container == "RIFX" else "<"
    found: dict[str, bytes] = {}
    if header.unknown_length:
        return found
    file.seek(header.data_start + header.data_bytes + header.data_bytes % 2)
    while len(head := file.read(8)) == 8:
        name, size = struct.unpack(f"{order}4sI", head)
        if name == b"LIST" and size < 1 << 24:
            body = file.read(size)
            if body[:4] == b"INFO":
                found.update(_parse_info(body[4:], order))
            file.seek(size % 2, 1)
        else:
            file.seek(size + size % 2, 1)
    return found


def info_chunk(info: dict[str, bytes]) -> bytes:
    """A LIST INFO chunk of NUL-terminated strings under four-letter names; nothing for no strings."""
    body = b""
    for name, text in info.items():
        value = text + b"\0"
        body += struct.pack("<4sI", name.encode("ascii"), len(value)) + value + b"\0" * (len(value) % 2)
    return struct.pack("<4sI4s", b"LIST", len(body) + 4, b"INFO") + body if body else b""


def new_header(sample_rate: int, bits: int, info: dict[str, bytes]) -> bytes:
    """The header of a mono WAV without samples, of 16 or 24 bits of PCM or 32 of float; see `with_sizes`."""
    width = bits // 8
    tag = FLOAT if bits == 32 else PCM
    fmt = struct.pack("<4sIHHIIHH", b"fmt ", 16, tag, 1, sample_rate, sample_rate * width, width, bits)
    fact = struct.pack("<4sII", b"fact", 4, 0) if tag == FLOAT else b""  # asked for by all formats but PCM
    junk = struct.pack("<4sI", b"JUNK", _RESERVE) + bytes(_RESERVE)
    head = b"RIFF\0\0\0\0WAVE" + junk + info_chunk(info) + fmt + fact + b"data\0\0\0\0"
    return with_sizes(head, 0, width, fact_position(head))


def fact_position(header: bytes) -> int | None:
    """Where, in a header of `new_header`, the count of the fact chunk stands."""
    return len(header) - 12 if header[-20:-16] == b"fact" else None


def with_sizes(header: bytes, data_bytes: int | None, width: int, fact_at: int | None) -> bytes:
    """The same header with the sizes for `data_bytes` of data of `width` bytes a sample; None for not known.

    `fact_at` is where the count of the fact chunk stands. Once RF64, a header stays so.
    """
    new = bytearray(header)
    if data_bytes is None:
        riff = data = frames = UNKNOWN_SIZE
    else:
        whole = len(header) - 8 + data_bytes + data_bytes % 2
        riff, data, frames = whole, data_bytes, data_bytes // width
        if whole >= RIFF_LIMIT or header[:4] == b"RF64":
            new[:4] = b"RF64"
            new[12:48] = struct.pack("<4sIQQQI", b"ds64", _RESERVE, whole, data_bytes, frames, 0)
            riff = data = UNKNOWN_SIZE
            frames = min(frames, UNKNOWN_SIZE)
    new[4:8] = struct.pack("<I", riff)
    new[-4:] = struct.pack("<I", data)
    if fact_at is not None:
        new[fact_at : fact_at + 4] = struct.pack("<I", frames)
    return bytes(new)
