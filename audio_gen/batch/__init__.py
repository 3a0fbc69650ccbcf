"""A recipe's [[generate]] tables as clips: expand them, render what is missing, list it all for a page.

run_batch(recipe, model, store, run)
# run/clips/SET/*.wav, run/clips/real/*.flac and, last of all, run/clips/clips.json
"""

from audio_gen.batch.jobs import Job, expand
from audio_gen.batch.listing import write_manifest
from audio_gen.batch.neighbours import real_neighbours
from audio_gen.batch.rendering import Progress, Rendered, render
from audio_gen.batch.run import run_batch

__all__ = [
    "Job",
    "Progress",
    "Rendered",
    "expand",
    "real_neighbours",
    "render",
    "run_batch",
    "write_manifest",
]
