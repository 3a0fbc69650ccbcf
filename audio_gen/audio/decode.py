"""Opening a recording, whichever decoder can: libsndfile first, then ffmpeg, then what audioread finds."""

import importlib
import shutil
import subprocess
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import soundfile

from audio_gen.audio import wav
from audio_gen.audio.find import OTHER_SUFFIXES
from audio_gen.audio.problems import AudioProblemError

Block = npt.NDArray[np.float32]
_RATES = (100, 3_000_000)  # Hz; from earthquakes to bats and one-bit audio
_NEVER = 1 << 62  # libsndfile's count for "unknown" is near 2^63


class Source(Protocol):
    """An open recording, read from its start (or from where `skip` went) to its end."""

    sample_rate: int
    channels: int
    format: str
    subtype: str
    frames: int | None  # to be had, as far as the header can tell; None: decoding will tell
    claimed: int | None  # promised by the header

    def skip(self, frames: int) -> None:
        """Leave out the next `frames`."""

    def read(self, frames: int) -> Block:
        """The next (frames, channels) or fewer; none at the end, and where the data break off."""


@contextmanager
def open_source(path: Path) -> Iterator[Source]:
    """Open a recording for reading. Raises AudioProblemError, an AudioFileError saying what is wrong."""
    header = inspect(path)
    try:
        file = soundfile.SoundFile(path)
    except (soundfile.LibsndfileError, TypeError) as error:  # TypeError: by its suffix, headerless
        with _open_elsewhere(path, error) as source:
            yield source
        return
    with file:
        yield _SoundFileSource(path, file, header)


def open_soundfile(path: Path) -> Any:
    """Open a recording by libsndfile alone, for its tags."""
    try:
        return soundfile.SoundFile(path)
    except (soundfile.LibsndfileError, TypeError) as error:
        raise _unreadable(path, error) from error


def inspect(path: Path) -> wav.WavHeader | None:
    """What can be said before decoding. Gives the header if it is a WAV."""
    try:
        with path.open("rb") as file:
            head = file.read(512)
            file.seek(0)
            header = wav.parse_header(file)
    except FileNotFoundError as error:
        raise AudioProblemError(path, "missing", "no such file") from error
    except OSError as error:
        raise AudioProblemError(path, "missing", f"cannot be opened: {error.strerror}") from error
    if not head:
        raise AudioProblemError(path, "empty-file", "empty file of 0 bytes; remove it or copy it again")
    if _is_text(head):
        raise AudioProblemError(path, "not-audio", "holds text, not audio, in spite of its name; remove it")
    if header and (contradiction := header.inconsistent):
        reason = f"its header contradicts itself: {contradiction}; export it again"
        raise AudioProblemError(path, "lying-header", reason)
    return header


def _is_text(head: bytes) -> bool:
    if head.startswith(b"NIST_1A"):  # the one audio format whose header is text
        return False
    return all(byte >= 32 or byte in b"\t\n\r\f" for byte in head) and _is_utf8(head)


def _is_utf8(head: bytes) -> bool:
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start > len(head) - 4  # a letter cut in two by where we stopped
    return True


class _SoundFileSource:
    def __init__(self, path: Path, file: Any, header: wav.WavHeader | None) -> None:
        if file.format == "RAW":  # libsndfile's guess from the suffix
            raise AudioProblemError(path, "not-audio", "has no audio header; convert it to WAV or FLAC")
        self._path, self._file = path, file
        self.sample_rate, self.channels = int(file.samplerate), int(file.channels)
        self.format, self.subtype = str(file.format), str(file.subtype)
        frames = int(file.frames)
        self.frames = frames if frames < _NEVER else None
        self.claimed = self.frames
        if not _RATES[0] <= self.sample_rate <= _RATES[1]:
            reason = f"its header claims {self.sample_rate} samples a second; export it again"
            raise AudioProblemError(path, "lying-header", reason)
        if header and self.frames is not None:
            self.claimed = self._claimed_by_wav(header, self.frames)
        elif self.frames is not None:
            self.claimed = _claimed_by_log(str(file.extra_info), self.frames)

    def _claimed_by_wav(self, header: wav.WavHeader, frames: int) -> int:
        present = self._path.stat().st_size - header.data_start
        if frames == 0 and present > 0 and header.data_bytes == 0:
            raise AudioProblemError(
                self._path,
                "no-samples",
                f"its header claims 0 samples though {present} bytes follow, as when a recorder was cut off; "
                "repair it (for example by Audacity's raw import), or remove it",
            )
        if header.unknown_length or header.data_bytes <= present or present <= 0:
            return frames
        plain = header.format_tag in (wav.PCM, wav.FLOAT, wav.EXTENSIBLE) and header.block_align
        promised = header.data_bytes // header.block_align if plain else frames * header.data_bytes // present
        return max(frames, promised)

    def skip(self, frames: int) -> None:
        try:
            self._file.seek(frames)
        except soundfile.LibsndfileError as error:
            raise AudioProblemError(
                self._path, "truncated", f"damaged or cut off before second {frames / self.sample_rate:.2f}"
            ) from error

    def read(self, frames: int) -> Block:
        if self.frames is not None:
            frames = max(0, min(frames, self.frames - int(self._file.tell())))
        # After an error soundfile does not say how much it had decoded, so mark what has not been written to.
        out = np.full((frames, self.channels), np.nan, np.float32)
        try:
            return np.asarray(self._file.read(out=out), dtype=np.float32)
        except soundfile.LibsndfileError:  # lost sync, or the end of a FLAC of unknown length
            written = np.flatnonzero(~np.isnan(out[:, 0]))
            return out[: written[-1] + 1 if len(written) else 0]


