"""The verb presets."""

import json

from audio_gen.cli.models import AsJson
from audio_gen.cli.progress import product


def presets(as_json: AsJson = False) -> None:
    """List the sizes of networks that have names, for `[network] preset` in a recipe. Milliseconds are at 16 kHz.

    Example: audio-gen presets
    """
    from audio_gen.engine.pack import weight_count
    from audio_gen.presets import PRESETS, preset_shape
    from audio_gen.settings import PREDICTORS

    shapes = {name: preset_shape(name, predictors=PREDICTORS) for name in PRESETS}
    if as_json:
        found = {
            name: {
                "parameters": weight_count(shape),
                "multiply_accumulates_per_sample": round(shape.macs_per_sample),
                "receptive_field": shape.receptive_field,
                "network": PRESETS[name],
            }
            for name, shape in shapes.items()
        }
        product(json.dumps(found, indent=1))
        return
    product(
        f"{'preset':14} {'parameters':>11} {'MAC per sample':>15} {'hears, ms':>10}  layers x channels per tier"
    )
    for name, shape in shapes.items():
        tiers = ", ".join(
            f"{layers}x{width}" for layers, width in zip(shape.layers, shape.channels, strict=True)
        )
        product(
            f"{name:14} {weight_count(shape):11,} {shape.macs_per_sample:15,.0f} "
            f"{shape.receptive_field / 16:10,.0f}  {tiers}"
        )
