"""What the player can steer: labels (one value a clip), read from names and tables of the recordings.

    pattern = FieldPattern("{digit}_{speaker}_{index}")
    fields = pattern.match("7_theo_12")          # {"digit": "7", "speaker": "theo", "index": "12"}
    fill("{speaker}", fields)                    # "theo"

Curves over time (loudness, pitch, mel) are in `audio_gen.curves`, whose names this module offers too.
"""

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from string import Formatter
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from audio_gen.curves import (
    CURVES,
    CurveExtractor,
    curve_channels,
    extract_curves,
)
from audio_gen.errors import ControlError, DataError, RecipeError
from audio_gen.player_curves import PlayerCurve, parse_curve, player_frames

if TYPE_CHECKING:  # a player needs no recipes
    from audio_gen.settings import LabelSettings

__all__ = [
    "CURVES",
    "FOLDER",
    "CurveExtractor",
    "FieldPattern",
    "LabelRule",
    "PlayerCurve",
    "check_label",
    "check_value",
    "curve_channels",
    "extract_curves",
    "fill",
    "label_indices",
    "natural_key",
    "parse_curve",
    "player_frames",
    "template_fields",
]

FOLDER = "folder"
"""The field that every file in a folder has without any pattern: the name of its parent folder."""


@dataclass(frozen=True)
class FieldPattern:
    """Named fields in a file's path, such as "{articulation}/{note}_vl{velocity}".

    A field is any non-empty text without "/", as short as the rest allows. With a "/" the pattern must match
    the whole relative path without its suffix, otherwise only the name. A field that stands twice must read
    the same twice. Raises RecipeError for what is no pattern.

    >>> FieldPattern("{digit}_{speaker}").match("7_theo")
    {'digit': '7', 'speaker': 'theo'}
    >>> FieldPattern("{note}_vl{velocity}").match("arco/c2_vl3")
    {'folder': 'arco', 'note': 'c2', 'velocity': '3'}
    """

    pattern: str
    fields: tuple[str, ...] = field(init=False)
    """Names of the fields, in the order of their first appearance; `folder` only where the pattern has it."""
    _regex: re.Pattern[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        names: list[str] = []
        regex = ""
        for text, name in _parse(self.pattern):
            regex += re.escape(text)
            if name is None:
                continue
            regex += f"(?P={name})" if name in names else f"(?P<{name}>[^/]+?)"
            if name not in names:
                names.append(name)
        object.__setattr__(self, "fields", tuple(names))
        object.__setattr__(self, "_regex", re.compile(regex, re.DOTALL))

    def match(self, path: str) -> dict[str, str] | None:
        """Fields of `path`, relative, with "/" and without suffix; None where it does not match.

        `folder` is added for a path that has one. The empty pattern matches everything.
        """
        folder, _, name = path.rpartition("/")
        fields = {FOLDER: folder.rpartition("/")[2]} if folder else {}
        if not self.pattern:
            return fields
        found = self._regex.fullmatch(path if "/" in self.pattern else name)
        return None if found is None else fields | found.groupdict()


def template_fields(template: str) -> tuple[str, ...]:
    """Names of the fields in a template such as "{articulation}_{velocity}". Raises RecipeError."""
    return tuple(dict.fromkeys(name for _, name in _parse(template) if name is not None))


def fill(template: str, fields: Mapping[str, str]) -> str:
    """`template` with its fields filled in. Raises DataError for a field that is not there.

    >>> fill("{speaker}-{digit}", {"speaker": "theo", "digit": "7"})
    'theo-7'
    """
    filled = ""
    for text, name in _parse(template):
        filled += text
        if name is None:
            continue
        if name not in fields:
            known = ", ".join(sorted(fields)) or "none"
            raise DataError(f"{template!r} needs the field {name!r}, which is not there; known: {known}")
        filled += fields[name]
    return filled


@dataclass(frozen=True)
class LabelRule:
    """How one label is read from a file's fields: a template, and which raw names each value gathers.

    Raises RecipeError when one raw name is gathered twice.

    >>> from audio_gen.settings import LabelSettings
    >>> rule = LabelRule("drum", LabelSettings(**{"from": "{kind}", "values": {"kick": ["ks"]}}))
    >>> rule.value({"kind": "ks"}), rule.value({"kind": "hh"}), rule.value({})
    ('kick', None, None)
    """

    name: str
    settings: "LabelSettings"
    _values: dict[str, str] = field(init=False, repr=False, compare=False)  # raw name: value

    def __post_init__(self) -> None:
        values: dict[str, str] = {}
        for value, raw_names in self.settings.values.items():
            for raw in raw_names:
                if raw in values:
                    where, both = f"controls.labels.{self.name}.values", f"{values[raw]!r} and {value!r}"
                    raise RecipeError(f"{where}: {raw!r} stands under both {both}; keep one")
                values[raw] = value
        object.__setattr__(self, "_values", values)

    def raw(self, fields: Mapping[str, str]) -> str | None:
        """The raw name, before values gather it; None where a field is missing or empty."""
        if any(name not in fields for name in template_fields(self.settings.source)):
            return None
        return fill(self.settings.source, fields) or None

    def value(self, fields: Mapping[str, str]) -> str | None:
        """The value of the label; None where a field is missing, or no value gathers the raw name."""
        raw = self.raw(fields)
        return raw if raw is None or not self.settings.values else self._values.get(raw)

    def vocabulary(self, seen: Iterable[str]) -> list[str]:
        """All values in their order: the recipe's where it maps them, else those `seen`, naturally sorted."""
        return list(self.settings.values) or sorted(set(seen), key=natural_key)


def natural_key(text: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key that puts "2" before "10".

    >>> sorted(["vl10", "vl2", "a"], key=natural_key)
    ['a', 'vl2', 'vl10']
    """
    parts = re.split(r"([0-9]+)", text)  # every second part is a number
    keys = ((0, int(part), part) if place % 2 else (1, 0, part) for place, part in enumerate(parts) if part)
    return tuple(keys)


def label_indices(labels: Mapping[str, str], vocabulary: Mapping[str, Sequence[str]]) -> NDArray[np.int32]:
    """Index of each label's value, (labels,) in the vocabulary's order: 0 = none, 1 = the first value.

    Raises ControlError, with what is known, for a label or a value the vocabulary lacks.

    >>> label_indices({"drum": "snare"}, {"drum": ["kick", "snare"], "velocity": ["1", "2"]}).tolist()
    [2, 0]
    """
    for name in labels:
        check_label(name, vocabulary)
    indices = np.zeros(len(vocabulary), np.int32)
    for place, (name, values) in enumerate(vocabulary.items()):
        value = labels.get(name)
        if value is None:
            continue
        check_value(name, value, values)
        indices[place] = list(values).index(value) + 1
    return indices


def check_label(name: str, vocabulary: Mapping[str, Sequence[str]]) -> None:
    """Whether the vocabulary has a label of this name. Raises ControlError, with what is known."""
    if name not in vocabulary:
        raise ControlError(f"unknown label {name!r}; {_hint(name, list(vocabulary))}")


def check_value(name: str, value: str, values: Sequence[str]) -> None:
    """Whether the label `name` has this value. Raises ControlError, with what is known."""
    if value not in values:
        raise ControlError(f"unknown value {value!r} of the label {name!r}; {_hint(value, values)}")


def _hint(wrong: str, known: Sequence[str]) -> str:
    if not known:
        return "this model has none"
    near = difflib.get_close_matches(wrong, known, 1)
    question = f"did you mean {near[0]!r}? " if near else ""
    shown = ", ".join(known[:30]) + (f" and {len(known) - 30} more" if len(known) > 30 else "")
    return f"{question}known: {shown}"


def _parse(template: str) -> list[tuple[str, str | None]]:
    """(text, field name after it or None) pairs."""
    try:
        parts = list(Formatter().parse(template))
    except ValueError as error:
        raise RecipeError(f"{template!r} is no template: {error}") from None
    for _, name, spec, conversion in parts:
        if name is None:
            continue
        if not name.isidentifier() or spec or conversion:
            raise RecipeError(f"{template!r}: {{{name}}} is no field; write letters, digits and _ in {{}}")
    return [(text, name) for text, name, _, _ in parts]
