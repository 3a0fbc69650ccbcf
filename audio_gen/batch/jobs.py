"""From [[generate]] tables to jobs: every combination of settings, each with a file of its own."""

import difflib
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import PurePosixPath
from string import Formatter
from typing import Any

from audio_gen.batch.originals import Original, choose_originals
from audio_gen.clip_sets import GenerateSettings
from audio_gen.data.store import Store
from audio_gen.errors import ControlError, DataError, RecipeError, SettingError
from audio_gen.mixtures import settle_labels
from audio_gen.sampler.draw import Draw
from audio_gen.sampler.model import Model
from audio_gen.sampler.parts import samples_of, turned
from audio_gen.sampler.prompt import Prompt
from audio_gen.sampler.steering import steer
from audio_gen.sampler.take import Take
from audio_gen.sampler.voices import Curves

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
    original: Original | None = None
    """The recording whose curves it follows; None where none is played again."""
    told: tuple[str, ...] = ()
    """The curves it is given, as a player writes them: "pitch=a2"."""
    sketched: bool = False
    """Of the original's curves it is given only those that the model's sketch does not draw."""

    prompt_seconds: float | None = None
    """So much of the original it begins with."""

    @property
    def prompt(self) -> Prompt | None:
        """What it goes on from."""
        if self.original is None or self.prompt_seconds is None:
            return None
        return self.original.prompt(self.prompt_seconds)

    def curves(self, model: Model) -> Curves | None:
        """Frames (frames, channels) that it is given, from where a prompt ends; None where there are none to give."""
        if self.original is not None:
            if not (model.told if self.sketched else model.checkpoint.curves):
                return None
            prompt = self.prompt
            begin = 0 if prompt is None or prompt.curves is None else len(prompt.curves)
            curves = self.original.curves()[begin:]
            return curves[:, ~model.drawn] if self.sketched else curves
        return steer(model, self.told, self.take.seconds)[0]


def expand(
    tables: Sequence[GenerateSettings], model: Model, store: Store | None = None, end_seconds: float = 0.0
) -> list[Job]:
    """Jobs of all `tables`: per table every combination of labels, curves, then temperatures, `clips` times.

    Clip i of every combination plays stream i of the table's seed, so that combinations can be compared coin
    by coin. Copies are made of recordings of `store`, each of which ends in `end_seconds` of learned silence;
    all play stream 0, so that a copy is what it is however many others are made. Raises ControlError for labels
    the model lacks and for curves it cannot follow or cannot do without, DataError for recordings that are not
    there, RecipeError for settings out of range and for file names that are impossible or not distinct.
    """
    jobs: list[Job] = []
    taken: dict[str, Job] = {}
    for table in tables:
        where = f"[[generate]] {table.name}"
        needed = model.told if model.composer is None else []
        check_curves(table, model.name, model.checkpoint.curves, needed)
        if table.copies is None:
            planned = _combinations(table, model, where)
        else:
            planned = _copies(table, model, store, end_seconds, where)
        for number, take, original, told in planned:
            file = _file(table, take, number, original, list(model.labels), where)
            job = Job(table.name, take, file, original, told, table.sketched, table.prompt_seconds)
            other = taken.setdefault(job.file.casefold(), job)  # as file systems that ignore case see it
            if other is not job:
                remedy = _remedy(table.template, other, job)
                raise RecipeError(f"{where}: two clips would be called {job.file}; {remedy}")
            jobs.append(job)
    return jobs


def check_curves(table: GenerateSettings, name: str, curves: Sequence[str], told: Sequence[str]) -> None:
    """Whether a model called `name` with `curves`, those `told` made up by nobody, can play what `table` asks
    for. Raises ControlError.
    """
    where = f"[[generate]] {table.name}"
    if table.copies is not None and not curves and table.prompt_seconds is None:
        raise ControlError(
            f"{where}: copies follow the curves of recordings, and {name} follows none; use clips, or go on from "
            "recordings: prompt_seconds = 2, say"
        )
    missing = [curve for curve in told if curve not in table.curves]
    if table.copies is None and missing:
        written = [f'{curve} = "{_EXAMPLES[curve]}"' for curve in missing if curve in _EXAMPLES]
        by_hand = f"say curves = {{ {', '.join(written)} }}, or " if len(written) == len(missing) else ""
        raise ControlError(
            f"{where}: {name} follows curves ({', '.join(missing)}), which labels do not tell; {by_hand}copies = 8, "
            "say, takes those of 8 held-out recordings"
        )


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


_EXAMPLES = {"pitch": "a2", "loudness": "-20"}

_Planned = Iterator[tuple[int, Take, Original | None, tuple[str, ...]]]
"""(number, take, original, told) of each clip of a table, checked."""


