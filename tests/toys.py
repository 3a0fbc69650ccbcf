"""A toy set that a tiny network learns in seconds: noisy low and high tones; and trainings on it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from networks import network_settings, random_tensors

from audio_gen.checkpoint import Checkpoint, load_checkpoint, read_tensors
from audio_gen.data.prepare import prepare
from audio_gen.data.store import Store
from audio_gen.recipe import build_recipe
from audio_gen.settings import Recipe
from audio_gen.shape import NetworkShape
from audio_gen.training.loop import Report, Training

RATE = 2000
HOP, BANDS = 32, 8
"""Of the mel curve that a toy vocoder follows."""
TONES = {"low": 50.0, "high": 240.0}  # hertz


def write_tones(folder: Path, clips: int = 12, seconds: float = 0.5) -> Path:
    """`clips` recordings of each tone, of slightly different lengths."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(5)
    for tone, frequency in TONES.items():
        for clip in range(clips):
            time = np.arange(round(seconds * RATE) - 13 * clip) / RATE
            wave = 0.5 * np.sin(2 * np.pi * frequency * time + generator.uniform(0, 6))
            wave += 0.002 * generator.standard_normal(len(time))
            soundfile.write(folder / f"{tone}_{clip}.wav", wave, RATE, subtype="PCM_24")
    return folder


def toy_recipe(
    source: Path, *, controls: Any = None, network: Any = None, data: Any = None, **train: Any
) -> Recipe:
    """Settings of a training that takes some milliseconds a step."""
    tables = {
        "name": "toy",
        "data": {
            "source": str(source),
            "sample_rate": RATE,
            "pattern": "{tone}_{index}",
            "valid_where": {"index": ["0", "1", "2"]},
            **(data or {}),
        },
        "controls": {"labels": {"tone": {"from": "{tone}"}}, **(controls or {})},
        "network": {
            "layers": [3, 3],
            "channels": [16, 16],
            "pool": [4],
            "head_channels": 32,
            **(network or {}),
        },
        "train": {
            "steps": 30,
            "batch_size": 4,
            "crop": 128,
            "walk": 3,
            "learning_rate": 5e-3,
            "validate_every": 10,
            "valid_seconds": 1.0,
            "preview_seconds": 0.1,
            "precision": "fp32",
            "seed": 3,
            **train,
        },
        "card": {"data": "noisy tones", "licence": "CC0 1.0", "credit": "nobody"},
    }
    return build_recipe(tables)


def toy_store(recipe: Recipe, path: Path) -> Store:
    prepare(recipe, path)
    return Store(path)


def toy_vocoder(store: Store, follows: bool = True) -> Checkpoint:
    """A network of random weights that follows the curves of a store; or, if not, labels alone."""
    curves = {"curve_channels": store.curve_channels, "hop": store.hop} if follows else {}
    shape = NetworkShape.from_dict(
        network_settings([3, 3], [16, 16], [4], labels=store.labels, predictors=[8], **curves)
    )
    names = tuple(store.curves) if follows else ()
    return Checkpoint(shape, store.codec, RATE, random_tensors(shape, 1), names, card={"name": "toy"})


def outcome(run: Path) -> dict[str, Any]:
    """Everything a training leaves that does not depend on how long it took."""
    arrays, metadata = read_tensors(run / "resume.safetensors")
    header = json.loads(metadata["audio_gen_training"])
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for timed in [header["progress"], *rows]:
        for key in ("seconds", "samples_per_second", "metrics_bytes"):
            timed.pop(key, None)
    return {
        "header": header,
        "metrics": rows,
        "arrays": {name: (array.shape, array.tobytes()) for name, array in arrays.items()},
        "model": load_checkpoint(run / "model.safetensors").hash,
        "best": load_checkpoint(run / "best.safetensors").hash,
        "previews": {
            str(path.relative_to(run)): path.read_bytes() for path in sorted(run.glob("previews/*/*"))
        },
    }


def learn(recipe: Recipe, store: Store, run: Path, **options: Any) -> tuple[Training, list[Report]]:
    """A whole training, without baselines, and all it reported."""
    training, reports = Training(recipe, store, run, **options), []
    training.train([], reports.append)
    return training, reports
