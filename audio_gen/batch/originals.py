"""Held-out recordings that a batch plays again, and all that a model needs to know of them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import PurePosixPath

from audio_gen.curves import Floats
from audio_gen.data.store import Clip, Store, evenly
from audio_gen.errors import DataError
from audio_gen.sampler.parts import samples_of
from audio_gen.sampler.prompt import Prompt


@dataclass(frozen=True)
class Original:
    """One recording of a store."""

    store: Store
    clip: Clip
    samples: int
    """Its length, without the silence learned after it."""

    @property
    def stem(self) -> str:
        """Its file's name, without folders and suffix."""
        return PurePosixPath(self.clip.source).stem

    def curves(self) -> Floats:
        """Its curves (frames, channels), read anew, so that many originals need no memory. Raises DataError."""
        curves = self.store.curves_of(self.clip)
        if curves is None:
            raise DataError(f"{self.store.path}: holds no curves; prepare it with [controls] curves")
        return curves[: -(-self.samples // self.store.hop)]

    def prompt(self, seconds: float) -> Prompt:
        """Its first `seconds`, in whole frames, as a model of this store hears them. Raises DataError where nothing is
        left to go on with."""
        unit = self.store.hop if self.store.curves else 1
        units = int(seconds * self.store.sample_rate) // unit
        if not 0 < units * unit < self.samples:
            length = self.samples / self.store.sample_rate
            raise DataError(
                f"{self.clip.source}: is {length:.2f} s long; prompt_seconds = {seconds:g} must leave something to play"
            )
        waveform = self.store.codec.decode(self.store.tokens(self.clip)[: units * unit])
        return Prompt(waveform, self.curves()[:units] if self.store.curves else None)

    def told(self) -> str:
        """What identifies its curves: its file, and a digest of what they say."""
        digest = blake2b(self.curves().tobytes(), digest_size=8).hexdigest()
        return f"{PurePosixPath(self.clip.source).name} {digest}"


def choose_originals(
    store: Store, count: int, end_seconds: float, where: str, most_seconds: float = math.inf
) -> list[Original]:
    """`count` held-out recordings, evenly spaced among all of them by name: the same ones every time; all, where there
    are fewer. Of each at most the first `most_seconds`.

    `where` begins the message of the DataError raised where there are none.
    """
    held_out: Sequence[Clip] = store.clips("valid")
    if not held_out:
        raise DataError(f"{where}: copies = {count}, but no recordings are held out; see data.valid_fraction")
    most = samples_of(most_seconds, store.sample_rate)
    return [
        Original(store, clip, int(min(most, store.sounding(clip, end_seconds))))
        for clip in evenly(held_out, min(count, len(held_out)))
    ]