def _copies(
    table: GenerateSettings, model: Model, store: Store | None, end_seconds: float, where: str
) -> _Planned:
    """Of a table of copies: original by original, at every temperature."""
    checkpoint, turns = model.checkpoint, _turns(table, model, where)
    if store is None:
        raise DataError(
            f"{where}: copies are made of a store's recordings, and there is none; prepare it first"
        )
    ours = (tuple(checkpoint.curves), checkpoint.shape.hop, checkpoint.shape.curve_channels)
    if checkpoint.curves and (tuple(store.curves), store.hop, store.curve_channels) != ours:
        raise DataError(f"{where}: the curves of {store.path} are not those that {model.name} follows")
    if table.sketched and (model.sketch is None or not (model.told or table.prompt_seconds)):
        raise RecipeError(
            f"{where}: sketched copies need a model that is told something, and draws the rest; leave sketched out"
        )
    longest = table.most_seconds or math.inf
    for number, original in enumerate(
        choose_originals(store, table.copies or 0, end_seconds, where, longest)
    ):
        labels = _checked(original.clip.labels, model.labels, where)
        given = model.told if table.sketched else model.checkpoint.curves
        told = dict.fromkeys(given, original.told()) if given else {}
        seconds, heard = original.samples / store.sample_rate, ""
        if table.prompt_seconds is not None:
            name = PurePosixPath(original.clip.source).name
            heard = f"{name} {original.prompt(table.prompt_seconds).digest}"
        for draw, fade in turns:
            take = Take(
                model.name, checkpoint.hash, seconds, labels, table.seed, 0, draw, told, model.arithmetic, heard, fade
            )  # fmt: skip
            yield number, take, original, ()


def _combinations(table: GenerateSettings, model: Model, where: str) -> _Planned:
    """Of a table without copies."""
    turns, vocabulary = _turns(table, model, where), model.labels
    choices: dict[str, Sequence[str]] = {}
    for name, value in table.labels.items():
        every = vocabulary.get(name) if value == "*" else None
        choices[name] = every or ([value] if isinstance(value, str) else value)
    for name, choice in choices.items():
        _refuse_empty(choice, f"labels.{name}", where)
    curves = {name: [value] if isinstance(value, str) else value for name, value in table.curves.items()}
    for name, choice in curves.items():
        _refuse_empty(choice, f"curves.{name}", where)
    for values, written in product(product(*choices.values()), product(*curves.values())):
        labels = _checked(dict(zip(choices, values, strict=True)), vocabulary, where)
        told = tuple(f"{name}={value}" for name, value in zip(curves, written, strict=True))
        try:
            _, given = steer(model, told, table.seconds)
        except ControlError as error:
            raise ControlError(f"{where}: {error}") from None
        for (draw, fade), stream in product(turns, range(table.clips)):
            take = Take(
                model.name, model.checkpoint.hash, table.seconds, labels, table.seed, stream, draw, given,
                model.arithmetic, fade=fade,
            )  # fmt: skip
            yield stream, take, None, told


def _turns(table: GenerateSettings, model: Model, where: str) -> list[tuple[Draw, str]]:
    """A draw for each temperature of a table, and how that changes. Raises RecipeError."""
    temperatures = table.temperature if isinstance(table.temperature, list) else [table.temperature]
    _refuse_empty(temperatures, "temperature", where)
    others = (table.top_k, table.top_p, table.min_p, table.sketch_temperature, table.guidance, table.doubt)
    try:
        turns = [turned(model.draw, temperature, *others) for temperature in temperatures]
    except SettingError as error:
        raise RecipeError(f"{where}: {error}") from None
    return [(draw, str(fade or "")) for draw, fade in turns]


def _refuse_empty(listed: Sequence[object], name: str, where: str) -> None:
    if not listed:
        raise RecipeError(f"{where}: {name} is an empty list; name a value, or leave {name} out")


def _checked(labels: dict[str, str], vocabulary: Mapping[str, Sequence[str]], where: str) -> dict[str, str]:
    """Labels that the model knows, mixtures settled. Raises ControlError."""
    try:
        return settle_labels(labels, vocabulary)
    except ControlError as error:
        raise ControlError(f"{where}: {error}") from None


class _Short(float):
    """A number that, without a format, is written as short as it can be."""

    def __format__(self, spec: str) -> str:
        return super().__format__(spec) if spec else repr(float(self))


def _file(
    table: GenerateSettings,
    take: Take,
    number: int,
    original: Original | None,
    label_names: Sequence[str],
    where: str,
) -> str:
    """The file of clip `number`, from the table's template. Raises RecipeError."""
    folder = safe(table.name)
    if folder.casefold() in (REAL, MANIFEST):
        raise RecipeError(f"{where}: {folder!r} is taken in the clips folder; give the set another name")
    values: dict[str, Any] = {name: safe(take.labels.get(name, FREE)) for name in label_names}
    told = take.curves if original is None else {}
    values |= {name: safe(value) for name, value in told.items()}
    values["labels"] = "-".join(map(safe, [*take.labels.values(), *told.values()])) or FREE
    values["temperature"] = safe(take.fade) if take.fade else _Short(take.draw.temperature)
    values |= {"index": number, "seed": take.seed, "set": folder}
    values |= {"source": safe(original.stem)} if original is not None else {}
    where = f"{where}: file = {table.template!r}"
    name = _fill(table.template, values, where)
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
    stems = [job.original.stem if job.original else "" for job in (one, other)]
    differing = {
        "labels": stems == ["", ""]
        and (one.take.labels, one.take.curves) != (other.take.labels, other.take.curves),
        "temperature": (one.take.draw, one.take.fade) != (other.take.draw, other.take.fade),
        "source": stems[0] != stems[1],
        "index": one.take.stream != other.take.stream
        or (one.original != other.original and stems[0] == stems[1]),
    }
    fields = {name for _, name, _, _ in Formatter().parse(template)}
    missing = [f"{{{name}}}" for name, differs in differing.items() if differs and name not in fields]
    if missing:
        return f"put {' and '.join(missing)} into file = {template!r}"
    if any(differing.values()):
        return "its fields differ in case or punctuation only, or a format cuts them; name them otherwise"
    return "a value stands twice in a list; keep one"
