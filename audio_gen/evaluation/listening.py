"""The parts of an evaluation that listen: what they share is made when first needed, and once."""

import math
from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from audio_gen.data.prepare import Progress
from audio_gen.data.store import Store
from audio_gen.evaluation import (
    composition,
    distribution,
    fidelity,
    intonation,
    long_runs,
    novelty,
    recognition,
    transcription,
)
from audio_gen.evaluation.audition import sound
from audio_gen.evaluation.blocks import Kind, Sounds
from audio_gen.evaluation.clips import Made, make
from audio_gen.evaluation.excerpts import Excerpt, cut, matched, mixed
from audio_gen.evaluation.material import RECORDINGS, Material
from audio_gen.evaluation.originals import Originals
from audio_gen.evaluation.packages import LISTENING, missing, remedy
from audio_gen.evaluation.report import (
    COMPOSITION,
    DISTRIBUTION,
    FIDELITY,
    INTONATION,
    NOVELTY,
    RECOGNISABILITY,
    TRANSCRIPTION,
    Generated,
)
from audio_gen.evaluation.settings import FEWEST, Settings
from audio_gen.evaluation.spectra import Ear, Waveform, sounding_part
from audio_gen.sampler.model import Model

HEARD = 2_000  # excerpts of each kind that are compared one by one, at most
TAUGHT = 6_000  # training excerpts that the recogniser learns from, at most
REAL_SECONDS = 180.0  # of recordings that a long run is held against, at most
LONG_STREAM = 1 << 20  # first stream of the long runs, beyond those of the clips
DISGUISED = 60  # training recordings that are disguised
PAIRS = 6  # of clip and nearest recording, to be heard


