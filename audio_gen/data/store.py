"""The token store, read side: a folder of tokens, mapped into memory, and what is known of each clip.

    store.json        settings, label vocabulary, totals, gains, sizes of shards, version, hash; comes last
    clips.jsonl       one clip a line: source, split, shard, offset, length (tokens), labels, gain, levels
    excluded.jsonl    one file a line: source, reason
    tokens-00000.u16  little-endian uint16, clips one after another; a clip lies in one shard
    curves-00000.f16  little-endian float16 (frames, channels), clips one after another; only with curves

`audio_gen.data.prepare` writes it.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from audio_gen.codec import Codec
from audio_gen.errors import DataError, SettingError

T = TypeVar("T")

VERSION = 1
MANIFEST = "store.json"
CLIPS = "clips.jsonl"
EXCLUDED = "excluded.jsonl"


@dataclass(frozen=True, slots=True)
class Clip:
    """One recording, or one part of it, in the store."""

    source: str
    """File the clip was made from, relative to `data.source`, with "/"."""
    split: str
    """"train" or "valid"."""
    shard: int
    offset: int
    """Tokens before this clip in its shard."""
    length: int
    """Tokens, the learned silence at the end included."""
    labels: dict[str, str]
    """Value of each label the clip has; labels that are not known are absent."""
    gain: float
    """What its waveform was multiplied by."""
    group: str
    """What shares this never stands on both sides of the split (except in a split by time)."""
    curve_offset: int
    """Curve frames before this clip in its shard."""
    start: int = 0
    """Samples of the source, at the store's rate, before this clip."""


class Store:
    """A prepared folder. Opening reads one small file; the clips are read when first asked for.

    Raises DataError if the store is missing, incomplete, damaged, or of an unknown version.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.manifest: dict[str, Any] = read_manifest(self.path)
        try:
            settings = self.manifest["settings"]
            self.sample_rate: int = settings["sample_rate"]
            self.codec = Codec(settings["levels"], settings["pre_emphasis"])
            self.curves: list[str] = settings["curves"]
            self.hop: int = settings["hop"]
            self.curve_channels: int = self.manifest["curve_channels"]
            self.labels: dict[str, list[str]] = self.manifest["labels"]
            self.hash: str = self.manifest["hash"]
            self.unit: int = self.hop if self.curves else 1
            """Tokens that belong together, which reading begins with: those of one frame of the curves."""
            shards: list[dict[str, int]] = self.manifest["shards"]
            self._check_sizes(shards, self.manifest["clips_bytes"])
        except (KeyError, TypeError, SettingError) as error:
            raise DataError(f"{self.path}: {MANIFEST} is damaged ({error}); {_AGAIN}") from None
        self._token_maps: dict[int, NDArray[np.uint16]] = {}
        self._curve_maps: dict[int, NDArray[np.float16]] = {}

    def clips(self, split: str) -> list[Clip]:
        """Clips of the split "train" or "valid", sorted by source. Raises DataError for another name."""
        if split not in self._splits:
            raise DataError(f"{self.path}: no split {split!r}; known: train, valid")
        return self._splits[split]

    def tokens(self, clip: Clip) -> NDArray[np.uint16]:
        """Tokens (time,) of a clip: a read-only view of the file."""
        if clip.shard not in self._token_maps:
            path = self.path / token_shard(clip.shard)
            self._token_maps[clip.shard] = _mapped(path, np.dtype("<u2"))
        return self._token_maps[clip.shard][clip.offset : clip.offset + clip.length]

    def sounding(self, clip: Clip, end_seconds: float) -> int:
        """Samples of `clip` without the silence of `end_seconds` that prepare put after it; at least 1.

        A clip that does not end in so much silence was not given any, and counts in full.
        """
        end = min(round(end_seconds * self.sample_rate), clip.length - 1)
        if end <= 0:
            return clip.length
        # Pre-emphasis still echoes the last sample in the first of the silence.
        tail = self.tokens(clip)[clip.length - end + 1 :]
        return clip.length - end if bool((tail == self.codec.silence).all()) else clip.length

    def curves_of(self, clip: Clip) -> NDArray[np.float32] | None:
        """Curves (frames, curve_channels) of a clip; None if the store has none.

        Frame f belongs to tokens [f * hop, (f + 1) * hop); the last frame may reach past the end.
        """
        if not self.curves:
            return None
        if clip.shard not in self._curve_maps:
            flat = _mapped(self.path / curve_shard(clip.shard), np.dtype("<f2"))
            self._curve_maps[clip.shard] = flat.reshape(-1, self.curve_channels)
        frames = -(-clip.length // self.hop)
        rows = self._curve_maps[clip.shard][clip.curve_offset : clip.curve_offset + frames]
        return rows.astype(np.float32)

    @cached_property
    def _splits(self) -> dict[str, list[Clip]]:
        splits: dict[str, list[Clip]] = {"train": [], "valid": []}
        try:
            for record in read_lines(self.path / CLIPS):
                splits[record["split"]].append(
                    Clip(**{name: record[name] for name in Clip.__slots__ if name in record})
                )
        except (KeyError, TypeError) as error:
            raise DataError(f"{self.path / CLIPS}: damaged ({error}); {_AGAIN}") from None
        if sum(map(len, splits.values())) != self.manifest["totals"]["clips"]:
            raise DataError(f"{self.path / CLIPS}: clips are missing; {_AGAIN}")
        return splits

    def _check_sizes(self, shards: list[dict[str, int]], clips_bytes: int) -> None:
        sizes = {CLIPS: clips_bytes}
        for index, shard in enumerate(shards):
            sizes[token_shard(index)] = shard["tokens"] * 2
            if self.curves:
                sizes[curve_shard(index)] = shard["frames"] * self.curve_channels * 2
        for name, size in sizes.items():
            path = self.path / name
            if not path.is_file():
                raise DataError(f"{path}: missing; {_AGAIN}")
            if path.stat().st_size != size:
                raise DataError(f"{path}: {path.stat().st_size} bytes instead of {size}; {_AGAIN}")


_AGAIN = "delete the store and prepare it again"


def evenly(some: Sequence[T], count: int) -> list[T]:
    """`count` of them, evenly spaced: the same ones every time.

    >>> evenly("abcdef", 3)
    ['a', 'c', 'e']
    """
    return [some[place * len(some) // count] for place in range(count)]


def token_shard(index: int) -> str:
    """File name of a shard of tokens."""
    return f"tokens-{index:05}.u16"


def curve_shard(index: int) -> str:
    """File name of a shard of curves."""
    return f"curves-{index:05}.f16"


def read_manifest(path: Path) -> dict[str, Any]:
    """store.json of the store at `path`. Raises DataError."""
    file = path / MANIFEST
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        begun = path.is_dir() and any(path.iterdir())
        state = "is not complete" if begun else "is no token store"
        raise DataError(f"{path}: {state} (no {MANIFEST}); prepare it") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{file}: cannot be read ({error}); {_AGAIN}") from None
    version = manifest.get("version") if isinstance(manifest, dict) else None
    if version != VERSION:
        raise DataError(f"{file}: version {version!r}, this program knows {VERSION}; {_AGAIN}")
    return dict(manifest)


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Records of a .jsonl file, one by one. Raises DataError."""
    try:
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                yield json.loads(line)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error}); {_AGAIN}") from None


def _mapped(path: Path, dtype: np.dtype[Any]) -> NDArray[Any]:
    try:
        return np.memmap(path, dtype, mode="r")
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error}); {_AGAIN}") from None
