"""From a folder and a recipe to a plan: which part of which file becomes which clip. Nothing is encoded here.

Everything depends on names, contents and settings alone, never on the order of a listing or on the machine.
"""

import csv
import fnmatch
import hashlib
import json
import math
import os
import sqlite3
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from audio_gen.audio import find_audio
from audio_gen.controls import FOLDER, FieldPattern, LabelRule, fill, template_fields
from audio_gen.data.survey import KEPT
from audio_gen.errors import ControlError, DataError, RecipeError
from audio_gen.notes import notes_beside, read_notes
from audio_gen.pitch import parse_note
from audio_gen.settings import DataSettings, Recipe

FILE = "file"  # the column of a labels CSV that names the recording
_DRAWS = 1 << 56  # draws are 56 bits: an SQLite integer holds them


@dataclass(frozen=True)
class Planned:
    """One clip to be: samples [start, stop) of a source at the target rate, and `end` samples of silence."""

    source: str
    split: str
    start: int
    stop: int
    end: int
    labels: dict[str, str]
    pitch: float | None
    gain: float
    group: str
    digest: str
    truncated: bool
    peak: float
    """Of the whole file, after the gain."""
    rms: float

    @property
    def length(self) -> int:
        """Tokens."""
        return self.stop - self.start + self.end


def scan(data: DataSettings) -> Iterator[tuple[str, int, int, str | None]]:
    """(source, size, mtime_ns, why it is excluded or None) of each recording below `data.source`."""
    root = Path(data.source)
    for path in find_audio(root):
        source = path.relative_to(root).as_posix()
        try:
            source.encode()
            status = path.stat()
        except UnicodeEncodeError:
            shown = source.encode("utf-8", "backslashreplace").decode()
            yield shown, 0, 0, "its name is not valid UTF-8; rename it"
            continue
        except OSError as error:
            yield source, 0, 0, f"cannot be read: {error.strerror}"
            continue
        glob = next((glob for glob in data.exclude if _matches(source, glob)), None)
        yield source, status.st_size, status.st_mtime_ns, None if glob is None else f"excluded by {glob!r}"


def _matches(source: str, glob: str) -> bool:
    path = PurePosixPath(source)
    folders = [folder.as_posix() for folder in path.parents]
    return any(fnmatch.fnmatchcase(name, glob.rstrip("/")) for name in (source, path.name, *folders[:-1]))


def describe(survey: sqlite3.Connection, recipe: Recipe) -> None:
    """Write labels, groups and draws of every file into the survey. Raises DataError and RecipeError."""
    data = recipe.data
    pattern = FieldPattern(data.pattern)
    rules = [LabelRule(name, settings) for name, settings in recipe.controls.labels.items()]
    needed = {
        "data.group": template_fields(data.group),
        "data.valid_where": tuple(data.valid_where),
        "controls.pitch": template_fields(recipe.controls.pitch),
    }
    if data.gain not in ("dataset", "file", "none"):
        needed["data.gain"] = template_fields(data.gain)
        if not needed["data.gain"]:
            known = '"dataset", "file", "none" or a template such as "{speaker}"'
            raise RecipeError(f"data.gain must be {known}, got {data.gain!r}")
    with survey:
        survey.execute("DELETE FROM notes")
        columns = _load_csv(survey, data.labels_csv)
        _check_fields({FOLDER, *pattern.fields, *columns}, recipe, needed)
        page = "SELECT source FROM files WHERE excluded IS NULL AND source > ? ORDER BY source LIMIT 500"
        last = ""
        while rows := survey.execute(page, (last,)).fetchall():
            for (last,) in rows:
                _describe(survey, last, recipe, pattern, rules, needed)
        _note_unknown(survey, data)


def _describe(
    survey: sqlite3.Connection,
    source: str,
    recipe: Recipe,
    pattern: FieldPattern,
    rules: list[LabelRule],
    needed: dict[str, tuple[str, ...]],
) -> None:
    data = recipe.data
    stem = os.path.splitext(source)[0]  # noqa: PTH122 (Path would normalise)
    fields = pattern.match(stem)
    if fields is None:
        _note(survey, f"name does not match the pattern {data.pattern!r}, so it tells nothing", source)
    known = (fields or FieldPattern("").match(stem) or {}) | _csv_fields(survey, source, stem)
    for setting, names in needed.items():
        missing = next((name for name in names if name not in known), None)
        if missing is not None:
            reason = f"{setting} needs the field {missing!r}, which its name and the CSV do not give"
            survey.execute("UPDATE files SET excluded = ? WHERE source = ?", (reason, source))
            return
    if "notes" in recipe.controls.curves:
        try:
            read_notes(notes_beside(Path(data.source) / source))
        except ControlError as error:
            reason = f"controls.curves has notes: {error}"
            survey.execute("UPDATE files SET excluded = ? WHERE source = ?", (reason, source))
            return
    pitch = None
    if recipe.controls.pitch:
        try:
            pitch = parse_note(fill(recipe.controls.pitch, known))
        except ControlError as error:
            survey.execute(
                "UPDATE files SET excluded = ? WHERE source = ?", (f"controls.pitch: {error}", source)
            )
            return
    labels = {}
    for rule in rules:
        value, raw = rule.value(known), rule.raw(known)
        if value is not None:
            labels[rule.name] = value
        elif raw is not None:
            _note(survey, f"label {rule.name!r}: no value gathers {raw!r}, so these go without", source)
        elif fields is not None:
            _note(survey, f"label {rule.name!r} missing: names and CSV do not give it", source)
    group = fill(data.group, known) if data.group else stem
    gain = {"dataset": "", "none": "", "file": source}.get(data.gain)
    draw = draw_of(group)
    if data.valid_where:
        held = all(known[name] in values for name, values in data.valid_where.items())
    else:
        held = draw < data.valid_fraction * _DRAWS
    survey.execute(
        "UPDATE files SET labels = ?, pitch = ?, clip_group = ?, gain_group = ?, draw = ?, held = ? WHERE source = ?",
        (
            json.dumps(labels),
            pitch,
            group,
            fill(data.gain, known) if gain is None else gain,
            draw,
            held,
            source,
        ),
    )


