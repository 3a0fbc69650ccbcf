"""Which tokens are judged, and what the baselines need for them."""

import contextlib
import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from audio_gen.data.store import Store
from audio_gen.evaluation.baselines import Baseline, fit_and_score

JUDGED_TOKENS = 2_000_000  # that the baselines are judged by, at most; of larger data a part, evenly spread
TRAIN_TOKENS = 4_000_000  # that they are fitted to, at most
PIECE = 1 << 17  # tokens; long training clips are shuffled in such pieces
LONG_SECONDS = 4.0  # where not everything can be judged, longer clips give only their beginnings
CACHE_VERSION = 1  # goes up when the baselines or the choice of tokens change


def spread(lengths: Sequence[int], limit: int, sample_rate: int) -> list[int]:
    """How many samples of each clip to take so that all together are at most `limit`; 0 for some.

    Everything where it fits. Otherwise clips evenly spread over all of them, from their beginnings: whole,
    but long ones only as far as LONG_SECONDS or, if all such beginnings fit, as far as the limit allows.
    """
    sizes = np.asarray(lengths, np.int64)
    if sizes.sum() <= limit:
        return sizes.tolist()  # type: ignore[no-any-return]
    low = max(1, min(round(LONG_SECONDS * sample_rate), limit // 4))
    if np.minimum(sizes, low).sum() <= limit:
        high = int(sizes.max())
        while high - low > 1:
            middle = (low + high) // 2
            fits = np.minimum(sizes, middle).sum() <= limit
            low, high = (middle, high) if fits else (low, middle)
        return np.minimum(sizes, low).tolist()  # type: ignore[no-any-return]
    beginnings = np.minimum(sizes, low)
    wanted = len(sizes)
    while True:
        wanted = max(1, int(wanted * limit / beginnings[_evenly(len(sizes), wanted)].sum()))
        chosen = _evenly(len(sizes), wanted)
        if beginnings[chosen].sum() <= limit:
            break
    taken = np.zeros_like(sizes)
    taken[chosen] = beginnings[chosen]
    return taken.tolist()  # type: ignore[no-any-return]


def _evenly(count: int, wanted: int) -> NDArray[np.int64]:
    """`wanted` of `count` places, evenly spread."""
    return (np.arange(wanted, dtype=np.int64) * 2 + 1) * count // (2 * wanted)


def training_pieces(store: Store, end_seconds: float) -> Iterator[NDArray[np.uint16]]:
    """All training tokens in pieces (time,), in an order that mixes the classes and is always the same."""
    clips = store.clips("train")
    starts = [
        (index, start)
        for index, clip in enumerate(clips)
        for start in range(0, store.sounding(clip, end_seconds), PIECE)
    ]
    for place in np.random.default_rng(0).permutation(len(starts)).tolist():
        index, start = starts[place]
        stop = min(start + PIECE, store.sounding(clips[index], end_seconds))
        yield store.tokens(clips[index])[start:stop]


def fit_baselines(
    train: Iterator[NDArray[np.uint16]], judged: Sequence[NDArray[np.uint16]], store: Store
) -> list[Baseline]:
    """Baselines fitted to `train` and scored on all of `judged`, tokens (time,) of the store's codec."""
    tokens = sum(map(len, judged))
    return fit_and_score(
        train, judged, store.codec, max_train_tokens=TRAIN_TOKENS, max_valid_tokens=max(1, tokens)
    )


def store_baselines(store: Store, *, cache: Path | None, end_seconds: float = 0.0) -> list[Baseline]:
    """Baselines of a store: fitted to its training split, judged by its held-out split.

    `end_seconds`: silence after each clip that does not count, `data.end_seconds` of the recipe. `cache`: a
    JSON file that keeps the result; used again only for the same store. Where it cannot be written, the
    result is computed anew next time. Raises DataError when a split is empty.
    """
    key = _key(store, end_seconds)
    known = None if cache is None else _cached(cache, key)
    if known is not None:
        return known
    clips = store.clips("valid")
    lengths = [store.sounding(clip, end_seconds) for clip in clips]
    taken = spread(lengths, JUDGED_TOKENS, store.sample_rate)
    judged = [store.tokens(clip)[:size] for clip, size in zip(clips, taken, strict=True) if size]
    baselines = fit_baselines(training_pieces(store, end_seconds), judged, store)
    if cache is not None:
        with contextlib.suppress(OSError):  # only a cache: a read-only run must still be evaluated
            _keep(cache, key, baselines)
    return baselines


def _key(store: Store, end_seconds: float) -> str:
    facts = [CACHE_VERSION, store.hash, round(end_seconds * store.sample_rate), JUDGED_TOKENS, TRAIN_TOKENS]
    return hashlib.blake2b(json.dumps(facts).encode(), digest_size=16).hexdigest()


def _cached(cache: Path, key: str) -> list[Baseline] | None:
    try:
        kept = json.loads(cache.read_text(encoding="utf-8"))
        if kept["key"] != key:
            return None
        return [Baseline(str(name), float(bits)) for name, bits in kept["baselines"].items()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # none, or damaged
        return None


def _keep(cache: Path, key: str, baselines: Sequence[Baseline]) -> None:
    kept = {"key": key, "baselines": {each.name: each.bits_per_sample for each in baselines}}
    part = cache.with_name(f"{cache.name}.part")
    part.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    part.replace(cache)
