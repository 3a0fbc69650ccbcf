"""What becomes of a model that plays on for minutes: drift, collapse into silence or a tone, loops, clicks.

Every second of a run is measured, and held against the range that nine of ten seconds of recordings of the same
labels, one after another, keep to. The detectors hear those recordings too: what they find there is the scale of what
they find in the run.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from audio_gen.codec import Codec
from audio_gen.evaluation.blocks import Lines, Section, Series, Table, percent
from audio_gen.evaluation.detectors import ALIKE, STILL_DB, clicks, movement, repetition, silent
from audio_gen.evaluation.spectra import FLOOR_DB, Ear, Waveform
from audio_gen.sampler.draw import Draw
from audio_gen.sampler.model import Model
from audio_gen.sampler.parts import Part

WINDOW_SECONDS = 1.0
RANGE = (5.0, 95.0)  # percentiles of the real windows
THIRDS = ("beginning", "middle", "end")
CHUNK_SECONDS = 1.0
SPARE = 1e-6  # a range of one value has no width

Tell = Callable[[int, int], None]


@dataclass(frozen=True)
class Course:
    """One measure over the seconds of a run."""

    name: str
    unit: str
    values: tuple[float, ...]
    low: float
    """Of the range of real recordings."""
    high: float

    def inside(self, third: int) -> float:
        """The share of a third of the run that lies in the range."""
        part = np.array_split(np.array(self.values), 3)[third]
        return float(((part >= self.low - SPARE) & (part <= self.high + SPARE)).mean()) if len(part) else 1.0


@dataclass(frozen=True)
class Events:
    """What the detectors found in some audio."""

    seconds: float
    silent: float
    """Share of windows."""
    still: float
    """Share of windows that sound and do not move."""
    looping: float
    """Share of stretches that repeat what came before."""
    clicks_per_minute: float
    first_loop: float | None
    """Seconds from the beginning."""
    silent_from: float | None
    """Where the silence begins that lasts to the end."""


@dataclass(frozen=True)
class Run:
    """One long run."""

    labels: dict[str, str]
    stream: int
    events: Events
    courses: tuple[Course, ...]
    real: Events
    """What the detectors found in the recordings of these labels."""

    @property
    def kind(self) -> str:
        """Its labels, for people."""
        return ", ".join(self.labels.values())

    @property
    def name(self) -> str:
        return self.kind or f"stream {self.stream}"


@dataclass(frozen=True)
class LongRuns:
    """All runs, each held against real recordings."""

    runs: tuple[Run, ...]
    ends: bool
    """The model learned that its clips end; then silence after the first is right."""

    def section(self) -> Section:
        sentences = [_said(run, self.ends) for run in self.runs]
        if self.ends:
            sentences.insert(
                0,
                "This model learned single clips that end: silence for good after the first is what it should "
                "come to.",
            )
        kinds: dict[str, list[Run]] = {}
        for run in self.runs:
            kinds.setdefault(run.kind, []).append(run)
        rows = [(run.name, *_events(run.events)) for run in self.runs]
        rows += [(f"recordings {kind}".rstrip(), *_events(some[0].real)) for kind, some in kinds.items()]
        table = Table(
            "What the detectors find",
            ("", "seconds", "silent", "still", "looping", "clicks/min"), tuple(rows),
        )  # fmt: skip
        ranges = [
            (f"{run.name}: {course.name}", *(percent(course.inside(third)) for third in range(3)))
            for run in self.runs
            for course in run.courses
        ]
        inside = Table(
            "Seconds within the range of real recordings (which hold to it 90 % of the time)",
            ("", *THIRDS), tuple(ranges),
        )  # fmt: skip
        lines = [
            _lines(kind, some, place) for kind, some in kinds.items() for place in range(len(some[0].courses))
        ]
        return Section("Long runs", tuple(sentences), (table, inside, *lines))


def play(
    model: Model, labels: Sequence[dict[str, str]], seconds: float, seed: int, draw: Draw, stream: int,
    tell: Tell, curves: NDArray[np.float32] | None = None,
) -> list[Waveform]:  # fmt: skip
    """One waveform for each of `labels`, on streams from `stream` on; `curves` (frames, channels) are for all."""
    parts = [Part(each, seed, stream + place, draw) for place, each in enumerate(labels)]
    voices = model.start(parts, curves)
    total, chunk = round(seconds * model.sample_rate), round(CHUNK_SECONDS * model.sample_rate)
    chunks: list[NDArray[np.float32]] = []
    while voices.position < total:
        tell(voices.position, total)
        chunks.append(voices.next(min(chunk, total - voices.position)))
    return list(np.concatenate(chunks, axis=1))


def judge(
    ear: Ear, codec: Codec, runs: Sequence[tuple[dict[str, str], int, Waveform]],
    real: Callable[[dict[str, str]], Sequence[Waveform]], ends: bool, tell: Tell,
) -> LongRuns:  # fmt: skip
    """Runs (labels, stream, waveform), each held against the recordings that `real` has of its labels."""
    references: dict[tuple[tuple[str, str], ...], tuple[Events, list[tuple[float, float]]]] = {}
    found = []
    for place, (labels, stream, waveform) in enumerate(runs):
        tell(place, len(runs))
        key = tuple(sorted(labels.items()))
        if key not in references:
            references[key] = _reference(ear, codec, real(labels))
        events, ranges = references[key]
        courses = tuple(
            Course(name, unit, tuple(values.tolist()), low, high)
            for (name, unit, values), (low, high) in zip(_measures(ear, codec, waveform), ranges, strict=True)
        )
        found.append(Run(labels, stream, detect(ear, waveform), courses, events))
    return LongRuns(tuple(found), ends)


def _reference(ear: Ear, codec: Codec, real: Sequence[Waveform]) -> tuple[Events, list[tuple[float, float]]]:
    """Of recordings one after another: what the detectors find, and the range of each measure."""
    whole = np.concatenate(list(real))
    jumps = sum(len(clicks(each, ear.sample_rate)) for each in real)  # none where two recordings meet
    events = replace(detect(ear, whole), clicks_per_minute=60.0 * jumps * ear.sample_rate / len(whole))
    ranges = [np.percentile(values, RANGE) for _, _, values in _measures(ear, codec, whole)]
    return events, [(float(low), float(high)) for low, high in ranges]


def detect(ear: Ear, waveform: Waveform) -> Events:
    """What the detectors find; clicks beside a second of audio at least."""
    width = round(WINDOW_SECONDS * ear.sample_rate)
    waveform = np.pad(waveform, (0, max(0, width - len(waveform))))
    windows = _windows(waveform, width)
    quiet = silent(windows)
    still = ~quiet & (movement(ear, waveform, width) < STILL_DB)
    loops = repetition(ear, waveform) > ALIKE
    jumps = clicks(waveform, ear.sample_rate)
    sounding = np.flatnonzero(~quiet)
    last = int(sounding[-1]) + 1 if len(sounding) else 0
    seconds = len(waveform) / ear.sample_rate
    return Events(
        seconds=seconds,
        silent=float(quiet.mean()),
        still=float(still.mean()),
        looping=float(loops.mean()) if len(loops) else 0.0,
        clicks_per_minute=60.0 * len(jumps) / seconds,
        first_loop=float(np.argmax(loops)) if loops.any() else None,
        silent_from=last * WINDOW_SECONDS if last < len(windows) else None,
    )


def _windows(waveform: Waveform, width: int) -> NDArray[np.float32]:
    """(windows, time); the rest is left out."""
    return waveform[: len(waveform) // width * width].reshape(-1, width)


def _measures(ear: Ear, codec: Codec, waveform: Waveform) -> list[tuple[str, str, NDArray[np.float64]]]:
    """(name, unit, value of each second)"""
    width = round(WINDOW_SECONDS * ear.sample_rate)
    waveform = np.pad(waveform, (0, max(0, width - len(waveform))))
    windows = _windows(waveform, width)
    power = np.mean(np.square(windows, dtype=np.float64), axis=1)
    loudness = 10.0 * np.log10(np.maximum(power, 10.0 ** (FLOOR_DB / 10.0)))
    centres, entropy = [], []
    for window in windows:
        bands = 10.0 ** (ear.spectrum(window).astype(np.float64) / 10.0)
        centres.append(float(bands.sum(axis=0) @ ear.band_centres / bands.sum()))
        counts = np.bincount(codec.encode(window), minlength=codec.levels) / width
        entropy.append(float(-(counts[counts > 0] * np.log2(counts[counts > 0])).sum()))
    return [
        ("loudness", "dBFS", loudness),
        ("spectral centre", "Hz", np.array(centres)),
        ("token entropy", "bits", np.array(entropy)),
    ]


def _lines(kind: str, runs: Sequence[Run], place: int) -> Lines:
    """A measure of runs of one kind over time."""
    course = runs[0].courses[place]
    series = tuple(
        Series(
            run.name, tuple((np.arange(len(run.courses[place].values)) + 0.5).tolist()),
            run.courses[place].values, "ours",
        )
        for run in runs
    )  # fmt: skip
    return Lines(
        f"{kind}: {course.name} over time" if kind else f"{course.name} over time", "seconds", course.unit,
        series, (course.low, course.high), "range of real recordings",
    )  # fmt: skip


def _events(events: Events) -> tuple[str, ...]:
    shares = (percent(events.silent), percent(events.still), percent(events.looping))
    return (f"{events.seconds:.0f}", *shares, f"{events.clicks_per_minute:.1f}")


def _said(run: Run, ends: bool) -> str:
    """One sentence on a run."""
    events, real, parts = run.events, run.real, []
    if events.silent_from is not None:
        parts.append(f"is silent from {events.silent_from:.0f} s on")
    if events.still > real.still + 0.1:
        parts.append(f"stands still {percent(events.still)} of the time (real {percent(real.still)})")
    if events.looping > real.looping + 0.1:
        parts.append(f"loops {percent(events.looping)} of the time (real {percent(real.looping)})")
    if events.clicks_per_minute > 2.0 * real.clicks_per_minute + 1.0:
        parts.append(
            f"clicks {events.clicks_per_minute:.1f} times a minute (real {real.clicks_per_minute:.1f})"
        )
    if not (ends and events.silent_from is not None):
        away = [course.name for course in run.courses if course.inside(2) < 0.5]
        if away:
            parts.append(f"ends outside the range of real recordings in {', '.join(away)}")
    return f"{run.name}: {'; '.join(parts) or 'no silence, standstill, loops, clicks or drift'}."
