"""What a player asks for over time, read from a CSV file: rows of seconds,value, ascending."""

import csv
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from audio_gen.errors import ControlError

Value = TypeVar("Value")


def read_moments(
    path: Path, parse: Callable[[str], Value], what: str, instead: str
) -> Iterator[tuple[float, Value]]:
    """(second, value) of each row of the file, whose second cell `parse` reads. A first row of names is skipped.

    `what` it is read as ("a curve") and what can be given `instead` ("a number") are for messages. Raises
    ControlError where the file or a row cannot be read, where `parse` raises ValueError or ControlError, and for
    seconds that do not ascend.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = enumerate(csv.reader(file), 1)
            table = [(number, row) for number, row in rows if any(map(str.strip, row))]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise ControlError(f"{path}: cannot be read as {what}: {why}; give {instead} or a CSV file") from None
    last = -math.inf
    for place, (number, row) in enumerate(table):
        try:
            second, value = float(row[0]), parse(row[1])
            if len(row) > 2:
                raise ValueError
        except ControlError as error:
            raise ControlError(f"{path}, line {number}: {error}") from None
        except (ValueError, IndexError):
            if place == 0 and len(table) > 1:
                continue  # names of the columns
            problem = f"must be seconds,value, got {','.join(row)!r}"
            raise ControlError(f"{path}, line {number}: {problem}") from None
        if not (second > last and math.isfinite(second)):
            problem = f"seconds must ascend, all be finite, got {','.join(row)!r}"
            raise ControlError(f"{path}, line {number}: {problem}")
        last = second
        yield second, value
    if last == -math.inf:
        raise ControlError(f"{path}: holds no rows of seconds,value")
