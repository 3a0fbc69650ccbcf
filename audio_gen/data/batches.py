"""Training batches: streams that read clips side by side, crop after crop, with the past carried along.

Each stream takes a clip at random, starts at a random place, and reads up to `walk` crops in a row, so that the
network state it ends one crop with is the left context of the next. Every token of every clip is read equally
often: short clips are read whole, long ones through a window that may hang over both ends. `balance` lets those be
read more often whose labels are rare.

What a stream reads is a pure function of (seed, stream, how many clips it has taken), and the noise on it of how much
of the training is over, so a stopped training goes on with the very same batches.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audio_gen.codec import Codec
from audio_gen.controls import label_indices
from audio_gen.curves import soften
from audio_gen.data.store import Clip, Store
from audio_gen.settings import TrainSettings
from audio_gen.shape import DOUBTS


@dataclass(frozen=True)
class Batch:
    """One step's crops."""

    inputs: NDArray[np.int64]
    """(streams, crop): the token before each target."""
    targets: NDArray[np.int64]
    """(streams, crop)"""
    weights: NDArray[np.float32]
    """(streams, crop): how much each target counts; 0 where a clip had ended, which is not learned from."""
    fresh: NDArray[np.bool_]
    """(streams,): True where a stream takes up another clip, so that its carried state ends."""
    labels: NDArray[np.int64]
    """(streams, number of labels), 0 = no label."""
    curves: NDArray[np.float32] | None
    """(streams, frames of this crop and `around` more on either side, curve channels)"""


@dataclass
class Reader:
    """Where one stream stands. Four integers say it all."""

    taken: int = 0
    """Clips taken so far."""
    clip: int = -1
    position: int = 0
    """Next sample to read, within the clip."""
    end: int = 0
    """Where this stream leaves the clip."""


