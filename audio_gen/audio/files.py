"""Where bytes go: a regular file that can be patched, or a pipe that cannot; and errors in words."""

import errno
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal, Protocol

from audio_gen.audio.problems import ClosedPipeError
from audio_gen.errors import OutputError

Destination = Path | Literal["-"]


@contextmanager
def output_errors(name: str) -> Iterator[None]:
    """Turn the system's refusals into an OutputError of one line about `name`."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.EPIPE:
            raise ClosedPipeError(f"{name}: closed by the reader") from error
        remedy = "choose another place with -o"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            remedy = "free some space, then continue with --resume"
        elif error.errno == errno.EFBIG:
            remedy = "the file system or ulimit allows no larger file"
        elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            remedy = "check its permissions, or choose another place with -o"
        raise OutputError(f"{name}: cannot be written: {error.strerror}; {remedy}") from error


def is_pipe(destination: Destination) -> bool:
    """Standard output, or a path that is no regular file: written front to back, never patched."""
    if destination == "-":
        return True
    try:
        mode = destination.stat().st_mode
    except OSError:
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


class Sink(Protocol):
    """Somewhere to put bytes."""

    def put(self, position: int, data: bytes) -> None:
        """Write all of `data` at `position`, bytes from the start, past every cache of this process."""

    def close(self) -> None:
        """Let go; never fails."""


class FileSink:
    """A regular file, open for patching; each `put` is one system call where the system takes it whole."""

    def __init__(self, path: Path) -> None:
        self.file = path.open("r+b", buffering=0)

    def put(self, position: int, data: bytes) -> None:
        self.file.seek(position)
        _put_all(self.file.fileno(), data)

    def truncate(self, size: int) -> None:
        """Cut the file to `size` bytes."""
        self.file.truncate(size)

    def close(self) -> None:
        with suppress(OSError):
            self.file.close()


class PipeSink:
    """Standard output, a device or a named pipe. Patches of what has gone are dropped."""

    def __init__(self, destination: Destination) -> None:
        self._gone = 0
        self._own: int | None = None
        self._descriptor: int | None = None
        if destination != "-":
            self._own = self._descriptor = os.open(destination, os.O_WRONLY)
            return
        sys.stdout.flush()
        with suppress(OSError):  # a stand-in for stdout, as tests have, may be without a descriptor
            self._descriptor = sys.stdout.fileno()

    def put(self, position: int, data: bytes) -> None:
        if position != self._gone:
            return
        self._gone += len(data)
        if self._descriptor is not None:
            _put_all(
                self._descriptor, data
            )  # not through sys.stdout, whose buffer would outlive a closed pipe
        else:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()

    def close(self) -> None:
        if self._own is not None:
            with suppress(OSError):
                os.close(self._own)
            self._own = None


def _put_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def part_of(path: Path) -> Path:
    """Where `path` is prepared until it can take its name."""
    return path.with_name(path.name + ".part")


def create(path: Path, content: bytes) -> None:
    """Make `path` appear, or change, all at once with `content`."""
    part = part_of(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(content)
        part.replace(path)
    except OSError:
        with suppress(OSError):
            part.unlink()
        raise
