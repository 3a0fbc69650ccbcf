"""What prepare knows of every source file, kept on disk between runs.

Memory stays constant however many files there are, and a run that is killed has lost nothing that it had
committed: hence SQLite. The file is only a cache; deleting it costs time, nothing else.
"""

import hashlib
import math
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np

from audio_gen.audio import AudioProblemError, read_blocks
from audio_gen.errors import AudioFileError, OutputError

SURVEY = "survey.sqlite"
SILENT_PEAK = 1.0 / 32_768
"""A file that never leaves one step of 16-bit audio, -90 dBFS, holds nothing to learn from."""

ONSET = 0.1
"""A sound begins where its wave first reaches this share of its peak."""
FADED = 0.002
"""It has faded after the last place where its wave reaches this one, 54 dB below the peak."""

_VERSION = 4  # of the table and of what `measure` means
_TABLES = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT);
CREATE TABLE IF NOT EXISTS files (
    source TEXT PRIMARY KEY, size INTEGER, mtime_ns INTEGER, seen INTEGER,
    digest TEXT, frames INTEGER, peak REAL, rms REAL, truncated INTEGER, unusable TEXT, onset INTEGER, fade INTEGER,
    excluded TEXT, labels TEXT, pitch REAL, clip_group TEXT, gain_group TEXT, draw INTEGER, held INTEGER
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS gains (name TEXT PRIMARY KEY, gain REAL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS notes (kind TEXT, source TEXT);
CREATE TABLE IF NOT EXISTS csv (file TEXT PRIMARY KEY, fields TEXT, used INTEGER) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class Facts:
    """What reading a file once tells of it, at the target sample rate."""

    digest: str
    """Hash of the file's bytes."""
    frames: int = 0
    peak: float = 0.0
    rms: float = 0.0
    truncated: bool = False
    """Ends before its header says; used up to there."""
    unusable: str | None = None
    """Why it is left out; None if it is not."""
    onset: int = 0
    """The first sample that reaches a tenth of the peak."""
    fade: int = 0
    """Where the sound has faded: the sample after the last one that reaches FADED of the peak."""


def measure(path: Path, sample_rate: int) -> Facts:
    """Read the file at `path` in blocks, resampled to `sample_rate` (Hz). Never raises for a bad file."""
    digest = ""
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
        try:
            return _measure(path, sample_rate, digest, truncated=False)
        except AudioProblemError as problem:
            if problem.kind != "truncated":
                return Facts(digest, unusable=problem.reason)
            return _measure(path, sample_rate, digest, truncated=True)
    except AudioProblemError as problem:
        return Facts(digest, unusable=problem.reason)
    except AudioFileError as error:
        return Facts(digest, unusable=str(error).removeprefix(f"{path}: "))
    except OSError as error:
        return Facts(digest, unusable=f"cannot be read: {error.strerror}")


def _measure(path: Path, sample_rate: int, digest: str, truncated: bool) -> Facts:
    frames, peak, energy = 0, 0.0, 0.0
    # Where the wave rose above all before, and where it falls below that for good: one of each is wanted.
    records: list[tuple[int, float]] = []
    falls: list[tuple[int, float]] = []
    for block in read_blocks(path, sample_rate, allow_truncated=truncated):
        size = np.abs(block)
        highest = np.maximum.accumulate(np.concatenate([[peak], size]))
        higher = np.flatnonzero(size > highest[:-1])
        peak = float(highest[-1])
        records = [(at, value) for at, value in records if value >= ONSET * peak]
        records += [(frames + int(at), float(size[at])) for at in higher if size[at] >= ONSET * peak]
        later = np.maximum.accumulate(np.concatenate([size, [0.0]])[::-1])[::-1]
        lower = np.flatnonzero(size > np.maximum(later[1:], FADED * peak))
        falls = [(at, value) for at, value in falls if value > max(float(later[0]), FADED * peak)]
        falls += [(frames + int(at), float(size[at])) for at in lower]
        frames += len(block)
        energy += float(np.square(block, dtype=np.float64).sum())
    if not math.isfinite(energy):
        return Facts(digest, frames, truncated=truncated, unusable="holds NaN or infinity")
    silent = "silent: its peak is not above -90 dBFS" if peak <= SILENT_PEAK else None
    rms = math.sqrt(energy / max(frames, 1))
    unusable = "empty: no samples" if not frames else silent
    onset = records[0][0] if records else 0
    fade = max((at + 1 for at, value in falls if value >= FADED * peak), default=frames)
    return Facts(digest, frames, peak, rms, truncated, unusable, onset, fade)


def open_survey(folder: Path, sample_rate: int) -> sqlite3.Connection:
    """The survey of the store at `folder`, locked for this process; facts at another rate are forgotten.

    Raises OutputError when another prepare holds it; sqlite3.Error and OSError when it cannot be written.
    """
    try:
        return _open(folder / SURVEY, sample_rate)
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            raise OutputError(f"{folder}: another prepare is at work here; wait for it to end") from None
        raise
    except sqlite3.DatabaseError:  # damaged: start it anew
        (folder / SURVEY).unlink(missing_ok=True)
        return _open(folder / SURVEY, sample_rate)


def _open(path: Path, sample_rate: int) -> sqlite3.Connection:
    survey = sqlite3.connect(path, timeout=0.1, isolation_level="IMMEDIATE")
    try:
        survey.execute("PRAGMA locking_mode = EXCLUSIVE")
        survey.execute("PRAGMA temp_store = FILE")
        terms = f"{_VERSION} {sample_rate}"
        survey.executescript(_TABLES)
        found = survey.execute("SELECT value FROM meta WHERE key = 'terms'").fetchone()
        if found != (terms,):
            for table in ("meta", "files", "gains", "notes", "csv"):
                survey.execute(f"DROP TABLE {table}")
            survey.executescript(_TABLES)
        with survey:
            survey.execute("INSERT OR REPLACE INTO meta VALUES ('terms', ?)", (terms,))
    except BaseException:
        survey.close()
        raise
    return survey


def register(survey: sqlite3.Connection, found: Iterable[tuple[str, int, int, str | None]]) -> None:
    """Bring the table up to date with the folder: (source, size, mtime_ns, why it is excluded or None) each.

    New and changed files lose their facts, vanished ones their row; the rest stays. What was unusable is
    looked at again, since a decoder or a permission may be there now.
    """
    with survey:
        survey.execute("UPDATE files SET seen = 0")
        survey.executemany(
            """INSERT INTO files (source, size, mtime_ns, excluded, seen) VALUES (?, ?, ?, ?, 1)
            ON CONFLICT (source) DO UPDATE SET
                digest = CASE WHEN size = excluded.size AND mtime_ns = excluded.mtime_ns
                    AND unusable IS NULL THEN digest END,
                size = excluded.size, mtime_ns = excluded.mtime_ns, excluded = excluded.excluded, seen = 1""",
            found,
        )
        survey.execute("DELETE FROM files WHERE seen = 0")


def unmeasured(survey: sqlite3.Connection) -> int:
    """Number of files that `next_unmeasured` will still give."""
    return int(survey.execute(f"SELECT count(*) FROM files WHERE {_UNMEASURED}").fetchone()[0])


def next_unmeasured(survey: sqlite3.Connection, count: int) -> list[str]:
    """Up to `count` sources without facts."""
    rows = survey.execute(f"SELECT source FROM files WHERE {_UNMEASURED} ORDER BY source LIMIT ?", (count,))
    return [source for (source,) in rows]


def record(survey: sqlite3.Connection, facts: Iterable[tuple[str, Facts]]) -> None:
    """Commit the facts of some sources."""
    with survey:
        survey.executemany(
            """UPDATE files SET digest = ?, frames = ?, peak = ?, rms = ?, truncated = ?, unusable = ?, onset = ?,
            fade = ? WHERE source = ?""",
            ((*astuple(each), source) for source, each in facts),
        )


def excluded(survey: sqlite3.Connection) -> Iterator[tuple[str, str]]:
    """(source, reason) of every file left out, by source."""
    yield from survey.execute(
        f"SELECT source, coalesce(excluded, unusable) FROM files WHERE NOT ({KEPT}) ORDER BY source"
    )


KEPT = "excluded IS NULL AND digest IS NOT NULL AND unusable IS NULL"
"""SQL: the file becomes part of the store."""
_UNMEASURED = "excluded IS NULL AND digest IS NULL"
