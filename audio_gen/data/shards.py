"""The token store, write side. A new state of a store grows in its folder `next`, then replaces the old one.

A crash at any moment leaves either the old store whole, or no store.json and enough to go on: clips are
written in one order, tokens before the line that names them, so a continued run keeps every whole line; and
once next/store.json stands, moving the files of `next` up can be repeated until it is done.
"""

import contextlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from audio_gen.data.encode import Piece
from audio_gen.data.store import CLIPS, EXCLUDED, MANIFEST, Store, curve_shard, read_lines, token_shard
from audio_gen.errors import DataError

NEXT = "next"
SHARD_TOKENS = 1 << 27
"""A shard that has come to this many tokens (256 MiB) is full."""
_BATCH_BYTES = 16 << 20  # written between two promises to the journal
_BATCH_CLIPS = 256
_COPY_BYTES = 1 << 20

Record = dict[str, Any]


class Writer:
    """Writes `next`. Hand it the records of all clips in order; those that stand there already are skipped.

        with Writer(store_path, curve_bytes) as writer:
            for record in records:
                if not writer.resumed(record):
                    writer.write(record, pieces)

    Raises OSError when the disk refuses.
    """

    def __init__(self, store: Path, curve_bytes: int) -> None:
        """`curve_bytes`: bytes of a curve frame, 0 without curves."""
        self._folder = store / NEXT
        self._folder.mkdir(exist_ok=True)
        self._curve_bytes = curve_bytes
        self.shards: list[dict[str, int]] = []
        self._tokens: BinaryIO | None = None
        self._curves: BinaryIO | None = None
        self._pending: list[str] = []
        self._pending_bytes = 0
        self._clips = (self._folder / CLIPS).open("a+b")
        self._clips.seek(0)
        self._resuming = True

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        # After an error the journal stays behind the tokens, which is what continuing expects. Closing
        # flushes, and on a full disk that fails again: the first error is the one to tell.
        files = [file for file in (self._clips, self._tokens, self._curves) if file is not None]
        for file in files:
            with contextlib.suppress(OSError) if kind else contextlib.nullcontext():
                file.close()

    def place(self, length: int, frames: int) -> dict[str, int]:
        """Shard, offset and curve_offset of the next clip, of `length` tokens and `frames` curve frames."""
        if not self.shards or self.shards[-1]["tokens"] >= SHARD_TOKENS:
            self.shards.append({"tokens": 0, "frames": 0})
        shard = self.shards[-1]
        place = {"shard": len(self.shards) - 1, "offset": shard["tokens"], "curve_offset": shard["frames"]}
        shard["tokens"] += length
        shard["frames"] += frames
        return place

    def resumed(self, record: Record) -> Record | None:
        """The record as an interrupted run has written it, if it has, at this place and with this content."""
        if not self._resuming:
            return None
        at = self._clips.tell()
        line = self._clips.readline()
        if line.endswith(b"\n"):
            with contextlib.suppress(ValueError):
                written: Record = json.loads(line)
                if {**record, "clipped": written.get("clipped")} == written and self._stands(record):
                    return written
        self._clips.truncate(at)
        self._clips.seek(at)
        self._resuming = False
        return None

    def _stands(self, record: Record) -> bool:
        ends = {token_shard(record["shard"]): (record["offset"] + record["length"]) * 2}
        if self._curve_bytes:
            end = record["curve_offset"] + record["frames"]
            ends[curve_shard(record["shard"])] = end * self._curve_bytes
        paths = {self._folder / name: end for name, end in ends.items()}
        return all(path.exists() and path.stat().st_size >= end for path, end in paths.items())

    def write(self, record: Record, pieces: Iterable[Piece]) -> Record:
        """Append a clip; gives the record with the count of clipped samples."""
        self._open(record)
        assert self._tokens is not None
        written, clipped = 0, 0
        for piece in pieces:
            self._tokens.write(piece.tokens)
            if self._curves is not None:
                self._curves.write(piece.curves)
            written += len(piece.tokens)
            clipped += piece.clipped
        if written != record["length"] * 2:
            raise DataError(f"{record['source']}: changed while it was being prepared; prepare again")
        record = {**record, "clipped": clipped}
        self._pending.append(json.dumps(record, ensure_ascii=False) + "\n")
        self._pending_bytes += written
        if self._pending_bytes > _BATCH_BYTES or len(self._pending) >= _BATCH_CLIPS:
            self.flush()
        return record

    def _open(self, record: Record) -> None:
        """The shard files of `record`, cut to where it begins."""
        tokens = self._folder / token_shard(record["shard"])
        if self._tokens is not None and self._tokens.name == str(tokens):
            return
        self.flush()
        for file in (self._tokens, self._curves):
            if file is not None:
                file.close()
        self._tokens = _open_at(tokens, record["offset"] * 2)
        if self._curve_bytes:
            curves = self._folder / curve_shard(record["shard"])
            self._curves = _open_at(curves, record["curve_offset"] * self._curve_bytes)

    def flush(self) -> None:
        """Bring all clips written so far to the disk: first the tokens, then the lines that name them."""
        for file in (self._tokens, self._curves):
            if file is not None and self._pending:
                file.flush()
                os.fsync(file.fileno())
        self._clips.write("".join(self._pending).encode())
        self._clips.flush()
        self._pending, self._pending_bytes = [], 0

    def finish(self) -> int:
        """Cut off what an interrupted run left behind the last clip; gives the bytes of clips.jsonl."""
        if self._resuming:
            self._clips.truncate(self._clips.tell())
        self.flush()
        os.fsync(self._clips.fileno())
        wanted = {}
        for index, shard in enumerate(self.shards):
            wanted[token_shard(index)] = shard["tokens"] * 2
            if self._curve_bytes:
                wanted[curve_shard(index)] = shard["frames"] * self._curve_bytes
        for path in self._folder.iterdir():
            if path.name in wanted:
                os.truncate(path, wanted[path.name])
            elif path.name != CLIPS:
                path.unlink()
        return (self._folder / CLIPS).stat().st_size


