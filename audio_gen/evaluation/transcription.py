"""Does it play its notes? For models that are told notes.

Held-out recordings are made again from their own notes. A note tracker writes down which keys it hears in the copies,
and which in the recordings through the same codec; both are held against the notes, frame by frame. A tracker misses
keys, and hears strings that ring on after their keys were let go, so the recordings are the scale: what counts is how
much of their score the copies reach.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from audio_gen.curves import channels_of
from audio_gen.data.prepare import Progress
from audio_gen.data.store import Store
from audio_gen.evaluation import clips, tracker
from audio_gen.evaluation.blocks import Bar, Bars, Section, Table, percent
from audio_gen.evaluation.excerpts import Excerpt
from audio_gen.evaluation.spectra import Waveform
from audio_gen.sampler.draw import Draw
from audio_gen.sampler.model import Model

LONGEST_SECONDS = 60.0
"""Of a copy: longer recordings are copied as far as that."""


class Listener(Protocol):
    """What `tracker.Tracker` is."""

    def hear(self, waveform: Waveform, sample_rate: int) -> NDArray[np.bool_]:
        """(frames, keys), frames of tracker.HOP samples at tracker.RATE."""
        ...


@dataclass(frozen=True)
class Score:
    """Frames of keys: how many sound, how many were heard, and how many are both."""

    sounding: int = 0
    heard: int = 0
    both: int = 0

    def __add__(self, other: "Score") -> "Score":
        return Score(self.sounding + other.sounding, self.heard + other.heard, self.both + other.both)

    @property
    def precision(self) -> float:
        return self.both / self.heard if self.heard else 0.0

    @property
    def recall(self) -> float:
        return self.both / self.sounding if self.sounding else 0.0

    @property
    def f1(self) -> float:
        """The harmonic mean of precision and recall."""
        total = self.sounding + self.heard
        return 2.0 * self.both / total if total else 0.0


@dataclass(frozen=True)
class Piece:
    """One recording, and its copy."""

    source: str
    seconds: float
    copy: Score
    recording: Score
    """Through the same codec."""


@dataclass(frozen=True)
class Transcription:
    """How well the notes are heard in copies, and in recordings."""

    seed: int
    temperature: float
    pieces: tuple[Piece, ...]

    @property
    def copy(self) -> Score:
        """Of all copies together."""
        return sum((piece.copy for piece in self.pieces), Score())

    @property
    def recording(self) -> Score:
        """Of all recordings together."""
        return sum((piece.recording for piece in self.pieces), Score())

    @property
    def share(self) -> float:
        """F1 of the copies, of that of the recordings; 0 where the tracker hears nothing in those."""
        return self.copy.f1 / self.recording.f1 if self.recording.f1 else 0.0

    def section(self) -> Section:
        seconds = sum(piece.seconds for piece in self.pieces)
        said = (
            f"{len(self.pieces):,} held-out recordings, {seconds:,.0f} s, were made again from their own notes, from "
            f"seed {self.seed} at temperature {self.temperature:g}, none chosen; a note tracker (basic-pitch) reaches "
            f"{percent(self.share)} of the F1 that it has on the recordings.",
            "It misses some keys, and hears strings that ring on after theirs were let go: the recordings, through the "
            "same codec, are the scale.",
        )
        rows = [_row(piece.source, piece.copy, piece.recording) for piece in self.pieces]
        rows.append(_row("all", self.copy, self.recording))
        columns = ("", "F1 of the copy", "precision", "recall", "F1 of the recording", "precision", "recall")
        bars = (
            Bar("copies", self.copy.f1, percent(self.copy.f1), "ours"),
            Bar("recordings", self.recording.f1, percent(self.recording.f1), "real"),
        )
        blocks = (
            Bars("F1 of frames, all", bars),
            Table("Keys that sound and are heard, by frames", columns, tuple(rows)),
        )
        return Section("Transcription", said, blocks)


def obstacle(model: Model, held_out: int) -> str | None:
    """Why notes cannot be listened for, in a sentence, or None if they can."""
    if "notes" not in model.told:
        return "the model is not told notes."
    if not held_out:
        return "there are no held-out recordings to copy."
    return tracker.obstacle()


def judge(
    model: Model, store: Store, excerpts: Sequence[Excerpt], seed: int, draw: Draw, tell: Progress,
    listener: Listener | None = None,
) -> Transcription:  # fmt: skip
    """Copies of `excerpts`, each of which begins its recording. `listener`: a Tracker, unless given."""
    rate = model.sample_rate
    made = clips.copy(
        model, store, excerpts, seed, draw, lambda done, total: tell(done, total, "playing notes")
    )
    listener = listener or tracker.Tracker()
    pieces = []
    for place, (excerpt, copy) in enumerate(zip(excerpts, made, strict=True)):
        tell(place, len(excerpts), "listening for notes")
        scores = [
            compare(_roll(store, excerpt), listener.hear(waveform, rate), store.hop / rate)
            for waveform in (copy, excerpt.waveform(store))
        ]
        pieces.append(Piece(excerpt.clip.source, excerpt.samples / rate, *scores))
    return Transcription(seed, draw.temperature, tuple(pieces))


def compare(roll: NDArray[np.bool_], heard: NDArray[np.bool_], frame_seconds: float) -> Score:
    """What was `heard` (frames, keys), by a tracker, of a `roll` (frames, keys) with frames of so many seconds."""
    moments = np.arange(len(heard)) * (tracker.HOP / tracker.RATE)
    sounding = roll[np.minimum((moments / frame_seconds).astype(int), len(roll) - 1)]
    return Score(int(sounding.sum()), int(heard.sum()), int((sounding & heard).sum()))


def _roll(store: Store, excerpt: Excerpt) -> NDArray[np.bool_]:
    """(frames, keys): the notes that the excerpt has."""
    curves = store.curves_of(excerpt.clip)
    assert curves is not None and excerpt.start == 0
    frames = -(-excerpt.samples // store.hop)
    return curves[:frames, channels_of("notes", store.curves, store.curve_channels)] > 0.0


def _row(name: str, copy: Score, recording: Score) -> tuple[str, ...]:
    cells = [(score.f1, score.precision, score.recall) for score in (copy, recording)]
    return (name, *(percent(value) for some in cells for value in some))
