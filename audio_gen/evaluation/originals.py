"""The recordings that the clips of a store were made from, in full quality."""

from collections import Counter
from pathlib import Path

import numpy as np

from audio_gen.audio import read
from audio_gen.data.store import Clip, Store
from audio_gen.errors import AudioFileError, DataError
from audio_gen.evaluation.excerpts import Excerpt
from audio_gen.evaluation.spectra import Waveform
from audio_gen.evaluation.speech import transcript

ALIKE = 0.99  # of the tokens must be those of the store, or nearly: filters differ between machines


class Originals:
    """A folder of recordings, as its store knows them."""

    def __init__(self, folder: Path, store: Store) -> None:
        """Raises DataError if there is no such folder."""
        if not folder.is_dir():
            raise DataError(f"{folder}: no such folder; give the folder that the recordings are in")
        self.folder, self._store = folder, store
        self._clips = Counter(clip.source for split in ("train", "valid") for clip in store.clips(split))

    def waveform(self, excerpt: Excerpt) -> Waveform | None:
        """What the codec was given for the excerpt, float32 (time,); None if it is not here, or another recording."""
        store, clip = self._store, excerpt.clip
        rate, path = store.sample_rate, self.folder / clip.source
        start, samples = clip.start + excerpt.start, excerpt.samples
        if not path.is_file():
            return None
        try:
            found = read(path, rate, start / rate, samples / rate, allow_truncated=True)
        except AudioFileError:
            return None
        waveform = found * np.float32(clip.gain)
        if len(waveform) != samples:
            return None
        known = store.tokens(clip)[excerpt.start : excerpt.start + samples].astype(np.int64)
        return waveform if np.mean(np.abs(store.codec.encode(waveform) - known) <= 1) >= ALIKE else None

    def words(self, clip: Clip) -> list[str] | None:
        """The words said in a clip; None if there is no transcript, or it is that of a recording cut in several."""
        path = self.folder / clip.source
        if self._clips[clip.source] > 1 or not path.is_file():
            return None
        return transcript(path)