def _claimed_by_log(log: str, frames: int) -> int:
    """What the header of an AIFF, AU or W64 file promised; libsndfile tells only in its log."""
    for line in log.splitlines():
        words = line.replace(":", " : ").split()
        if words[:1] in (["SSND"], ["Data"], ["data"], ["riff"]) and "(should" in words:
            numbers = [int(word.rstrip(")")) for word in words if word.rstrip(")").isdigit()]
            if len(numbers) == 2 and numbers[0] < wav.UNKNOWN_SIZE and 0 < numbers[1] < numbers[0]:
                return max(frames, frames * numbers[0] // numbers[1])
    return frames


@contextmanager
def _open_elsewhere(path: Path, error: Exception) -> Iterator[Source]:
    """Open what libsndfile cannot."""
    if ffmpeg := shutil.which("ffmpeg"):
        with _open_ffmpeg(path, ffmpeg, error) as source:
            yield source
        return
    if path.suffix.lower() in OTHER_SUFFIXES:
        with _open_audioread(path) as file:
            yield _AudioReadSource(file)
        return
    raise _unreadable(path, error)


def _open_audioread(path: Path) -> Any:
    reason = f"reading {path.suffix.lower()} needs ffmpeg; install it, or convert to WAV or FLAC"
    with warnings.catch_warnings():  # it imports modules that Python is about to drop
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            audioread: Any = importlib.import_module("audioread")  # comes with librosa
        except ImportError as error:
            raise AudioProblemError(path, "needs-decoder", reason) from error
        try:
            return audioread.audio_open(str(path))
        except audioread.DecodeError as error:
            raise AudioProblemError(path, "needs-decoder", reason) from error


def _unreadable(
    path: Path, error: Exception, remedy: str = "convert it to WAV or FLAC, or remove it"
) -> AudioProblemError:
    detail = "no header"
    if isinstance(error, soundfile.LibsndfileError):
        detail = str(error.error_string).rstrip(".")
    return AudioProblemError(path, "not-audio", f"not readable as audio ({detail}); {remedy}")


class _Counted(ABC):
    """A source whose length only decoding tells."""

    format, subtype = "OTHER", "OTHER"
    frames: int | None = None
    claimed: int | None = None
    sample_rate: int
    channels: int

    def skip(self, frames: int) -> None:
        while frames > 0 and len(block := self.read(min(frames, 1 << 16))):
            frames -= len(block)

    @abstractmethod
    def read(self, frames: int) -> Block:
        """The next `frames` at most; empty at the end."""


class _PipeSource(_Counted):
    """Floats from ffmpeg's standard output."""

    def __init__(self, pipe: Any, header: wav.WavHeader) -> None:
        self._pipe = pipe
        self.sample_rate, self.channels = header.sample_rate, header.channels

    def read(self, frames: int) -> Block:
        width = 4 * self.channels
        data = self._pipe.read(frames * width)  # a buffered pipe: short only at the end
        return np.frombuffer(data[: len(data) // width * width], dtype="<f4").reshape(-1, self.channels)


@contextmanager
def _open_ffmpeg(path: Path, ffmpeg: str, error: Exception) -> Iterator[Source]:
    """What ffmpeg makes of `path`; where it makes nothing either, what libsndfile's `error` said."""
    options = ["-vn", "-c:a", "pcm_f32le", "-f", "wav", "-"]
    command = [ffmpeg, "-nostdin", "-v", "error", "-i", f"file:{path}", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        try:
            assert process.stdout is not None
            header = wav.parse_header(process.stdout)
            if header is None or not header.channels:
                raise _unreadable(path, error, remedy="ffmpeg cannot read it either: remove it")
            yield _PipeSource(process.stdout, header)
        finally:
            process.kill()


class _AudioReadSource(_Counted):
    """16-bit blocks from audioread, cut to measure."""

    def __init__(self, file: Any) -> None:
        self.sample_rate, self.channels = int(file.samplerate), int(file.channels)
        self._blocks = iter(file)
        self._left = b""

    def read(self, frames: int) -> Block:
        width = 2 * self.channels
        parts, have = [self._left], len(self._left)
        while have < frames * width and (part := next(self._blocks, None)) is not None:
            parts.append(bytes(part))
            have += len(parts[-1])
        data = b"".join(parts)
        usable = min(frames, len(data) // width) * width
        self._left = data[usable:]
        samples = np.frombuffer(data[:usable], dtype="<i2").reshape(-1, self.channels)
        return samples.astype(np.float32) / np.float32(32768)
