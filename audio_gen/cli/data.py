"""Verbs on recordings: doctor, prepare."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from audio_gen.cli.options import Force, Jobs, Overrides, Quiet, RecipePath, RunFolder
from audio_gen.cli.progress import Live, product, say

if TYPE_CHECKING:
    from audio_gen.settings import Recipe


def doctor(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Folder of recordings.", show_default=False)
    ],
    pattern: Annotated[
        str, typer.Option(help='What file names mean, such as "{digit}_{speaker}_{index}".')
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Everything, as JSON.")] = False,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="A recipe to write, ready to run.", show_default=False),
    ] = None,
    minutes: Annotated[float, typer.Option(min=1.0, help="Of training, for the recipe.")] = 60.0,
    force: Force = False,
    jobs: Jobs = 1,
    quiet: Quiet = False,
) -> None:
    """Say what is in a folder of recordings, what is wrong with it, and what to do.

    Fails (exit code 1) if it finds a problem, such as a file that cannot be read; a recipe is written all the same, as
    long as there is anything to learn from.

    Example: audio-gen doctor recordings/ -o mine.toml --minutes 60
    """
    from audio_gen.data.doctor import check_target, examine, write_recipe

    if output is not None:
        check_target(output, force)
    with Live(quiet) as live:
        diagnosis = examine(folder, pattern=pattern, jobs=jobs, progress=_files(live, "listening"))
    product(json.dumps(diagnosis.to_dict(), indent=1, ensure_ascii=False) if as_json else diagnosis.to_text())
    if output is not None:
        write_recipe(output, diagnosis, minutes, force=force)
        say(f"wrote {output}; to learn from {folder} for {minutes:g} minutes: audio-gen run {output}", quiet)
    if not diagnosis.ok:
        raise typer.Exit(1)


def prepare(
    recipe: RecipePath,
    run: RunFolder = None,
    overrides: Overrides = None,
    jobs: Jobs = 1,
    quiet: Quiet = False,
) -> None:
    """Turn a folder of recordings into a token store. Repeated runs redo only what has changed.

    Example: audio-gen prepare recipes/drums.toml --set data.source=recordings/
    """
    from audio_gen.recipe import load_recipe

    settings = load_recipe(recipe, overrides or [])
    folder = run or Path("runs") / settings.name
    prepare_store(settings, folder, jobs, quiet)
    product(folder / "store")


def prepare_store(recipe: "Recipe", folder: Path, jobs: int, quiet: bool) -> None:
    """Bring FOLDER/store up to date and tell what came of it."""
    from audio_gen.data.prepare import prepare as build

    with Live(quiet) as live:
        try:
            report = build(recipe, folder / "store", progress=_files(live, "preparing"), jobs=jobs)
        except KeyboardInterrupt:
            live.say("stopped; the same command continues where it was")
            raise
    for warning in report.warnings:
        say(f"note: {warning}", quiet)
    for source, reason in report.excluded[:5]:
        say(f"left out: {source}: {reason}", quiet)
    if len(report.excluded) > 5:
        say(f"... and {len(report.excluded) - 5} more, all in {folder / 'store' / 'excluded.jsonl'}", quiet)
    parts = ", ".join(
        f"{name} {part['clips']:,.0f} clips ({part['seconds'] / 60:.1f} min)"
        for name, part in report.splits.items()
    )
    reused = f", {report.reused:,} of them unchanged" if report.reused else ""
    say(f"prepared {folder / 'store'}: {parts}{reused}", quiet)


def _files(live: Live, verb: str) -> Callable[[int, int, str], None]:
    def show(done: int, total: int, name: str) -> None:
        live.show(
            done / total if total else None, f"{verb}  {done:,}{f' of {total:,}' if total else ''}  {name}"
        )

    return show
