"""clips.json: what a page shows of a batch, in the shape that `audio_gen.pages.manifest` reads."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from audio_gen.audio import read_blocks
from audio_gen.audio.files import create, output_errors
from audio_gen.batch.jobs import MANIFEST, Job, frames
from audio_gen.errors import CheckpointError
from audio_gen.pages.manifest import Clip, Facts, Manifest, RealClip
from audio_gen.sampler.model import Model
from audio_gen.settings import Recipe


def write_manifest(
    recipe: Recipe, model: Model, jobs: Sequence[Job], real: Sequence[RealClip], clips_folder: Path
) -> Path:
    """List `jobs`, all of them rendered, and `real` clips in clips.json; its path.

    Equal input gives equal bytes, and a list that is there already is not touched. Raises CheckpointError for
    a card no page can show, AudioFileError for a clip that cannot be read, OutputError.
    """
    manifest = Manifest(
        version=1,
        title=recipe.page.title,
        text=recipe.page.text,
        facts=_facts(model),
        clips=[_entry(job, model, clips_folder / job.file) for job in jobs],
        real=list(real),
    )
    content = (json.dumps(manifest.model_dump(exclude_none=True), indent=1) + "\n").encode()
    path = clips_folder / MANIFEST
    with output_errors(str(path)):
        if not path.is_file() or path.read_bytes() != content:
            create(path, content)
    return path


def _entry(job: Job, model: Model, path: Path) -> Clip:
    take = job.take
    sketched = model.sketch is not None and (job.original is None or job.sketched)
    return Clip(
        file=job.file,
        set=job.set,
        labels=dict(take.labels),
        curves=dict(take.curves) if job.original is None else {},
        temperature=take.draw.temperature,
        fade=take.fade or None,
        top_k=take.draw.top_k,
        top_p=take.draw.top_p,
        min_p=take.draw.min_p,
        seed=take.seed,
        stream=take.stream,
        seconds=frames(take, model.sample_rate) / model.sample_rate,
        # Without pre-emphasis the codec never leaves [-1, 1].
        clipped=_clipped(path, model.codec.pcm_bits) if model.codec.pre_emphasis else 0,
        sketch_temperature=take.draw.sketch_temperature if sketched else None,
        guidance=take.draw.guidance if sketched else None,
        composed=model.composer is not None and job.original is None and not take.curves,
        doubt=take.draw.doubt,
        source=job.original.clip.source if job.original else None,
        prompt_seconds=job.prompt_seconds,
    )


def _clipped(path: Path, bits: int) -> int:
    """Samples at full scale, where those that left [-1, 1] end up. Counted in the file, so that it does not
    matter which call rendered it."""
    highest = np.float32(1.0 - 2.0 ** (1 - bits))
    return sum(int(np.count_nonzero((block <= -1.0) | (block >= highest))) for block in read_blocks(path))


def _facts(model: Model) -> Facts:
    """The card, as far as a page has room for it, and what the checkpoint itself shows."""
    card = {name: value for name, value in model.card.items() if value not in (None, "", {})}
    measured = {
        "model": model.name,
        "parameters": model.checkpoint.parameters,
        "receptive_field": model.receptive_field,
        "sample_rate": model.sample_rate,
        "levels": model.levels,
        "hash": model.checkpoint.hash,
        "precision": model.precision,
    }
    try:
        return Facts.model_validate({**card, **measured})
    except ValidationError as error:
        names = ", ".join(sorted({str(problem["loc"][0]) for problem in error.errors()}))
        raise CheckpointError(f"{model.name}: damaged card ({names}); fetch or train it again") from None
