"""A token store seen as sketches: its clips' curves are the tokens, channel after channel, frame after frame."""

from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from audio_gen.data.store import Clip, Store
from audio_gen.errors import DataError
from audio_gen.sketch import CurveCodec, can_sketch, drawn_channels, told_curves, told_frames


class SketchStore(Store):
    """What a sketch learns from: clips of (frames x channels drawn) tokens, with the curves that it does not draw."""

    def __init__(self, path: str | Path) -> None:
        """Raises DataError, as `Store` does, and for a store without curves that can be sketched."""
        super().__init__(path)
        self._whole = Store(path)
        if not can_sketch(self._whole.curves):
            raise DataError(f"{path}: holds no curves to sketch; prepare it with controls.curves")
        self._drawn = drawn_channels(self._whole.curves, self._whole.curve_channels)
        self.unit = self.hop = int(self._drawn.sum())
        self.sample_rate = max(1, round(self._whole.sample_rate / self._whole.hop * self.unit))
        self.codec = CurveCodec()
        self.curves, self.curve_channels = told_curves(self._whole.curves), int((~self._drawn).sum())
        self.hash = f"{self._whole.hash} sketch"

    def tokens(self, clip: Clip) -> NDArray[np.uint16]:
        """Tokens (frames x channels drawn,) of a clip's curves."""
        return self.codec.encode(self._frames(clip)[:, self._drawn]).reshape(-1)

    def curves_of(self, clip: Clip) -> NDArray[np.float32] | None:
        """The curves (frames, channels) that are not drawn; None if all are."""
        return told_frames(self._frames(clip)[:, ~self._drawn], self.curves) if self.curves else None

    def _frames(self, clip: Clip) -> NDArray[np.float32]:
        frames = self._whole.curves_of(self._originals[clip.source, clip.split])
        assert frames is not None
        return frames

    @cached_property
    def _originals(self) -> dict[tuple[str, str], Clip]:
        """The clips whose curves these are; split by time, one recording stands in both splits."""
        return {
            (clip.source, clip.split): clip
            for split in ("train", "valid")
            for clip in self._whole.clips(split)
        }

    @cached_property
    def _splits(self) -> dict[str, list[Clip]]:
        def sketched(clip: Clip) -> Clip:
            return replace(clip, length=-(-clip.length // self._whole.hop) * self.unit)

        return {split: [*map(sketched, self._whole.clips(split))] for split in ("train", "valid")}
