"""Verbs on whole experiments: batch, page, run."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from audio_gen.cli.options import (
    Device,
    Force,
    Jobs,
    Overrides,
    Precision,
    PrecisionName,
    Quiet,
    RecipePath,
    RunFolder,
    Threads,
    need,
)
from audio_gen.cli.progress import Live, clock, product, say

if TYPE_CHECKING:
    from audio_gen.settings import Recipe


def batch(
    recipe: RecipePath,
    run: RunFolder = None,
    model: Annotated[
        str | None, typer.Option(help="Model to play.  [default: the run's own]", show_default=False)
    ] = None,
    overrides: Overrides = None,
    force: Force = False,
    threads: Annotated[int, typer.Option(min=1, help="Processor threads.")] = 1,
    precision: Precision = PrecisionName.AUTO,
    quiet: Quiet = False,
) -> None:
    """Render every [[generate]] table of a recipe; what is there already is skipped.

    Example: audio-gen batch recipes/drums.toml --model drums --run runs/drums
    """
    from audio_gen.recipe import load_recipe

    settings = load_recipe(recipe, overrides or [])
    folder = run or Path("runs") / settings.name
    render(settings, folder, model or str(folder), precision.value, force, threads, quiet)
    product(folder / "clips")


def render(
    recipe: "Recipe", folder: Path, model: str, precision: str, force: bool, threads: int, quiet: bool
) -> None:
    """Render the clips of `recipe` into `folder`."""
    from audio_gen.batch import run_batch
    from audio_gen.data.store import Store
    from audio_gen.sampler import load

    store = Store(folder / "store") if (folder / "store").exists() else None
    loaded = load(model, threads=threads, precision=precision)
    with Live(quiet) as live:

        def show(done: int, total: int, seconds: float) -> None:
            live.show(
                done / total if total else None,
                f"rendering  {done} of {total} clips  {clock(seconds)} of audio",
            )

        rendered = run_batch(recipe, loaded, store, folder, progress=show, force=force)
    say(
        f"rendered {rendered.made} clips into {folder / 'clips'} in {loaded.precision}, "
        f"{rendered.skipped} were there already",
        quiet,
    )


def check_tables(recipe: "Recipe", folder: Path) -> None:
    """Whether there will be the labels and the recordings that the recipe asks for: better said before the training."""
    from audio_gen.batch.jobs import check_curves
    from audio_gen.batch.originals import choose_originals
    from audio_gen.data.store import Store
    from audio_gen.mixtures import settle_labels

    store = Store(folder / "store")
    labels = store.labels
    told = recipe.told if recipe.composer is None else []
    for table in recipe.generate:
        check_curves(table, recipe.name, recipe.controls.curves, told)
        if table.copies is not None:
            choose_originals(store, table.copies, recipe.data.end_seconds, f"[[generate]] {table.name}")
        for name, wanted in table.labels.items():
            for value in [wanted] if isinstance(wanted, str) else wanted:
                settle_labels({name: value} if value != "*" else {}, labels)


def page(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder with clips.", show_default=False)],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FOLDER",
            help="Where the page goes.  [default: RUN/page]",
            show_default=False,
        ),
    ] = None,
    embed: Annotated[
        bool, typer.Option("--embed", help="Put the audio into the page: one file to send around.")
    ] = False,
    only: Annotated[
        Path | None,
        typer.Option(
            metavar="LIST",
            help="Show these clips and no others: what a page saves of those kept. With -o, which gets the files too.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Make a listening page of a run's clips: one static HTML file.

    Example: audio-gen page runs/drums
    """
    from audio_gen.pages.listening import write_page

    product(write_page(run, audio="embed" if embed else "link", output=output, only=only))


def run(
    recipe: RecipePath,
    run: RunFolder = None,
    overrides: Overrides = None,
    force: Annotated[
        bool, typer.Option("--force", "-f", help="Train afresh, in place of the training that is there.")
    ] = False,
    device: Device = "auto",
    threads: Threads = None,
    jobs: Jobs = 1,
    quiet: Quiet = False,
) -> None:
    """Everything from the folder of recordings to the listening page. What is current is skipped.

    Example: audio-gen run recipes/drums.toml --set data.source=recordings/ --set train.minutes=60
    """
    from audio_gen.cli.data import prepare_store
    from audio_gen.cli.quantize import quantize_run
    from audio_gen.cli.train import train_run
    from audio_gen.pages.listening import write_page
    from audio_gen.recipe import load_recipe

    settings = load_recipe(recipe, overrides or [])
    folder = run or Path("runs") / settings.name
    need("torch", "matplotlib", verb="run")
    prepare_store(settings, folder, jobs, quiet)
    (folder / "recipe.json").write_text(json.dumps(settings.to_dict(), indent=1) + "\n", encoding="utf-8")
    check_tables(settings, folder)
    train_run(settings, folder, resume=not force, force=force, device=device, threads=threads, quiet=quiet)
    quantize_run(folder, threads or 1, quiet)
    render(settings, folder, str(folder), "auto", force=False, threads=threads or 1, quiet=quiet)
    product(write_page(folder))