def _open_at(path: Path, size: int) -> BinaryIO:
    file = path.open("ab")
    file.truncate(size)
    file.seek(size)
    return file


class Former:
    """The store as it was: clips whose content has not changed are copied from it. Ask in order of source."""

    def __init__(self, store: Store | None) -> None:
        self._store = store
        self._records = iter(()) if store is None else read_lines(store.path / CLIPS)
        self._next: Record | None = next(self._records, None)
        self._here: list[Record] = []

    def find(self, source: str, key: str) -> Record | None:
        """The record of the same content, or None."""
        while self._next is not None and self._next["source"] <= source:
            if self._here and self._here[0]["source"] != self._next["source"]:
                self._here = []
            self._here.append(self._next)
            self._next = next(self._records, None)
        return next((old for old in self._here if (old["source"], old["key"]) == (source, key)), None)

    def pieces(self, record: Record) -> Iterator[Piece]:
        """The bytes of a clip that `find` gave."""
        assert self._store is not None
        path = self._store.path
        for data in _copied(path / token_shard(record["shard"]), record["offset"] * 2, record["length"] * 2):
            yield Piece(data, b"", 0)
        if self._store.curves:
            width = self._store.curve_channels * 2
            start, size = record["curve_offset"] * width, record["frames"] * width
            for data in _copied(path / curve_shard(record["shard"]), start, size):
                yield Piece(b"", data, 0)


def _copied(path: Path, start: int, size: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        file.seek(start)
        while size and (data := file.read(min(size, _COPY_BYTES))):
            size -= len(data)
            yield data


def commit(store: Path, manifest: dict[str, Any]) -> None:
    """`next` is complete: write its store.json and put it in the place of the old store."""
    write_file(store / NEXT / MANIFEST, json.dumps(manifest, indent=1, ensure_ascii=False) + "\n")
    adopt(store)


def adopt(store: Path) -> None:
    """Finish what `commit` began, if it did."""
    new = store / NEXT
    if not (new / MANIFEST).exists():
        if new.is_dir() and not any(new.iterdir()):
            new.rmdir()
        return
    (store / MANIFEST).unlink(missing_ok=True)
    manifest = json.loads((new / MANIFEST).read_text(encoding="utf-8"))
    names = (token_shard, curve_shard) if manifest["settings"]["curves"] else (token_shard,)
    kept = {name(index) for index in range(len(manifest["shards"])) for name in names}
    moved = {path.name for path in new.iterdir()}
    for pattern in ("tokens-*.u16", "curves-*.f16"):
        for path in store.glob(pattern):
            if path.name not in kept:
                path.unlink()
    for name in sorted(moved - {MANIFEST}):
        (new / name).replace(store / name)
    (new / MANIFEST).replace(store / MANIFEST)
    new.rmdir()


def write_file(path: Path, text: str) -> None:
    """Write a small file so that it is there whole or not at all."""
    part = path.with_name(path.name + ".part")
    with part.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def write_excluded(store: Path, excluded: Iterable[tuple[str, str]]) -> None:
    """excluded.jsonl, one line a file."""
    part = store / (EXCLUDED + ".part")
    with part.open("w", encoding="utf-8") as file:
        for source, reason in excluded:
            file.write(json.dumps({"source": source, "reason": reason}, ensure_ascii=False) + "\n")
    part.replace(store / EXCLUDED)
