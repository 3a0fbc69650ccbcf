"""[controls]: what a player can ask for."""

from typing import Literal

from pydantic import Field, field_validator

from audio_gen.settings.table import Settings


class LabelSettings(Settings):
    """[controls.labels.NAME]: one thing the player can ask for."""

    source: str = Field(alias="from")
    """Field template, such as "{speaker}"."""
    values: dict[str, list[str]] = {}
    """Value = the raw names it gathers: { kick = ["ks"], snare = ["sc", "se"] }. Empty: the raw names themselves."""


class ControlSettings(Settings):
    """[controls]: labels (one value a clip) and curves (a value per frame)."""

    labels: dict[str, LabelSettings] = {}
    curves: list[Literal["loudness", "pitch", "mel", "notes"]] = []
    """"notes": a piano roll, from a NAME.notes.csv beside each recording: see `audio_gen.notes`."""
    hop: int = Field(256, ge=1, le=65_536)
    """Samples per curve frame."""
    mel_bands: int = Field(80, ge=8, le=256)
    pitch: str = ""
    """Where names tell the note of a clip: a template such as "{note}"; filled in, a name (a4, eb2, f#3) or a MIDI
    key. Then the pitch is looked for beside that note alone. "": it is tracked in the recording."""

    @field_validator("labels")
    @classmethod
    def _names(cls, labels: dict[str, LabelSettings]) -> dict[str, LabelSettings]:
        for name in labels:
            if not name.replace("-", "_").isidentifier():
                raise ValueError(f"{name!r} is no name for a label; use letters, digits, - and _")
        return labels
