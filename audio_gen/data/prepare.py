"""A folder of recordings and a recipe become a token store.

    report = prepare(load_recipe("recipes/drums.toml"), Path("runs/drums/store"))

Three passes, all in constant memory: list the files and read their names; read every new file once for its
level; encode what is new. Each can be interrupted at any moment and continues when called again.
"""

import contextlib
import hashlib
import json
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from audio_gen.codec import Codec
from audio_gen.controls import LabelRule
from audio_gen.curves import curve_channels
from audio_gen.data import plan, shards, survey
from audio_gen.data.encode import Form, Part, Piece, encode
from audio_gen.data.parallel import Run, pool
from audio_gen.data.store import CLIPS, EXCLUDED, MANIFEST, VERSION, Store
from audio_gen.errors import DataError, OutputError
from audio_gen.notes import Notes, notes_beside, read_notes
from audio_gen.settings import Recipe

Progress = Callable[[int, int, str], None]
"""Called with (done, of how many or 0 if unknown, what is being done)."""

_BATCH = 64  # files handed to each worker at once
_BATCH_TOKENS = 1 << 23  # or fewer files, once they come to this many tokens
_SMALL_TOKENS = 1 << 21  # longer clips are streamed by this process alone, so that no whole one is ever held
_SHOWN = 5  # names per warning

T = TypeVar("T")


@dataclass
class Report:
    """What prepare found and made."""

    clips: int = 0
    seconds: float = 0.0
    """Of audio, learned silence included."""
    splits: dict[str, dict[str, float]] = field(default_factory=dict)
    """{"train": {"clips": ..., "seconds": ...}, "valid": ...}"""
    labels: dict[str, dict[str, dict[str, int]]] = field(default_factory=dict)
    """{label: {value: {"train": clips, "valid": clips}}}"""
    excluded: list[tuple[str, str]] = field(default_factory=list)
    """(source, reason) of every file left out."""
    warnings: list[str] = field(default_factory=list)
    """One line per kind, with a count and some names."""
    reused: int = 0
    """Clips that were not encoded again."""
    clipped: int = 0
    """Samples the codec had to clip; none unless data.gain is "none", or pre-emphasis is much."""
    hash: str = ""


def prepare(recipe: Recipe, store_path: Path, *, progress: Progress | None = None, jobs: int = 1) -> Report:
    """Bring the store at `store_path` up to date with the recordings and settings of `recipe`.

    `jobs` processes share the work (above 1 needs joblib). Raises DataError when nothing can be learned from
    the folder, RecipeError for settings that do not fit it, OutputError when the store cannot be written.
    """
    store_path = Path(store_path)
    tell = progress or (lambda done, total, text: None)
    with _as_output_error(store_path):
        _make_folder(store_path)
        table = survey.open_survey(store_path, recipe.data.sample_rate)
        with contextlib.closing(table), pool(jobs) as run:
            shards.adopt(store_path)
            _look(table, recipe, run, tell)
            return _Build(recipe, store_path, table, run, tell).report()


def _look(table: sqlite3.Connection, recipe: Recipe, run: Run, tell: Progress) -> None:
    """Bring the survey up to date: names, levels, split."""
    data = recipe.data
    survey.register(table, _counted(plan.scan(data), tell))
    plan.describe(table, recipe)
    total, done = survey.unmeasured(table), 0
    while sources := survey.next_unmeasured(table, _BATCH * run.jobs):
        facts = run(survey.measure, [(Path(data.source) / source, data.sample_rate) for source in sources])
        survey.record(table, zip(sources, facts, strict=True))
        done += len(sources)
        tell(done, total, "measuring")
    plan.settle(table, recipe)


def _counted(found: Iterable[T], tell: Progress) -> Iterator[T]:
    for count, each in enumerate(found, 1):
        yield each
        if count % 1000 == 0:
            tell(count, 0, "finding files")


