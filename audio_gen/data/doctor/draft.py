"""A whole recipe for a folder of recordings: all that `audio-gen run` needs to learn from it."""

import re
import tomllib
from collections.abc import Iterator, Sequence
from math import ceil, prod
from pathlib import Path
from statistics import quantiles

from audio_gen.data.doctor.diagnosis import Diagnosis
from audio_gen.data.doctor.findings import SHORT_SECONDS, count
from audio_gen.data.doctor.kinds import CLIPS, ENDLESS, PITCHES, ROLL, Kind
from audio_gen.data.doctor.names import NameField
from audio_gen.data.doctor.proposal import (
    data_table,
    label_names,
    label_tables,
    one_file_a_class,
    sample_rate,
    toml_text,
)
from audio_gen.errors import ControlError, DataError, OutputError, SettingError
from audio_gen.notes import BESIDE
from audio_gen.pitch import parse_note
from audio_gen.recipe import build_recipe
from audio_gen.settings.recipe import RECIPE_NAME
from audio_gen.targets import check_free, write_whole

_MOST_SKETCHING = 14.0  # minutes, after which a sketch learns by heart
_MOST_COMPOSING = 2.0  # a composer, of some tens of pieces
_LONG_TRAINING = 120.0  # minutes, beyond which steps as large as those of an hour undo what was learned
_LITTLE = 600.0  # seconds of audio, below which it is also heard softer and upside down
_MOST_CLIPS = 64  # on the page, of all combinations of labels
_NOTE = "note"  # the field of names that are pitches


def write_recipe(path: Path, diagnosis: Diagnosis, minutes: float = 60.0, *, force: bool = False) -> None:
    """`draft_recipe` as a file, whole or not at all, once it is known to be a recipe.

    Raises as `check_target` and `draft_recipe` do, and OutputError where it cannot be written.
    """
    check_target(path, force)
    text = draft_recipe(diagnosis, minutes)
    build_recipe({"name": path.stem, **tomllib.loads(text)}, where=str(path))
    with write_whole(path) as file:
        file.write(text.encode())


def check_target(path: Path, force: bool) -> None:
    """Raises OutputError or SettingError where `write_recipe` would not write: better said before the listening."""
    if path.suffix != ".toml":
        raise SettingError(f"{path}: recipes are .toml files; call it {path.stem}.toml")
    if not re.fullmatch(RECIPE_NAME, path.stem):
        raise SettingError(f"{path}: a recipe's name has letters, digits, _, - and . only; call it mine.toml")
    if not path.parent.is_dir():
        raise OutputError(f"{path}: there is no folder {path.parent} to write it to")
    check_free(path, force)


def draft_recipe(diagnosis: Diagnosis, minutes: float = 60.0) -> str:
    """TOML of a recipe that learns from `diagnosis.folder` in `minutes` of training, those of its other
    networks among them.

    It is one of four: notes from a piano roll where every recording has a NAME.notes.csv or NAME.mid beside it, notes
    of a told pitch where the names tell notes, clips where the median recording is shorter than 10 s, else an endless
    sound.
    Raises DataError where there is nothing to learn from, and SettingError for less than a minute.
    """
    if not 1.0 <= minutes < float("inf"):
        raise SettingError(f"minutes is {minutes:g}; a training needs at least 1")
    if not diagnosis.usable:
        raise DataError(f"{diagnosis.folder}: no recording in it can be used, so there is no recipe for it")
    findings = diagnosis.findings
    kind = _kind(diagnosis)
    pitch = _NOTE if kind is PITCHES else ""
    labels = [field for field in label_names(findings) if field.name != pitch]
    low = sample_rate(findings) < 12_000
    sketching = round(min(_MOST_SKETCHING, kind.sketching * minutes), 2)
    composing = round(min(_MOST_COMPOSING, 0.05 * minutes), 2) if kind is ROLL else 0.0
    augmented = findings.seconds < _LITTLE and kind is CLIPS
    tables = kind.tables.substitute(
        hop=128 if low else 256,
        envelope=16 if low else 24,
        bands=24 if one_file_a_class(findings) else 48,  # one sound needs fewer than music does
        sketching=sketching,
        composing=composing,
        training=round(minutes - sketching - composing, 2),
        rate=2e-3 if minutes <= _LONG_TRAINING else 1e-3,
        augmentation=_AUGMENTATION if augmented else "",
    )
    source = Path(diagnosis.folder).resolve()
    about = f"{source.name}: {count(len(diagnosis.usable), 'recording')}, {findings.seconds / 60:.1f} minutes"
    return "\n".join(
        (
            f"# {about}, and {minutes:g} minutes to learn from them. Rename the fields as you like.\n",
            data_table(str(source), findings, diagnosis.advice, pitch=pitch)
            + "".join(_more_data(diagnosis, kind)),
            tables.strip() + "\n",
            *label_tables(labels),
            *_generate_tables(diagnosis, kind, labels),
            f"[page]\ntitle = {toml_text(source.name)}\n",
            "[card]                                # whose recordings? Say so before you pass the model on",
            f"data = {toml_text(about)}\n",
        )
    )


