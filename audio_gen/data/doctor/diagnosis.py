"""What is in a folder of recordings, what is wrong with it, and what to do before anyone trains.

```python
diagnosis = examine("recordings")
print(diagnosis.to_text())
```
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from textwrap import wrap
from typing import Any

from audio_gen.audio import SUFFIXES, find_audio
from audio_gen.data.doctor.advice import advise
from audio_gen.data.doctor.findings import Advice, Findings, count
from audio_gen.data.doctor.levels import LevelField, level_fields
from audio_gen.data.doctor.measure import FileFacts, measure
from audio_gen.data.doctor.names import Names, read_names
from audio_gen.data.doctor.proposal import recipe_tables
from audio_gen.errors import DataError, MissingExtraError, SettingError

Progress = Callable[[int, int, str], None]

_NAMED = 3  # files named under each advice in the text; to_dict has all
_MOST_LINES = 58
_WIDTH = 110


@dataclass(frozen=True)
class Companions:
    """Files that share a recording's name but for the ending, such as transcripts or notes."""

    ending: str
    files: int
    without: tuple[str, ...]
    """Recordings that lack one."""


@dataclass(frozen=True)
class Diagnosis:
    """All that was found in `folder`."""

    folder: str
    files: tuple[FileFacts, ...]
    names: Names
    levels: tuple[LevelField, ...]
    advice: tuple[Advice, ...]
    companions: tuple[Companions, ...]
    others: tuple[str, ...]
    """Files that are neither recordings nor their companions, relative."""
    recipe: str
    """Proposed tables of a recipe, TOML; "" if nothing can be used."""

    @property
    def usable(self) -> list[FileFacts]:
        """The recordings without a fault."""
        return [f for f in self.files if not f.fault]

    @property
    def findings(self) -> Findings:
        """What its rules looked at."""
        return Findings(self.files, self.usable, self.names, self.levels)

    @property
    def ok(self) -> bool:
        """Whether no advice is an error."""
        return all(a.severity != "error" for a in self.advice)

    def to_dict(self) -> dict[str, Any]:
        """JSON types only: totals, advice with all files, fields of the names, and every file's measures."""
        return {
            "folder": _printable(self.folder),
            "ok": self.ok,
            **_totals(self.files, self.usable),
            "advice": [{**asdict(a), "files": [_printable(name) for name in a.files]} for a in self.advice],
            "names": {
                "pattern": self.names.pattern,
                "given": self.names.given,
                "fields": [asdict(field) for field in self.names.fields],
            },
            "levels": [asdict(field) for field in self.levels],
            "companions": [
                {**asdict(c), "without": [_printable(n) for n in c.without]} for c in self.companions
            ],
            "others": [_printable(name) for name in self.others],
            "recipe": _printable(self.recipe),
            "files": [{**asdict(f), "name": _printable(f.name)} for f in self.files],
        }

    def to_text(self) -> str:
        """The same in plain words, under 60 lines for any folder."""
        lines = [*_overview(self), ""]
        heads = {"error": "PROBLEM", "warning": "WATCH", "hint": "NOTE"}
        end: list[str] = []
        if self.recipe:
            end += ["", "To start from, in a recipe (-o mine.toml writes a whole one, ready to run):", ""]
            end += [f"    {line}" for line in _shortened([line for line in self.recipe.splitlines() if line])]
        reasons = {f.name: f.reason for f in self.files if f.reason}
        for told, a in enumerate(self.advice):
            sentence = wrap(f"{heads[a.severity]}: {a.sentence}", _WIDTH, subsequent_indent="  ")
            more = [*sentence, *_examples(a, reasons)]
            if len(lines) + len(more) + len(end) >= _MOST_LINES:
                lines.append(
                    f"... and {count(len(self.advice) - told, 'more note')} (all of them in the JSON)."
                )
                break
            lines += more
        lines += end
        return "\n".join(_printable(line) for line in lines) + "\n"


def examine(
    folder: Path | str, *, pattern: str = "", jobs: int = 1, progress: Progress | None = None
) -> Diagnosis:
    """Measure every recording below `folder` and say what to do. Reads in blocks; files are never changed.

    `pattern` reads the names ("{digit}_{speaker}_{index}"); without one, it is sought in them. `jobs` files
    are read at a time. `progress` is told (done, total, name) after each file. Raises DataError for a folder
    that is missing or holds no recordings, RecipeError for a bad pattern, SettingError for jobs below 1, and
    MissingExtraError if jobs above 1 lack joblib.
    """
    folder = Path(folder)
    if jobs < 1:
        raise SettingError(f"jobs is {jobs}; it must be 1 or more")
    paths = list(find_audio(folder))
    names = [path.relative_to(folder).as_posix() for path in paths]
    if not paths:
        raise DataError(_no_recordings(folder))
    read = read_names(
        [name.rpartition(".")[0] for name in names], pattern
    )  # before the long part: it may raise
    files: list[FileFacts] = []
    for facts in _measured(paths, names, jobs):
        files.append(facts)
        if progress is not None:
            progress(len(files), len(paths), facts.name)
    usable = [f for f in files if not f.fault]
    levels = level_fields(files, read)
    findings = Findings(files, usable, read, levels)
    advice = advise(findings)
    companions, others = _beside(folder, names)
    recipe = recipe_tables(str(folder), findings, advice) if usable else ""
    return Diagnosis(str(folder), tuple(files), read, tuple(levels), advice, companions, others, recipe)


def _measured(paths: Sequence[Path], names: Sequence[str], jobs: int) -> Iterator[FileFacts]:
    """Facts in the order of `paths`, whatever the number of jobs."""
    if jobs == 1:
        yield from map(measure, paths, names)
        return
    if find_spec("joblib") is None:
        raise MissingExtraError("jobs above 1 need joblib: pip install 'audio-gen[train]', or use one job")
    from joblib import Parallel, delayed

    work = (delayed(measure)(path, name) for path, name in zip(paths, names, strict=True))
    yield from Parallel(n_jobs=jobs, return_as="generator", batch_size=16)(work)


