"""[network]: sizes, and what is heard beside the tokens."""

import difflib
from typing import Any, Self

from pydantic import Field, field_validator, model_validator

from audio_gen.presets import PRESETS
from audio_gen.settings.table import Settings
from audio_gen.shape import MAX_ENVELOPE, MAX_ORDER, MAX_PREDICTORS

PREDICTORS = (16, 32, 128)


class NetworkSettings(Settings):
    """[network]: one entry per tier in `layers` and `channels`, fastest first; one tier is a classic WaveNet."""

    preset: str | None = Field(None, exclude=True)
    """One of `audio_gen.presets`: all the sizes below that are not given beside it. A shorthand of whoever writes the
    recipe: it is None once its sizes are filled in, so that checkpoints do not change when presets do."""
    layers: list[int] = [4, 6, 7, 7]
    """Gated residual layers of each tier."""
    channels: list[int] = [64, 96, 160, 192]
    """Residual width of each tier."""
    pool: list[int] = [4, 4, 4]
    """How many frames of a tier make one of the next, slower one."""
    dilation_cycle: int = Field(10, ge=1, le=16)
    """Dilation of layer i is 2 ** (i % dilation_cycle)."""
    kernel_size: int = Field(2, ge=2, le=8)
    skip_channels: int = Field(0, ge=0, le=4096)
    """Width of the skip sum of the fastest tier; 0: the head reads the last layer."""
    head_channels: int = Field(256, ge=1, le=4096)
    condition_channels: int = Field(32, ge=1, le=1024)
    """Width of the vector that labels and curves are gathered into."""
    around: int = Field(0, ge=0, le=16)
    """Where there are curves: so many frames before the present one, and after it, are told beside it. A window of the
    mel curve is longer than a frame, so that several together say more of when and how loud than any of them."""

    predictors: list[int] | None = None
    """Orders of linear predictors, fitted to what was just heard, whose expectations the network hears beside each
    token: up to four different multiples of 8, of 512 at most. Low orders follow quickly, high ones know tones, above
    128 the partials of chords, at a price in speed. []: none.
    Left out: PREDICTORS, and none where there is an envelope or a period: they drift with what is played."""
    envelope: int = Field(16, multiple_of=8, ge=0, le=MAX_ENVELOPE)
    """Where the first of the curves is mel and the codec has no pre-emphasis: order of one more predictor, a multiple
    of 8, whose coefficients are those of the curve's spectral envelope. It keeps what is played to the curve, where
    the other predictors follow what is heard and may drift with it. 0: none."""
    period: bool = True
    """Where pitch is among the curves and the codec has no pre-emphasis: one more predictor, which looks back one
    period of that pitch. It keeps what is played in tune."""
    phase: bool = True
    """And of each sample it is said where in that period it lies, for what was heard may lose its rhythm."""

    anchor: bool = False
    """Where there are predictors: the network says how far to believe each of them and how sure that is, and its logits
    fall off around that place. Fewer bits, since not every place on the scale has to be learned by itself."""

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, given: Any) -> Any:
        """The sizes in place of the preset's name; what is no name is left for the checks."""
        name = given.get("preset") if isinstance(given, dict) else None
        if not isinstance(name, str):
            return given
        if name not in PRESETS:
            near = difflib.get_close_matches(name, PRESETS, 1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(PRESETS)}"
            raise ValueError(f"no preset {name!r}; {hint}")
        return {**PRESETS[name], **given, "preset": None}

    @field_validator("predictors")
    @classmethod
    def _orders(cls, orders: list[int] | None) -> list[int] | None:
        if orders is None:
            return None
        possible = all(order % 8 == 0 and 8 <= order <= MAX_ORDER for order in orders)
        if not possible or len(orders) > MAX_PREDICTORS or len({*orders}) < len(orders):
            raise ValueError(
                f"predictors must be up to {MAX_PREDICTORS} different multiples of 8 from 8 to {MAX_ORDER}, "
                f"got {orders}"
            )
        return orders

    @model_validator(mode="after")
    def _shapes(self) -> Self:
        tiers = len(self.layers)
        if tiers == 0 or len(self.channels) != tiers or len(self.pool) != tiers - 1:
            raise ValueError(
                f"layers ({tiers}), channels ({len(self.channels)}) and pool ({len(self.pool)}) must describe the same "
                "tiers: as many layers as channels, and one pool fewer"
            )
        if min(self.layers) < 1 or max(self.layers) > 200:
            raise ValueError(f"layers must be from 1 to 200 per tier, got {self.layers}")
        if min(self.channels) < 1 or max(self.channels) > 4096:
            raise ValueError(f"channels must be from 1 to 4096 per tier, got {self.channels}")
        if self.pool and (min(self.pool) < 2 or max(self.pool) > 256):
            raise ValueError(f"pool must be from 2 to 256, got {self.pool}")
        return self