class Readers:
    """All streams of a training: `next()` gives their next batch, `readers` is the whole state."""

    def __init__(self, store: Store, settings: TrainSettings, around: int = 0) -> None:
        """`around`: frames of the curves that a network is told of on either side of the present one."""
        self._store, self._settings, self._around = store, settings, around
        self._clips: Sequence[Clip] = store.clips("train")
        self._span = settings.walk * settings.crop
        self._unit = store.unit
        # A short clip is read whole whenever it is taken, a long one about span / length of it.
        turns = np.array([self._places(clip.length) * self._unit / self._span for clip in self._clips])
        self._labels = np.array([label_indices(clip.labels, store.labels) for clip in self._clips], np.int64)
        self._labels = self._labels.reshape(len(self._clips), len(store.labels))
        if settings.balance:
            lengths = np.array([clip.length for clip in self._clips])
            turns *= _rarity(self._labels, lengths) ** settings.balance
        self._cumulative = np.cumsum(turns) / np.sum(turns)
        self.readers = [Reader() for _ in range(settings.batch_size)]

    def next(self, done: float = 0.0) -> Batch:
        """The next crop of every stream, when this share of the training is over."""
        streams, crop = len(self.readers), self._settings.crop
        silence = self._store.codec.silence
        heard = np.full((streams, crop + 1), silence, np.int64)
        most = self._settings.noise_after(done)
        inputs = np.empty((streams, crop), np.int64) if most else heard[:, :-1]
        weights = np.zeros((streams, crop), np.float32)
        fresh = np.zeros(streams, np.bool_)
        told = self._settings.tell_noise
        labels = np.zeros((streams, len(self._store.labels) + told), np.int64)
        curves = None
        if self._store.curves:
            frames = -(-crop // self._store.hop) + 2 * self._around
            curves = np.zeros((streams, frames, self._store.curve_channels), np.float32)
        for row, reader in enumerate(self.readers):
            if reader.position >= reader.end:
                self._take(row, reader)
                fresh[row] = True
            clip = self._clips[reader.clip]
            start, stop = reader.position, min(reader.position + crop, reader.end)
            # Where the model shall begin anywhere, it is told of no past wherever a walk begins: as when it is played.
            begins = start == 0 or (bool(fresh[row]) and not self._settings.starts)
            before = 0 if begins else 1
            tokens = self._store.tokens(clip)[start - before : stop]
            heard[row, 1 - before : 1 + stop - start] = self._varied(tokens, row, reader)
            # What a stream begins with is what the model learns to begin with: where clips shall begin as they were
            # recorded, the first crop of a walk from the middle of one is context and not learned from.
            weights[row, : stop - start] = not (fresh[row] and start and self._settings.starts)
            if begins:
                weights[row, : self._unit] *= self._settings.onset
            known = self._labels[reader.clip] * self._shown(row, reader)
            labels[row] = [*known, self._doubt(row, reader)] if told else known
            if curves is not None:
                self._fill(curves[row], clip, start)
                if self._settings.gain_range:
                    curves[row] = soften(curves[row], self._softer(row, reader))
            if most:
                self._disturb(heard[row, :-1], inputs[row], most, row, reader)
            reader.position += crop
        return Batch(inputs, heard[:, 1:], weights, fresh, labels, curves)

    def _take(self, row: int, reader: Reader) -> None:
        """Another clip, and the part of it that a window of `walk` crops sees.

        A long clip's window begins anywhere from just before the clip, where it sees the first token alone, to
        its last token. So as many windows see the first token as any other.
        """
        reader.taken += 1
        clip_coin, place_coin, start_coin = self._coins(row, reader)[:3]
        reader.clip = int(
            np.searchsorted(self._cumulative, clip_coin, side="right").clip(max=len(self._clips) - 1)
        )
        length = self._clips[reader.clip].length
        begin = 0
        if length > self._span and start_coin >= self._settings.starts:
            begin = (int(place_coin * self._places(length)) + 1) * self._unit - self._span
        reader.position, reader.end = max(0, begin), min(begin + self._span, length)

    def _places(self, length: int) -> int:
        """Where the window on a clip of `length` tokens may begin, in units."""
        if length <= self._span:
            return self._span // self._unit
        return -(-length // self._unit) + self._span // self._unit - 1

    def _shown(self, row: int, reader: Reader) -> NDArray[np.bool_]:
        """(number of labels,): each label is hidden on its own, so that the player may give any of them."""
        return self._coins(row, reader)[6:] >= self._settings.label_dropout

    def _varied(self, tokens: NDArray[np.uint16], row: int, reader: Reader) -> NDArray[np.uint16]:
        """The tokens at this walk's gain and polarity."""
        settings, coins = self._settings, self._coins(row, reader)
        flip = settings.flip and coins[4] < 0.5
        softer = self._softer(row, reader)
        if not flip and not softer:
            return tokens
        gain = (-1.0 if flip else 1.0) * 10.0 ** (-softer / 20.0)
        # Token by token: each token's amplitude (emphasised, if the codec does that) stands for its whole interval.
        codec = Codec(self._store.codec.levels)
        table = codec.encode(gain * codec.decode(np.arange(codec.levels)))
        varied: NDArray[np.uint16] = table[tokens]
        return varied

    def _softer(self, row: int, reader: Reader) -> float:
        """Decibels by which this walk is heard softer; half of the walks stay as they are."""
        return max(0.0, 2.0 * float(self._coins(row, reader)[5]) - 1.0) * self._settings.gain_range

    def _coins(self, row: int, reader: Reader) -> NDArray[np.float64]:
        """Uniform numbers of this walk: which clip, where, from its start, noise, polarity, gain, labels."""
        key = np.array([self._settings.seed, row], np.uint64)
        generator = np.random.Philox(key=key, counter=reader.taken << 64)  # room for as many as it takes
        coins: NDArray[np.float64] = np.random.Generator(generator).random(6 + self._labels.shape[1])
        return coins

    def _doubt(self, row: int, reader: Reader) -> int:
        """Of this walk, in steps of its strongest noise: from none to DOUBTS, each as often."""
        return int(self._coins(row, reader)[3] * (DOUBTS + 1))

    def _disturb(
        self, clean: NDArray[np.int64], noisy: NDArray[np.int64], most: float, row: int, reader: Reader
    ) -> None:
        """`noisy` becomes `clean` with the noise of this crop. After LPCNet (Valin and Skoglund 2019,
        arXiv:1810.11846), which disturbs the past signal by a random strength per clip."""
        key = np.array([self._settings.seed, row], np.uint64)
        counter = np.array([0, reader.taken, 1, reader.position], np.uint64)  # none of `_coins`
        generator = np.random.Generator(np.random.Philox(key=key, counter=counter))
        least = self._settings.least_noise
        share = float(self._coins(row, reader)[3])
        if self._settings.tell_noise:
            share = self._doubt(row, reader) / DOUBTS
        strength = least + (most - least) * share
        noise = np.rint(generator.normal(0.0, strength, len(clean))).astype(np.int64)
        noisy[:] = np.clip(clean + noise, 0, self._store.codec.levels - 1)

    def _fill(self, curves: NDArray[np.float32], clip: Clip, start: int) -> None:
        """The clip's curve frames around those from sample `start` on; the outermost one is held past either end."""
        whole = self._store.curves_of(clip)
        assert whole is not None
        first = start // self._store.hop - self._around
        curves[:] = whole[np.arange(first, first + len(curves)).clip(0, len(whole) - 1)]


def _rarity(labels: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.float64]:
    """(clips,): the inverse of how many tokens there are of each clip's combination of labels, given the `labels`
    (clips, number of labels) and the `lengths` of all clips."""
    _, kinds = np.unique(labels, axis=0, return_inverse=True)
    kinds = kinds.reshape(-1)
    inverse: NDArray[np.float64] = 1.0 / np.bincount(kinds, lengths)[kinds]
    return inverse
