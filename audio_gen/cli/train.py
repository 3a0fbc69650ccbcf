"""The verb train."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from audio_gen.cli.options import Device, Jobs, Overrides, Quiet, RecipePath, RunFolder, Threads, need
from audio_gen.cli.progress import Live, clock, product, say
from audio_gen.errors import OutputError

if TYPE_CHECKING:
    from audio_gen.checkpoint import Checkpoint
    from audio_gen.evaluation.baselines import Baseline
    from audio_gen.settings import Recipe
    from audio_gen.training.loop import Report, Training

STATE = "resume.safetensors"


def train(
    recipe: RecipePath,
    run: RunFolder = None,
    overrides: Overrides = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on exactly where the last training stopped.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", "-f", help="Train afresh, in place of the training that is there.")
    ] = False,
    begin_from: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="MODEL",
            help="Begin with the weights of this model, whose network is the same; "
            "the recipe may add predictors and an anchor.",
        ),
    ] = None,
    device: Device = "auto",
    threads: Threads = None,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Also write metrics for TensorBoard.")
    ] = False,
    jobs: Jobs = 1,
    quiet: Quiet = False,
) -> None:
    """Train a model on a folder of recordings; prepares them first. Ctrl-C saves, --resume continues.

    Example: audio-gen train recipes/drums.toml --set train.minutes=60
    """
    from audio_gen.checkpoint import load_checkpoint
    from audio_gen.cli.data import prepare_store
    from audio_gen.recipe import load_recipe
    from audio_gen.sampler.library import find

    settings = load_recipe(recipe, overrides or [])
    folder = run or Path("runs") / settings.name
    need("torch", "matplotlib", verb="train")
    if (folder / STATE).exists() and not resume and not force:  # before its store is made anew
        raise OutputError(f"{folder}: holds a training already; --resume continues it, --force starts afresh")
    began_from = None if begin_from is None else load_checkpoint(find(begin_from))
    prepare_store(settings, folder, jobs, quiet)
    train_run(
        settings,
        folder,
        resume=resume,
        force=force,
        device=device,
        threads=threads,
        quiet=quiet,
        tensorboard=tensorboard,
        begin_from=began_from,
    )
    product(folder / "model.safetensors")


def train_run(
    recipe: "Recipe",
    folder: Path,
    *,
    resume: bool,
    force: bool,
    device: str,
    threads: int | None,
    quiet: bool,
    tensorboard: bool = False,
    begin_from: "Checkpoint | None" = None,
) -> bool:
    """Train in `folder`, whose store is ready; first the composer and the sketch, if the recipe has them. Returns False
    if there was nothing left to do."""
    import torch

    from audio_gen.checkpoint import load_checkpoint
    from audio_gen.data.note_lists import NoteStore
    from audio_gen.data.sketches import SketchStore
    from audio_gen.data.store import Store
    from audio_gen.evaluation.yardsticks import store_baselines
    from audio_gen.training import composing, sketching
    from audio_gen.training.composing import composer_recipe
    from audio_gen.training.loop import Training
    from audio_gen.training.sketching import sketch_recipe

    if threads:
        torch.set_num_threads(threads)
    composer, sketch, learned = None, None, False
    if recipe.composer is not None:
        pieces = NoteStore(folder / "store")
        own = composer_recipe(recipe, pieces)
        training = Training(own, pieces, folder / composing.FOLDER, device=device, resume=resume, force=force)
        learned = _learn(training, [], resume, quiet)
        composer = _best(folder / composing.FOLDER)
    if recipe.sketch is not None:
        sketches = SketchStore(folder / "store")
        of_sketch = sketch_recipe(recipe, sketches)
        drawing = folder / sketching.FOLDER
        training = Training(of_sketch, sketches, drawing, device=device, resume=resume, force=force)
        learned |= _learn(training, [], resume, quiet)
        sketch = load_checkpoint(drawing / "model.safetensors")
    store = Store(folder / "store")
    training = Training(
        recipe,
        store,
        folder,
        device=device,
        resume=resume,
        force=force,
        tensorboard=tensorboard,
        begin_from=begin_from,
        sketch=sketch,
        composer=composer,
    )
    baselines = []
    if store.clips("valid") and training.done < 1.0:
        baselines = store_baselines(
            store, cache=folder / "baselines.json", end_seconds=recipe.data.end_seconds
        )
    learned |= _learn(training, baselines, resume, quiet)
    for path in (folder / "model.safetensors", folder / "best.safetensors"):
        if path.exists():  # nothing is the best where nothing is held out
            _attach(path, sketch, composer)
    return learned


def _best(folder: Path) -> "Checkpoint":
    """What a training has learned, before it learned by heart: as scored on what is held out, if anything is."""
    from audio_gen.checkpoint import load_checkpoint

    best = folder / "best.safetensors"
    return load_checkpoint(best if best.exists() else folder / "model.safetensors")


def _attach(path: Path, sketch: "Checkpoint | None", composer: "Checkpoint | None") -> None:
    """Give a model that was trained before its sketch or composer, or beside others, these."""
    from audio_gen.checkpoint import load_checkpoint, save_checkpoint

    checkpoint = load_checkpoint(path)
    attached = replace(checkpoint, sketch=sketch, composer=composer)
    if attached.hash != checkpoint.hash:
        card = {**checkpoint.card, "parameters": attached.parameters}
        if attached.sketch_bits is not None:
            card["bits_of_sketch"] = round(attached.sketch_bits, 4)
        save_checkpoint(path, replace(attached, card=card))


def _learn(training: "Training", baselines: "list[Baseline]", resume: bool, quiet: bool) -> bool:
    """Train to the end, and show it. Returns False if it is over already. `resume`: as it was called, it goes on."""
    import torch

    if training.done >= 1.0:
        say(f"{training.run}: this training is over; raise its steps or minutes to go on", quiet)
        return False
    store, shape = training.store, training.state.network.shape
    parameters = sum(parameter.numel() for parameter in training.state.network.parameters())
    say(
        f"training {training.recipe.name}: {parameters:,} parameters, "
        f"hears {1000 * shape.receptive_field / store.sample_rate:.0f} ms, {training.device.type}, "
        f"{'bfloat16' if training.autocast_enabled else 'float32'}, {torch.get_num_threads()} threads"
        + (f", from step {training.progress.step}" if training.progress.step else ""),
        quiet,
    )
    if baselines:
        say(_table(baselines), quiet)
    if not store.clips("valid"):
        say("note: nothing is held out, so nothing will be scored", quiet)
    with Live(quiet) as live:
        try:
            training.train(baselines, lambda report: _show(live, report, store.sample_rate))
        except KeyboardInterrupt:
            how = "the same command" if resume else "--resume"
            live.say(f"stopped at step {training.progress.step} and saved; {how} continues")
            raise
    return True


def _table(baselines: "list[Baseline]") -> str:
    scores = "; ".join(f"{baseline.name} {baseline.bits_per_sample:.2f}" for baseline in baselines)
    return f"to beat, in bits per sample on held-out audio: {scores}"


def _show(live: Live, report: "Report", sample_rate: int) -> None:
    heard = clock(report.samples / sample_rate)
    text = f"step {report.step:,}  {report.loss:.3f} bits  {heard} of audio  {report.samples_per_second:,.0f} samples/s"
    if report.message:
        live.say(f"note: {report.message}")
    elif report.valid is not None:
        live.say(
            f"step {report.step:,}: {report.valid:.3f} bits per sample on held-out audio, "
            f"{report.loss:.3f} on training audio, {heard} heard, {report.samples_per_second:,.0f} samples/s"
            + (f", {clock(report.seconds_left)} left" if report.seconds_left else "")
        )
    else:
        live.show(report.done, text, report.seconds_left)
