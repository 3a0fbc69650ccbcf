"""One function on many arguments, here or in several processes, with results in order."""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from audio_gen.errors import MissingExtraError, SettingError

R = TypeVar("R")
_ROUNDS = 4  # chunks per process: few enough to spare hand-overs, enough to even out long and short files


class Run:
    """Calls a function on each tuple of arguments; in one process, when its result is asked for."""

    def __init__(self, jobs: int, parallel: Any = None, delayed: Any = None) -> None:
        self.jobs, self._parallel, self._delayed = jobs, parallel, delayed

    def __call__(self, function: Callable[..., R], arguments: list[Any]) -> Iterable[R]:
        if self._parallel is None:
            return (function(*each) for each in arguments)
        size = max(1, -(-len(arguments) // (self.jobs * _ROUNDS)))
        chunks = (arguments[start : start + size] for start in range(0, len(arguments), size))
        made: list[list[R]] = self._parallel(self._delayed(_each)(function, chunk) for chunk in chunks)
        return [result for results in made for result in results]


def _each(function: Callable[..., R], arguments: list[Any]) -> list[R]:
    return [function(*each) for each in arguments]


@contextlib.contextmanager
def pool(jobs: int) -> Iterator[Run]:
    """Processes for the time of a `with`. Raises SettingError below 1; MissingExtraError without joblib."""
    if jobs < 1:
        raise SettingError(f"jobs must be 1 or more, got {jobs}")
    if jobs == 1:
        yield Run(1)
        return
    try:
        import joblib
    except ImportError:
        need = "jobs above 1 needs joblib: pip install 'audio-gen[train]', or use jobs = 1"
        raise MissingExtraError(need) from None
    with joblib.Parallel(n_jobs=jobs) as parallel:
        yield Run(jobs, parallel, joblib.delayed)
