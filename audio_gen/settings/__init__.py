"""Everything a recipe can say: typed, strict, frozen tables, one file per part of it. All defaults live here and in
`clip_sets`."""

from audio_gen.clip_sets import GenerateSettings
from audio_gen.settings.controls import ControlSettings, LabelSettings
from audio_gen.settings.data import CodecSettings, DataSettings
from audio_gen.settings.network import PREDICTORS, NetworkSettings
from audio_gen.settings.play import CardSettings, PageSettings, PlaySettings
from audio_gen.settings.recipe import Recipe
from audio_gen.settings.train import ComposerSettings, SketchSettings, TrainSettings

__all__ = [
    "PREDICTORS",
    "CardSettings",
    "CodecSettings",
    "ComposerSettings",
    "ControlSettings",
    "DataSettings",
    "GenerateSettings",
    "LabelSettings",
    "NetworkSettings",
    "PageSettings",
    "PlaySettings",
    "Recipe",
    "SketchSettings",
    "TrainSettings",
]
