"""Is it in tune? For models that are told a pitch, and nothing else beside labels.

Notes of pitches between the lowest and the highest that the recordings have for the same labels are asked for, whether
a recording has that pitch or not, and the pitch of what is played is measured. Beside them stand the held-out
recordings, measured in the same way and held against the pitch that stands in their curves.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from audio_gen.curves import channels_of
from audio_gen.data.store import Store
from audio_gen.evaluation.blocks import Block, Histogram, Section, Table, percent
from audio_gen.evaluation.excerpts import Excerpt
from audio_gen.evaluation.resemblance import PITCH_SECONDS, pitch
from audio_gen.evaluation.spectra import Waveform, sounding_part
from audio_gen.pitch import unscale_pitch
from audio_gen.sampler.draw import Draw
from audio_gen.sampler.model import Model

IN_TUNE = 25.0
"""Cents."""
SECONDS = 1.5
"""Of a note."""
ONSET = 0.05  # seconds, in which a note has no pitch yet
LEAST_VOICED = 0.1  # of the frames, for a note to have a pitch at all
LOWER = 0.45  # times the pitch that is expected: how far down it is looked for, so that an octave is found
FARTHEST = 100.0  # cents, of the histogram
BINS = 20
ROWS = 32  # notes side by side
SHOWN = 10  # notes, in the table of those that are farthest off

Tell = Callable[[int, int], None]
"""(done, of how many)"""


@dataclass(frozen=True)
class Note:
    """One note that was asked for, or recorded."""

    name: str
    labels: dict[str, str]
    asked: float
    """Hertz."""
    found: float
    """Hertz; NaN where it has no pitch."""
    heard: bool
    """Whether a training recording has that pitch, within IN_TUNE."""

    @property
    def cents(self) -> float:
        """How much too high it is."""
        return 1200.0 * math.log2(self.found / self.asked) if self.found > 0.0 else math.nan

    @property
    def in_tune(self) -> bool:
        return abs(self.cents) <= IN_TUNE


@dataclass(frozen=True)
class Intonation:
    """How near notes come to the pitch asked for."""

    seed: int
    notes: tuple[Note, ...]
    recordings: tuple[Note, ...]

    @property
    def share(self) -> float:
        """Of the notes, that are in tune."""
        return _share(self.notes)

    def section(self) -> Section:
        said = (
            f"{len(self.notes):,} notes of {SECONDS:g} s were asked for from seed {self.seed}, at pitches between the "
            "lowest and the highest that training recordings of the same labels have, evenly spread over octaves; "
            f"{percent(self.share)} of them are within {IN_TUNE:g} cents.",
        )
        sets = (
            ("notes, all", self.notes),
            ("of pitches heard in training", [note for note in self.notes if note.heard]),
            ("of other pitches", [note for note in self.notes if not note.heard]),
            ("held-out recordings", self.recordings),
        )
        rows = tuple((name, *_row(some)) for name, some in sets if some)
        columns = (
            "",
            "notes",
            f"within {IN_TUNE:g} cents",
            "median error, cents",
            "an octave off",
            "no pitch",
        )
        blocks: list[Block] = [Table("How many are in tune", columns, rows)]
        edges = np.linspace(-FARTHEST, FARTHEST, BINS + 1)
        series = tuple(
            (name, kind, tuple((np.histogram([note.cents for note in some], edges)[0] / len(some)).tolist()))
            for name, kind, some in (
                ("recordings", "real", self.recordings),
                ("notes", "ours", self.notes),
            )
            if some
        )
        blocks.append(Histogram("Share of notes by error", "cents", tuple(edges.tolist()), series))  # type: ignore[arg-type]
        farthest = sorted(self.notes, key=lambda note: -abs(note.cents) if note.found > 0.0 else -math.inf)
        table = tuple(
            (
                note.name,
                ", ".join(note.labels.values()),
                f"{note.asked:.1f}",
                _written(note.found),
                _written(note.cents),
            )
            for note in farthest[:SHOWN]
        )
        blocks.append(Table("The farthest off", ("note", "labels", "asked, Hz", "found, Hz", "cents"), table))
        return Section("Intonation", said, tuple(blocks))


def _share(notes: Sequence[Note]) -> float:
    return sum(note.in_tune for note in notes) / len(notes)


def _row(notes: Sequence[Note]) -> tuple[str, ...]:
    cents = [abs(note.cents) for note in notes if note.found > 0.0]
    octaves = sum(abs(size - 1200.0 * round(size / 1200.0)) <= IN_TUNE < size for size in cents)
    median = f"{np.median(cents):.1f}" if cents else "-"
    count = len(notes)
    return (
        f"{count:,}",
        percent(_share(notes)),
        median,
        percent(octaves / count),
        percent(1 - len(cents) / count),
    )


def _written(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.1f}"


def obstacle(model: Model, training: Sequence[Excerpt]) -> str | None:
    """Why notes cannot be asked for, in a sentence, or None if they can."""
    if model.told != ["pitch"]:
        return "the model is not told a pitch, or more than that."
    if not training:
        return "no training recordings say which pitches are in range; give a token store or a run folder."
    return None


def judge(
    model: Model,
    store: Store,
    training: Sequence[Excerpt],
    held_out: Sequence[Excerpt],
    count: int,
    seed: int,
    draw: Draw,
    tell: Tell,
) -> Intonation:
    """Ask `model` for `count` notes. `training` and `held_out` are of `store`. Needs librosa."""
    known: dict[tuple[tuple[str, str], ...], list[float]] = {}
    for excerpt in training:
        if (hertz := told(model, store, excerpt)) > 0.0:
            known.setdefault(excerpt.key, []).append(hertz)
    kinds = [(dict(key), sorted(pitches)) for key, pitches in sorted(known.items())]
    heard = np.array(sorted(hertz for _, pitches in kinds for hertz in pitches))
    places = np.random.default_rng(seed).random(count)
    notes: list[Note] = []
    recorded = [(excerpt, told(model, store, excerpt)) for excerpt in held_out[:count]]
    recorded = [(excerpt, hertz) for excerpt, hertz in recorded if hertz > 0.0]
    total = (count if kinds else 0) + len(recorded)
    for first in range(0, total - len(recorded), ROWS):
        tell(first, total)
        streams = range(first, min(first + ROWS, count))
        labels, ranges = zip(*(kinds[stream % len(kinds)] for stream in streams), strict=True)
        asked = [
            pitches[0] * (pitches[-1] / pitches[0]) ** float(places[stream])
            for stream, pitches in zip(streams, ranges, strict=True)
        ]
        clips = model.generate(
            [SECONDS] * len(streams), labels=list(labels), seed=seed, stream=list(streams),
            curves=[{"pitch": hertz} for hertz in asked], **_settings(model, draw),
        )  # fmt: skip
        for stream, told_labels, hertz, clip in zip(streams, labels, asked, clips, strict=True):
            near = bool(np.abs(1200.0 * np.log2(heard / hertz)).min() <= IN_TUNE)
            notes.append(Note(str(stream), told_labels, hertz, _found(clip, model.sample_rate, hertz), near))
    recordings = []
    for place, (excerpt, hertz) in enumerate(recorded):
        tell(len(notes) + place, total)
        waveform = excerpt.waveform(store)[: round(SECONDS * model.sample_rate)]
        near = bool(len(heard) and np.abs(1200.0 * np.log2(heard / hertz)).min() <= IN_TUNE)
        found = _found(waveform, model.sample_rate, hertz)
        recordings.append(Note(excerpt.clip.source, excerpt.labels, hertz, found, near))
    return Intonation(seed, tuple(notes), tuple(recordings))


def _settings(model: Model, draw: Draw) -> dict[str, Any]:
    """Of the draw, as `Model.generate` takes them; a model without a sketch takes none for it."""
    of_sketch = ("sketch_temperature", "guidance")
    return {name: value for name, value in asdict(draw).items() if model.sketch or name not in of_sketch}


def told(model: Model, store: Store, excerpt: Excerpt) -> float:
    """Hertz, the median of an excerpt's pitch curve; 0 without a pitch."""
    frames = store.curves_of(excerpt.clip)
    assert frames is not None
    first, last = excerpt.start // store.hop, -(-(excerpt.start + excerpt.samples) // store.hop)
    hertz = unscale_pitch(frames[first:last, channels_of("pitch", store.curves, store.curve_channels)])
    voiced = hertz[hertz > 0.0]
    return float(np.median(voiced)) if len(voiced) else 0.0


def _found(waveform: Waveform, sample_rate: int, expected: float) -> float:
    """Hertz, the median where the waveform sounds; NaN where it has hardly any pitch."""
    part = waveform[sounding_part(waveform)][round(ONSET * sample_rate) :]
    if len(part) < 2 * PITCH_SECONDS * sample_rate:
        return math.nan
    hertz = pitch(part, sample_rate, lowest=LOWER * expected)
    voiced = hertz[~np.isnan(hertz)]
    return float(np.median(voiced)) if len(voiced) >= LEAST_VOICED * len(hertz) else math.nan
