"""The verb compose."""

from pathlib import Path
from typing import Annotated

import typer

from audio_gen.cli.options import Force, ModelName, Quiet, Temperature, parse_labels
from audio_gen.cli.progress import product, say
from audio_gen.errors import SettingError


def compose(
    model: ModelName,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE.csv|FILE.mid",
            show_default=False,
            help="Rows of start,end,key,velocity, or MIDI.  [default: MODEL-seedSEED.csv]",
        ),
    ] = None,
    seconds: Annotated[float, typer.Option(metavar="SECONDS", help="Within which notes begin.")] = 10.0,
    label: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="In whose manner. Repeatable.", show_default=False),
    ] = None,
    prompt: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Notes to go on from; they come first.", show_default=False),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Equal seeds give equal notes.")] = 0,
    temperature: Temperature = None,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Compose notes, for a model that plays notes: what it plays where it is given none, to look at and to change.

    Example: audio-gen compose piano --seconds 20 --seed 3 -o tune.csv
    """
    from audio_gen.midi import SUFFIXES
    from audio_gen.notes import Notes, read_notes, write_notes
    from audio_gen.sampler import load
    from audio_gen.targets import check_free

    labels = parse_labels(label or [])
    loaded = load(model)
    path = output or Path(f"{loaded.name}-seed{seed}.csv")
    if path.suffix.lower() not in (".csv", *SUFFIXES):
        raise SettingError(f"{path}: notes are written as .csv or .mid")
    check_free(path, force)
    heard = None if prompt is None else read_notes(prompt)
    notes = loaded.compose(seconds, labels=labels, seed=seed, temperature=temperature, prompt=heard)
    if not notes.values:
        raise SettingError(f"nothing begins within {seconds:g} s; ask for more --seconds")
    if heard is not None:
        notes = Notes((*heard.values, *notes.since(-heard.end).values))
    write_notes(path, notes)
    say(f"wrote {path} ({len(notes.values)} notes, {seconds:g} s, seed {seed})", quiet)
    product(path)
