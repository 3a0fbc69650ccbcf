"""One TOML file is one experiment; this reads and checks it. What it can say stands in `audio_gen.settings`.

recipe = load_recipe("recipes/drums.toml", overrides=["train.steps=100"])
recipe.network.channels
"""

import difflib
import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from audio_gen.errors import RecipeError
from audio_gen.settings import LabelSettings, Recipe


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a TOML recipe, with `overrides` such as "train.steps=10" (values are TOML; bare words are text).

    A relative `data.source` (or `data.labels_csv`) of the file starts at the file's folder, one of an override
    at the current folder. Raises RecipeError.
    """
    path = Path(path)
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RecipeError(f"{path}: no such recipe") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: cannot be read as a recipe: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{path}: not valid TOML: {error}") from None
    tables.setdefault("name", path.stem)
    _root(tables, path.parent)
    for override in overrides:
        _set(tables, override)
    _root(tables, Path())
    return build_recipe(tables, where=str(path))


def build_recipe(tables: dict[str, Any], where: str = "recipe") -> Recipe:
    """A checked Recipe from plain tables. Raises RecipeError with every problem in one line."""
    try:
        return Recipe.model_validate_json(json.dumps(tables))
    except ValidationError as error:
        raise RecipeError(f"{where}: " + "; ".join(_explain(problem) for problem in error.errors())) from None
    except TypeError:  # TOML has types that JSON and our settings lack
        raise RecipeError(
            f"{where}: {_date(tables)}: dates and times are no settings; put text in quotes"
        ) from None


def _root(tables: dict[str, Any], folder: Path) -> None:
    """Make the paths of [data] absolute, as seen from `folder`; what is no text is left for the checks."""
    data = tables.get("data")
    for key in ("source", "labels_csv"):
        if isinstance(data, dict) and isinstance(data.get(key), str) and data[key]:
            data[key] = str((folder / Path(data[key]).expanduser()).resolve())


def _set(tables: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise RecipeError(f"--set {override}: must be KEY=VALUE, such as train.steps=10")
    try:
        parsed = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        parsed = {}
    value = parsed["value"] if parsed.keys() == {"value"} else text.strip()
    *parents, last = key.strip().split(".")
    table: Any = tables
    for parent in parents:
        table = (
            table[int(parent)]
            if isinstance(table, list) and parent.isdigit() and int(parent) < len(table)
            else (table.setdefault(parent, {}) if isinstance(table, dict) else None)
        )
    if not isinstance(table, dict):
        raise RecipeError(f"--set {override}: {'.'.join(parents)} is no table")
    table[last] = value


def _date(table: Any) -> str:
    """Where the first value that is none of JSON's types stands."""
    for key, value in table.items() if isinstance(table, dict) else enumerate(table):
        if isinstance(value, dict | list):
            if inner := _date(value):
                return f"{key}.{inner}"
        elif not isinstance(value, str | int | float):
            return str(key)
    return ""


def _explain(problem: Any) -> str:
    """One pydantic problem in a user's words."""
    where = ".".join(str(part) if str(part).isprintable() else repr(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        known = _known_keys(problem["loc"][:-1])
        near = difflib.get_close_matches(str(problem["loc"][-1]), known, 1)
        hint = f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}"
        return f"unknown key {where}; {hint}"
    if problem["type"] == "missing":
        return f"{where} is missing"
    message = problem["msg"].removeprefix("Value error, ").removeprefix("Input ").strip()
    value = problem.get("input")
    got = f", got {value!r}" if isinstance(value, str | int | float | bool) else ""
    if problem["type"] == "value_error":
        got = ""
    return f"{where}: {message}{got}".removeprefix(": ")


def _known_keys(loc: Sequence[str | int]) -> list[str]:
    kind: Any = Recipe
    for part in loc:
        if isinstance(part, int):
            continue
        field = kind.model_fields.get(part) if kind is not None else None
        if field is None:  # the name of a label: all share one shape
            kind = LabelSettings
            continue
        kind = next((c for c in _classes(field.annotation) if issubclass(c, BaseModel)), None)
    return [field.alias or name for name, field in kind.model_fields.items()] if kind else []


def _classes(annotation: Any) -> list[type]:
    if isinstance(annotation, type) and not getattr(annotation, "__args__", None):
        return [annotation]
    return [found for part in getattr(annotation, "__args__", ()) for found in _classes(part)]
