"""The whole batch in one call."""

from pathlib import Path

from audio_gen.batch.jobs import expand
from audio_gen.batch.listing import write_manifest
from audio_gen.batch.neighbours import real_neighbours
from audio_gen.batch.rendering import Progress, Rendered, render
from audio_gen.data.store import Store
from audio_gen.errors import DataError
from audio_gen.sampler.model import Model
from audio_gen.settings import Recipe


def run_batch(
    recipe: Recipe,
    model: Model,
    store: Store | None,
    run: Path,
    *,
    progress: Progress | None = None,
    force: bool = False,
) -> Rendered:
    """Render every clip that `recipe` asks for and `run/clips` lacks, with real neighbours, and list them.

    Without a `store` there are no real neighbours and no copies; without [[generate]] tables the list is empty. `force`
    renders again what is there too. An interrupted batch goes on where it stopped, to the same bytes; files
    of former batches stay, unlisted. Raises RecipeError, ControlError, DataError, CheckpointError,
    OutputError.
    """
    if store is not None and (store.codec, store.sample_rate) != (model.codec, model.sample_rate):
        raise DataError(
            f"{store.path}: its sample rate or codec is not that of {model.name}; prepare its own data"
        )
    jobs = expand(recipe.generate, model, store, recipe.data.end_seconds)
    clips_folder = run / "clips"
    rendered = render(jobs, model, clips_folder, progress=progress, force=force)
    real = [] if store is None else real_neighbours(recipe, store, jobs, clips_folder)
    write_manifest(recipe, model, jobs, real, clips_folder)
    return rendered
