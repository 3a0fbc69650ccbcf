"""Which files of a folder are recordings."""

import os
from collections.abc import Iterator
from pathlib import Path

from audio_gen.errors import DataError

# What libsndfile opens by its header. Headerless suffixes (.raw, .pcm, .vox, .gsm) are left out, since
# libsndfile believes any bytes to be such a file, and .mat, since most such files hold no sound.
_BY_HEADER = (
    "wav wave bwf wavex rf64 w64 flac ogg oga opus mp1 mp2 mp3 aif aiff aifc au snd caf sf ircam nist sph "
    "voc avr paf pvf iff 8svx svx htk xi"
)
# What needs another decoder: see decode.py.
_BY_OTHERS = "m4a m4b mp4 aac wma webm weba mka ac3 eac3 amr 3gp ape wv tta mpc dts ra"
OTHER_SUFFIXES = frozenset("." + suffix for suffix in _BY_OTHERS.split())
SUFFIXES = OTHER_SUFFIXES | frozenset("." + suffix for suffix in _BY_HEADER.split())


def find_audio(folder: Path | str) -> Iterator[Path]:
    """All recordings below `folder`, in the order of `sorted`, by suffix in either case; nothing is opened.

    Hidden files and folders are skipped, links are followed unless they lead back to a folder above. Only
    the names of the folders on the way are held, so a tree of any size can be walked. Raises DataError if
    `folder` is missing, not a folder or unreadable.
    """
    folder = Path(folder)
    if not folder.exists():
        raise DataError(f"{folder}: no such folder; give the folder that holds your recordings")
    if not folder.is_dir():
        raise DataError(f"{folder}: not a folder; give the folder that holds your recordings")
    return _walk(folder, ())


def _walk(folder: Path, above: tuple[tuple[int, int], ...]) -> Iterator[Path]:
    try:
        status = folder.stat()
        with os.scandir(folder) as entries:
            shown = (entry for entry in entries if not entry.name.startswith("."))
            found = sorted((entry.name, entry.is_dir()) for entry in shown)
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed: {error.strerror}; check its permissions") from error
    here = (status.st_dev, status.st_ino)
    if here in above:
        return
    for name, is_folder in found:
        if is_folder:
            yield from _walk(folder / name, (*above, here))
        elif os.path.splitext(name)[1].lower() in SUFFIXES:  # noqa: PTH122 (a Path only for what is kept)
            yield folder / name
