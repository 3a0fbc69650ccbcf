"""How near do copies come? For models that follow curves measured from recordings, such as vocoders.

Held-out recordings are made again from their own curves, and each copy is held against its recording through the same
codec, sample for sample, and by the words that a recogniser hears. Beside it stands the codec alone: the recording
through the codec, held against the recording itself.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from audio_gen.data.prepare import Progress
from audio_gen.data.store import Clip, Store, evenly
from audio_gen.errors import DataError
from audio_gen.evaluation import clips, copies
from audio_gen.evaluation.audition import sound
from audio_gen.evaluation.blocks import Block, Histogram, Kind, Section, Sounds, Table
from audio_gen.evaluation.copies import Copy, Figure
from audio_gen.evaluation.excerpts import Excerpt
from audio_gen.evaluation.originals import Originals
from audio_gen.evaluation.packages import INSTALL, listed, missing, remedy, there
from audio_gen.evaluation.resemblance import MEASURES, Voice, available
from audio_gen.evaluation.spectra import Waveform
from audio_gen.evaluation.speech import LANGUAGE, Recogniser
from audio_gen.sampler.draw import Draw
from audio_gen.sampler.model import Model

LONGEST_SECONDS = 20.0
"""Of a copy: longer recordings are copied as far as that."""
PAIRS = 5  # of copy and recording, to be heard
SHOWN = 10  # copies, in the table of the least alike
BINS = 20
RECOGNISER = "pocketsphinx"


@dataclass(frozen=True)
class Fidelity:
    """How near copies come to their recordings."""

    seed: int
    temperature: float
    held_out: int
    """Recordings that there are."""
    copies: tuple[Copy, ...]
    """Every copy, in the order of the recordings' names."""
    figures: tuple[Figure, ...]
    notes: tuple[str, ...] = ()
    """What could not be measured, and why."""
    pairs: Sounds | None = None

    def section(self) -> Section:
        seconds = sum(each.seconds for each in self.copies)
        said = [
            f"{len(self.copies):,} of {self.held_out:,} held-out recordings, {seconds:,.1f} s, were made again from "
            f"their own curves, from seed {self.seed} at temperature {self.temperature:g}, none chosen; each copy is "
            "held against the recording through the same codec.",
        ]
        if any(not math.isnan(each.codec_alone) for each in self.figures):
            said.append(
                "Codec alone is what remains without a model: the recording through the codec, held against the "
                "recording itself, or heard by the same recogniser."
            )
        rows = tuple(
            (each.title, each.written(each.mean), each.written(each.worst), each.worst_source,
             each.written(each.codec_alone))
            for each in self.figures
        )  # fmt: skip
        blocks: list[Block] = []
        if rows:
            names = ("", "copies", "worst", "worst copy", "codec alone")
            blocks.append(Table("Copies beside their recordings, mean of all", names, rows))
        blocks += [self._histogram(each) for each in self.figures if each.count > 1]
        if self.figures:
            blocks.append(self._least())
        if self.pairs is not None:
            blocks.append(self.pairs)
        return Section("Fidelity", (*said, *self.notes), tuple(blocks))

    def _histogram(self, figure: Figure) -> Histogram:
        sets: tuple[tuple[str, Kind, list[float]], ...] = (
            ("codec alone", "real", [each.codec_value(figure.measure) for each in self.copies]),
            ("copies", "ours", [each.value(figure.measure) for each in self.copies]),
        )
        known = [
            (name, kind, [figure.scaled(value) for value in values if not math.isnan(value)])
            for name, kind, values in sets
        ]
        values = [value for _, _, some in known for value in some]
        low, high = min(values), max(values)
        edges = np.linspace(low, high if high > low else low + 1.0, BINS + 1)
        series = tuple(
            (name, kind, tuple((np.histogram(some, edges)[0] / len(some)).tolist()))
            for name, kind, some in known
            if some
        )
        return Histogram(f"{figure.title}: share of copies", figure.title, tuple(edges.tolist()), series)

    def _least(self) -> Table:
        """The copies that are least alike by the first figure, with all of them."""
        order = _ranked(self.copies, self.figures[0].measure)
        rows = tuple(
            (each.source, *(figure.written(each.value(figure.measure)) for figure in self.figures))
            for each in (self.copies[place] for place in order[:SHOWN])
        )
        return Table("The least alike", ("recording", *(each.title for each in self.figures)), rows)


def obstacle(model: Model, held_out: int) -> str | None:
    """Why copies cannot be made or judged, in a sentence, or None if they can."""
    if not model.checkpoint.shape.curve_channels:
        return "the model follows no curves that could be measured from a recording."
    if model.sketch is not None:
        return "the model draws the curves it follows itself."
    if not held_out:
        return "there are no held-out recordings to copy."
    if not available():
        return remedy(missing(dict.fromkeys(MEASURES.values())))
    return None


def chosen(
    held_out: Sequence[tuple[Clip, int, dict[str, str]]],
    count: int,
    sample_rate: int,
    longest_seconds: float = LONGEST_SECONDS,
) -> list[Excerpt]:
    """At most `count` of the held-out clips (clip, samples that sound, labels), evenly spread, each in one piece.

    They are those that `[[generate]] copies` chooses.

    >>> some = [(Clip(f"{n}.wav", "valid", 0, 0, 9, {}, 1.0, "", 0), 9, {}) for n in range(6)]
    >>> [each.clip.source for each in chosen(some, 3, 16_000)]
    ['0.wav', '2.wav', '4.wav']
    """
    count, longest = min(count, len(held_out)), round(longest_seconds * sample_rate)
    return [
        Excerpt(clip, 0, min(samples, longest), labels) for clip, samples, labels in evenly(held_out, count)
    ]