class _Build:
    """The last pass: from the survey to the store."""

    def __init__(
        self, recipe: Recipe, path: Path, table: sqlite3.Connection, run: Run, tell: Progress
    ) -> None:
        self._recipe, self._path, self._table, self._run, self._tell = recipe, path, table, run, tell
        controls, codec = recipe.controls, Codec(recipe.codec.levels, recipe.codec.pre_emphasis)
        mel_bands = controls.mel_bands if "mel" in controls.curves else 0
        self._form = Form(codec, recipe.data.sample_rate, tuple(controls.curves), controls.hop, mel_bands)
        self._settings = {
            "sample_rate": recipe.data.sample_rate,
            "levels": codec.levels,
            "pre_emphasis": codec.pre_emphasis,
            "curves": list(controls.curves),
            "hop": controls.hop,
            "mel_bands": mel_bands,
            "dither": recipe.data.dither,
        }
        self._curve_channels = curve_channels(controls.curves, mel_bands)
        self._report = Report()

    def report(self) -> Report:
        """Write the store, unless it is current; gives the report."""
        self._survey_clips()
        shards.write_excluded(self._path, survey.excluded(self._table))
        former = self._former()
        report = self._report
        if former is not None and former.hash == report.hash:
            report.reused = report.clips
            report.clipped = former.manifest["totals"]["clipped"]
        else:
            self._write(former)
        return report

    def _survey_clips(self) -> None:
        """Fill in all of the report that is known before encoding. Raises DataError if that is nothing."""
        report, rate = self._report, self._recipe.data.sample_rate
        lengths: Counter[str] = Counter()
        clips: Counter[str] = Counter()
        rules = self._recipe.controls.labels
        counts: dict[str, dict[str, Counter[str]]] = {name: defaultdict(Counter) for name in rules}
        for each in plan.planned(self._table, self._recipe.data):
            clips[each.split] += 1
            lengths[each.split] += each.length
            for label, value in each.labels.items():
                counts[label][value][each.split] += 1
        report.excluded = list(survey.excluded(self._table))
        report.warnings = list(_warnings(self._table))
        self._check_any(clips["train"])
        report.clips, report.seconds = clips.total(), lengths.total() / rate
        report.splits = {
            split: {"clips": clips[split], "seconds": lengths[split] / rate} for split in ("train", "valid")
        }
        for name, settings in rules.items():
            vocabulary = LabelRule(name, settings).vocabulary(counts[name])
            report.labels[name] = {value: _both(counts[name][value]) for value in vocabulary}
            for split, lack in (("train", "nothing to train on"), ("valid", "nothing held out")):
                unused = [value for value, count in report.labels[name].items() if not count[split]]
                if split == "train" and len(unused) == len(vocabulary):
                    where = self._recipe.data.source
                    raise DataError(f"{where}: no training file has the label {name!r}; check data.pattern")
                if unused and clips[split]:
                    report.warnings.append(f"label {name!r}: {lack} for {_some(unused, len(unused))}")
        report.hash = self._hash()

    def _check_any(self, train: int) -> None:
        if train:
            return
        source = self._recipe.data.source
        left_out = self._report.excluded
        if not left_out and not self._table.execute("SELECT 1 FROM files LIMIT 1").fetchone():
            raise DataError(f"{source}: holds no audio files; give the folder that holds your recordings")
        reasons = Counter(reason for _, reason in left_out)
        why = "; ".join(f"{count} files: {reason}" for reason, count in reasons.most_common(3))
        raise DataError(f"{source}: nothing is left to train on; left out: {why or 'nothing'}")

    def _hash(self) -> str:
        """Identifies content and settings, wherever the recordings lie and whenever they were touched."""
        digest = hashlib.blake2b(digest_size=16)
        vocabulary = {name: list(values) for name, values in self._report.labels.items()}
        _feed(digest, [VERSION, self._settings, vocabulary])
        for each in plan.planned(self._table, self._recipe.data):
            _feed(digest, [each.source, each.split, each.length, each.labels, each.group, self._key(each)])
        return digest.hexdigest()

    def _key(self, each: plan.Planned) -> str:
        """Identifies the content of a clip."""
        digest = hashlib.blake2b(digest_size=12)
        notes = self._notes(each)
        told = ([] if each.pitch is None else [each.pitch]) + ([] if notes is None else [notes.digest])
        _feed(digest, [self._settings, each.digest, each.gain, each.start, each.stop, each.end, *told])
        return digest.hexdigest()

    def _former(self) -> Store | None:
        try:
            return Store(self._path)
        except DataError:  # none, incomplete, damaged or of another version: it is made anew
            return None

    def _write(self, former: Store | None) -> None:
        report, old_clips, done = self._report, shards.Former(former), 0
        with shards.Writer(self._path, self._curve_channels * 2) as writer:
            for batch in self._batches(writer):
                fresh: list[tuple[plan.Planned, shards.Record, shards.Record | None]] = []
                for each, record in batch:
                    if (written := writer.resumed(record)) is not None:
                        report.reused += 1
                        report.clipped += written["clipped"]
                    else:
                        fresh.append((each, record, old_clips.find(each.source, record["key"])))
                self._write_batch(writer, fresh, old_clips)
                done += len(batch)
                self._tell(done, report.clips, "encoding")
            clips_bytes = writer.finish()
        shards.commit(self._path, self._manifest(writer.shards, clips_bytes))

    def _write_batch(
        self,
        writer: shards.Writer,
        fresh: list[tuple[plan.Planned, shards.Record, shards.Record | None]],
        old_clips: shards.Former,
    ) -> None:
        small = [self._part(each) for each, _, old in fresh if old is None and each.length <= _SMALL_TOKENS]
        encoded = iter(self._run(_encode_whole, [(part, self._form) for part in small]))
        for each, record, old in fresh:
            if old is not None:
                self._report.reused += 1
                self._report.clipped += old["clipped"]
                pieces = old_clips.pieces(old)
            elif each.length <= _SMALL_TOKENS:
                pieces = iter(next(encoded))
            else:
                pieces = encode(self._part(each), self._form)
            self._report.clipped += writer.write(record, pieces)["clipped"]

    def _batches(self, writer: shards.Writer) -> Iterator[list[tuple[plan.Planned, shards.Record]]]:
        """All clips in order, each with its record, in batches that fit into memory."""
        batch: list[tuple[plan.Planned, shards.Record]] = []
        tokens = 0
        for each in plan.planned(self._table, self._recipe.data):
            batch.append((each, self._record(each, writer)))
            tokens += each.length
            if len(batch) >= _BATCH * self._run.jobs or tokens >= _BATCH_TOKENS:
                yield batch
                batch, tokens = [], 0
        if batch:
            yield batch

    def _record(self, each: plan.Planned, writer: shards.Writer) -> shards.Record:
        frames = -(-each.length // self._recipe.controls.hop) if self._curve_channels else 0
        return {
            "source": each.source,
            "split": each.split,
            **writer.place(each.length, frames),
            "length": each.length,
            "frames": frames,
            "labels": {name: each.labels[name] for name in self._report.labels if name in each.labels},
            "gain": each.gain,
            "group": each.group,
            "start": each.start,
            "peak": each.peak,
            "rms": each.rms,
            "key": self._key(each),
            **self._kept_notes(each),
        }

    def _part(self, each: plan.Planned) -> Part:
        path = Path(self._recipe.data.source) / each.source
        return Part(
            path, each.start, each.stop, each.end, each.gain, each.truncated, each.pitch, self._notes(each),
            self._recipe.data.dither, int(each.digest[:15], 16),
        )  # fmt: skip

    def _notes(self, each: plan.Planned) -> Notes | None:
        if "notes" not in self._form.curves:
            return None
        return read_notes(notes_beside(Path(self._recipe.data.source) / each.source))

    def _kept_notes(self, each: plan.Planned) -> dict[str, Any]:
        """What of a clip's notes is kept beside their curve, for whoever learns from them one by one."""
        notes, rate = self._notes(each), self._recipe.data.sample_rate
        if notes is None:
            return {}
        return {"notes": [[*note] for note in notes.between(each.start / rate, each.stop / rate).values]}

    def _manifest(self, shard_sizes: list[dict[str, int]], clips_bytes: int) -> dict[str, Any]:
        report, data = self._report, self._recipe.data
        rows = self._table.execute("SELECT name, gain FROM gains ORDER BY name")
        gains = {} if data.gain == "file" else dict(rows)  # one per file is told with each clip
        totals = {"clips": report.clips, "seconds": report.seconds, "clipped": report.clipped}
        return {
            "version": VERSION,
            "hash": report.hash,
            "settings": self._settings,
            "curve_channels": self._curve_channels,
            "labels": {name: list(values) for name, values in report.labels.items()},
            "totals": totals | report.splits,
            "gain": data.gain,
            "gains": gains,
            "shards": shard_sizes,
            "clips_bytes": clips_bytes,
        }


def _encode_whole(part: Part, form: Form) -> list[Piece]:
    return list(encode(part, form))


def _both(counts: Counter[str]) -> dict[str, int]:
    return {"train": counts["train"], "valid": counts["valid"]}


def _feed(digest: hashlib.blake2b, value: Any) -> None:
    digest.update(json.dumps(value, sort_keys=True).encode() + b"\n")


def _warnings(table: sqlite3.Connection) -> Iterator[str]:
    for kind, count in table.execute("SELECT kind, count(*) FROM notes GROUP BY kind ORDER BY min(rowid)"):
        rows = table.execute("SELECT source FROM notes WHERE kind = ? ORDER BY rowid LIMIT ?", (kind, _SHOWN))
        yield f"{kind}: {_some([name for (name,) in rows], count)}"


def _some(names: list[str], count: int) -> str:
    more = f" and {count - _SHOWN} more" if count > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _make_folder(path: Path) -> None:
    """The store's folder; never one that holds other things."""
    path.mkdir(parents=True, exist_ok=True)
    ours = {MANIFEST, CLIPS, EXCLUDED, survey.SURVEY, shards.NEXT}
    names = {each.name for each in path.iterdir() if not each.name.startswith(".")}
    if names and not names & ours:
        raise OutputError(f"{path}: holds other files ({min(names)} ...); give a new or empty folder")


@contextlib.contextmanager
def _as_output_error(path: Path) -> Iterator[None]:
    """What the disk refuses is told in one line. The recordings' own errors never come here."""
    remedy = "check the disk's free space and permissions, then prepare again: it continues"
    try:
        yield
    except (FileExistsError, NotADirectoryError):
        raise OutputError(f"{path}: is a file, or lies below one; give a folder for the store") from None
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}; {remedy}") from None
    except sqlite3.Error as error:
        raise OutputError(f"{path / survey.SURVEY}: cannot be written: {error}; {remedy}") from None
