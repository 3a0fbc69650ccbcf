"""What a recipe can say of a set of clips, with its defaults: see `audio_gen.settings`."""

from typing import Any, Self

from pydantic import (
    BaseModel,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from audio_gen.errors import SettingError
from audio_gen.fades import parse_fade
from audio_gen.table import STRICT

FILE = "{labels}-t{temperature}-{index:03}.wav"
FILE_OF_COPIES = "{source}-t{temperature}-{index:03}.wav"
OF_THEIR_OWN = ("clips", "seconds", "labels", "curves")
"""What a [[generate]] table with `copies` takes from the recordings, and cannot say."""
OF_SKETCHES = ("sketch_temperature", "guidance")
"""What it cannot say either, unless they are `sketched`."""


class GenerateSettings(BaseModel):
    """[[generate]]: one set of clips; every combination of labels, curves and temperature is made `clips` times.

    Or, with `copies`, held-out recordings played again from their own curves at every temperature.
    """

    model_config = STRICT

    name: str
    copies: int | None = Field(None, ge=1)
    """So many of the run's held-out recordings (all, where there are fewer), evenly spaced, each with its own curves,
    labels and length. What follows curves and has no sketch to draw them can do nothing else."""
    most_seconds: float | None = Field(None, gt=0.0)
    """So much of each, from its beginning, at most. Left out: all of it."""
    sketched: bool = False
    """Of each only what a player would tell (notes, a pitch) is given; the model's sketch draws the rest."""
    prompt_seconds: float | None = Field(None, gt=0.0)
    """So much of the recording itself each copy begins with, and goes on from there. Copies of this kind need no curves
    to follow."""
    clips: int = Field(4, ge=1)
    """Clips per combination."""
    seconds: float = Field(1.0, gt=0.0)
    labels: dict[str, str | list[str]] = {}
    """Label = what `audio-gen generate --label` takes for it ("rain", "rain:0.7+waves:0.3", "rain@0,waves@20"), or a
    list, or "*" for all values."""
    curves: dict[str, str | list[str]] = {}
    """Curve = what `audio-gen generate --curve` takes for it ("a2", "110", "melody.csv"), or a list. What a sketch
    draws is left out."""
    temperature: float | str | list[float | str] | None = None
    """What `audio-gen generate --temperature` takes (0.9, "0.7@0,1.2@20", "FILE.csv"), or a list. Left out, like the
    six after it: as the model's [play] says."""
    top_k: int | None = Field(None, ge=0)
    top_p: float | None = Field(None, gt=0.0, le=1.0)
    min_p: float | None = Field(None, ge=0.0, le=1.0)
    sketch_temperature: float | None = Field(None, ge=0.0, le=10.0)
    guidance: float | None = Field(None, ge=0.0, le=10.0)
    doubt: float | None = Field(None, ge=0.0, le=3.0)
    seed: int = Field(0, ge=0, lt=2**63)
    """Clip i of each combination plays stream i of this seed."""
    file: str | None = None
    """File-name template: {labels}, {temperature}, {index}, {seed}, or the name of any label or curve; of copies also
    {source}, the recording's name. Left out: FILE, or FILE_OF_COPIES."""

    @field_validator("temperature")
    @classmethod
    def _is_a_number_or_several(cls, given: Any) -> Any:
        for each in given if isinstance(given, list) else [given]:
            if isinstance(each, str) and not each.lower().endswith(".csv"):
                try:
                    parse_fade(each, "temperature")
                except SettingError as error:
                    raise ValueError(error) from None
        return given

    @model_validator(mode="after")
    def _copies_have_these(self) -> Self:
        given = [name for name in self._not_said if name in self.model_fields_set]
        if given:
            raise ValueError(
                "copies are made once of each recording, with the labels, the length and the curves it has; "
                f"leave {' and '.join(given)} out, or make another table"
            )
        of_copies = [name for name in ("most_seconds", "sketched", "prompt_seconds") if getattr(self, name)]
        if self.copies is None and of_copies:
            raise ValueError(f"{' and '.join(of_copies)} can be said of copies alone; add copies = 3, say")
        return self

    @model_serializer(mode="wrap")
    def _plain(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without the defaults that copies do not go by, so that it can be read back."""
        tables: dict[str, Any] = plain(self)
        return {name: value for name, value in tables.items() if name not in self._not_said}

    @property
    def _not_said(self) -> tuple[str, ...]:
        if self.copies is None:
            return ()
        return OF_THEIR_OWN if self.sketched else OF_THEIR_OWN + OF_SKETCHES

    @property
    def template(self) -> str:
        """Of the file names."""
        if self.file is not None:
            return self.file
        return FILE if self.copies is None else FILE_OF_COPIES
