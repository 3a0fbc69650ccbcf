"""Is it memory? For each generated clip the nearest excerpt of the training recordings.

The fingerprint of a window is its log-mel spectrogram as a relief: levels down to 40 dB below the clip's loudest,
each band against those around it, the whole brought to length 1; so gain, colour, faint noise and small shifts in
time matter little. The similarity of two windows is the correlation of their fingerprints, and
that of a clip the highest of any of its windows with any window of the training recordings. Held-out recordings,
which nobody can have copied, say how similar clips of this kind are anyway: a clip counts as a near copy
when it is more similar than 99 of 100 of them. Training recordings in disguise say what would be noticed.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audio_gen.evaluation.blocks import Histogram, Section, Sounds, Table, percent
from audio_gen.evaluation.spectra import Ear, Waveform, sounding_part

LONGEST_SECONDS = 1.0  # of a window
SHORTEST_SECONDS = 0.1
SHORT = 50.0  # percentile of the held-out lengths that a window lasts, within these bounds
DEPTH_DB = 40.0  # below the loudest, that counts
FRAME_SECONDS, BANDS = 0.064, 80  # of the spectrogram: fine enough for harmonics
AROUND = 16  # bands that a band is held against
STEPS = 4  # windows of a clip begin at so many places of a window's length
ORDINARY = 0.99  # of held-out recordings, that are no near copies by definition
CERTAIN = 0.995  # similar enough for a near copy, whatever held-out recordings are like
BLOCK = 1 << 25  # numbers of training fingerprints held at once
SHOWN = 10

Tell = Callable[[int, int], None]
Patches = NDArray[np.float32]  # (windows, numbers), each of length 1


@dataclass(frozen=True)
class Nearest:
    """The training excerpt that a clip is most like."""

    similarity: float
    """From -1 to 1."""
    excerpt: int
    """Its place among the training excerpts; -1 for a clip without sound."""
    seconds: float
    """Where in the excerpt the window begins, from its first sound."""
    own_seconds: float
    """Where in the clip it begins, from its first sound."""


@dataclass(frozen=True)
class Found:
    """One generated clip and what it is nearest to, in words."""

    clip: str
    labels: dict[str, str]
    similarity: float
    near_copy: bool
    source: str
    source_labels: dict[str, str]
    seconds: float
    """Where in the recording."""


@dataclass(frozen=True)
class Novelty:
    """How near generated clips come to the training recordings."""

    window_seconds: float
    threshold: float
    """Of similarity; above it a clip is a near copy."""
    generated: tuple[Found, ...]
    """Every clip, in the order they were made."""
    held_out: tuple[float, ...]
    """Similarities of held-out recordings."""
    disguised: tuple[tuple[str, int, int], ...]
    """(disguise, noticed, of) of training recordings."""
    pairs: Sounds | None = None
    """The most similar clips and what they are nearest to, to be heard."""

    @property
    def near_copies(self) -> int:
        return sum(each.near_copy for each in self.generated)

    @property
    def held_out_copies(self) -> int:
        """Held-out recordings above the threshold."""
        return sum(value > self.threshold for value in self.held_out)

    def section(self) -> Section:
        ours, real = [each.similarity for each in self.generated], list(self.held_out)
        nearest = sorted(self.generated, key=lambda each: -each.similarity)[:SHOWN]
        rows = tuple(
            (each.clip, ", ".join(each.labels.values()), f"{each.similarity:.3f}",
             "yes" if each.near_copy else "no", f"{each.source} at {each.seconds:.2f} s")
            for each in nearest
        )  # fmt: skip
        rate, real_rate = self.near_copies / len(ours), self.held_out_copies / len(real)
        noticed = ", ".join(f"{name}: {hits} of {of}" for name, hits, of in self.disguised)
        edges = np.linspace(min(0.0, *ours, *real), 1.0, 41)
        return Section(
            "Novelty",
            (
                f"{self.near_copies:,} of {len(ours):,} generated clips are near copies of a training recording "
                f"({percent(rate)}); by the same rule, {self.held_out_copies:,} of {len(real):,} held-out "
                f"recordings are ({percent(real_rate)}).",
                f"The most similar {self.window_seconds:.2f} s are compared; similarity of the median clip "
                f"{np.median(ours):.3f}, of the median held-out recording {np.median(real):.3f}; above "
                f"{self.threshold:.3f} a clip is a near copy.",
                f"Noticed as near copies are training recordings, {noticed}.",
            ),
            (
                Table("The nearest", ("clip", "labels", "similarity", "near copy", "training recording"), rows),
                Histogram(
                    "Similarity to the nearest training recording, share of clips", "similarity",
                    tuple(edges.tolist()),
                    (("held out", "real", _shares(real, edges)), ("generated", "ours", _shares(ours, edges))),
                    self.threshold, "near copy",
                ),
                *(() if self.pairs is None else (self.pairs,)),
            ),
        )  # fmt: skip


class Library:
    """Fingerprints of training recordings, made when they are asked for: memory does not grow with them."""

    def __init__(
        self, ear: Ear, recordings: Sequence[Callable[[], Waveform]], held_out: Sequence[Waveform]
    ) -> None:
        """`recordings`: what reads each; `held_out` sets how long a window is."""
        self._ear = Ear(ear.sample_rate, FRAME_SECONDS, BANDS)
        self._recordings = recordings
        lengths = [part.stop - part.start for part in map(sounding_part, held_out)]
        seconds = float(np.percentile(lengths, SHORT)) / ear.sample_rate
        self._step_seconds = self._ear.hop / ear.sample_rate
        self.window = max(2, round(min(LONGEST_SECONDS, max(SHORTEST_SECONDS, seconds)) / self._step_seconds))
        """Frames."""

    @property
    def window_seconds(self) -> float:
        return self.window * self._step_seconds

    def nearest(self, clips: Sequence[Waveform], tell: Tell) -> list[Nearest]:
        """What each clip is most like; one pass over the training recordings for all of them."""
        step = max(1, self.window // STEPS)
        queries = [self._patches(waveform, step) for waveform in clips]
        owner = np.repeat(np.arange(len(clips)), [len(each) for each in queries])
        place = np.concatenate([np.arange(len(each)) for each in queries]) * step
        best = np.full(len(owner), -np.inf, np.float32)
        excerpt, start = np.full(len(owner), -1), np.zeros(len(owner), np.int64)
        wanted = np.concatenate(queries)
        for patches, sources, starts in self._blocks(tell):
            alike = wanted @ patches.T
            winner = alike.argmax(axis=1)
            value = alike[np.arange(len(owner)), winner]
            better = value > best
            best[better] = value[better]
            excerpt[better], start[better] = sources[winner[better]], starts[winner[better]]
        found = []
        for clip in range(len(clips)):
            own = np.flatnonzero(owner == clip)
            if not len(own):
                found.append(Nearest(0.0, -1, 0.0, 0.0))
                continue
            top = int(own[best[own].argmax()])
            seconds = self._step_seconds
            found.append(
                Nearest(
                    min(1.0, float(best[top])), int(excerpt[top]),
                    float(start[top]) * seconds, float(place[top]) * seconds,
                )
            )  # fmt: skip
        return found

    def _blocks(self, tell: Tell) -> Iterator[tuple[Patches, NDArray[np.int64], NDArray[np.int64]]]:
        """Fingerprints of all training windows, with the recording and the place of each."""
        gathered: list[Patches] = []
        sources: list[int] = []
        size = 0
        for index, read in enumerate(self._recordings):
            tell(index, len(self._recordings))
            gathered.append(self._patches(read(), 1))
            sources.append(index)
            size += gathered[-1].size
            if gathered and (size >= BLOCK or index == len(self._recordings) - 1):
                counts = [len(each) for each in gathered]
                if sum(counts):
                    starts = np.concatenate([np.arange(count) for count in counts])
                    yield np.concatenate(gathered), np.repeat(np.array(sources), counts), starts
                gathered, sources, size = [], [], 0

    def _relief(self, waveform: Waveform) -> NDArray[np.float32]:
        """(frames, bands) dB above the bands around."""
        from scipy.ndimage import uniform_filter1d

        levels = self._ear.spectrum(waveform[sounding_part(waveform)])
        levels = np.maximum(levels - levels.max(), -DEPTH_DB)
        return np.asarray(levels - uniform_filter1d(levels, AROUND, axis=1, mode="nearest"), np.float32)

    def _patches(self, waveform: Waveform, step: int) -> Patches:
        """Fingerprints of the windows of a clip; none of silence. A clip too short is followed by silence."""
        if not sounding_part(waveform).stop:
            return np.zeros((0, self.window * BANDS), np.float32)
        relief = self._relief(waveform)
        relief = np.pad(relief, ((0, max(0, self.window - len(relief))), (0, 0)))
        views = np.lib.stride_tricks.sliding_window_view(relief, self.window, axis=0)[::step]
        patches = views.reshape(len(views), -1)
        lengths = np.linalg.norm(patches, axis=1, keepdims=True)
        return np.asarray(patches / np.maximum(lengths, 1e-6), np.float32)


def threshold(held_out: Iterable[float]) -> float:
    """The similarity that only one in a hundred held-out recordings exceeds.

    >>> threshold([0.5, 0.7, 0.6]), threshold([0.5, 0.9999])
    (0.7, 0.995)
    """
    return min(CERTAIN, float(np.quantile(list(held_out), ORDINARY, method="higher")))


def disguises(sample_rate: int) -> Iterator[tuple[str, Callable[[Waveform], Waveform]]]:
    """Changes after which a copy should still be noticed."""

    def noise(decibels: float) -> Callable[[Waveform], Waveform]:
        def add(waveform: Waveform) -> Waveform:
            part = waveform[sounding_part(waveform)]
            level = np.sqrt(np.mean(np.square(part, dtype=np.float64))) if len(part) else 0.0
            hiss = np.random.default_rng(1).standard_normal(len(waveform))
            noisy = waveform + level * 10.0 ** (-decibels / 20.0) * hiss
            return np.asarray(noisy, np.float32)

        return add

    yield "as they are", lambda waveform: waveform
    yield "at half the level", lambda waveform: (0.5 * waveform).astype(np.float32)
    yield (
        "cut 5 ms later",
        lambda waveform: waveform[sounding_part(waveform).start + round(0.005 * sample_rate) :],
    )
    yield "with noise 30 dB below", noise(30.0)


def _shares(values: Sequence[float], edges: NDArray[np.float64]) -> tuple[float, ...]:
    counts, _ = np.histogram(values, edges)
    return tuple((counts / len(values)).tolist())
