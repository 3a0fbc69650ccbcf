"""What a model is to be judged by: the clips of a token store, or recordings prepared as its own were."""

import contextlib
import csv
import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from audio_gen.audio import SUFFIXES, find_audio
from audio_gen.checkpoint import SUFFIX
from audio_gen.controls import FieldPattern, LabelRule, fill, template_fields
from audio_gen.data.plan import FILE
from audio_gen.data.prepare import Progress, prepare
from audio_gen.data.store import MANIFEST, Clip, Store
from audio_gen.data.survey import measure
from audio_gen.errors import AudioFileError, ControlError, DataError
from audio_gen.features import mel_bands
from audio_gen.recipe import build_recipe
from audio_gen.sampler.model import Model
from audio_gen.settings import Recipe

SPLITS = ("valid", "train", "all")
RECORDINGS = "recordings"
_GAIN = "gain_group"
_OF_RUNS = ("recipe.json", f"model{SUFFIX}")


@dataclass(frozen=True)
class Item:
    """One clip to be scored from its beginning."""

    clip: Clip
    samples: int
    """Without the silence learned after its end."""
    labels: dict[str, str]
    """Only what the model knows."""


@dataclass(frozen=True)
class Material:
    """Clips that a model can be judged by."""

    store: Store
    items: list[Item]
    split: str
    """"valid", "train", "all", or RECORDINGS."""
    cache: Path | None = None
    """Where the baselines of the store may be kept."""
    excluded: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    recordings: Path | None = None
    """Folder that the sources of the clips are in, where it is known and there."""


@contextlib.contextmanager
def open_material(model: Model, data: Path, split: str, progress: Progress | None) -> Iterator[Material]:
    """The clips of `data`: a token store, a run folder with one, an audio file, or a folder of recordings.

    Recordings are prepared into a temporary store, which is gone after the `with`. Raises DataError,
    AudioFileError, ControlError.
    """
    if split not in SPLITS:
        raise DataError(f"no split {split!r}; known: {', '.join(SPLITS)}")
    if not data.exists():
        raise DataError(f"{data}: no such file or folder; give recordings, a token store or a run folder")
    if (data / MANIFEST).is_file():
        yield _of_store(model, Store(data), split, None)
    elif (data / "store" / MANIFEST).is_file() or any((data / name).is_file() for name in _OF_RUNS):
        # A run holds audio too, but made by its model: a run whose store is missing must not be scored on that.
        material = _of_store(model, Store(data / "store"), split, data / "baselines.json")
        yield replace(material, recordings=_source(data / "recipe.json"))
    else:
        with tempfile.TemporaryDirectory(prefix="audio-gen-", ignore_cleanup_errors=True) as folder:
            yield _of_recordings(model, data, Path(folder), progress)


def _of_store(model: Model, store: Store, split: str, cache: Path | None) -> Material:
    _check_fit(model, store)
    clips = [clip for each in ("train", "valid") if split in (each, "all") for clip in store.clips(each)]
    if not clips:
        others = "all" if split == "valid" else "valid"
        raise DataError(f"{store.path}: its split {split!r} holds no clips; evaluate the split {others!r}")
    end = model.checkpoint.end_seconds
    items = [Item(clip, store.sounding(clip, end), clip.labels) for clip in clips]
    return Material(store, items, split, cache)


