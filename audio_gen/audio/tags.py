"""Words inside audio files: any dictionary of strings, in RIFF INFO (WAV) or Vorbis comments (FLAC).

Names that players know go where players look for them; all others share the comment as one JSON object.
"""

import json
from pathlib import Path
from typing import Any

from audio_gen.audio import wav
from audio_gen.audio.decode import inspect, open_soundfile

RIFF_NAMES = {
    "title": "INAM",
    "artist": "IART",
    "album": "IPRD",
    "date": "ICRD",
    "genre": "IGNR",
    "copyright": "ICOP",
    "software": "ISFT",
    "comment": "ICMT",
}
# What soundfile writes as Vorbis comments. "software" is missing since libsndfile adds its own name to it.
VORBIS_NAMES = ("title", "artist", "album", "date", "genre", "copyright", "license", "comment")


def read_tags(path: Path | str) -> dict[str, str]:
    """The words an audio file carries: those an AudioWriter was given, or what other programs wrote.

    Raises AudioFileError if the file cannot be opened.
    """
    path = Path(path)
    header = inspect(path)
    if header is None:
        with open_soundfile(path) as file:
            found: dict[str, str] = file.copy_metadata()
        return unpack(found)
    with path.open("rb") as stream:
        info = header.info | wav.info_after_data(stream, header)
    names = {code: name for name, code in RIFF_NAMES.items()}
    return unpack({names.get(code, code): _decode(text) for code, text in info.items()})


def riff_info(tags: dict[str, str]) -> dict[str, bytes]:
    """`tags` as strings for `wav.info_chunk`."""
    packed = pack(tags, tuple(RIFF_NAMES))
    return {RIFF_NAMES[name]: text.encode() for name, text in packed.items()}


def pack(tags: dict[str, str], names: tuple[str, ...]) -> dict[str, str]:
    """The same words under the known `names`, the others as JSON in "comment", in a fixed order."""
    packed = {name: tags[name] for name in names if _storable(tags.get(name, ""))}
    if "comment" in packed and _json_object(packed["comment"]) is not None:
        del packed["comment"]  # would be taken for ours
    rest = {name: text for name, text in tags.items() if name not in packed}
    if rest and "comment" in packed:
        rest["comment"] = packed.pop("comment")
    if rest:
        packed["comment"] = json.dumps(rest, sort_keys=True)  # in ASCII, which holds whatever a string can
    return packed


def unpack(found: dict[str, str]) -> dict[str, str]:
    """Undo `pack`; words of other programs stay as they are."""
    ours = _json_object(found.get("comment", ""))
    if ours is None:
        return dict(found)
    return {name: text for name, text in found.items() if name != "comment"} | ours


def _storable(text: str) -> bool:
    """Whether a NUL-terminated UTF-8 string can hold it."""
    return bool(text) and "\0" not in text and not any(0xD800 <= ord(letter) < 0xE000 for letter in text)


def _json_object(text: str) -> dict[str, str] | None:
    if not text.startswith("{"):
        return None
    try:
        value: Any = json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        return None
    if isinstance(value, dict) and all(isinstance(word, str) for word in value.values()):
        return value
    return None


def _decode(text: bytes) -> str:
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError:
        return text.decode("latin-1")  # RIFF has no word for encodings; old programs wrote this one
