"""What to calibrate on and what to judge by: clips of a store, some side by side."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audio_gen.controls import label_indices
from audio_gen.errors import DataError
from audio_gen.evaluation.material import RECORDINGS, Item, Material
from audio_gen.evaluation.yardsticks import spread
from audio_gen.sampler.model import Model

PIECE_SECONDS = 4.0
BLOCK = 1 << 16  # samples side by side, which bounds the memory
HELD_OUT_EVERY = 4
"""Of recordings that no training has split, one in so many is held out."""


@dataclass(frozen=True)
class Excerpt:
    """A part of a clip."""

    item: Item
    start: int
    samples: int


@dataclass(frozen=True)
class Batch:
    """Excerpts as rows, silence after the shorter ones."""

    tokens: NDArray[np.uint16]
    """(rows, time)"""
    lengths: NDArray[np.int64]
    """(rows,)"""
    labels: NDArray[np.int32]
    """(rows, number of labels)"""
    curves: NDArray[np.float32] | None
    """(rows, frames, curve channels)"""


def divide(material: Material) -> tuple[list[Item], list[Item]]:
    """Clips to calibrate on, and others to judge by. Raises DataError if there are not both."""
    store, items = material.store, material.items
    if material.split == RECORDINGS:
        sources = sorted({item.clip.source for item in items})
        held_out = set(sources[HELD_OUT_EVERY - 1 :: HELD_OUT_EVERY] or sources[1:])
        learned = [item for item in items if item.clip.source not in held_out]
        others = [item for item in items if item.clip.source in held_out]
        if not others:
            raise DataError("a single recording cannot be calibrated on and judged by; give two or more")
        return learned, others
    learned = [item for item in items if item.clip.split == "train"]
    others = [item for item in items if item.clip.split == "valid"]
    for some, what in ((learned, "training"), (others, "held-out")):
        if not some:
            raise DataError(
                f"{store.path}: holds no {what} clips; prepare it with data.valid_fraction above 0"
            )
    return learned, others


def pieces(model: Model, items: Sequence[Item], seconds: float) -> list[Excerpt]:
    """Short excerpts from anywhere in the clips, evenly spread, about `seconds` in all."""
    hop = model.checkpoint.shape.hop if model.checkpoint.curves else 1
    longest = max(hop, round(PIECE_SECONDS * model.sample_rate) // hop * hop)
    every = [
        Excerpt(item, start, min(longest, item.samples - start))
        for item in items
        for start in range(0, item.samples, longest)
    ]
    total = sum(excerpt.samples for excerpt in every)
    wanted = min(len(every), max(1, round(len(every) * seconds * model.sample_rate / total)))
    return [every[(2 * place + 1) * len(every) // (2 * wanted)] for place in range(wanted)]


def beginnings(model: Model, items: Sequence[Item], seconds: float) -> list[Excerpt]:
    """Clips from their beginnings, evenly spread, at most `seconds` in all."""
    limit = max(1, int(seconds * model.sample_rate))
    lengths = spread([item.samples for item in items], limit, model.sample_rate)
    return [Excerpt(item, 0, samples) for item, samples in zip(items, lengths, strict=True) if samples]


def batches(model: Model, material: Material, excerpts: Sequence[Excerpt]) -> Iterator[Batch]:
    """Excerpts of about equal length side by side."""
    rows: list[Excerpt] = []
    for excerpt in sorted(excerpts, key=lambda excerpt: -excerpt.samples):
        if rows and (len(rows) + 1) * rows[0].samples > BLOCK:
            yield _batch(model, material, rows)
            rows = []
        rows.append(excerpt)
    yield _batch(model, material, rows)


def _batch(model: Model, material: Material, rows: Sequence[Excerpt]) -> Batch:
    lengths = np.array([row.samples for row in rows])
    tokens = np.full((len(rows), lengths.max()), model.codec.silence, np.uint16)
    for place, row in enumerate(rows):
        tokens[place, : row.samples] = material.store.tokens(row.item.clip)[row.start :][: row.samples]
    vocabulary = model.checkpoint.shape.labels
    labels = [label_indices(row.item.labels, vocabulary) for row in rows]
    return Batch(tokens, lengths, np.stack(labels).reshape(len(rows), -1), _curves(model, material, rows))


def _curves(model: Model, material: Material, rows: Sequence[Excerpt]) -> NDArray[np.float32] | None:
    """Those of each excerpt; the last frame of shorter ones is held."""
    if not model.checkpoint.curves:
        return None
    hop, each = model.checkpoint.shape.hop, []
    for row in rows:
        found = material.store.curves_of(row.item.clip)
        assert found is not None
        each.append(found[row.start // hop : -(-(row.start + row.samples) // hop)])
    frames = max(map(len, each))
    return np.stack([np.pad(some, ((0, frames - len(some)), (0, 0)), mode="edge") for some in each])