def judge(
    model: Model, store: Store, excerpts: Sequence[Excerpt], held_out: int, originals: Originals | None, seed: int,
    draw: Draw, tell: Progress, *, strict: bool,
) -> Fidelity:  # fmt: skip
    """Copies of `excerpts`, out of so many held-out recordings, held against them.

    `strict`: raises DataError if none of the `originals` is found.
    """
    rate = model.sample_rate
    full = [originals.waveform(each) if originals is not None else None for each in excerpts]
    if strict and originals is not None and all(each is None for each in full):
        raise DataError(
            f"{originals.folder}: holds none of the recordings of {store.path}, such as {excerpts[0].clip.source}"
        )
    made = clips.copy(
        model, store, excerpts, seed, draw, lambda done, total: tell(done, total, "copying recordings")
    )
    heard = [each.waveform(store) for each in excerpts]
    found = []
    for place, (excerpt, copy, through) in enumerate(zip(excerpts, made, heard, strict=True)):
        tell(place, len(excerpts), "measuring copies")
        whole, recording = full[place], Voice(through, rate)
        found.append(
            Copy(
                excerpt.clip.source, excerpt.labels, excerpt.samples / rate,
                recording.resemblance(Voice(copy, rate)),
                None if whole is None else Voice(whole, rate).resemblance(recording),
            )
        )  # fmt: skip
    texts = [_words(each, store, originals) for each in excerpts]
    notes = [*_missing(), *_gaps(full, originals), *_silence(texts, originals)]
    if any(texts) and there(RECOGNISER):
        recogniser = Recogniser()
        for place, words in enumerate(texts):
            tell(place, len(texts), "recognising words")
            if words:
                understood = [recogniser.hear(each[place], rate) for each in (made, heard)]
                found[place] = found[place].understood(words, *understood)
    figures = copies.figures(found, rate)
    notes += [
        f"{each.title}: {each.count:,} of {len(found):,} copies have enough sound to measure it."
        for each in figures
        if each.count < len(found) and each.measure != copies.WORDS
    ]
    pairs = _pairs(found, figures, made, heard, rate)
    return Fidelity(seed, draw.temperature, held_out, tuple(found), tuple(figures), tuple(notes), pairs)


def _missing() -> list[str]:
    """A sentence for each package that is not installed, on what is left out without it."""
    titles: dict[str, list[str]] = {}
    for measure, package in (MEASURES | {copies.WORDS: RECOGNISER}).items():
        titles.setdefault(package, []).append(copies.NAMES[measure])
    return [
        f"Without {package} there is no {listed(titles[package])}; run: {INSTALL}"
        for package in missing(titles)
    ]


def _gaps(full: Sequence[Waveform | None], originals: Originals | None) -> list[str]:
    """A sentence on recordings that are not at hand."""
    lost = sum(each is None for each in full)
    if originals is None:
        return [
            "Codec alone is left out: the store does not know where its recordings are; say so with --recordings."
        ]
    if lost:
        return [
            f"Codec alone is without {lost:,} of {len(full):,} recordings, which are not in {originals.folder}."
        ]
    return []


def _silence(texts: Sequence[list[str] | None], originals: Originals | None) -> list[str]:
    """A sentence on what words are compared, or why none are."""
    told = sum(map(bool, texts))
    if originals is None:
        return [
            "The word error rate is left out: transcripts (.txt) lie beside recordings; see --recordings."
        ]
    if not told:
        return ["The word error rate is left out: no transcripts (.txt) were found beside the recordings."]
    if not there(RECOGNISER):
        return []
    return [
        f"Words are those that {RECOGNISER} ({LANGUAGE}) hears in {told:,} copies and their recordings, in which it "
        "errs, too."
    ]


def _words(excerpt: Excerpt, store: Store, originals: Originals | None) -> list[str] | None:
    """The words said in a copy; None where they are not known, or it is a part of its recording."""
    if originals is None or excerpt.samples == round(LONGEST_SECONDS * store.sample_rate):
        return None
    return originals.words(excerpt.clip)


def _ranked(found: Sequence[Copy], measure: str) -> list[int]:
    """Places of the copies, worst first."""
    badness = [copies.badness(measure, each.value(measure)) for each in found]
    return sorted(range(len(found)), key=lambda place: -badness[place])


def _pairs(
    found: Sequence[Copy], figures: Sequence[Figure], made: Sequence[Waveform], heard: Sequence[Waveform], rate: int
) -> Sounds | None:  # fmt: skip
    """Copies from the worst to the best by the first figure, each beside its recording."""
    if not figures:
        return None
    lead, count = figures[0], min(PAIRS, len(found))
    order = _ranked(found, lead.measure)
    places = np.linspace(0, len(order) - 1, count).round().astype(int)
    rows = tuple(
        (
            f"{found[place].source}: {lead.title} {lead.written(found[place].value(lead.measure))}",
            (
                sound("copy", made[place], rate, "ours"),
                sound("recording, through the codec", heard[place], rate, "real"),
            ),
        )
        for place in (order[each] for each in places)
    )
    return Sounds("From the least alike to the most, to be heard", rows)
