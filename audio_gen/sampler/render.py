"""Takes to files: streamed as they are made, side by side, and resumable from nothing but the files."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from audio_gen import __version__
from audio_gen.audio import AudioWriter, probe, read, read_blocks, read_tags
from audio_gen.audio.files import is_pipe
from audio_gen.errors import AudioFileError, AudioGenError, OutputError
from audio_gen.interrupts import uninterrupted
from audio_gen.sampler.model import CHUNK_SECONDS, Model
from audio_gen.sampler.parts import Each, Part, samples_of, turned
from audio_gen.sampler.prompt import Prompt
from audio_gen.sampler.take import Take
from audio_gen.sampler.voices import Curves, Voices

Progress = Callable[[int], None]
"""Called with the samples just made, over all clips."""

ROWS = 32
"""Clips made side by side."""
WORK_SECONDS = 0.02
"""About how long Ctrl-C may have to wait for the engine, which hears nothing meanwhile."""
FIRST = 16
"""Samples to begin with, while the engine's speed is not known."""
CLIPPED = 0.99
"""From here up a sample may be all that clipping has left of a greater one, as only de-emphasis makes them."""


def render(
    model: Model,
    takes: Sequence[Take],
    outputs: Sequence[Path | str],
    *,
    curves: Each[Curves] | None = None,
    prompt: Prompt | None = None,
    format: str | None = None,
    bits: int | None = None,
    force: bool = False,
    resume: bool = False,
    progress: Progress | None = None,
) -> int:
    """Write each take to its output (a path, or "-"), side by side; a file is finished when its take ends.

    `curves` (frames, channels) steer all takes, or are a list of one for each take; `Take.curves` tells of them. With
    a `prompt` each file begins with it, and goes on from there; `Take.prompt` tells of it.

    With `resume`, what a file holds already stays and the rest follows as if it had never stopped: decoded
    samples encode back to their tokens, and coins depend on the position alone. Files that are complete are
    not touched. Nothing is written before it is known that all of it may be. Returns how many samples were
    clipped. Raises OutputError, ControlError, SettingError.
    """
    bits = bits or model.codec.pcm_bits
    steers = list(curves) if isinstance(curves, Sequence) else [curves] * len(takes)
    rows = list(zip(takes, outputs, steers, strict=True))
    for take, output, steer in rows:
        model.start([_part(model, take)], steer)  # refuses what it cannot play, before any prompt is heard
        if resume:
            _check_resumable(model, take, output, format, bits)
        elif not force and output != "-" and Path(output).exists() and not is_pipe(Path(output)):
            raise OutputError(f"{output}: exists; use --force to overwrite it or --resume to continue it")
    due = [row for row in rows if not resume or samples_in(row[1]) < _part(model, row[0]).samples]
    clipped, begin = 0, 0 if prompt is None else len(prompt.waveform)
    for first in range(0, len(due), ROWS):
        with ExitStack() as stack:
            running = []
            for take, output, steer in due[first : first + ROWS]:
                begun = resume and samples_in(output) > begin
                heard, memory = _kept(model, output) if begun else (None, 0.0)
                writer = AudioWriter(
                    output,
                    model.sample_rate,
                    format=format,  # type: ignore[arg-type]
                    bits=bits,
                    seconds=take.seconds,
                    tags=take.tags(__version__),
                    force=force,
                    resume=resume,
                )
                stack.enter_context(_closed_at_the_end(writer))
                running.append(_Running(take, writer, steer, heard, memory))
                if prompt is not None:
                    writer.write(prompt.waveform[writer.samples_written :])
            _play(model, running, prompt, progress or (lambda samples: None))
        clipped += sum(file.writer.samples_clipped for file in running)
    return clipped


def resumable(model: Model, output: Path | str, format: str | None, bits: int | None) -> str | None:
    """Why a file of this kind cannot be continued, or None if it can."""
    if output == "-" or is_pipe(Path(output)):
        return "what went into a pipe cannot be resumed; give a file with -o"
    if (format or Path(output).suffix.lower().removeprefix(".")) in ("raw", "pcm"):
        return "raw samples do not say how they were made; only WAV and FLAC can be resumed"
    if bits is not None and bits < model.codec.pcm_bits:
        return (
            f"{bits} bits are too few to tell {model.levels} levels apart, so it cannot be resumed; "
            f"it takes --bits {model.codec.pcm_bits}"
        )
    return None


def begun_precision(outputs: Sequence[Path | str]) -> str | None:
    """The precision in which the first of these files that can be told from was begun; None if there is none."""
    for output in outputs:
        if output != "-" and Path(output).is_file():
            with suppress(AudioGenError):  # `render` will say what is wrong with it
                return Take.from_tags(read_tags(output), str(output)).precision.partition(" ")[0]
    return None


def samples_in(output: Path | str) -> int:
    """Samples that a file holds already; 0 if there is none, or if it is too young to hold any."""
    if output == "-" or not Path(output).is_file():
        return 0
    try:
        return probe(output).frames
    except AudioFileError:
        return 0  # if there is something wrong with it, the writer will say what


