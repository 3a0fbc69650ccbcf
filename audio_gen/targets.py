"""Files that are asked for: in nobody's way, and there whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from audio_gen.errors import OutputError


def check_free(path: Path, force: bool) -> None:
    """Raises OutputError where something stands at `path` already, unless `force`d."""
    if path.exists() and not force:
        raise OutputError(f"{path}: exists; use --force to overwrite it")


@contextmanager
def write_whole(path: Path, *, parents: bool = False) -> Iterator[BinaryIO]:
    """A file beside `path`, renamed into place once it is safely on disk; with `parents`, in folders made for it.

    Raises OutputError where the system refuses, and leaves nothing then.
    """
    part = path.with_name(path.name + ".part")
    try:
        if parents:
            path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from None
