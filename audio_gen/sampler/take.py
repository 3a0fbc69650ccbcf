"""One take: everything that, with the model, decides what a generated clip sounds like."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from audio_gen.errors import OutputError, SettingError
from audio_gen.sampler.draw import Draw
from audio_gen.sampler.precision import PRECISIONS

SOFTWARE = "audio_gen"


@dataclass(frozen=True)
class Take:
    """Model, labels, seed and settings. Equal takes are equal audio."""

    model: str
    """Name of the model, for people."""
    model_hash: str
    seconds: float | None = field(default=None, compare=False)
    """Length in seconds; None: until it is stopped. Not part of what it sounds like, nor of the tags: a longer
    take begins with the shorter one, and a file says itself how long it is."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Settled, so that mixtures can be made again from nothing but their text."""
    seed: int = 0
    stream: int = 0
    """Number of the clip among those of one seed."""
    draw: Draw = Draw()  # noqa: RUF009 - frozen
    curves: Mapping[str, Any] = field(default_factory=dict)
    """Curve name: how it was given, such as "-20", or "melody.csv" and a digest of what it says."""
    precision: str = "fp32"
    """`Model.arithmetic`: "fp32", "bf16", or "int8" and a digest of its scales."""
    prompt: str = ""
    """What it goes on from: a recording's name, and a digest of what is heard; or nothing."""
    fade: str = ""
    """How its temperature changes, as `parse_fade` reads it; or nothing: it is the draw's."""

    def tags(self, version: str) -> dict[str, str]:
        """What is written into the file, so that it can be made again."""
        take = asdict(self) | {"labels": dict(self.labels), "curves": dict(self.curves), "version": version}
        del take["seconds"]
        for name in ("prompt", "fade"):
            if not take[name]:
                del take[name]
        return {"software": f"{SOFTWARE} {version}", "comment": json.dumps(take, sort_keys=True)}

    @classmethod
    def from_tags(cls, tags: Mapping[str, str], where: str) -> "Take":
        """The take a file was made from. Raises OutputError if the file carries none."""
        try:
            take = json.loads(tags["comment"])
            take.pop("version")
            found = cls(**take | {"draw": Draw(**take["draw"])})
            if found.precision.partition(" ")[0] not in PRECISIONS:
                raise ValueError(found.precision)
            return found
        except (AttributeError, KeyError, TypeError, ValueError, SettingError):
            raise OutputError(
                f"{where}: was not made by audio-gen, or has lost its tags; generate it afresh with --force"
            ) from None
