"""What to evaluate, and how."""

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from audio_gen.errors import SettingError
from audio_gen.evaluation.report import PARTS
from audio_gen.sampler.draw import Draw

FEWEST = 8  # clips or held-out excerpts, that any figure is worth being computed from


@dataclass(frozen=True)
class Settings:
    """What to evaluate, and how. Raises SettingError."""

    parts: tuple[str, ...] = PARTS
    split: str = "valid"
    """Part of a store whose likelihood is computed; the rest always listens to held-out clips."""
    max_seconds: float | None = None
    """Of audio whose likelihood is computed."""
    baselines: bool = True
    clips: int = 200
    """To generate."""
    seed: int = 0
    draw: Draw = Draw()  # noqa: RUF009 - frozen
    long_runs: int = 3
    long_seconds: float = 60.0
    """Of each long run."""
    threads: int = 1
    copies: int = 40
    """Of held-out recordings, by a model that follows curves."""
    recordings: Path | None = None
    """Folder of the recordings that a store was made from, transcripts (.txt) beside them."""

    def __post_init__(self) -> None:
        for part in self.parts:
            if part not in PARTS:
                raise SettingError(f"no part {part!r} in an evaluation; known: {', '.join(PARTS)}")
        if not self.parts:
            raise SettingError(f"an evaluation needs a part; known: {', '.join(PARTS)}")
        if self.clips < FEWEST:
            raise SettingError(f"clips must be {FEWEST} or more to judge a model by, got {self.clips}")
        if self.copies < 1:
            raise SettingError(f"copies must be 1 or more, got {self.copies}")
        if self.long_runs < 1 or not 1.0 <= self.long_seconds < math.inf:
            raise SettingError(
                f"long runs must be 1 or more, of 1 s or more, got {self.long_runs} of {self.long_seconds:g} s"
            )

    def to_dict(self) -> dict[str, Any]:
        """JSON types: all that decides on what a report says of a part."""
        kept = {key: value for key, value in asdict(self).items() if key not in ("threads", "parts")}
        return kept | {"recordings": None if self.recordings is None else str(self.recordings)}