def draw_of(group: str) -> int:
    """The group's place in the draw for validation, of 2**56: a hash of its name, spelled one way (NFC)."""
    name = unicodedata.normalize("NFC", group).encode()
    return int.from_bytes(hashlib.blake2b(name, digest_size=7).digest(), "big")


def _check_fields(known: set[str], recipe: Recipe, needed: dict[str, tuple[str, ...]]) -> None:
    """A field that no file can have is a typo in the recipe."""
    wanted = dict(needed)
    for name, settings in recipe.controls.labels.items():
        wanted[f"controls.labels.{name}.from"] = template_fields(settings.source)
    for setting, names in wanted.items():
        for name in names:
            if name not in known:
                fields = ", ".join(sorted(known))
                raise RecipeError(f"{setting}: no field {name!r}; data.pattern and the CSV give: {fields}")


def _load_csv(survey: sqlite3.Connection, path: str | None) -> list[str]:
    """Read the labels CSV into the survey; gives its field names. Raises DataError."""
    survey.execute("DELETE FROM csv")
    if path is None:
        return []
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file)
            columns = list(rows.fieldnames or [])
            if FILE not in columns:
                found = ", ".join(columns) or "nothing"
                raise DataError(f"{path}: needs a column 'file', first line has {found}")
            for row in rows:
                name = (row.pop(FILE) or "").strip().replace("\\", "/").removeprefix("./")
                fields = {key: value.strip() for key, value in row.items() if key and value and value.strip()}
                text = json.dumps(fields)
                before = survey.execute("SELECT fields FROM csv WHERE file = ?", (name,)).fetchone()
                if before is not None and before != (text,):
                    raise DataError(f"{path}, line {rows.line_num}: {name!r} stands twice with other values")
                survey.execute("INSERT OR IGNORE INTO csv VALUES (?, ?, 0)", (name, text))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as CSV: {error}") from None
    return [column for column in columns if column != FILE]


def _csv_fields(survey: sqlite3.Connection, source: str, stem: str) -> dict[str, str]:
    """The row that names this file: by path or by name alone, with its suffix or without."""
    for name in (source, stem, source.rpartition("/")[2], stem.rpartition("/")[2]):
        row = survey.execute("SELECT fields FROM csv WHERE file = ?", (name,)).fetchone()
        if row is not None:
            survey.execute("UPDATE csv SET used = 1 WHERE file = ?", (name,))
            fields: dict[str, str] = json.loads(row[0])
            return fields
    return {}


def _note_unknown(survey: sqlite3.Connection, data: DataSettings) -> None:
    unknown = "the labels CSV names it, but there is no such recording"
    survey.execute("INSERT INTO notes SELECT ?, file FROM csv WHERE NOT used ORDER BY file", (unknown,))
    for glob in data.exclude:
        reason = f"excluded by {glob!r}"
        if not survey.execute("SELECT 1 FROM files WHERE excluded = ? LIMIT 1", (reason,)).fetchone():
            _note(survey, "data.exclude has a pattern that leaves out nothing more", glob)


def _note(survey: sqlite3.Connection, kind: str, source: str) -> None:
    survey.execute("INSERT INTO notes VALUES (?, ?)", (kind, source))


def settle(survey: sqlite3.Connection, recipe: Recipe) -> None:
    """Settle gains and the split, now that all files are measured. Raises DataError."""
    data = recipe.data
    with survey:
        survey.execute(
            "INSERT INTO notes SELECT 'truncated: used up to where it ends', source FROM files "
            f"WHERE {KEPT} AND truncated ORDER BY source"
        )
        _settle_gains(survey, data)
        if data.split == "file" or data.valid_where:
            _settle_split(survey, data)
        elif data.valid_fraction > 0.0:
            short = "too short to be split by time, so it is used for training alone"
            lengths = survey.execute(f"SELECT source, frames FROM files WHERE {KEPT} ORDER BY source")
            for source, frames in lengths:
                if len(_parts(data, False, frames)) == 1:
                    _note(survey, short, source)


