"""Held-out recordings to hear generated clips against, through the same codec."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import combinations, product
from pathlib import Path, PurePosixPath

from audio_gen import __version__
from audio_gen.audio import AudioWriter, probe, read_tags
from audio_gen.batch.jobs import REAL, Job, safe
from audio_gen.batch.rendering import appearing
from audio_gen.data.store import Clip, Store
from audio_gen.errors import AudioFileError
from audio_gen.mixtures import ingredients
from audio_gen.pages.manifest import RealClip
from audio_gen.sampler.take import SOFTWARE
from audio_gen.settings import Recipe

MARGIN_SECONDS = 0.5
"""How much longer than the longest generated clip a real one may be."""


def real_neighbours(recipe: Recipe, store: Store, jobs: Sequence[Job], clips_folder: Path) -> list[RealClip]:
    """Write held-out recordings with the labels of `jobs` into `clips_folder`/real, and list them.

    Of a copy it is its original, and that alone; otherwise up to `page.neighbours` for each combination of labels (of
    mixtures, of each value in them), drawn by a hash of their names, from as many groups as there are; a recording
    that serves several combinations is listed once. Where none has all the labels, those that have as many of them as
    can be had. Each without the silence learned after it, and at most half a second longer than the longest job.
    Raises DataError, OutputError.
    """
    held_out = sorted(store.clips("valid"), key=lambda clip: _digest(clip.source))
    wanted = {
        tuple(sorted(labels.items())): labels
        for job in jobs
        if job.original is None
        for labels in _pure(job.take.labels, store.labels)
    }
    chosen: dict[str, Clip] = {
        job.original.clip.source: job.original.clip for job in jobs if job.original is not None
    }
    for labels in wanted.values():
        chosen |= {clip.source: clip for clip in _nearest(held_out, labels, recipe.page.neighbours)}
    longest = max((job.take.seconds or 0.0 for job in jobs), default=0.0) + MARGIN_SECONDS
    entries = []
    for clip in chosen.values():
        samples = min(store.sounding(clip, recipe.data.end_seconds), round(longest * store.sample_rate))
        stem = safe(PurePosixPath(clip.source).stem)[:80]
        file = f"{REAL}/{stem}-{_digest(clip.source)[:8]}.flac"  # stems alone need not be distinct
        _write(clips_folder / file, store, clip, samples)
        seconds = samples / store.sample_rate
        entries.append(RealClip(file=file, labels=clip.labels, source=clip.source, seconds=seconds))
    return entries


def _pure(labels: Mapping[str, str], vocabulary: Mapping[str, Sequence[str]]) -> Iterator[dict[str, str]]:
    """The labels of recordings that these, which may be mixtures, are made of."""
    choices = [ingredients(text, vocabulary.get(name, ())) or [text] for name, text in labels.items()]
    return (dict(zip(labels, values, strict=True)) for values in product(*choices))


def _digest(source: str) -> str:
    """What the choice goes by. Salted, since the split goes by a hash of names too."""
    return hashlib.blake2b(f"neighbour {source}".encode(), digest_size=8).hexdigest()


def _nearest(held_out: Sequence[Clip], labels: Mapping[str, str], count: int) -> list[Clip]:
    """The first `count` clips with these labels, or with as many as any has; one of each group first."""
    for size in range(len(labels), -1, -1):
        for some in combinations(labels.items(), size):
            matching = [clip for clip in held_out if dict(some).items() <= clip.labels.items()]
            if not matching:
                continue
            first_of = {clip.group: clip.source for clip in reversed(matching)}
            return sorted(matching, key=lambda clip: first_of[clip.group] != clip.source)[:count]
    return []


def _write(path: Path, store: Store, clip: Clip, samples: int) -> None:
    """The first `samples` of a clip, decoded, unless they are there already."""
    tags = {
        "software": f"{SOFTWARE} {__version__}",
        "comment": f"a real recording through the codec of {store.codec.levels} levels, not generated",
        "source": clip.source,
        "store": store.hash,
    }
    with suppress(AudioFileError):  # a damaged file is written again
        if path.is_file() and read_tags(path) == tags and probe(path).claimed_frames == samples:
            return
    waveform, bits = store.codec.decode(store.tokens(clip)[:samples]), store.codec.pcm_bits
    with (
        appearing(path) as part,
        AudioWriter(part, store.sample_rate, format="flac", bits=bits, tags=tags, force=True) as writer,
    ):
        writer.write(waveform)
