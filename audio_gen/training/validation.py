"""Validation: bits per sample on held-out audio, with the averaged weights as they will be saved."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from audio_gen.controls import label_indices
from audio_gen.data.store import Clip, Store
from audio_gen.network import Network

ROWS = 8
CROP = 4096


def choose_clips(store: Store, seconds: float | None, end_seconds: float) -> list[tuple[Clip, int]]:
    """Held-out clips and how many samples of each to score; evenly spread, about `seconds` in all (None: all).

    The `end_seconds` of silence that the store keeps after each clip are not scored: they would flatter the model.
    """
    clips = store.clips("valid")
    end_samples = round(end_seconds * store.sample_rate)
    lengths = [max(1, clip.length - end_samples) for clip in clips]
    total = sum(lengths) / store.sample_rate
    if seconds is None or total <= seconds:
        return list(zip(clips, lengths, strict=True))
    # Some whole clips if they are short, the beginnings of some if they are long.
    longest = max(1, round(min(seconds / 4, 4.0) * store.sample_rate))
    capped = [min(length, longest) for length in lengths]
    wanted = max(1, round(len(clips) * seconds * store.sample_rate / sum(capped)))
    picked = np.unique(np.linspace(0, len(clips) - 1, wanted).round().astype(int))
    return [(clips[index], capped[index]) for index in picked]


@torch.no_grad()
def validate(
    network: Network, store: Store, chosen: Sequence[tuple[Clip, int]], autocast: torch.autocast
) -> float:
    """Mean bits per sample over `chosen` clips, each from its beginning."""
    nats = samples = 0.0
    device = next(network.parameters()).device
    for rows in _side_by_side(chosen):
        labels = torch.from_numpy(
            np.array(
                [label_indices(clip.labels, network.shape.labels) for clip, _ in rows], np.int64
            ).reshape(len(rows), -1)
        ).to(device)
        tokens, lengths = _padded(store, rows)
        curves = _padded_curves(store, rows)
        frames = None if curves is None else torch.from_numpy(curves).to(device)
        state = None
        for start in range(0, max(lengths), CROP):
            stop = min(start + CROP, max(lengths))
            inputs = torch.from_numpy(tokens[:, start:stop]).to(device)
            targets = torch.from_numpy(tokens[:, start + 1 : stop + 1]).to(device)
            with autocast:
                logits, state = network(inputs, state, labels, frames)
            losses = F.cross_entropy(
                logits.reshape(-1, logits.shape[-1]).float(), targets.reshape(-1), reduction="none"
            )
            real = (
                torch.arange(start, stop, device=device)[None] < torch.tensor(lengths, device=device)[:, None]
            )
            nats += float((losses.double() * real.reshape(-1)).sum())
            samples += float(real.sum())
    return nats / max(samples, 1.0) / math.log(2.0)


def _side_by_side(chosen: Sequence[tuple[Clip, int]]) -> Iterator[list[tuple[Clip, int]]]:
    """Rows of about equal length, so that little is padding."""
    ordered = sorted(chosen, key=lambda pair: pair[1])
    for start in range(0, len(ordered), ROWS):
        yield ordered[start : start + ROWS]


def _padded(store: Store, rows: Sequence[tuple[Clip, int]]) -> tuple[NDArray[np.int64], list[int]]:
    """(rows, longest + 1): SILENCE, then each clip's tokens, then SILENCE."""
    lengths = [length for _, length in rows]
    tokens = np.full((len(rows), max(lengths) + 1), store.codec.silence, np.int64)
    for row, (clip, length) in enumerate(rows):
        tokens[row, 1 : 1 + length] = store.tokens(clip)[:length]
    return tokens, lengths


def _padded_curves(store: Store, rows: Sequence[tuple[Clip, int]]) -> NDArray[np.float32] | None:
    if not store.curves:
        return None
    each = [store.curves_of(clip) for clip, _ in rows]
    frames = max(len(curve) for curve in each if curve is not None)
    return np.stack(
        [
            np.pad(curve, ((0, frames - len(curve)), (0, 0)), mode="edge")
            for curve in each
            if curve is not None
        ]
    )
