"""Why a recording cannot be used, in words for people and a kind for programs."""

from pathlib import Path
from typing import Literal

from audio_gen.errors import AudioFileError, OutputError

Kind = Literal[
    "missing",  # or not to be opened
    "empty-file",
    "no-samples",
    "not-audio",
    "needs-decoder",
    "lying-header",
    "truncated",
    "not-finite",
]


class AudioProblemError(AudioFileError):
    """An AudioFileError that knows `path`, `kind` (to count by) and `reason` (the message less the path)."""

    def __init__(self, path: Path, kind: Kind, message: str) -> None:
        super().__init__(f"{path}: {message}")
        self.path = path
        self.kind: Kind = kind
        self.reason = message


class ClosedPipeError(OutputError):
    """Whoever was listening has closed the pipe (as `| head` does): a reason to stop, hardly an error."""
