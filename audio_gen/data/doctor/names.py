"""What the names of recordings say: which parts are labels, which only count, and which pattern reads "
"them."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from audio_gen.controls import FOLDER, FieldPattern, natural_key

Role = Literal["label", "velocity", "index", "time", "id", "unique", "constant"]

_MOST = 0.75  # share of the names that one shape must cover to be proposed as the pattern
_LABEL_VALUES = 64  # more values than this are no choice for a player
_FEW = 24  # files that may each be a class of its own
_SEPARATORS = re.compile(r"([_\- .]+)")
_NOTE = re.compile(r"[a-gA-G](#|b|s)?-?[0-9]")
_PREFIXES: dict[str, tuple[str, Role]] = {
    **dict.fromkeys(("v", "vl", "vel", "velocity", "dyn"), ("velocity", "velocity")),
    **dict.fromkeys(("r", "rr", "rep", "repeat"), ("repeat", "index")),
    **dict.fromkeys(("t", "take"), ("take", "index")),
    **dict.fromkeys(("n", "no", "nr", "idx", "index"), ("index", "index")),
}


@dataclass(frozen=True)
class NameField:
    """One field of the names and what it seems to be.

    label: a choice for the player. velocity: a number for how hard. index: counts takes of the same thing.
    time: a moment. id: many values, some of them shared. unique: a value of its own for each file.
    """

    name: str
    role: Role
    counts: dict[str, int]
    """Files per value, in natural order."""


@dataclass(frozen=True)
class Names:
    """The fields of all names, by `pattern` ("" if they have no common shape)."""

    pattern: str
    given: bool
    fields: tuple[NameField, ...]
    values: tuple[Mapping[str, str] | None, ...]
    """Fields of each file in the order given; None where the pattern does not match."""

    def of_role(self, *roles: Role) -> list[NameField]:
        """The fields of these roles, in the order they stand in."""
        return [field for field in self.fields if field.role in roles]


def read_names(paths: Sequence[str], pattern: str = "") -> Names:
    """Fields of `paths` (relative, "/" between folders, without suffix) by `pattern`, or by one found there.

    Raises RecipeError for a pattern that is none.
    """
    given = bool(pattern)
    pattern = pattern or infer_pattern(paths)
    matcher = FieldPattern(pattern)
    values = tuple(matcher.match(path) for path in paths)
    matched = [fields for fields in values if fields is not None]
    names = list(matcher.fields)
    if FOLDER not in names and all(FOLDER in fields for fields in matched) and matched:
        names.insert(0, FOLDER)
    columns = {name: [fields[name] for fields in matched] for name in names} if matched else {}
    return Names(pattern, given, tuple(_fields(columns)), values)


def infer_pattern(paths: Sequence[str]) -> str:
    """The pattern that most names share, such as "{kind}_vl{velocity}_rr{repeat}"; "" if none tells anything.

    >>> infer_pattern(["ks_vl1_rr1", "ks_vl1_rr2", "hh_vl1_rr1", "hh_vl1_rr2", "ks_vl2_rr1", "hh_vl2_rr1"])
    '{name}_vl{velocity}_rr{repeat}'
    """
    stems = [path.rpartition("/")[2] for path in paths]
    if len(set(stems)) < 2:
        return ""
    shapes = Counter(tuple(_SEPARATORS.findall(stem)) for stem in stems)
    shape, count = shapes.most_common(1)[0]
    if count < _MOST * len(stems):
        words = len(set(stems)) == len(stems) <= _FEW and not any(map(str.isdigit, "".join(stems)))
        return _first_word(stems) or ("{name}" if words else "")
    fitting = [
        path for path, stem in zip(paths, stems, strict=True) if tuple(_SEPARATORS.findall(stem)) == shape
    ]
    rows = [_SEPARATORS.split(path.rpartition("/")[2])[::2] for path in fitting]
    folders = [path.rpartition("/")[0] for path in fitting]
    columns = list(zip(*rows, strict=True))
    taken: list[str] = []
    filled = [_place(column, [*columns, tuple(folders)], taken) for column in columns]
    pattern = filled[0] + "".join(separator + part for separator, part in zip(shape, filled[1:], strict=True))
    return pattern if "{" in pattern else ""


def _column(values: list[str]) -> tuple[str, str, str]:
    """What stands before and after the field at this place of the names, and its name if they tell one.

    A place whose text never changes has no field: all of it is "before", and the name is "-".
    """
    if len(set(values)) == 1:
        return _escaped(values[0]), "", "-"
    if all(_NOTE.fullmatch(value) for value in values):
        return "", "", "note"
    for pattern, text_first in ((r"([A-Za-z]+)[0-9]+", True), (r"[0-9]+([A-Za-z]+)", False)):
        found = [re.fullmatch(pattern, value) for value in values]
        texts = {match[1] for match in found if match}
        if all(found) and len(texts) == 1:
            text = texts.pop()
            known = _PREFIXES.get(text.lower())
            if known or (len(text) > 1 and len(set(values)) <= _LABEL_VALUES):
                name = known[0] if known else text.lower()
                return (text, "", name) if text_first else ("", text, name)
    return "", "", ""


def _place(values: tuple[str, ...], columns: Sequence[tuple[str, ...]], taken: list[str]) -> str:
    """The text of one place of the pattern. Its field has a name that is not `taken`, and is added to them.

    `columns` are the values at all places, the folder last.
    """
    before, after, name = _column(list(values))
    if name == "-":
        return before
    name = name or _guess(values, columns)
    stem, number = name, 1
    while name in taken or name == FOLDER:
        number += 1
        name = f"{stem}{number}"
    taken.append(name)
    return f"{before}{{{name}}}{after}"


def _guess(values: tuple[str, ...], columns: Sequence[tuple[str, ...]]) -> str:
    """A name for a field, from its values and those of all other places."""
    different = set(values)
    if _numeric(different):
        if min(map(len, different)) >= 9:
            return "timestamp"
        last = [column for column in columns[:-1] if len(set(column)) > 1 and _numeric(set(column))][-1]
        if values == last and _counts_up(values, [c for c in columns if c != values]):
            return "index"
        return "digit" if different <= set("0123456789") and len(different) > 5 else "number"
    repeated = len(different) < len(values)
    return "id" if repeated and len(different) > _LABEL_VALUES else "name"


def _numeric(values: Iterable[str]) -> bool:
    return all(value.isascii() and value.isdigit() for value in values)


def _counts_up(values: Sequence[str], others: Sequence[tuple[str, ...]]) -> bool:
    """Whether `values` number the recordings that are alike in all `others`, from 0 or 1 on."""
    groups: defaultdict[tuple[str, ...], list[int]] = defaultdict(list)
    for place, value in enumerate(values):
        groups[tuple(column[place] for column in others)].append(int(value))
    good = sum(
        len(set(group)) == len(group) and min(group) <= 1 and max(group) < 1.5 * len(group) + 1
        for group in groups.values()
    )
    return good >= 0.8 * len(groups) and len(groups) < len(values)


def _first_word(stems: Sequence[str]) -> str:
    """A pattern by the first word, for names of many shapes."""
    rows = [_SEPARATORS.split(stem, maxsplit=1) for stem in stems]
    words = Counter(row[0] for row in rows)
    separators = {row[1] for row in rows if len(row) == 3}
    if len(separators) != 1 or any(len(row) < 3 for row in rows) or len(words) > len(stems) / 3:
        return ""
    if len(words) == 1:
        return f"{_escaped(rows[0][0])}{separators.pop()}{{name}}"
    return f"{{name}}{separators.pop()}{{name2}}"


def _escaped(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


def _fields(columns: Mapping[str, Sequence[str]]) -> list[NameField]:
    fields = []
    for name, values in columns.items():
        counts = Counter(values)
        ordered = {value: counts[value] for value in sorted(counts, key=natural_key)}
        fields.append(NameField(name, _role(name, counts), ordered))
    return fields


def _role(name: str, counts: Mapping[str, int]) -> Role:
    total = sum(counts.values())
    known = _PREFIXES.get(name.rstrip("0123456789").lower())
    if len(counts) == 1:
        return "constant"
    numeric = _numeric(counts)
    if known and numeric:
        return known[1]
    if numeric and min(map(len, counts)) >= 9:
        return "time"
    if len(counts) == total:
        return "unique"
    if len(counts) <= _LABEL_VALUES and sorted(counts.values())[len(counts) // 2] >= 2:
        return "label"
    return "id"
