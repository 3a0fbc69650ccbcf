"""Rendering the jobs that are not there yet, each file whole or not at all."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from audio_gen.audio import probe, read_tags
from audio_gen.audio.files import output_errors
from audio_gen.batch.jobs import MANIFEST, Job, frames
from audio_gen.errors import AudioGenError, SettingError
from audio_gen.sampler.model import Model
from audio_gen.sampler.render import render as render_takes
from audio_gen.sampler.take import Take

Progress = Callable[[int, int, float], None]
"""(clips there, clips in all, seconds of audio made by this call)"""


@dataclass(frozen=True)
class Rendered:
    """What became of the jobs."""

    made: int
    skipped: int
    """Those that were there already."""


def render(
    jobs: Sequence[Job],
    model: Model,
    clips_folder: Path,
    *,
    progress: Progress | None = None,
    force: bool = False,
    rows: int = 16,
) -> Rendered:
    """Render those of the `jobs` that are not there yet (or all, by `force`), up to `rows` side by side,
    whatever their settings; clips of like length go together.

    A clip is there if its file has its whole length and its tags tell the same take. A file takes its name
    once it is whole. Memory does not grow with the length of clips. Where a former clip has to give way,
    clips.json goes first, since it would be wrong about that file. Raises OutputError.
    """
    if rows < 1:
        raise SettingError(f"rows must be 1 or more, got {rows}")
    rate = model.sample_rate
    due = [job for job in jobs if force or not _is_current(clips_folder / job.file, job.take, rate)]
    if any((clips_folder / job.file).exists() for job in due):
        with output_errors(str(clips_folder / MANIFEST)):
            (clips_folder / MANIFEST).unlink(missing_ok=True)
    skipped = len(jobs) - len(due)
    made = samples = 0

    def report(more: int) -> None:
        nonlocal samples
        samples += more
        if progress is not None:
            progress(skipped + made, len(jobs), samples / rate)

    report(0)
    alike: dict[tuple[str, bool, bool, str], list[Job]] = {}
    for job in sorted(due, key=lambda job: frames(job.take, rate)):
        alike.setdefault((_format(job), job.original is None, job.sketched, job.take.prompt), []).append(job)
    for group in alike.values():
        for first in range(0, len(group), rows):
            some = group[first : first + rows]
            with ExitStack() as stack:
                parts = [stack.enter_context(appearing(clips_folder / job.file)) for job in some]
                takes = [job.take for job in some]
                curves = [steer for job in some if (steer := job.curves(model)) is not None]
                render_takes(
                    model, takes, parts, curves=curves or None, prompt=some[0].prompt, format=_format(some[0]),
                    force=True, progress=report,
                )  # fmt: skip
            made += len(some)
            report(0)
    return Rendered(made, skipped)


def _format(job: Job) -> str:
    return PurePosixPath(job.file).suffix.lower().removeprefix(".")


def _is_current(path: Path, take: Take, sample_rate: int) -> bool:
    """Whether `path` holds `take`, whole. The model may have another name there: its hash says what it is."""
    if not path.is_file():
        return False
    try:
        found, info = Take.from_tags(read_tags(path), str(path)), probe(path)
    except AudioGenError:  # damaged, or not made by us
        return False
    length = (frames(take, sample_rate), sample_rate)
    return (
        (info.claimed_frames, info.sample_rate) == length
        and not info.truncated
        and (replace(found, model=take.model) == take)
    )


@contextmanager
def appearing(path: Path) -> Iterator[Path]:
    """Where to write what becomes `path` when all went well, and is gone otherwise. Raises OutputError."""
    part = path.with_name(f".{path.name}.part")
    try:
        yield part
        with output_errors(str(path)):
            part.replace(path)
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)
