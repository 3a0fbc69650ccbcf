"""The streaming writer: samples in, an audio file that is valid at every moment out."""

from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Literal, get_args

import numpy as np

from audio_gen.audio.files import Destination, PipeSink, is_pipe, output_errors
from audio_gen.audio.flac import FlacFile, FlacPipe
from audio_gen.audio.outputs import Output, SampleFile, SamplePipe, Waveform
from audio_gen.errors import OutputError, SettingError

Format = Literal["wav", "flac", "raw"]
_SUFFIXES: dict[str, Format] = {
    ".wav": "wav",
    ".wave": "wav",
    ".rf64": "wav",
    ".flac": "flac",
    ".raw": "raw",
    ".pcm": "raw",
}


class AudioWriter:
    """Writes mono samples to a WAV, FLAC or raw file, or to a pipe, while they are being made.

    What `write` was given can be read from the file when it returns (FLAC: all but the last frame of at most
    4096 samples), and if the process dies, the file stays playable and `resume=True` continues it. WAV turns
    into RF64 past 4 GiB. Samples beyond [-1, 1] are clipped and counted; integers are rint(x * 2^(bits-1)),
    see `outputs.integers`.

    Args:
        destination: a path, whose missing folders are made, or "-" for standard output. Devices and named
            pipes are written like standard output.
        sample_rate: Hz.
        format: "wav", "flac" or "raw" (headerless, little-endian); None goes by the suffix, for pipes "wav".
        bits: 16 or 24 of integer, or 32 of float (not for FLAC).
        seconds: the whole length, if known, so that a pipe can say it in the header; None or infinity if not.
        tags: words to store in the header (not in raw), given back by `read_tags`. A resumed file keeps its
            own.
        force: overwrite an existing file.
        resume: continue an existing file after its last whole sample, whatever `force` says; start afresh if
            there is none.

    Raises SettingError for settings that do not fit, OutputError if the file exists (without force and
    resume), does not fit to be resumed, or cannot be written; its subclass ClosedPipeError if the reader of
    a pipe has gone.
    """

    def __init__(
        self,
        destination: Path | str,
        sample_rate: int,
        *,
        format: Format | None = None,
        bits: int = 16,
        seconds: float | None = None,
        tags: dict[str, str] | None = None,
        force: bool = False,
        resume: bool = False,
    ) -> None:
        self.destination: Destination = "-" if destination == "-" else Path(destination)
        self.name = "standard output" if self.destination == "-" else str(self.destination)
        self.sample_rate = sample_rate
        self.samples_clipped = 0
        self._closed = False
        chosen = _format(self.destination, format)
        _check(sample_rate, bits, chosen, seconds)
        with output_errors(self.name):
            if is_pipe(self.destination):
                total = None if seconds is None or seconds == float("inf") else round(seconds * sample_rate)
                self._output = _pipe(self.destination, chosen, sample_rate, bits, tags or {}, total)
            else:
                path = Path(self.destination)
                self._output = _file(path, chosen, sample_rate, bits, tags or {}, force, resume)

    @property
    def samples_written(self) -> int:
        """Samples in the file, with those found there by `resume`."""
        return self._output.samples

    def write(self, waveform: Waveform) -> None:
        """Append float32 (time,) samples. After an OutputError the file keeps what it had, and is closed."""
        if self._closed:
            raise OutputError(f"{self.name}: is closed")
        samples = np.asarray(waveform, dtype=np.float32)
        if samples.ndim != 1:
            raise SettingError(f"AudioWriter takes waveforms of shape (time,), not {samples.shape}")
        if np.isnan(samples).any():
            raise SettingError(
                f"{self.name}: was given samples that are not numbers (NaN); nothing was written"
            )
        if not len(samples):
            return
        clipped = np.clip(samples, np.float32(-1), np.float32(1))
        self._output_call(lambda: self._output.write(clipped))
        self.samples_clipped += int(np.count_nonzero(clipped != samples))

    def close(self) -> None:
        """Finish the file; more calls do nothing."""
        if not self._closed:
            self._output_call(self._output.close)
            self._closed = True

    def _output_call(self, call: Callable[[], None]) -> None:
        with output_errors(self.name):
            try:
                call()
            except OSError:
                self._closed = True
                self._output.abandon()
                raise

    def __enter__(self) -> "AudioWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _format(destination: Destination, format: Format | None) -> Format:
    if format is not None:
        if format not in get_args(Format):
            raise SettingError(f"format is {format!r}; it must be one of {', '.join(get_args(Format))}")
        return format
    if is_pipe(destination):
        return "wav"
    suffix = Path(destination).suffix.lower()
    if suffix not in _SUFFIXES:
        raise SettingError(f"{destination}: its format is not clear; end the name in .wav, .flac or .raw")
    return _SUFFIXES[suffix]


def _check(sample_rate: int, bits: int, format: Format, seconds: float | None) -> None:
    if not 1 <= sample_rate <= 10_000_000:
        raise SettingError(f"sample_rate is {sample_rate} Hz; it must be between 1 and 10,000,000")
    if bits not in (16, 24, 32):
        raise SettingError(f"bits is {bits}; it must be 16, 24 or 32 (float)")
    if format == "flac" and bits == 32:
        raise SettingError("FLAC holds no floats; use 16 or 24 bits, or WAV")
    if seconds is not None and not seconds >= 0:
        raise SettingError(f"seconds is {seconds}; it must be 0 or more")


def _pipe(
    destination: Destination,
    format: Format,
    sample_rate: int,
    bits: int,
    tags: dict[str, str],
    total: int | None,
) -> Output:
    sink = PipeSink(destination)
    if format == "flac":
        return FlacPipe(sink, sample_rate, bits, tags, total)
    return SamplePipe(sink, sample_rate, bits, tags, format == "raw", total)


def _file(
    path: Path, format: Format, sample_rate: int, bits: int, tags: dict[str, str], force: bool, resume: bool
) -> Output:
    if path.is_dir():
        raise OutputError(f"{path}: is a folder; name a file in it")
    if path.exists() and resume and path.stat().st_size:
        if format == "flac":
            return FlacFile.resumed(path, sample_rate, bits)
        return SampleFile.resumed(path, sample_rate, bits, format == "raw")
    if path.exists() and not force and not resume:
        raise OutputError(f"{path}: exists; use --force to overwrite it or --resume to continue it")
    if format == "flac":
        return FlacFile.new(path, sample_rate, bits, tags)
    return SampleFile.new(path, sample_rate, bits, tags, format == "raw")
