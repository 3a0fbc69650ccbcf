"""A token store seen as compositions: the notes of its clips are the tokens, note after note."""

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property, lru_cache
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from audio_gen.composer import (
    CURVE,
    CURVE_CHANNELS,
    TOKENS,
    NoteCodec,
    heard_before,
    note_of,
    scale_heard,
    transpose,
    vary,
)
from audio_gen.data.store import CLIPS, Clip, Store, read_lines
from audio_gen.errors import DataError
from audio_gen.notes import Note

TRANSPOSITIONS = range(-5, 7)
TEMPOS = range(-2, 3)
"""Steps of 8 %. Every training clip is heard in all of these: a small collection knows few keys."""
_A_SECOND = 10
"""Notes, roughly: for what is counted in seconds."""


class NoteStore(Store):
    """What a composer learns from: clips of (4 * notes) tokens."""

    def __init__(self, path: str | Path) -> None:
        """Raises DataError, as `Store` does, and for a store without notes."""
        super().__init__(path)
        self._whole = Store(path)
        if "notes" not in self.curves:
            raise DataError(f"{path}: holds no notes to learn composing from; prepare it with them")
        self.codec = NoteCodec()
        self.sample_rate, self.unit, self.hop = TOKENS * _A_SECOND, TOKENS, TOKENS
        self.curves, self.curve_channels = [CURVE], CURVE_CHANNELS
        self.hash = f"{self._whole.hash} composer"

    def tokens(self, clip: Clip) -> NDArray[np.uint16]:
        """Tokens (4 * notes,) of a clip, in the key and tempo in which it is to be heard."""
        keys, tempo = _variation(clip)
        return vary(self._plain[clip.shard], keys, tempo)

    def is_plain(self, clip: Clip) -> bool:
        """Whether it is heard as it was played, in its own key and tempo."""
        return _variation(clip) == (0, 0)

    def notes(self, tokens: NDArray[np.uint16]) -> tuple[Note, ...]:
        """What tokens (4 * notes,) say, by seconds since the clip began."""
        found: list[Note] = []
        for values in self.codec.decode(tokens).reshape(-1, TOKENS):
            found.append(note_of(values, found[-1][0] if found else 0.0))
        return tuple(found)

    def curves_of(self, clip: Clip) -> NDArray[np.float32] | None:
        """Which keys were heard before each note, (notes, CURVE_CHANNELS)."""
        return self._heard(clip.shard, _variation(clip)[0])

    @cached_property
    def _heard(self) -> Callable[[int, int], NDArray[np.float32]]:
        """(notes, CURVE_CHANNELS) of a line of the store's clips, so many keys higher; those read last are kept."""

        @lru_cache(maxsize=64)
        def heard(line: int, keys: int) -> NDArray[np.float32]:
            struck = self.codec.decode(self._plain[line])[1::TOKENS]
            return scale_heard(transpose(heard_before(struck.astype(int).tolist()), keys))

        return heard

    @cached_property
    def _plain(self) -> list[NDArray[np.uint16]]:
        """Tokens of each line of the store's clips."""
        found = []
        for record in read_lines(self.path / CLIPS):
            if "notes" not in record:
                raise DataError(
                    f"{self.path}: was prepared by an older version, which kept no notes; prepare it again"
                )
            found.append(NoteCodec().encode_notes(record["notes"]))
        return found

    @cached_property
    def _splits(self) -> dict[str, list[Clip]]:
        lines = {
            (record["source"], record["start"]): line
            for line, record in enumerate(read_lines(self.path / CLIPS))
        }

        def listed(clip: Clip, keys: int = 0, tempo: int = 0) -> Clip:
            line = lines[clip.source, clip.start]
            return replace(clip, shard=line, length=len(self._plain[line]), offset=_code(keys, tempo))

        def sounding(split: str) -> list[Clip]:
            clips = self._whole.clips(split)
            return [clip for clip in clips if len(self._plain[lines[clip.source, clip.start]])]

        return {
            "train": [
                listed(clip, *variation)
                for clip in sounding("train")
                for variation in product(TRANSPOSITIONS, TEMPOS)
            ],
            "valid": [listed(clip) for clip in sounding("valid")],
        }


def _code(keys: int, tempo: int) -> int:
    """One number for both, which a clip carries."""
    return (keys - TRANSPOSITIONS.start) * len(TEMPOS) + tempo - TEMPOS.start


def _variation(clip: Clip) -> tuple[int, int]:
    keys, tempo = divmod(clip.offset, len(TEMPOS))
    return keys + TRANSPOSITIONS.start, tempo + TEMPOS.start
