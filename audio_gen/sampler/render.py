"""Takes to files: streamed as they are made, side by side, and resumable from nothing but the files."""

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from audio_gen import __version__
from audio_gen.audio import AudioWriter, read, read_tags
from audio_gen.errors import ControlError, OutputError
from audio_gen.sampler.model import CHUNK_SECONDS, Curves, Model, Voices
from audio_gen.sampler.take import Take

Progress = Callable[[int], None]
"""Called with the samples just made, over all clips."""

ROWS = 32
"""Clips made side by side."""


def render(
    model: Model,
    takes: Sequence[Take],
    outputs: Sequence[Path | str],
    *,
    curves: Curves | None = None,
    format: str | None = None,
    bits: int | None = None,
    force: bool = False,
    resume: bool = False,
    progress: Progress | None = None,
) -> int:
    """Write each take to its output (a path, or "-"); takes share their length and their draw.

    With `resume`, what a file holds already stays and the rest follows as if it had never stopped: decoded
    samples encode back to their tokens, and coins depend on the position alone. Returns how many samples were
    clipped. Raises OutputError, ControlError, SettingError.
    """
    tell = progress or (lambda samples: None)
    for take, output in zip(takes, outputs, strict=True):
        if resume and output != "-" and Path(output).exists():
            _check_same(take, Path(output))
    clipped = 0
    for first in range(0, len(takes), ROWS):
        rows = range(first, min(first + ROWS, len(takes)))
        with ExitStack() as stack:
            writers = []
            for row in rows:
                heard = _end_of(model, outputs[row]) if resume else None
                writer = AudioWriter(
                    outputs[row],
                    model.sample_rate,
                    format=format,  # type: ignore[arg-type]
                    bits=bits or model.codec.pcm_bits,
                    seconds=takes[row].seconds,
                    tags=takes[row].tags(__version__),
                    force=force,
                    resume=resume,
                )
                stack.enter_context(writer)
                writers.append((takes[row], writer, heard))
            _play(model, writers, curves, tell)
            clipped += sum(writer.samples_clipped for _, writer, _ in writers)
    return clipped


Running = tuple[Take, AudioWriter, NDArray[np.float32] | None]


def _play(model: Model, running: Sequence[Running], curves: Curves | None, tell: Progress) -> None:
    """Finish all files: those that stand at the same position side by side, the shortest first."""
    seconds = running[0][0].seconds
    total = math.inf if seconds is None else max(1, round(seconds * model.sample_rate))
    by_position: dict[int, list[Running]] = {}
    for row in running:
        by_position.setdefault(row[1].samples_written, []).append(row)
    for position in sorted(by_position):
        rows = by_position[position]
        if position >= total:
            continue
        voices = _voices(model, rows, curves, position)
        chunk = max(1, round(CHUNK_SECONDS * model.sample_rate))
        while voices.position < total:
            waveforms = voices.next(int(min(chunk, total - voices.position)))
            for (_, writer, _), waveform in zip(rows, waveforms, strict=True):
                writer.write(waveform)
            tell(waveforms.size)


def _voices(model: Model, rows: Sequence[Running], curves: Curves | None, position: int) -> Voices:
    """Streams that stand at `position`, having heard what their files hold."""
    take = rows[0][0]
    labels, streams = [row[0].labels for row in rows], [row[0].stream for row in rows]
    if position == 0:
        return model.start(labels, take.draw, take.seed, streams, curves)
    heard = np.stack([row[2] for row in rows if row[2] is not None])
    # Clipped samples have lost their tokens (only de-emphasis can leave [-1, 1]); then the past is made again.
    if model.codec.pre_emphasis and np.abs(heard).max() >= 0.99:
        voices = model.start(labels, take.draw, take.seed, streams, curves)
        while voices.position < position:
            voices.next(min(1 << 14, position - voices.position))
        return voices
    return model.start(labels, take.draw, take.seed, streams, curves, heard, position)


def _end_of(model: Model, output: Path | str) -> NDArray[np.float32] | None:
    """The end of what a file holds: all that the next sample can depend on. None if there is nothing yet."""
    path = Path(output)
    if output == "-":
        raise OutputError("standard output cannot be resumed; give a file with -o")
    if not path.exists():
        return None
    import soundfile

    try:
        with soundfile.SoundFile(path) as file:
            frames = file.frames
    except soundfile.LibsndfileError:
        return None  # too young to hold a sample, or no audio: the writer will say so
    if not frames:
        return None
    # One more than the receptive field: the token before the first one heard. One more for pre-emphasis.
    first = max(0, frames - model.receptive_field - 2)
    return read(path, start_seconds=first / model.sample_rate, allow_truncated=True)


def _check_same(take: Take, path: Path) -> None:
    """Refuse to continue a file that other settings have begun."""
    begun = Take.from_tags(read_tags(path), str(path))
    for name in ("model_hash", "labels", "seed", "stream", "draw", "curves"):
        ours, theirs = getattr(take, name), getattr(begun, name)
        if ours != theirs:
            what = "another model" if name == "model_hash" else f"{name} {theirs}, now {ours}"
            raise OutputError(f"{path}: was begun with {what}; resume it with the same settings, or use --force")
    if path.suffix.lower() not in (".wav", ".flac"):
        raise ControlError(f"{path}: only WAV and FLAC carry what is needed to resume")