_AUGMENTATION = """\
flip = true                           # a small collection: it is also heard upside down ...
gain_range = 8                        # ... and softer
"""


def _kind(diagnosis: Diagnosis) -> Kind:
    if any(c.ending in BESIDE and not c.without for c in diagnosis.companions):
        return ROLL
    if any(field.name == _NOTE and _tells_pitches(field) for field in label_names(diagnosis.findings)):
        return PITCHES
    return CLIPS if diagnosis.findings.typical_seconds < SHORT_SECONDS else ENDLESS


def _tells_pitches(field: NameField) -> bool:
    """Whether all its values are notes that can be played."""
    try:
        return all(parse_note(value) > 0.0 for value in field.counts)
    except ControlError:
        return False


def _more_data(diagnosis: Diagnosis, kind: Kind) -> Iterator[str]:
    """Lines of [data] that are no remedy for anything found, but what the kind wants."""
    codes = _codes(diagnosis)
    if kind is CLIPS and "dither-tail" in codes:
        yield "lead_seconds = 0.001                  # clips begin with the attack, or the model may miss its cue\n"
        yield "tail_seconds = 0.05                   # what follows is the noise of the room\n"
    if kind is CLIPS and "tight" not in codes:
        yield "end_seconds = 0.1                     # silence, so that it learns to stop\n"
    if kind is ROLL:
        yield "tail_seconds = 0.5                    # the last chord, without the silence behind it\n"
    if kind is ROLL or (kind is ENDLESS and codes & {"silence-before", "silence-after"}):
        yield "dither = -66                          # from exact silence a model does not wake\n"


def _generate_tables(diagnosis: Diagnosis, kind: Kind, labels: Sequence[NameField]) -> Iterator[str]:
    """[[generate]]: what can be asked for, and held-out recordings again, the measure of what samples could be."""
    copies = '[[generate]]\nname = "held-out recordings, from {}"\ncopies = 3\nmost_seconds = 10.0\n'
    if kind is ROLL:
        yield copies.format("their notes") + "sketched = true\n"
    asked = _askable(labels)
    clips = max(1, min(8, 16 // prod(len(field.counts) for field in asked)))
    seconds = 10.0 if kind in (ENDLESS, ROLL) else _usual_length(diagnosis)
    takes = f'[[generate]]\nname = "takes"\nclips = {clips}\nseconds = {seconds:g}\n'
    if asked:
        every = ", ".join(f'{field.name} = "*"' for field in asked)
        takes += f"labels = {{ {every} }}\n"
    if kind is PITCHES:
        takes += f"curves = {{ pitch = [{', '.join(map(toml_text, _some_notes(diagnosis)))}] }}\n"
    yield takes
    yield copies.format("their own curves")


def _askable(labels: Sequence[NameField]) -> list[NameField]:
    """The labels all combinations of which have room on a page: velocities last."""
    asked: list[NameField] = []
    for field in sorted(labels, key=lambda field: field.role == "velocity"):
        if prod(len(other.counts) for other in [*asked, field]) <= _MOST_CLIPS:
            asked.append(field)
    return asked


def _some_notes(diagnosis: Diagnosis) -> list[str]:
    """Up to four, from the lowest to the highest."""
    field = next(field for field in label_names(diagnosis.findings) if field.name == _NOTE)
    notes = sorted(field.counts, key=parse_note)
    return list(dict.fromkeys(notes[place * (len(notes) - 1) // 3] for place in range(4)))


def _usual_length(diagnosis: Diagnosis) -> float:
    """Seconds that nineteen of twenty recordings keep to, and a moment to end in; at most 10."""
    trimmed = "dither-tail" in _codes(diagnosis)
    lengths = [f.seconds - f.tail_seconds * trimmed for f in diagnosis.usable]
    longest = quantiles(lengths, n=20, method="inclusive")[-1] if len(lengths) > 1 else lengths[0]
    return min(10.0, ceil(10 * longest + 1) / 10)


def _codes(diagnosis: Diagnosis) -> set[str]:
    return {a.code for a in diagnosis.advice}
