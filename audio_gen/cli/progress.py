"""Progress on stderr: one live line on a terminal, a line now and then elsewhere, nothing when quiet."""

import errno
import os
import sys
import time
from types import TracebackType
from typing import Self

from audio_gen.errors import OutputError

EVERY_SECONDS = 15.0
"""Between lines where there is no terminal."""
BAR = 24
"""Width of the bar where there is room; it gives way to the words."""


def say(text: str, quiet: bool = False) -> None:
    """A message for people."""
    if not quiet:
        print(text, file=sys.stderr, flush=True)


def product(text: object) -> None:
    """What was asked for, on stdout. Raises OutputError if nobody takes it."""
    try:
        print(text, flush=True)
    except OSError as error:
        why = "closed by the reader" if error.errno == errno.EPIPE else f"cannot be written: {error.strerror}"
        raise OutputError(f"standard output: {why}") from error


class Live:
    """One line that is written over: `with Live(quiet) as live: live.show(0.4, "2.1 s of 8.0 s")`."""

    def __init__(self, quiet: bool = False) -> None:
        self._quiet = quiet
        self._terminal = sys.stderr.isatty() and os.environ.get("TERM") != "dumb" and not quiet
        self._next = time.monotonic() + EVERY_SECONDS
        self._drawn = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._clear()

    def show(self, done: float | None, text: str, seconds_left: float | None = None) -> None:
        """Progress: `done` in [0, 1] draws a bar; `seconds_left` is shown as an ETA."""
        now = time.monotonic()
        if self._quiet or (now < self._next if not self._terminal else now - self._drawn < 0.1):
            return
        left = "" if seconds_left is None else f"  {clock(seconds_left)} left"
        if not self._terminal:
            self._next = now + EVERY_SECONDS
            share = "" if done is None else f"{100 * done:3.0f} %  "
            say(f"{share}{text}{left}")
            return
        self._drawn = now
        line = fitted(done, f"{text}{left}", _columns() - 1)
        encoding = sys.stderr.encoding or "ascii"
        print(
            f"\r\x1b[2K{line.encode(encoding, 'replace').decode(encoding)}",
            end="",
            file=sys.stderr,
            flush=True,
        )

    def say(self, text: str) -> None:
        """A line that stays."""
        self._clear()
        say(text, self._quiet)

    def _clear(self) -> None:
        if self._terminal and self._drawn:
            print("\r\x1b[2K", end="", file=sys.stderr, flush=True)
            self._drawn = 0.0


def fitted(done: float | None, text: str, columns: int) -> str:
    """A bar, the share done and `text` in at most `columns` of a terminal: first the bar gives way, then the end.

    >>> fitted(0.5, "2.0 s of 4.0 s", 34)
    '━━━━━······   50 %  2.0 s of 4.0 s'
    >>> fitted(0.5, "2.0 s of 4.0 s", 16)
    ' 50 %  2.0 s of '
    """
    from rich.cells import cell_len, set_cell_size

    text = "".join(letter if letter.isprintable() else "?" for letter in text)  # names of files hold anything
    if done is not None:
        share = f"{100 * done:3.0f} %"
        bar = min(BAR, columns - cell_len(text) - len(share) - 4)
        full = int(bar * min(1.0, max(0.0, done)))
        text = (f"{'━' * full}{'·' * (bar - full)}  " if bar >= 6 else "") + f"{share}  {text}"
    return text if cell_len(text) <= columns else set_cell_size(text, columns)


def _columns() -> int:
    """Width of the terminal that stderr is, wherever stdout goes."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or 80
    except (OSError, ValueError):
        return 80


def clock(seconds: float) -> str:
    """A duration for people: 42 s, 3:07 min, 2:05 h.

    >>> clock(187)
    '3:07 min'
    """
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60}:{seconds % 60:02} min"
    return f"{seconds // 3600}:{seconds % 3600 // 60:02} h"