def _no_recordings(folder: Path) -> str:
    endings = Counter(path.suffix.lower() or "no ending" for path in folder.rglob("*") if path.is_file())
    found = ", ".join(f"{number} {ending}" for ending, number in endings.most_common(3)) or "nothing at all"
    return f"{folder}: no recordings in it (found {found}); give a folder with WAV, FLAC, MP3 or other audio"


def _beside(folder: Path, names: Sequence[str]) -> tuple[tuple[Companions, ...], tuple[str, ...]]:
    """Other files: those that belong to a recording, by ending, and the rest."""
    stems = {name.rpartition(".")[0] for name in names}
    found: dict[str, set[str]] = {}
    others = []
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for file in sorted(name for name in files if not name.startswith(".")):
            path = Path(place, file).relative_to(folder).as_posix()
            if Path(file).suffix.lower() in SUFFIXES:
                continue
            dots = [at for at, letter in enumerate(path) if letter == "." and path[:at] in stems]
            if dots:
                found.setdefault(path[dots[-1] :], set()).add(path[: dots[-1]])
            else:
                others.append(path)
    companions = tuple(
        Companions(ending, len(own), tuple(name for name in names if name.rpartition(".")[0] not in own))
        for ending, own in sorted(found.items())
    )
    return companions, tuple(others)


def _totals(files: Sequence[FileFacts], usable: Sequence[FileFacts]) -> dict[str, Any]:
    totals: dict[str, Any] = {"count": len(files), "usable": len(usable)}
    totals["seconds"] = sum(f.seconds for f in usable)
    totals["formats"] = _tally(f"{f.format} {f.subtype}" for f in usable)
    totals["sample_rates"] = _tally(str(f.sample_rate) for f in usable)
    totals["channels"] = _tally(str(f.channels) for f in usable)
    totals["duration"] = _quantiles([f.seconds for f in usable])
    totals["peak"] = _quantiles([f.peak for f in usable])
    totals["floor_db"] = _quantiles([f.floor_db for f in usable])
    return totals


def _tally(values: Iterator[str]) -> dict[str, int]:
    return dict(sorted(Counter(values).items(), key=lambda item: (-item[1], item[0])))


def _quantiles(values: list[float]) -> dict[str, float]:
    """Least, 5, 50, 95 per cent and greatest; each is one of the values."""
    ordered = sorted(values)
    if not ordered:
        return {}
    places = {"min": 0.0, "5%": 0.05, "50%": 0.5, "95%": 0.95, "max": 1.0}
    return {name: ordered[round(place * (len(ordered) - 1))] for name, place in places.items()}


def _overview(diagnosis: Diagnosis) -> list[str]:
    usable = diagnosis.usable
    lines = [f"{diagnosis.folder}: {count(len(diagnosis.files), 'recording')}, {len(usable)} usable"]
    if not usable:
        return lines
    totals = _totals(diagnosis.files, usable)
    length, peak = totals["duration"], totals["peak"]
    rates = ", ".join(f"{int(rate) / 1000:g} kHz" for rate in list(totals["sample_rates"])[:6])
    channels = ", ".join({"1": "mono", "2": "stereo"}.get(n, f"{n} channels") for n in totals["channels"])
    lines += [
        f"  sound    {totals['seconds'] / 60:.1f} min; {rates}; {channels}; "
        f"{', '.join(list(totals['formats'])[:4])}",
        f"  lengths  {length['min']:.2f} to {length['max']:.2f} s, median "
        f"{median(f.seconds for f in usable):.2f} s",
        f"  levels   peaks {peak['min']:.3f} to {peak['max']:.3f} of 1, 90 in 100 from {peak['5%']:.3f} to "
        f"{peak['95%']:.3f}; quietest moments near {totals['floor_db']['50%']:.0f} dBFS",
    ]
    if diagnosis.names.pattern:
        lines.append(
            f"  names    {diagnosis.names.pattern}"
            + ("" if diagnosis.names.given else "  (found in the names)")
        )
    for level in diagnosis.levels[:2]:
        if level.ratio >= 1.5:
            lines.append(
                f"  level by {{{level.name}}}: {level.ratio:.1f} times apart, explains {level.share:.0%} of "
                "the spread"
            )
    for companion in diagnosis.companions[:4]:
        missing = f", missing for {_named(companion.without)}" if companion.without else ", one for each"
        lines.append(f"  beside   {companion.files} {companion.ending}{missing}")
    if diagnosis.others:
        lines.append(f"  other    {_named(diagnosis.others)}")
    return lines


def _examples(advice: Advice, reasons: dict[str, str]) -> list[str]:
    """The first files of an advice, with their own reason where they have one."""
    if advice.severity == "error" and advice.files:
        lines = [
            f"    {name}" + (f": {reasons[name]}" if name in reasons else "")
            for name in advice.files[:_NAMED]
        ]
        more = len(advice.files) - _NAMED
        return [line[: 2 * _WIDTH] for line in lines] + ([f"    ... and {more:,} more"] if more > 0 else [])
    return [f"    {_named(advice.files)}"] if advice.files else []


def _named(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" ... and {more:,} more" if more > 0 else "")


def _shortened(lines: list[str]) -> list[str]:
    most = 18
    return lines if len(lines) <= most else [*lines[: most - 1], "# ... more in the JSON"]


def _printable(text: str) -> str:
    """`text` with bytes that are no UTF-8 (old file names) shown as question marks."""
    return text.encode("utf-8", "replace").decode("utf-8")
