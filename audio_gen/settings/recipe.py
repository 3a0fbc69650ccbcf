"""A whole recipe, and what its tables have to agree on."""

import json
from typing import Any, Self

from pydantic import Field, model_validator

from audio_gen.clip_sets import GenerateSettings
from audio_gen.settings.controls import ControlSettings
from audio_gen.settings.data import CodecSettings, DataSettings
from audio_gen.settings.network import PREDICTORS, NetworkSettings
from audio_gen.settings.play import CardSettings, PageSettings, PlaySettings
from audio_gen.settings.table import Settings
from audio_gen.settings.train import ComposerSettings, SketchSettings, TrainSettings
from audio_gen.shape import DOUBT, REFIT, refit_of
from audio_gen.sketch import SKETCHABLE, can_sketch, told_curves

RECIPE_NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]*"


class Recipe(Settings):
    """A whole experiment."""

    name: str = Field(pattern=f"^{RECIPE_NAME}$")
    data: DataSettings
    codec: CodecSettings = CodecSettings()
    controls: ControlSettings = ControlSettings()
    network: NetworkSettings = NetworkSettings()
    train: TrainSettings = TrainSettings(minutes=60.0)
    sketch: SketchSettings | None = None
    composer: ComposerSettings | None = None
    generate: list[GenerateSettings] = []
    page: PageSettings = PageSettings()
    play: PlaySettings = PlaySettings()
    card: CardSettings = CardSettings()

    @model_validator(mode="after")
    def _hop_fits_tiers(self) -> Self:
        slowest = 1
        for pool in self.network.pool:
            slowest *= pool
        if self.controls.curves and self.controls.hop % slowest:
            raise ValueError(
                f"controls.hop ({self.controls.hop}) must be a multiple of the slowest tier's {slowest} samples"
            )
        if self.train.crop % slowest:
            raise ValueError(
                f"train.crop ({self.train.crop}) must be a multiple of the slowest tier's {slowest} samples"
            )
        refit = max((refit_of(order) for order in self.predictors), default=REFIT)
        if (self.predictors or self.envelope or self.follows_period) and self.train.crop % refit:
            raise ValueError(
                f"train.crop ({self.train.crop}) must be a multiple of {refit} with network.predictors, .envelope "
                "or .period"
            )
        if self.controls.curves and self.train.crop % self.controls.hop:
            raise ValueError(
                f"train.crop ({self.train.crop}) must be a multiple of controls.hop ({self.controls.hop}): "
                "crops begin on curve frames"
            )
        if self.network.anchor and not self.anchored:
            raise ValueError(
                "network.anchor needs a predictor to lie at: network.predictors, or .envelope or .period with their "
                "curves"
            )
        if self.train.gain_range and not set(self.controls.curves) <= {*SKETCHABLE}:
            raise ValueError(
                "train.gain_range makes walks softer, which curves of "
                f"{' and '.join(SKETCHABLE)} can follow; controls.curves is {self.controls.curves}"
            )
        if self.sketch is not None and not can_sketch(self.controls.curves):
            raise ValueError(
                f"[sketch] draws {' and '.join(SKETCHABLE)}; controls.curves is {self.controls.curves}"
            )
        if self.composer is not None and self.told != ["notes"]:
            raise ValueError(
                '[composer] makes up notes, which have to be all that a player tells: controls.curves = ["notes"], or '
                "with what a [sketch] draws beside them"
            )
        if self.train.tell_noise and DOUBT in self.controls.labels:
            raise ValueError(f"train.tell_noise makes a label {DOUBT!r}; call yours otherwise")
        if self.play.doubt is not None and not self.train.tell_noise:
            raise ValueError("play.doubt needs train.tell_noise = true")
        of_sketch = (self.play.sketch_temperature, self.play.guidance)
        if self.sketch is None and of_sketch != (None, None):
            raise ValueError("play.sketch_temperature and play.guidance need a [sketch]")
        names = [table.name for table in self.generate]
        if len(set(names)) < len(names):
            raise ValueError(f"[[generate]] names must differ, got {', '.join(names)}")
        return self

    @property
    def told(self) -> list[str]:
        """Names of the curves that no sketch draws."""
        return told_curves(self.controls.curves) if self.sketch is not None else list(self.controls.curves)

    @property
    def envelope(self) -> int:
        """Order of the predictor made from the mel curve; 0 where there is none to make it from."""
        possible = self.controls.curves[:1] == ["mel"] and not self.codec.pre_emphasis
        return self.network.envelope if possible else 0

    @property
    def follows_period(self) -> bool:
        """Whether a predictor looks back one period of the pitch."""
        return self.network.period and "pitch" in self.controls.curves and not self.codec.pre_emphasis

    @property
    def anchored(self) -> bool:
        """Whether the logits are anchored at what predictors expect."""
        return self.network.anchor and bool(self.predictors or self.envelope or self.follows_period)

    @property
    def predictors(self) -> tuple[int, ...]:
        """Orders of the predictors fitted to what was heard."""
        if self.network.predictors is not None:
            return tuple(self.network.predictors)
        return () if self.envelope or self.follows_period else PREDICTORS

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, every default spelled out; `build_recipe` takes it back."""
        plain: dict[str, Any] = json.loads(self.model_dump_json(by_alias=True))
        return plain
