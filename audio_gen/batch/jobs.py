"""From [[generate]] tables to jobs: every combination of settings, each with a file of its own."""

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import PurePosixPath
from string import Formatter
from typing import Any

from audio_gen.controls import label_indices
from audio_gen.errors import ControlError, RecipeError, SettingError
from audio_gen.sampler.draw import Draw
from audio_gen.sampler.model import Model
from audio_gen.sampler.parts import samples_of
from audio_gen.sampler.take import Take
from audio_gen.settings import GenerateSettings

MANIFEST = "clips.json"
REAL = "real"
"""Folder of real recordings."""
FREE = "free"
"""Stands in file names for labels that are left open."""


@dataclass(frozen=True)
class Job:
    """One clip to be."""

    set: str
    """Name of its [[generate]] table."""
    take: Take
    file: str
    """Relative to the clips folder, with "/"."""


def expand(tables: Sequence[GenerateSettings], model: Model) -> list[Job]:
    """Jobs of all `tables`: per table every combination of labels, then temperatures, `clips` times.

    Clip i of every combination plays stream i of the table's seed, so that combinations can be compared coin
    by coin. Raises ControlError for labels the model lacks, RecipeError for settings out of range and for
    file names that are impossible or not distinct.
    """
    jobs: list[Job] = []
    taken: dict[str, Job] = {}
    model_hash = model.checkpoint.hash
    for table in tables:
        where = f"[[generate]] {table.name}"
        if model.checkpoint.shape.curve_channels and model.sketch is None:
            raise ControlError(f"{where}: {model.name} needs curves, which a batch cannot give; use generate")
        for labels, draw, stream in _combinations(table, model.labels, where):
            take = Take(
                model.name, model_hash, table.seconds, labels, table.seed, stream, draw,
                precision=model.arithmetic,
            )  # fmt: skip
            job = Job(table.name, take, _file(table, take, list(model.labels), where))
            other = taken.setdefault(job.file.casefold(), job)  # as file systems that ignore case see it
            if other is not job:
                remedy = _remedy(table.file, other, job)
                raise RecipeError(f"{where}: two clips would be called {job.file}; {remedy}")
            jobs.append(job)
    return jobs


def frames(take: Take, sample_rate: int) -> int:
    """Samples of a take, as `Model.stream` counts them."""
    return int(samples_of(take.seconds, sample_rate))


def safe(text: str) -> str:
    """`text` as a part of a file name on any system.

    >>> safe("hi-hat/open"), safe(".."), safe("")
    ('hi-hat_open', '__', '_')
    """
    kept = "".join(letter if f"_{letter}".isidentifier() or letter in "-+." else "_" for letter in text)
    return re.sub(r"^\.|\.$", "_", kept) or "_"


def _combinations(
    table: GenerateSettings, vocabulary: Mapping[str, Sequence[str]], where: str
) -> Iterator[tuple[dict[str, str], Draw, int]]:
    """(labels, draw, stream) of each clip of a table, checked."""
    temperatures = table.temperature if isinstance(table.temperature, list) else [table.temperature]
    choices: dict[str, Sequence[str]] = {}
    for name, value in table.labels.items():
        every = vocabulary.get(name) if value == "*" else None
        choices[name] = every or ([value] if isinstance(value, str) else value)
    for name, listed in [("temperature", temperatures), *((f"labels.{n}", c) for n, c in choices.items())]:
        if not listed:
            raise RecipeError(f"{where}: {name} is an empty list; name a value, or leave {name} out")
    try:
        rest = (table.top_k, table.top_p, table.min_p, table.sketch_temperature, table.guidance)
        draws = [Draw(temperature, *rest) for temperature in temperatures]
    except SettingError as error:
        raise RecipeError(f"{where}: {error}") from None
    for values in product(*choices.values()):
        labels = dict(zip(choices, values, strict=True))
        try:
            label_indices(labels, vocabulary)
        except ControlError as error:
            raise ControlError(f"{where}: {error}") from None
        yield from ((labels, draw, stream) for draw in draws for stream in range(table.clips))


class _Short(float):
    """A number that, without a format, is written as short as it can be."""

    def __format__(self, spec: str) -> str:
        return super().__format__(spec) if spec else repr(float(self))


def _file(table: GenerateSettings, take: Take, label_names: Sequence[str], where: str) -> str:
    """The clip's file, from the table's template. Raises RecipeError."""
    folder = safe(table.name)
    if folder.casefold() in (REAL, MANIFEST):
        raise RecipeError(f"{where}: {folder!r} is taken in the clips folder; give the set another name")
    values: dict[str, Any] = {name: safe(take.labels.get(name, FREE)) for name in label_names}
    values["labels"] = "-".join(map(safe, take.labels.values())) or FREE
    values["temperature"] = _Short(take.draw.temperature)
    values |= {"index": take.stream, "seed": take.seed, "set": folder}
    where = f"{where}: file = {table.file!r}"
    name = _fill(table.file, values, where)
    if not all(map(_is_file_name, name.split("/"))):
        raise RecipeError(
            f"{where} gives {name!r}, which leaves the set's folder or is no file name everywhere; leave out "
            '"..", parts that begin or end with ".", and \\ : * ? " < > |'
        )
    if PurePosixPath(name).suffix.lower() not in (".wav", ".flac"):
        raise RecipeError(f"{where} does not tell the format; end it in .wav or .flac")
    return f"{folder}/{name}"


def _is_file_name(part: str) -> bool:
    return bool(part) and part[0] not in ". " and part[-1] not in ". " and not re.search(_NOWHERE, part)


_NOWHERE = r'[\x00-\x1f\x7f\\:*?"<>|\ud800-\udfff]'  # what some system allows in no file name


def _fill(template: str, values: Mapping[str, Any], where: str) -> str:
    """`template` with its fields, which may have formats such as {index:03}, filled in."""
    filled = ""
    try:
        for text, name, spec, conversion in Formatter().parse(template):
            filled += text
            if name is None:
                continue
            if name not in values or conversion or "{" in (spec or ""):
                near = difflib.get_close_matches(name, values, 1)
                hint = f"did you mean {{{near[0]}}}? " if near and near[0] != name else ""
                known = ", ".join(f"{{{value}}}" for value in sorted(values))
                raise RecipeError(f"{where}: no field {{{name}}}; {hint}known: {known}")
            filled += format(values[name], spec or "")
    except (ValueError, OverflowError) as error:
        raise RecipeError(f"{where} is no template: {error}") from None
    return filled


def _remedy(template: str, one: Job, other: Job) -> str:
    """What to do about two jobs with one file."""
    if one.set != other.set:
        return f"the sets {one.set!r} and {other.set!r} need names that differ beyond case and punctuation"
    differing = {
        "labels": dict(one.take.labels) != dict(other.take.labels),
        "temperature": one.take.draw != other.take.draw,
        "index": one.take.stream != other.take.stream,
    }
    fields = {name for _, name, _, _ in Formatter().parse(template)}
    missing = [f"{{{name}}}" for name, differs in differing.items() if differs and name not in fields]
    if missing:
        return f"put {' and '.join(missing)} into file = {template!r}"
    if any(differing.values()):
        return "its fields differ in case or punctuation only, or a format cuts them; name them otherwise"
    return "a value stands twice in a list; keep one"