@dataclass(frozen=True)
class _Running:
    """One file being written."""

    take: Take
    writer: AudioWriter
    curves: Curves | None
    heard: NDArray[np.float32] | None
    """What the file held at its end, (time,)."""
    memory: float | None
    """The last sample as it was made, which de-emphasis goes on from; None if clipping has lost it."""


def _part(model: Model, take: Take) -> Part:
    """What the model is to play."""
    samples = samples_of(take.seconds, model.sample_rate)
    fade = turned(take.draw, take.fade)[1] if take.fade else None
    return Part(take.labels, take.seed, take.stream, take.draw, samples, fade=fade)


def _play(model: Model, running: Sequence[_Running], prompt: Prompt | None, tell: Progress) -> None:
    """Finish all files: those that stand at one position go side by side, whoever is furthest behind goes first."""
    chunk = max(1, round(CHUNK_SECONDS * model.sample_rate))
    groups: dict[int, list[_Running]] = {}
    for file in running:
        groups.setdefault(file.writer.samples_written, []).append(file)
    choirs = [(_voices(model, files, at, prompt, chunk), files) for at, files in groups.items()]
    piece = min(FIRST, chunk)
    while choirs := [choir for choir in choirs if choir[0].playing]:
        voices, files = min(choirs, key=lambda choir: choir[0].position)
        began = time.perf_counter()
        made = voices.advance(piece)
        needed = (time.perf_counter() - began) / max(1, max(waveform.size for _, waveform in made))
        piece = max(1, min(chunk, 2 * piece, int(WORK_SECONDS / max(needed, 1e-9))))
        with uninterrupted():
            for number, waveform in made:
                files[number].writer.write(waveform)
        tell(sum(waveform.size for _, waveform in made))


def _voices(
    model: Model, files: Sequence[_Running], position: int, prompt: Prompt | None, chunk: int
) -> Voices:
    """Streams that stand at `position`, having heard what their files hold."""
    parts = [_part(model, file.take) for file in files]
    given = [file.curves for file in files if file.curves is not None]
    curves = given or None  # all have some or none has
    kept = [(file.heard, file.memory) for file in files]
    heard = [waveform for waveform, memory in kept if waveform is not None and memory is not None]
    if len(heard) == len(files):
        voices = model.start(parts, curves, np.stack(heard), position, prompt)
        voices.previous = np.array([memory for _, memory in kept], np.float32)
        return voices
    voices = model.start(parts, curves, prompt=prompt)
    while voices.position < position:  # where the files do not tell what was made, make it again
        voices.next(min(chunk, position - voices.position))
    return voices


def _kept(model: Model, output: Path | str) -> tuple[NDArray[np.float32] | None, float | None]:
    """The end of what a file holds, all that the next sample can depend on; and its last sample as it was made."""
    frames = samples_in(output)
    if not frames:
        return None, 0.0
    first = max(
        0, frames - model.receptive_field - 2
    )  # two more: the token before, and what pre-emphasis looks at
    heard = read(output, start_seconds=first / model.sample_rate, allow_truncated=True)
    if not model.codec.pre_emphasis:
        return heard, float(heard[-1])
    # A file of integers holds it rounded, and the filter would remember the difference: so from the beginning.
    memory = before = 0.0
    for block in read_blocks(output, allow_truncated=True):
        if np.abs(block).max() >= CLIPPED:
            return heard, None
        memory = float(model.codec.decode(model.codec.encode(block, before), memory)[-1])
        before = float(block[-1])
    return heard, memory


def _check_resumable(model: Model, take: Take, output: Path | str, format: str | None, bits: int) -> None:
    """Refuse to continue a file that other settings have begun, or that has lost what it takes."""
    problem = resumable(model, output, format, bits)
    if problem:
        raise OutputError(f"{'standard output' if output == '-' else output}: {problem}")
    path = Path(output)
    if not path.exists():
        return
    begun = Take.from_tags(read_tags(path), str(path))
    for name in ("model_hash", "labels", "seed", "stream", "draw", "fade", "curves", "prompt", "precision"):
        ours, theirs = getattr(take, name), getattr(begun, name)
        if ours != theirs:
            what = "another model" if name == "model_hash" else f"{name} {_words(theirs)}, now {_words(ours)}"
            raise OutputError(
                f"{path}: was begun with {what}; resume it with the settings it was begun with, or use --force"
            )


def _words(setting: object) -> str:
    """A setting for people."""
    if isinstance(setting, dict):
        return ", ".join(f"{name}={value}" for name, value in setting.items()) or "none"
    if hasattr(setting, "temperature"):
        return ", ".join(f"{name} {value:g}" for name, value in vars(setting).items())
    return str(setting) or "none"


@contextmanager
def _closed_at_the_end(writer: AudioWriter) -> Iterator[None]:
    try:
        yield
    finally:
        with uninterrupted():
            writer.close()