def _source(recipe: Path) -> Path | None:
    """The folder of recordings that a run's recipe names, if it is here."""
    try:
        found = Path(json.loads(recipe.read_text(encoding="utf-8"))["data"]["source"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if found.is_dir() else None


def _check_fit(model: Model, store: Store) -> None:
    """Raises DataError or ControlError for a store whose tokens, curves or labels the model does not know."""
    remedy = "evaluate the recordings themselves, or prepare them with the recipe of the model"
    has, wants = store.codec, model.codec
    if (has, store.sample_rate) != (wants, model.sample_rate):
        raise DataError(
            f"{store.path}: holds {has.levels} levels at {store.sample_rate} Hz, "
            f"pre-emphasis {has.pre_emphasis:g}, but {model.name} needs {wants.levels} levels at "
            f"{model.sample_rate} Hz, pre-emphasis {wants.pre_emphasis:g}; {remedy}"
        )
    shape = model.checkpoint.shape
    if shape.curve_channels:
        curves = (tuple(store.curves), store.curve_channels, store.hop)
        if curves != (model.checkpoint.curves, shape.curve_channels, shape.hop):
            names = ", ".join(model.checkpoint.curves)
            raise ControlError(
                f"{store.path}: {model.name} needs the curves {names} every {shape.hop} samples "
                f"({shape.curve_channels} channels), which the store does not hold; {remedy}"
            )
    for name, values in store.labels.items():
        unknown = [value for value in values if value not in model.labels.get(name, ())]
        if unknown:
            known = ", ".join(model.labels.get(name, ())) or "nothing of that name"
            raise ControlError(
                f"{store.path}: {model.name} does not know the label {name} = {unknown[0]!r} "
                f"(it knows {known}); {remedy}"
            )


def _of_recordings(model: Model, data: Path, scratch: Path, progress: Progress | None) -> Material:
    rules = _Rules.of(model)
    source, excluded = data, rules.recipe.data.exclude
    if data.is_file():
        source, excluded = _link_alone(data, scratch / "file", rules), []
    elif next(find_audio(data), None) is None:
        raise DataError(f"{data}: holds no audio files; give recordings, a token store or a run folder")
    settings: dict[str, Any] = {"source": str(source), "exclude": excluded, "labels_csv": None, "pattern": ""}
    if rules.gain_fields:
        settings |= {"labels_csv": str(scratch / "gains.csv"), "gain": f"{{{_GAIN}}}"}
        rules.write_gains(source, scratch / "gains.csv")
    recipe = rules.recipe.model_copy(
        update={
            "data": rules.recipe.data.model_copy(update=settings),
            "controls": rules.recipe.controls.model_copy(update={"labels": {}}),
        }
    )
    try:
        report = prepare(recipe, scratch / "store", progress=progress)
    except DataError as error:  # in prepare's words, which are those of a training
        raise DataError(str(error).replace("left to train on", "left to score")) from None
    store = Store(scratch / "store")
    notes = _Notes(rules)
    items = [Item(clip, clip.length, notes.known(model, clip.source)) for clip in store.clips("train")]
    lines = tuple(notes.lines(len(items)))
    return Material(store, items, RECORDINGS, None, tuple(report.excluded), lines, source)


def _link_alone(file: Path, folder: Path, rules: "_Rules") -> Path:
    """A folder that holds nothing but `file`, below as many of its own folders as names are read from."""
    if file.suffix.lower() not in SUFFIXES:
        raise AudioFileError(f"{file}: its name is not that of an audio file; convert it to .wav or .flac")
    unusable = measure(file, rules.recipe.data.sample_rate).unusable
    if unusable is not None:
        raise AudioFileError(f"{file}: {unusable}")
    depth = max(1, rules.pattern.pattern.count("/"))  # folders; a pattern with "/" must match all of them
    parts = file.absolute().parts[1:][-1 - depth :]
    # Hidden files and folders would not be found again.
    link = folder.joinpath(*(f"_{part}" if part.startswith(".") else part for part in parts))
    link.parent.mkdir(parents=True)
    try:
        link.symlink_to(file.absolute())
    except OSError:  # a file system or a user that may not
        shutil.copyfile(file, link)
    return folder


@dataclass(frozen=True)
class _Rules:
    """How the model's training read names, from its card; the codec, rate and curves from the checkpoint."""

    recipe: Recipe
    pattern: FieldPattern
    labels: tuple[LabelRule, ...]
    table: Mapping[str, dict[str, str]]
    """Rows of the labels CSV, by the file they name; empty where it is not here."""

    @classmethod
    def of(cls, model: Model) -> "_Rules":
        card = _table(model.card, "recipe")
        data, controls = _table(card, "data"), _table(card, "controls")
        checkpoint = model.checkpoint
        levelled = {"gain": checkpoint.gain.get("mode"), "peak": checkpoint.gain.get("peak")}
        kept = {key: data.get(key) for key in ("pattern", "labels_csv", "exclude", "gain", "peak")}
        given = {key: value for key, value in (levelled | kept).items() if value is not None}
        where = {"source": ".", "sample_rate": model.sample_rate, "valid_fraction": 0.0}
        steer: dict[str, Any] = {"labels": controls.get("labels", {}), "curves": list(checkpoint.curves)}
        if checkpoint.curves:
            steer["hop"] = checkpoint.shape.hop
        if "mel" in checkpoint.curves:
            steer["mel_bands"] = mel_bands(checkpoint)
        tables = {
            "name": "evaluation",
            "data": given | where,
            "codec": {"levels": model.levels, "pre_emphasis": model.codec.pre_emphasis},
            "controls": steer,
            "network": {"layers": [1], "channels": [1], "pool": []},
        }
        recipe = build_recipe(tables, where=f"{model.name}: the recipe in its card")
        rules = tuple(LabelRule(name, settings) for name, settings in recipe.controls.labels.items())
        return cls(recipe, FieldPattern(recipe.data.pattern), rules, _read_csv(recipe.data.labels_csv))

    @property
    def gain_fields(self) -> tuple[str, ...]:
        """The fields of names that say what shares one gain."""
        gain = self.recipe.data.gain
        return () if gain in ("dataset", "file", "none") else template_fields(gain)

    def fields(self, source: str) -> dict[str, str]:
        """What the name and the CSV tell of a recording."""
        stem, _ = os.path.splitext(source)  # noqa: PTH122 (Path would normalise)
        named = self.pattern.match(stem) or FieldPattern("").match(stem) or {}
        names = (source, stem, source.rpartition("/")[2], stem.rpartition("/")[2])
        return named | next((self.table[name] for name in names if name in self.table), {})

    def write_gains(self, folder: Path, csv_file: Path) -> None:
        """A CSV of the gain group of each recording: its own where the rule's fields are missing."""
        with csv_file.open("w", encoding="utf-8", errors="replace", newline="") as file:
            rows = csv.writer(file)
            rows.writerow([FILE, _GAIN])
            for path in find_audio(folder):
                source = path.relative_to(folder).as_posix()
                fields = self.fields(source)
                grouped = all(name in fields for name in self.gain_fields)
                # The prefix keeps groups apart from single files that happen to be called alike.
                group = f"group {fill(self.recipe.data.gain, fields)}" if grouped else f"file {source}"
                rows.writerow([source, group])


class _Notes:
    """The labels of recordings, and a count of those that the model cannot be told."""

    def __init__(self, rules: _Rules) -> None:
        self._rules = rules
        self._missing: Counter[str] = Counter()
        self._unknown: dict[str, Counter[str]] = {rule.name: Counter() for rule in rules.labels}

    def known(self, model: Model, source: str) -> dict[str, str]:
        """The labels of a recording, as far as it has them and the model knows them."""
        fields, labels = self._rules.fields(source), {}
        for rule in self._rules.labels:
            value = rule.value(fields)
            if value in model.labels.get(rule.name, ()):
                labels[rule.name] = str(value)
            elif (raw := rule.raw(fields)) is not None:
                self._unknown[rule.name][raw] += 1
            else:
                self._missing[rule.name] += 1
        return labels

    def lines(self, count: int) -> Iterator[str]:
        """A sentence for each kind of gap among `count` recordings."""
        path = self._rules.recipe.data.labels_csv
        if path is not None and not self._rules.table:
            yield f"the training's labels CSV, {Path(path).name}, is not here; what it told is left open."
        for name, missing in self._missing.items():
            yield f"{missing:,} of {count:,} recordings have no {name} in their names; it is left open."
        for name, unknown in self._unknown.items():
            if unknown:
                first = ", ".join(repr(value) for value, _ in unknown.most_common(3))
                total = unknown.total()
                some = f"{total:,} of {count:,} recordings"
                yield f"{some} have a {name} new to the model ({first}); it is left open."


def _table(tables: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = tables.get(name)
    return found if isinstance(found, Mapping) else {}


def _read_csv(path: str | None) -> dict[str, dict[str, str]]:
    """Rows by file, as prepare reads them; nothing for a CSV that stayed where the training was."""
    if path is None or not Path(path).is_file():
        return {}
    rows = {}
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as file:
            for row in csv.DictReader(file):
                name = (row.pop(FILE, "") or "").strip().replace("\\", "/").removeprefix("./")
                filled = ((key, value.strip()) for key, value in row.items() if key and value)
                rows[name] = {key: value for key, value in filled if value}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as CSV: {error}") from None
    return rows
