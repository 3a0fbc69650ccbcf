"""Notes in MIDI files: what other programs write and read."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from audio_gen.errors import ControlError
from audio_gen.notes import HIGHEST, LOWEST, Note, Notes

SUFFIXES = (".mid", ".midi")
TICKS = 480
"""Per beat, of which there are two a second: 1 ms is the finest step."""
_DRUMS = 9
"""The channel of drums, whose keys are no pitches."""
_PEDAL = 64
"""The controller that keeps strings ringing after their keys were let go."""


def read_midi(path: Path) -> Notes:
    """All notes of a MIDI file, of whatever track, but those of its drums. A pedal keeps them up to its release.

    Raises ControlError for what is none, or has keys that a piano has not.
    """
    import mido

    try:
        notes = sorted(_notes(mido.MidiFile(path), path))
    except OSError as error:
        raise ControlError(f"{path}: cannot be read as MIDI: {error.strerror or error}") from None
    except (EOFError, ValueError, LookupError, TypeError) as error:
        raise ControlError(f"{path}: not a MIDI file, or a damaged one ({error})") from None
    if not notes:
        raise ControlError(f"{path}: holds no notes")
    return Notes(tuple(notes))


def _notes(file: Any, path: Path) -> Iterator[Note]:
    """(start, end, key, velocity) of each note, in the order of their ends."""
    now = 0.0
    sounding: dict[tuple[int, int], tuple[float, int]] = {}  # by channel and key
    let_go: set[tuple[int, int]] = set()  # that a pedal still holds
    pedals: set[int] = set()

    def end(place: tuple[int, int]) -> Note:
        let_go.discard(place)
        start, velocity = sounding.pop(place)
        return start, now, place[1], velocity

    for message in file:  # of all tracks, `time` being the seconds since the one before
        now += message.time
        if message.is_meta or getattr(message, "channel", _DRUMS) == _DRUMS:
            continue
        if message.type in ("note_on", "note_off"):
            place = (message.channel, message.note)
            struck = message.type == "note_on" and message.velocity > 0
            if place in sounding and (struck or message.channel not in pedals):
                yield end(place)
            elif place in sounding:
                let_go.add(place)
            if struck:
                if not LOWEST <= message.note <= HIGHEST:
                    raise ControlError(
                        f"{path}: has key {message.note} at {now:.2f} s; a piano has those from {LOWEST} to {HIGHEST}"
                    )
                sounding[place] = (now, message.velocity)
        elif message.type == "control_change" and message.control == _PEDAL:
            if message.value >= 64:
                pedals.add(message.channel)
                continue
            pedals.discard(message.channel)
            for place in sorted(place for place in let_go if place[0] == message.channel):
                yield end(place)
    for place in sorted(sounding):
        yield end(place)


def midi_bytes(notes: Notes) -> bytes:
    """A MIDI file of one track that plays `notes` on a piano."""
    import mido

    events = sorted(
        event
        for start, end, key, velocity in notes.values
        for event in ((_ticks(end), 0, key, 0), (_ticks(start), 1, key, velocity))
    )
    track, before = mido.MidiTrack(), 0
    for ticks, _, key, velocity in events:
        track.append(mido.Message("note_on", note=key, velocity=velocity, time=ticks - before))
        before = ticks
    file = mido.MidiFile(type=0, ticks_per_beat=TICKS)
    file.tracks.append(track)
    written = io.BytesIO()
    file.save(file=written)
    return written.getvalue()


def _ticks(seconds: float) -> int:
    return max(0, round(seconds * 2 * TICKS))
