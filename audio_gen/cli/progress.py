"""Progress on stderr: one live line on a terminal, a line now and then elsewhere, nothing when quiet."""

import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console

EVERY_SECONDS = 15.0
"""Between lines where there is no terminal."""


def say(text: str, quiet: bool = False) -> None:
    """A message for people."""
    if not quiet:
        print(text, file=sys.stderr, flush=True)


class Live:
    """One line that is written over: `with Live(quiet) as live: live.show(0.4, "generate  2.1 s of 8.0 s")`."""

    def __init__(self, quiet: bool = False) -> None:
        self._quiet = quiet
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._terminal = self._console.is_terminal and not quiet
        self._next = time.monotonic() + EVERY_SECONDS
        self._drawn = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
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
        bar = "" if done is None else f"{'━' * round(24 * done)}{'·' * (24 - round(24 * done))} {100 * done:3.0f} %  "
        line = f"{bar}{text}{left}"[: max(10, self._console.width - 1)]
        print(f"\r\x1b[2K{line}", end="", file=sys.stderr, flush=True)

    def say(self, text: str) -> None:
        """A line that stays."""
        self._clear()
        say(text, self._quiet)

    def _clear(self) -> None:
        if self._terminal and self._drawn:
            print("\r\x1b[2K", end="", file=sys.stderr, flush=True)


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
