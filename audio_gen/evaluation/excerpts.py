"""Real audio to hold generated clips against: excerpts of recordings, in an order that mixes their labels."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from audio_gen.data.store import Clip, Store
from audio_gen.evaluation.spectra import Waveform

EXCERPT_SECONDS = 4.0
"""Longer recordings are cut into pieces of this length."""
LEAST_PIECE = 0.25  # of a whole one; a shorter rest is left out
SETTLE_SECONDS = 0.5  # before a piece: de-emphasis forgets in far less


@dataclass(frozen=True)
class Excerpt:
    """A recording, or a piece of one."""

    clip: Clip
    start: int
    """Samples into the clip."""
    samples: int
    labels: dict[str, str]

    @property
    def order(self) -> str:
        """What mixes excerpts, always in the same way."""
        name = f"excerpt {self.clip.source} {self.start}"
        return hashlib.blake2b(name.encode(), digest_size=8).hexdigest()

    @property
    def key(self) -> tuple[tuple[str, str], ...]:
        """Its combination of labels."""
        return tuple(sorted(self.labels.items()))

    def waveform(self, store: Store) -> Waveform:
        """The excerpt as the model's codec has it, float32 (time,)."""
        settle = min(self.start, round(SETTLE_SECONDS * store.sample_rate))
        tokens = store.tokens(self.clip)[self.start - settle : self.start + self.samples]
        return store.codec.decode(tokens)[settle:]


def cut(clips: Iterable[tuple[Clip, int, dict[str, str]]], sample_rate: int) -> list[Excerpt]:
    """Excerpts of clips (clip, samples that sound, labels): whole clips, or pieces of long ones."""
    longest = round(EXCERPT_SECONDS * sample_rate)
    found = []
    for clip, samples, labels in clips:
        for start in range(0, samples, longest):
            length = min(longest, samples - start)
            if start == 0 or length >= LEAST_PIECE * longest:
                found.append(Excerpt(clip, start, length, labels))
    return found


def mixed(excerpts: Sequence[Excerpt]) -> list[Excerpt]:
    """All of them, each combination of labels in its turn, so that any first few are of all kinds."""
    kinds: dict[tuple[tuple[str, str], ...], list[Excerpt]] = defaultdict(list)
    for excerpt in sorted(excerpts, key=lambda each: each.order):
        kinds[excerpt.key].append(excerpt)
    ranked = [(rank, key, each) for key, some in kinds.items() for rank, each in enumerate(some)]
    return [each for _, _, each in sorted(ranked, key=lambda row: row[:2])]


def matched(wanted: Sequence[Excerpt], among: Sequence[Excerpt], turn: int = 0) -> list[Excerpt]:
    """For each wanted excerpt another of the same labels, where there is one; others with each `turn`."""
    everything = mixed(among)
    kinds: dict[tuple[tuple[str, str], ...], list[Excerpt]] = defaultdict(list)
    for excerpt in everything:
        kinds[excerpt.key].append(excerpt)
    needed = Counter(excerpt.key for excerpt in wanted)
    used: Counter[tuple[tuple[str, str], ...]] = Counter()
    chosen = []
    for excerpt in wanted:
        some = kinds.get(excerpt.key, everything)
        chosen.append(some[(turn * needed[excerpt.key] + used[excerpt.key]) % len(some)])
        used[excerpt.key] += 1
    return chosen
