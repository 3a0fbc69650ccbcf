"""Training batches: streams that read clips side by side, crop after crop, with the past carried along.

Each stream takes a clip at random, starts at a random place, and reads up to `walk` crops in a row, so that the
network state it ends one crop with is the left context of the next. What it reads is a pure function of
(seed, stream, how many clips it has taken), so a stopped training goes on with the very same batches.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audio_gen.controls import label_indices
from audio_gen.data.store import Clip, Store
from audio_gen.recipe import TrainSettings


@dataclass(frozen=True)
class Batch:
    """One step's crops."""

    inputs: NDArray[np.int64]
    """(streams, crop): the token before each target."""
    targets: NDArray[np.int64]
    """(streams, crop)"""
    real: NDArray[np.bool_]
    """(streams, crop): False where a clip had ended; not learned from."""
    fresh: NDArray[np.bool_]
    """(streams,): True where a stream takes up another clip, so that its carried state ends."""
    labels: NDArray[np.int64]
    """(streams, number of labels), 0 = no label."""
    curves: NDArray[np.float32] | None
    """(streams, frames of this crop, curve channels)"""


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

    def __init__(self, store: Store, settings: TrainSettings) -> None:
        self._store, self._settings = store, settings
        self._clips: Sequence[Clip] = store.clips("train")
        lengths = np.array([clip.length for clip in self._clips], np.float64)
        self._cumulative = np.cumsum(lengths) / lengths.sum()
        self._labels = np.array([label_indices(clip.labels, store.labels) for clip in self._clips], np.int64)
        self._labels = self._labels.reshape(len(self._clips), len(store.labels))
        self.readers = [Reader() for _ in range(settings.batch_size)]

    def next(self) -> Batch:
        """The next crop of every stream."""
        streams, crop = len(self.readers), self._settings.crop
        silence = self._store.codec.silence
        heard = np.full((streams, crop + 1), silence, np.int64)
        real = np.zeros((streams, crop), np.bool_)
        fresh = np.zeros(streams, np.bool_)
        labels = np.zeros((streams, len(self._store.labels)), np.int64)
        curves = None
        if self._store.curves:
            frames = -(-crop // self._store.hop)
            curves = np.zeros((streams, frames, self._store.curve_channels), np.float32)
        for row, reader in enumerate(self.readers):
            if reader.position >= reader.end:
                self._take(row, reader)
                fresh[row] = True
            clip = self._clips[reader.clip]
            tokens = self._store.tokens(clip)
            start, stop = reader.position, min(reader.position + crop, reader.end)
            if start:
                heard[row, 0] = tokens[start - 1]
            heard[row, 1 : 1 + stop - start] = tokens[start:stop]
            real[row, : stop - start] = True
            if not self._is_hidden(row, reader):
                labels[row] = self._labels[reader.clip]
            if curves is not None:
                self._fill(curves[row], clip, start)
            reader.position += crop
        return Batch(heard[:, :-1], heard[:, 1:], real, fresh, labels, curves)

    def _take(self, row: int, reader: Reader) -> None:
        """Another clip, at a place such that every part of it is as likely, its beginning and end included."""
        reader.taken += 1
        clip_coin, place_coin = self._coins(row, reader)[:2]
        reader.clip = int(np.searchsorted(self._cumulative, clip_coin, side="right").clip(max=len(self._clips) - 1))
        length = self._clips[reader.clip].length
        span = self._settings.walk * self._settings.crop
        start = 0
        if length > span:
            # Half a walk of overhang at both ends, pushed back inside: clip starts are met as often as any place.
            start = int(np.clip(place_coin * length - span / 2, 0, length - span))
            if self._store.curves:
                start -= start % self._store.hop
        reader.position, reader.end = start, min(start + span, length)

    def _is_hidden(self, row: int, reader: Reader) -> bool:
        return bool(self._coins(row, reader)[2] < self._settings.label_dropout)

    def _coins(self, row: int, reader: Reader) -> NDArray[np.float64]:
        """Three uniform numbers that belong to this stream's present clip."""
        generator = np.random.Philox(key=np.array([self._settings.seed, row], np.uint64), counter=reader.taken)
        return np.random.Generator(generator).random(3)

    def _fill(self, curves: NDArray[np.float32], clip: Clip, start: int) -> None:
        """The clip's curve frames from sample `start` on; the last one is held past the end."""
        whole = self._store.curves_of(clip)
        assert whole is not None
        first = start // self._store.hop
        curves[:] = whole[np.minimum(np.arange(first, first + len(curves)), len(whole) - 1)]
