"""What does it compose? For models with a composer: how well it expects held-out notes, and how its own ones compare.

Is it memory? Some successions of keys are everybody's, so those of held-out pieces are the scale: how many of their
successions stand in the training pieces, in whatever key and rhythm, beside how many of those composed.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean, median

import numpy as np
from numpy.typing import NDArray

from audio_gen.composer import COUNTS, FIRSTS, LEVELS, TOKENS
from audio_gen.data.note_lists import NoteStore
from audio_gen.data.store import Store
from audio_gen.errors import DataError
from audio_gen.evaluation.blocks import Bar, Bars, Section, Table, percent
from audio_gen.notes import Note
from audio_gen.sampler.model import Model

PIECES, SECONDS = 10, 60.0
"""That are composed, and how much of each; of held-out ones as much."""
SUCCESSIONS = (5, 8, 12)
"""Notes, one after another."""
PLACES = ("wait", "key", "velocity", "length")


@dataclass(frozen=True)
class Manner:
    """What notes are like: means over pieces."""

    notes_per_second: float
    key_bits: float
    """Entropy of the twelve pitch classes in a piece: 2.8 for a plain scale, 3.58 for all alike."""
    velocity: float
    seconds: float
    """That a note lasts, the median of a piece."""
    known: tuple[float, ...]
    """Share of SUCCESSIONS that stand in the training pieces."""


@dataclass(frozen=True)
class Composition:
    """What a composer has learned."""

    seed: int
    temperature: float
    bits: tuple[float, ...]
    """Per token of held-out pieces, by PLACES."""
    unigram: tuple[float, ...]
    """What they cost who knows nothing but how often each token is."""
    composed: Manner
    held_out: Manner
    training: Manner

    def section(self) -> Section:
        bits, plain = sum(self.bits), sum(self.unigram)
        said = (
            f"A held-out note costs {bits:.2f} bits, {plain:.2f} by how often its wait, key, velocity and length are.",
            f"{PIECES} pieces of {SECONDS:g} s were composed, from seed {self.seed} at temperature "
            f"{self.temperature:g}, none chosen. {percent(self.composed.known[1])} of their successions of "
            f"{SUCCESSIONS[1]} keys stand in the training pieces, in some key or other; of the held-out pieces' "
            f"{percent(self.held_out.known[1])}.",
        )
        bars = (Bar("the composer", bits, f"{bits:.2f}", "ours"), Bar("unigram", plain, f"{plain:.2f}"))
        costs = tuple(
            (place, f"{ours:.2f}", f"{theirs:.2f}")
            for place, ours, theirs in zip(PLACES, self.bits, self.unigram, strict=True)
        )
        rows = (
            _row("composed", self.composed),
            _row("held out", self.held_out),
            _row("learned from", self.training),
        )
        known = tuple(f"{count} keys known" for count in SUCCESSIONS)
        columns = ("", "notes/s", "entropy of pitch classes, bits", "velocity", "median length, s", *known)
        return Section(
            "Composition",
            said,
            (
                Bars("Bits per note, held-out pieces", bars),
                Table("Bits by what they tell", ("", "the composer", "unigram"), costs),
                Table("What notes are like, means over pieces", columns, rows),
            ),
        )


def obstacle(model: Model, store: Store) -> str | None:
    """Why nothing is composed, in a sentence, or None if it can be."""
    if model.composer is None:
        return "the model has no composer."
    try:
        pieces = NoteStore(store.path)
        if not pieces.clips("valid") or not pieces.clips("train"):
            return "it needs pieces to learn from and pieces held out; give a token store or a run folder."
    except DataError as error:
        return f"{error}."
    return None


def judge(model: Model, store: Store, seed: int) -> Composition:
    """Of a `model` with a composer, against the notes of `store`."""
    composer = model.composer
    assert composer is not None
    pieces = NoteStore(store.path)
    train = [pieces.tokens(clip) for clip in pieces.clips("train") if pieces.is_plain(clip)]
    valid = [(clip, pieces.tokens(clip)) for clip in pieces.clips("valid")]
    costs = np.concatenate(
        [
            composer.bits(tokens, labels=_known(composer, clip.labels), curves=pieces.curves_of(clip))
            for clip, tokens in valid
        ]
    )
    composed = [model.compose(SECONDS, seed=seed, stream=stream).values for stream in range(PIECES)]
    learned = [pieces.notes(tokens) for tokens in train]
    known = [{*_successions(learned, count)} for count in SUCCESSIONS]
    held_out = [pieces.notes(tokens) for _, tokens in valid]
    return Composition(
        seed,
        composer.draw.temperature,
        tuple(costs.reshape(-1, TOKENS).mean(0).tolist()),
        _unigram(train, [tokens for _, tokens in valid]),
        *(_manner([*map(_begun, some)], known) for some in (composed, held_out, learned)),
    )


def _begun(piece: Sequence[Note]) -> Sequence[Note]:
    """So much of it as of the others."""
    return [note for note in piece if note[0] - piece[0][0] <= SECONDS]


def _known(composer: Model, labels: dict[str, str]) -> dict[str, str]:
    """Those that the composer knows."""
    return {name: value for name, value in labels.items() if value in composer.labels.get(name, ())}


def _unigram(train: Sequence[NDArray[np.uint16]], valid: Sequence[NDArray[np.uint16]]) -> tuple[float, ...]:
    """Bits per token by place, each token having been seen half a time more than it was."""
    learned, held_out = (np.concatenate([*some]).reshape(-1, TOKENS) for some in (train, valid))
    found = []
    for place in range(TOKENS):
        within = slice(FIRSTS[place], FIRSTS[place] + COUNTS[place])
        counts = np.bincount(learned[:, place], minlength=LEVELS)[within] + 0.5
        shares = counts / counts.sum()
        found.append(float(-np.log2(shares[held_out[:, place] - FIRSTS[place]]).mean()))
    return tuple(found)


def _successions(pieces: Sequence[Sequence[Note]], count: int) -> Iterator[tuple[int, ...]]:
    """The steps between `count` keys in a row, wherever they are, one after another."""
    for piece in pieces:
        steps = np.diff([note[2] for note in piece]).tolist()
        yield from (tuple(steps[at : at + count - 1]) for at in range(len(steps) - count + 2))


def _manner(pieces: Sequence[Sequence[Note]], known: Sequence[set[tuple[int, ...]]]) -> Manner:
    some = [piece for piece in pieces if len(piece) > 1]
    if not some:
        return Manner(0.0, 0.0, 0.0, 0.0, (0.0,) * len(SUCCESSIONS))
    return Manner(
        fmean(len(piece) / max(piece[-1][0] - piece[0][0], 1.0) for piece in some),
        fmean(_entropy([note[2] % 12 for note in piece]) for piece in some),
        fmean(fmean(note[3] for note in piece) for piece in some),
        fmean(median(note[1] - note[0] for note in piece) for piece in some),
        tuple(
            _share([succession in there for succession in _successions(some, count)])
            for there, count in zip(known, SUCCESSIONS, strict=True)
        ),
    )


def _share(found: Sequence[bool]) -> float:
    return sum(found) / len(found) if found else 0.0


def _entropy(classes: Sequence[int]) -> float:
    shares = np.bincount(classes, minlength=12) / len(classes)
    return math.fsum(-share * math.log2(share) for share in shares.tolist() if share > 0.0)


def _row(name: str, manner: Manner) -> tuple[str, ...]:
    figures = (
        f"{manner.notes_per_second:.1f}",
        f"{manner.key_bits:.2f}",
        f"{manner.velocity:.0f}",
        f"{manner.seconds:.2f}",
    )
    return (name, *figures, *map(percent, manner.known))
