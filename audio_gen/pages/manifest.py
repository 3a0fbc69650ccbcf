"""What a batch rendered: `clips/clips.json` of a run folder, read and checked."""

from pathlib import Path, PurePosixPath
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from audio_gen.errors import DataError


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, allow_inf_nan=False)


class Facts(_Table):
    """What the page says of the model; anything may be missing."""

    model: str | None = None
    parameters: int | None = None
    receptive_field: int | None = None
    """Samples."""
    sample_rate: int | None = Field(default=None, gt=0)
    """Hertz."""
    levels: int | None = None
    data: str | None = None
    licence: str | None = None
    credit: str | None = None
    steps: int | None = None
    minutes: float | None = None
    bits_per_sample: float | None = None
    baselines: dict[str, float] | None = None
    """Bits per sample, by name."""
    hardware: str | None = None
    date: str | None = None
    version: str | None = None
    hash: str | None = None
    precision: str | None = None
    """Of the arithmetic that made the clips."""


class Clip(_Table):
    """One generated clip."""

    file: str
    """Relative to the clips folder, with forward slashes."""
    set: str
    labels: dict[str, str]
    curves: dict[str, str] = {}
    """Those it was given, as they were written; empty for a copy of a recording."""
    temperature: float
    """At its beginning."""
    fade: str | None = None
    """How the temperature changes, "0.7@0,1.2@20"; None where it does not."""
    top_k: int
    top_p: float
    min_p: float
    seed: int
    stream: int
    seconds: float
    clipped: int
    """Samples that left [-1, 1]."""
    sketch_temperature: float | None = None
    guidance: float | None = None
    """Of the sketch; None where none has drawn."""
    composed: bool = False
    """Nobody gave it notes."""
    doubt: float = 0.0
    source: str | None = None
    """The recording that it goes on from or whose curves it follows, relative to the data's folder; None where it does
    neither."""
    prompt_seconds: float | None = None
    """So much of the recording it begins with."""


class RealClip(_Table):
    """One held-out recording, through the model's codec."""

    file: str
    labels: dict[str, str]
    source: str
    seconds: float


class Manifest(_Table):
    """Everything a listening page shows."""

    version: Literal[1]
    title: str = ""
    text: str = ""
    facts: Facts = Facts()
    clips: list[Clip]
    real: list[RealClip] = []

    @property
    def everything(self) -> list[Clip | RealClip]:
        """All clips, real ones first."""
        return [*self.real, *self.clips]


def read_manifest(run: Path) -> Manifest:
    """The manifest of a run folder, all of whose clips exist below `run/clips`.

    Raises DataError if it is missing or damaged, or names a clip that is missing, twice there, or elsewhere.
    """
    path = run / "clips" / "clips.json"
    try:
        manifest = Manifest.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise DataError(f"{path}: no manifest of clips; render the [[generate]] sets first") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    except ValidationError as error:
        raise DataError(f"{path}: {_explain(error)}; render the clips again") from None
    seen: set[str] = set()
    for clip in manifest.everything:
        if PurePosixPath(clip.file).is_absolute() or ".." in PurePosixPath(clip.file).parts:
            raise DataError(f"{path}: {clip.file!r} leads out of the clips folder")
        if clip.file in seen:
            raise DataError(f"{path}: names {clip.file!r} twice; render the clips again")
        if "\0" in clip.file or not (path.parent / clip.file).is_file():
            raise DataError(f"{path}: names {clip.file!r}, which is missing; render the clips again")
        seen.add(clip.file)
    return manifest


def _explain(error: ValidationError) -> str:
    """The first problem in one line."""
    problem = error.errors(include_url=False, include_input=False)[0]
    if problem["loc"] == ("version",) and problem["type"] == "literal_error":
        return "a manifest of another version than 1, which this program does not know"
    where = ".".join(str(part) for part in problem["loc"])
    return f"damaged manifest: {where + ': ' if where else ''}{problem['msg']}"
