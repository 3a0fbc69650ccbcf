"""Curves and prompts as a player writes them, made into what a model follows and hears."""

import math
from collections.abc import Sequence
from pathlib import Path

from audio_gen.audio import read
from audio_gen.errors import ControlError, SettingError
from audio_gen.notes import Notes, notes_beside, read_notes
from audio_gen.player_curves import curve_frames, parse_curve
from audio_gen.sampler.model import Model
from audio_gen.sampler.prompt import Prompt
from audio_gen.sampler.voices import Curves


def steer(model: Model, texts: Sequence[str], seconds: float | None) -> tuple[Curves | None, dict[str, str]]:
    """Frames (frames, channels) of `texts` such as "pitch=a2" or "loudness=fade.csv" for a stream of `seconds` (an
    endless one, None, holds the last of them), and what identifies them in a `Take`.

    None where the model has no curves, or its sketch and its composer make up all of them. Raises ControlError.
    """
    curves = [parse_curve(text) for text in texts]
    given = {}
    for text, curve in zip(texts, curves, strict=True):
        value = text.partition("=")[2].strip()
        given[curve.name] = f"{value} {curve.digest}" if Path(value).is_file() else value
    if not curves and (not model.told or model.composer is not None):
        return None, given
    hop = model.checkpoint.shape.hop
    return curve_frames(curves, model.told, model.sample_rate, hop, seconds or 0.0), given


def hear(model: Model, text: str, decibels: float | None = None) -> tuple[Prompt, str]:
    """The prompt that "FILE" or "FILE@START-END" (seconds) is to a model, and what identifies it in a `Take`.

    Notes are those of NAME.notes.csv beside the file, as in training; without it, none. Raises AudioFileError,
    ControlError, SettingError.
    """
    path, start, seconds = _part_of_file(text)
    waveform = read(path, model.sample_rate, start, seconds)
    beside = notes_beside(path)
    known = beside.is_file() and "notes" in model.checkpoint.curves
    notes = read_notes(beside) if known else Notes(())

    try:
        prompt = model.prompt(waveform, decibels=decibels, notes=notes.since(start))
    except (ControlError, SettingError) as error:
        raise SettingError(f"--prompt {text}: {error}") from None
    return prompt, f"{path.name} {prompt.digest}"


def _part_of_file(text: str) -> tuple[Path, float, float | None]:
    """(file, start, length) of "FILE" or "FILE@START-END", seconds; length None: to its end. Raises SettingError."""
    name, at, place = text.rpartition("@")
    if not at or Path(text).exists():
        return Path(text), 0.0, None
    first, _, last = place.partition("-")
    try:
        start, end = float(first or 0.0), float(last) if last else math.inf
    except ValueError:
        start = end = math.nan
    if not 0.0 <= start < end:
        raise SettingError(f"--prompt {text}: after the @ comes START-END in seconds, such as {name}@2-4.5")
    return Path(name), start, None if math.isinf(end) else end - start
