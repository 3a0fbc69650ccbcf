"""Generated clips to judge: for each held-out excerpt in turn, one with the same labels; and with the same curves, if
the model follows curves and has no sketch to draw them itself.

Clip i plays stream i of the seed, so that the clips of a number, a seed and a draw are always the same. A model
that learned how its clips end plays until it has fallen silent, or for half as long again as the longest real ones;
any other plays as long as its excerpt lasts.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audio_gen.curves import hold_curves
from audio_gen.data.store import Store
from audio_gen.evaluation.excerpts import Excerpt
from audio_gen.evaluation.spectra import SILENCE, Waveform
from audio_gen.sampler.draw import Draw
from audio_gen.sampler.model import Model
from audio_gen.sampler.parts import Part

ROWS = 32  # clips side by side
LONGER = 1.5  # than the longest real clips, before a clip that does not end is cut
LONG = 95.0  # percentile of the real lengths that counts as the longest
LEAD_SECONDS = 0.5  # played before what is judged, where an excerpt does not begin its recording
CHUNK_SECONDS = 0.2
PATIENCE = 0.9  # of the learned silence, that means the end

Tell = Callable[[int, int], None]
"""(done, of how many)"""


@dataclass(frozen=True)
class Made:
    """One generated clip."""

    waveform: Waveform
    """float32 (time,), without the silence after its end."""
    excerpt: Excerpt
    """The real one that it was made beside."""
    stream: int
    ended: bool
    """It fell silent by itself; always so in models that never learned to."""


def make(
    model: Model, store: Store, excerpts: Sequence[Excerpt], count: int, seed: int, draw: Draw, tell: Tell
) -> list[Made]:
    """`count` clips, beside each of `excerpts` in turn."""
    rate, end = model.sample_rate, model.checkpoint.end_seconds
    beside = [excerpts[index % len(excerpts)] for index in range(count)]
    limit = None
    if end > 0.0:
        limit = round(LONGER * float(np.percentile([each.samples for each in excerpts], LONG)) + end * rate)
    made: list[Made] = []
    for first in range(0, count, ROWS):
        tell(first, count)
        some = beside[first : first + ROWS]
        lengths = [limit or lead(each, rate) + each.samples for each in some]
        waveforms = _play(model, store, some, range(first, first + len(some)), seed, draw, lengths, end)
        for row, excerpt in enumerate(some):
            waveform, ended = waveforms[row], True
            if limit is None:
                waveform = waveform[lead(excerpt, rate) :]
            else:
                stop = end_of(waveform, round(PATIENCE * end * rate))
                waveform, ended = waveform[:stop], stop is not None
            made.append(Made(waveform, excerpt, first + row, ended))
    tell(count, count)
    return made


def copy(
    model: Model, store: Store, excerpts: Sequence[Excerpt], seed: int, draw: Draw, tell: Tell
) -> list[Waveform]:
    """Each excerpt made again by a model that follows curves, from its own: float32 (time,) of its length.

    All play stream 0 of the seed, as `vocode` does, so that a copy is what it is however many others are made.
    """
    made: list[Waveform] = []
    for first in range(0, len(excerpts), ROWS):
        tell(first, len(excerpts))
        some, rate = excerpts[first : first + ROWS], model.sample_rate
        lengths = [lead(each, rate) + each.samples for each in some]
        played = _play(model, store, some, [0] * len(some), seed, draw, lengths, 0.0)
        made += [waveform[lead(each, rate) :] for each, waveform in zip(some, played, strict=True)]
    return made


def lead(excerpt: Excerpt, rate: int) -> int:
    """Samples to play before the excerpt's counterpart: none where it begins its recording."""
    return min(excerpt.start, round(LEAD_SECONDS * rate))


def end_of(waveform: Waveform, patience: int) -> int | None:
    """Where the first sound is over, after which `patience` samples are silent; None if it is not.

    Silence throughout ends at once.
    """
    loud = np.flatnonzero(np.abs(waveform) > SILENCE)
    if not len(loud):
        return 0
    gaps = np.diff(np.append(loud, len(waveform))) > patience
    return int(loud[np.argmax(gaps)]) + 1 if gaps.any() else None


def _play(
    model: Model, store: Store, excerpts: Sequence[Excerpt], streams: Sequence[int], seed: int, draw: Draw,
    lengths: Sequence[int], end: float,
) -> list[Waveform]:  # fmt: skip
    """A waveform (time,) beside each excerpt, of its length or until all have fallen silent."""
    rows = zip(excerpts, streams, lengths, strict=True)
    parts = [Part(excerpt.labels, seed, stream, draw, samples) for excerpt, stream, samples in rows]
    curves = _curves(model, store, excerpts, lengths)
    voices = model.start(parts, None if curves is None else list(curves))
    chunk, patience = (
        max(1, round(CHUNK_SECONDS * model.sample_rate)),
        round(PATIENCE * end * model.sample_rate),
    )
    played = [np.zeros(0, np.float32) for _ in parts]
    while voices.playing:
        for number, waveform in voices.advance(chunk):
            played[number] = np.concatenate([played[number], waveform])
        if end > 0.0 and all(end_of(waveform, patience) is not None for waveform in played):
            break
    return played


def _curves(
    model: Model, store: Store, excerpts: Sequence[Excerpt], lengths: Sequence[int]
) -> NDArray[np.float32] | None:
    """Curves (rows, frames, channels) of the excerpts and of what leads to them, the last frame held; None for a model
    that follows none, or draws all of its own; of one whose sketch draws some, the others."""
    if not model.told:
        return None
    hop, rows = store.hop, []
    frames = -(-max(lengths) // hop) + 1
    for excerpt in excerpts:
        whole = store.curves_of(excerpt.clip)
        assert whole is not None
        first = (excerpt.start - lead(excerpt, model.sample_rate)) // hop
        part = whole[first:, ~model.drawn]
        rows.append(hold_curves(part, 0, frames, model.told, hop / store.sample_rate))
    return np.stack(rows)