class Listening:
    """What is heard of one model, beside the recordings of `material`."""

    def __init__(self, model: Model, material: Material, settings: Settings, tell: Progress) -> None:
        self._model, self._store, self._settings, self._tell = model, material.store, settings, tell
        self._recordings = settings.recordings or material.recordings
        rate, end, store = model.sample_rate, model.checkpoint.end_seconds, material.store
        if material.split == RECORDINGS:
            self._held_out = [(item.clip, item.samples, item.labels) for item in material.items]
            train = []
        else:
            self._held_out, train = (
                [(clip, store.sounding(clip, end), clip.labels) for clip in store.clips(each)]
                for each in ("valid", "train")
            )
        self._real, self._train = (mixed(cut(clips, rate)) for clips in (self._held_out, train))

    def obstacle(self, part: str) -> str | None:
        """Why a part does not apply, in a sentence, or None if it does."""
        if part == FIDELITY:
            return fidelity.obstacle(self._model, len(self._held_out))
        if part == TRANSCRIPTION:
            return transcription.obstacle(self._model, len(self._held_out))
        if part == COMPOSITION:
            return composition.obstacle(self._model, self._store)
        if part == INTONATION and (why := intonation.obstacle(self._model, self._train)):
            return why
        if gone := missing(LISTENING):
            return remedy(gone)
        if part == INTONATION:
            return None
        if part == RECOGNISABILITY and not self._model.labels:
            return "the model has no labels that clips could be recognised by."
        if part == RECOGNISABILITY and not any(
            len({each.labels.get(label) for each in self._train} - {None}) > 1 for label in self._model.labels
        ):
            return (
                "there are no labelled training recordings to learn from; give a token store or a run folder."
            )
        if part == NOVELTY and not self._train:
            return "there are no training recordings to compare with; give a token store or a run folder."
        if len(self._real) < FEWEST:
            what = f"{len(self._real)} held-out excerpts are"
            return f"{what} too few to hold clips against; give at least {FEWEST}."
        if part == DISTRIBUTION and not self._train and len(self._real) < 2 * FEWEST:
            return f"without training recordings it needs {2 * FEWEST} excerpts of real ones."
        return None

    @cached_property
    def ear(self) -> Ear:
        return Ear(self._model.sample_rate)

    @cached_property
    def made(self) -> list[Made]:
        settings = self._settings

        def tell(done: int, total: int) -> None:
            self._tell(done, total, "generating clips")

        return make(
            self._model, self._store, self._real, settings.clips, settings.seed, settings.draw, tell
        )  # fmt: skip

    def facts(self) -> Generated:
        waveforms = [each.waveform for each in self.made]
        return Generated(
            clips=len(waveforms),
            seconds=sum(map(len, waveforms)) / self._model.sample_rate,
            silent=sum(sounding_part(waveform).stop == 0 for waveform in waveforms),
            endless=sum(not each.ended for each in self.made),
            ends=self._model.checkpoint.end_seconds > 0.0,
        )

    def judge_labels(self) -> recognition.Recognition | None:
        train, real = self._train[:TAUGHT], self._real[:HEARD]
        tell = self._teller("listening to recordings", len(train) + len(real) + len(self.made))
        heard = [
            recognition.Heard.of(
                self.ear, (tell(read()) for read in reads), [each.labels for each in some], starts
            )
            for some, reads, starts in (
                (train, self._readers(train), [each.start for each in train]),
                (real, self._readers(real), [each.start for each in real]),
                ([each.excerpt for each in self.made], [_given(each.waveform) for each in self.made], None),
            )
        ]
        return recognition.recognise(heard[0], heard[1], heard[2], list(self._model.labels))

    def judge_distance(self) -> distribution.Distribution:
        real, others = self._real, self._train
        if not others:
            real, others = self._real[::2], self._real[1::2]
        count = min(len(real), len(self.made), HEARD, len(others))
        real = real[:count]
        turns = max(1, min(distribution.TURNS, len(others) // count))
        sets = [[each.waveform(self._store) for each in matched(real, others, turn)] for turn in range(turns)]
        return distribution.compare(
            self.ear,
            [each.waveform for each in self.made[:count]],
            [each.waveform(self._store) for each in real],
            sets,
            lambda done, total: self._tell(done, total, "measuring distances"),
        )

    def judge_novelty(self) -> novelty.Novelty:
        real = [each.waveform(self._store) for each in self._real[:HEARD]]
        library = novelty.Library(self.ear, self._readers(self._train), real)
        known = [each.waveform(self._store) for each in self._train[:DISGUISED]]
        known = [waveform for waveform in known if sounding_part(waveform).stop]
        kinds = list(novelty.disguises(self._model.sample_rate))
        masks = [[change(waveform) for waveform in known] for _, change in kinds]
        asked = [real, [each.waveform for each in self.made], *masks]
        nearest = library.nearest(
            [waveform for some in asked for waveform in some],
            lambda done, total: self._tell(done, total, "comparing with training recordings"),
        )
        ends = np.cumsum([len(some) for some in asked])
        held, ours, *rest = (nearest[stop - len(some) : stop] for stop, some in zip(ends, asked, strict=True))
        similar = tuple(each.similarity for each in held)
        limit = novelty.threshold(similar)
        found = tuple(self._found(made, near, limit) for made, near in zip(self.made, ours, strict=True))
        noticed = tuple(
            (name, sum(each.similarity > limit for each in some), len(some))
            for (name, _), some in zip(kinds, rest, strict=True)
        )
        pairs = self._pairs(ours, library.window_seconds)
        return novelty.Novelty(library.window_seconds, limit, found, similar, noticed, pairs)

    def _found(self, made: Made, near: novelty.Nearest, limit: float) -> novelty.Found:
        if near.excerpt < 0:
            return novelty.Found(str(made.stream), made.excerpt.labels, 0.0, False, "(silence)", {}, 0.0)
        excerpt = self._train[near.excerpt]
        first = sounding_part(excerpt.waveform(self._store)).start
        return novelty.Found(
            clip=str(made.stream),
            labels=made.excerpt.labels,
            similarity=near.similarity,
            near_copy=near.similarity > limit,
            source=excerpt.clip.source,
            source_labels=excerpt.labels,
            seconds=(excerpt.start + first) / self._model.sample_rate + near.seconds,
        )

    def _pairs(self, ours: Sequence[novelty.Nearest], window_seconds: float) -> Sounds:
        """The windows that are most alike, generated and real."""
        rate, rows = self._model.sample_rate, []
        width = round(window_seconds * rate)
        order = sorted(range(len(ours)), key=lambda place: -ours[place].similarity)[:PAIRS]
        for place in order:
            near, made = ours[place], self.made[place]
            if near.excerpt < 0:
                continue
            sounds = []
            excerpt = self._train[near.excerpt]
            for name, waveform, seconds in (
                ("generated", made.waveform, near.own_seconds),
                (excerpt.clip.source, excerpt.waveform(self._store), near.seconds),
            ):
                start = sounding_part(waveform).start + round(seconds * rate)
                kind: Kind = "ours" if name == "generated" else "real"
                sounds.append(sound(name, waveform[start : start + width], rate, kind))
            said = ", ".join([f"clip {made.stream}", *made.excerpt.labels.values()])
            rows.append((f"{said}: similarity {near.similarity:.3f}", tuple(sounds)))
        return Sounds("The most similar windows, to be heard", tuple(rows))

    def judge_long_runs(self) -> long_runs.LongRuns:
        settings, model = self._settings, self._model
        distinct = {each.key: each.labels for each in self._real}
        kinds = list(distinct.values())
        labels = [kinds[(2 * run + 1) * len(kinds) // (2 * settings.long_runs) % len(kinds)]
                  for run in range(settings.long_runs)]  # fmt: skip
        waveforms = long_runs.play(
            model, labels, settings.long_seconds, settings.seed, settings.draw, LONG_STREAM,
            lambda done, total: self._tell(done, total, "playing long runs"), self._long_curves(),
        )  # fmt: skip
        runs = [(each, LONG_STREAM + place, waveforms[place]) for place, each in enumerate(labels)]
        return long_runs.judge(
            self.ear, model.codec, runs, self._recordings_of, model.checkpoint.end_seconds > 0.0,
            lambda done, total: self._tell(done, total, "judging long runs"),
        )  # fmt: skip

    def judge_fidelity(self) -> fidelity.Fidelity:
        settings = self._settings
        originals = Originals(self._recordings, self._store) if self._recordings is not None else None
        excerpts = fidelity.chosen(self._held_out, settings.copies, self._model.sample_rate)
        return fidelity.judge(
            self._model, self._store, excerpts, len(self._held_out), originals, settings.seed, settings.draw,
            self._tell, strict=settings.recordings is not None,
        )  # fmt: skip

    def judge_intonation(self) -> intonation.Intonation:
        settings = self._settings
        return intonation.judge(
            self._model, self._store, self._train, self._real, settings.clips, settings.seed, settings.draw,
            lambda done, total: self._tell(done, total, "listening to notes"),
        )  # fmt: skip

    def judge_transcription(self) -> transcription.Transcription:
        settings = self._settings
        excerpts = fidelity.chosen(
            self._held_out, settings.copies, self._model.sample_rate, transcription.LONGEST_SECONDS
        )
        return transcription.judge(
            self._model, self._store, excerpts, settings.seed, settings.draw, self._tell
        )

    def judge_composition(self) -> composition.Composition:
        return composition.judge(self._model, self._store, self._settings.seed)

    def _recordings_of(self, labels: dict[str, str]) -> list[Waveform]:
        """Recordings of exactly these labels, held-out ones before those learned from, as far as are needed."""
        limit = round(max(REAL_SECONDS, self._settings.long_seconds) * self._model.sample_rate)
        found, length = [], 0
        for excerpt in (*self._real, *self._train):
            if length < limit and excerpt.labels == labels:
                found.append(excerpt.waveform(self._store))
                length += len(found[-1])
        return found

    def _long_curves(self) -> NDArray[np.float32] | None:
        """Curves (frames, channels) of held-out clips, one after another, as long as a run; None for a model that
        follows none, or makes up all of its own; of one whose sketch draws some, the others."""
        if not self._model.told or self._model.composer is not None:
            return None
        wanted = math.ceil(self._settings.long_seconds * self._model.sample_rate / self._store.hop)
        parts: list[NDArray[np.float32]] = []
        while sum(map(len, parts)) < wanted:
            curves = self._store.curves_of(self._real[len(parts) % len(self._real)].clip)
            assert curves is not None
            parts.append(curves[:, ~self._model.drawn])
        return np.concatenate(parts)[:wanted]

    def _readers(self, excerpts: Sequence[Excerpt]) -> list[Callable[[], Waveform]]:
        return [_reader(excerpt, self._store) for excerpt in excerpts]

    def _teller(self, text: str, total: int) -> Callable[[Waveform], Waveform]:
        """Tells of each waveform that passes."""
        done = 0

        def passing(waveform: Waveform) -> Waveform:
            nonlocal done
            done += 1
            self._tell(done, total, text)
            return waveform

        return passing


def _reader(excerpt: Excerpt, store: Store) -> Callable[[], Waveform]:
    return lambda: excerpt.waveform(store)


def _given(waveform: Waveform) -> Callable[[], Waveform]:
    return lambda: waveform