def _settle_gains(survey: sqlite3.Connection, data: DataSettings) -> None:
    """One gain per group, by the loudest of the quieter `gain_share` of its files; louder files leave the group."""
    survey.execute("DELETE FROM gains")
    ranked = f"""SELECT source, gain_group, peak,
        row_number() OVER (PARTITION BY gain_group ORDER BY peak, source) AS place,
        count(*) OVER (PARTITION BY gain_group) AS members FROM files WHERE {KEPT}"""
    sharing = "place <= max(1, cast(members * ? AS INTEGER))"
    if data.gain != "none":
        louder = f"SELECT source FROM ({ranked}) WHERE NOT {sharing}"
        survey.execute(f"UPDATE files SET gain_group = source WHERE source IN ({louder})", (data.gain_share,))
    peaks = survey.execute(f"SELECT gain_group, max(peak) FROM files WHERE {KEPT} GROUP BY gain_group")
    while rows := peaks.fetchmany(500):
        gains = [(name, 1.0 if data.gain == "none" else gain_for(data.peak, peak)) for name, peak in rows]
        survey.executemany("INSERT INTO gains VALUES (?, ?)", gains)


def gain_for(target: float, peak: float) -> float:
    """What brings `peak` to `target`, six digits, rounded down so that nothing clips; 1 for silence."""
    if peak <= 0.0:
        return 1.0
    gain = target / peak
    scale = 10.0 ** (5 - math.floor(math.log10(gain)))
    return float(f"{math.floor(gain * scale) / scale:.6g}")


def _settle_split(survey: sqlite3.Connection, data: DataSettings) -> None:
    counts = dict(
        survey.execute(f"SELECT held, count(DISTINCT clip_group) FROM files WHERE {KEPT} GROUP BY held")
    )
    train, valid = counts.get(0, 0), counts.get(1, 0)
    if train + valid == 0:
        return
    if data.valid_where:
        if not train:
            every = "data.valid_where holds out every file"
            raise DataError(f"{data.source}: {every}; nothing is left to train on")
        if not valid:
            _note(survey, "data.valid_where holds out nothing; validation has no audio", data.source)
        return
    if train + valid == 1 and data.valid_fraction > 0.0:
        survey.execute("UPDATE files SET held = 0")
        alone = "one group alone cannot be split, so nothing is held out; try split = 'time'"
        _note(survey, alone, data.source)
    elif not valid and data.valid_fraction > 0.0:
        _move(survey, 1, "ASC")
    elif not train:
        _move(survey, 0, "DESC")


def _move(survey: sqlite3.Connection, held: int, order: str) -> None:
    """At least one group on either side: the one whose draw is nearest to it."""
    survey.execute(
        f"""UPDATE files SET held = ? WHERE clip_group = (
            SELECT clip_group FROM files WHERE {KEPT} ORDER BY draw {order}, clip_group {order} LIMIT 1)""",
        (held,),
    )


def planned(survey: sqlite3.Connection, data: DataSettings) -> Iterator[Planned]:
    """Every clip to be, by source, training part first."""
    end = round(data.end_seconds * data.sample_rate)
    rows = survey.execute(
        f"""SELECT source, held, frames, labels, pitch, gain, clip_group, digest, truncated, peak, rms, onset, fade
        FROM files JOIN gains ON gains.name = gain_group WHERE {KEPT} ORDER BY source"""
    )
    for source, held, frames, labels, pitch, gain, group, digest, truncated, peak, rms, onset, fade in rows:
        lead = onset if data.lead_seconds is None else round(data.lead_seconds * data.sample_rate)
        for split, start, stop in _parts(data, bool(held), frames):
            last = stop == frames
            start = max(start, min(onset - lead, stop - 1)) if start == 0 else start
            if last and data.tail_seconds is not None:
                stop = max(start + 1, min(stop, fade + round(data.tail_seconds * data.sample_rate)))
            yield Planned(
                source, split, start, stop, end if last else 0, json.loads(labels), pitch, gain, group,
                digest, bool(truncated), float(f"{peak * gain:.6g}"), float(f"{rms * gain:.6g}"),
            )  # fmt: skip


def _parts(data: DataSettings, held: bool, frames: int) -> list[tuple[str, int, int]]:
    """(split, start, stop) of the clips a file of `frames` samples gives."""
    if data.split == "file" or data.valid_where:
        return [("valid" if held else "train", 0, frames)]
    valid = round(frames * data.valid_fraction)
    cut = frames - valid - round(data.gap_seconds * data.sample_rate)
    if valid == 0 or cut < frames / 2:  # too short to give up that much
        return [("train", 0, frames)]
    return [("train", 0, cut), ("valid", frames - valid, frames)]
