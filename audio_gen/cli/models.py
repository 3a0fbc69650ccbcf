"""Verbs on models: models, info."""

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from audio_gen.cli.options import ModelName
from audio_gen.cli.progress import product, say

if TYPE_CHECKING:
    from audio_gen.checkpoint import Checkpoint

AsJson = Annotated[bool, typer.Option("--json", help="Everything, as JSON.")]

UNITS = {
    "sample_rate": "Hz",
    "minutes": "min of training",
    "samples": "learned from",
    "parameters": "weights",
}


def models(as_json: AsJson = False) -> None:
    """List the models that come with the package.

    Example: audio-gen models
    """
    from audio_gen.checkpoint import load_checkpoint
    from audio_gen.sampler.library import bundled_files

    found = {name: load_checkpoint(path) for name, path in sorted(bundled_files().items())}
    if as_json:
        product(json.dumps({name: dict(checkpoint.card) for name, checkpoint in found.items()}, indent=1))
        return
    if not found:
        say("no models come with this installation; give `audio-gen generate` a checkpoint or a run folder")
    for name, checkpoint in found.items():
        words = [
            str(checkpoint.card[key])
            for key in ("description", "licence", "credit")
            if checkpoint.card.get(key)
        ]
        product(f"{name}: {'; '.join(words)}")
        for label, values in checkpoint.shape.player_labels.items():
            product(f"    --label {label}={'|'.join(values)}")
        if how := _steered(name, checkpoint):
            product(f"    {how}")


def _steered(name: str, checkpoint: "Checkpoint") -> str:
    """How to give the curves that have to be given; "" where there are none."""
    told = checkpoint.told
    if not told:
        return ""
    if "mel" in told:
        return f"audio-gen vocode RECORDING --model {name}"
    written = {
        "pitch": "pitch=NOTE|HERTZ|FILE.csv",
        "loudness": "loudness=DBFS|FILE.csv",
        "notes": "notes=FILE.mid|FILE.csv",
    }
    how = " ".join(f"--curve {written[curve]}" for curve in told)
    return how if checkpoint.composer is None else f"{how} (left out, it composes them)"


def info(model: ModelName, as_json: AsJson = False) -> None:
    """Print a model's card: what it is, what it was trained on, how good and how big it is.

    Example: audio-gen info drums
    """
    from audio_gen.checkpoint import load_checkpoint
    from audio_gen.sampler.library import find
    from audio_gen.sampler.precision import choose

    checkpoint = load_checkpoint(find(model))
    shape = checkpoint.shape
    facts: dict[str, Any] = {
        "hash": checkpoint.hash,
        "sample_rate": checkpoint.sample_rate,
        "levels": checkpoint.codec.levels,
        "pre_emphasis": checkpoint.codec.pre_emphasis,
        "parameters": checkpoint.parameters,
        "multiply_accumulates_per_sample": round(shape.macs_per_sample),
        "receptive_field": shape.receptive_field,
        "linear_predictors": ", ".join(f"order {order}" for order in shape.predictors),
        "anchored": "at what the predictors expect" if shape.anchored else "",
        "envelope_predictor": f"order {shape.envelope_order}, from the mel curve" if shape.envelope else "",
        "period_predictor": "one period ago, from the pitch curve" if shape.period else "",
        "labels": {name: list(values) for name, values in shape.player_labels.items()},
        "told_noise": "yes: --doubt" if shape.doubts else "",
        "curves": list(checkpoint.curves) if as_json else _curves(checkpoint),
        "sketch": _part(checkpoint.sketch),
        "composer": _part(checkpoint.composer),
        "quantization": dict(checkpoint.quantization),
        "precision": choose(checkpoint, "auto"),
    }
    if as_json:
        product(json.dumps({**checkpoint.card, **facts, "network": shape.to_dict()}, indent=1))
        return
    for key, value in {**checkpoint.card, **facts}.items():
        if key in ("recipe", "store") or value in ("", None, [], {}):
            continue
        if key in UNITS and isinstance(value, int | float):
            value = f"{value:,} {UNITS[key]}"
        elif key == "receptive_field":
            value = f"{value} samples, {1000 * value / checkpoint.sample_rate:.0f} ms"
        elif key == "quantization":
            bits = ", ".join(f"{name} {cost:.4f}" for name, cost in checkpoint.bits.items())
            value = f"{bits} bits per sample on the {value.get('held_out')}"
        elif key == "speed":
            value = _speed(value)
        elif key == "precision":
            value = f"{value} unless told otherwise"
        elif isinstance(value, dict):
            value = ", ".join(
                f"{name} {'|'.join(part) if isinstance(part, list) else part}" for name, part in value.items()
            )
        elif isinstance(value, int):
            value = f"{value:,}" if value >= 100_000 else value
        product(f"{key.replace('_', ' '):32} {value}")


def _speed(speed: dict[str, Any]) -> str:
    """The speed of a card, as `bench --save` put it there.

    >>> _speed({"fp32": 4.1, "int8": 12.5, "hardware": "a laptop, 1 core, avx2", "date": "2026-11-28"})
    'fp32 4.1, int8 12.5 times real time, one clip (a laptop, 1 core, avx2, 2026-11-28)'
    """
    figures = ", ".join(
        f"{name} {value}" for name, value in speed.items() if name not in ("hardware", "date")
    )
    return f"{figures} times real time, one clip ({speed['hardware']}, {speed['date']})"


def _curves(checkpoint: "Checkpoint") -> str:
    """The curves that the model follows, and how they are measured."""
    from audio_gen.curves import window_size
    from audio_gen.features import mel_bands

    if not checkpoint.curves:
        return ""
    rate, hop = checkpoint.sample_rate, checkpoint.shape.hop
    every = f"every {hop} samples, {1000 * hop / rate:g} ms"
    mel = f"; mel in {mel_bands(checkpoint)} bands through windows of {window_size(rate, hop)} samples"
    levelled = f"; of recordings that peak at {checkpoint.usual_peak:.2g}"
    return f"{', '.join(checkpoint.curves)}: {every}{mel if 'mel' in checkpoint.curves else ''}{levelled}"


def _part(part: "Checkpoint | None") -> dict[str, Any]:
    """A network that draws the curves, or composes the notes, if there is one."""
    if part is None:
        return {}
    return {"parameters": part.parameters} | {
        name: part.card.get(name) for name in ("steps", "minutes", "bits_per_sample")
    }
