"""Curves as a player writes them, made into what a model follows."""

from collections.abc import Sequence
from pathlib import Path

from audio_gen.player_curves import curve_frames, parse_curve
from audio_gen.sampler.model import Model
from audio_gen.sampler.voices import Curves


def steer(model: Model, texts: Sequence[str], seconds: float | None) -> tuple[Curves | None, dict[str, str]]:
    """Frames (frames, channels) of `texts` such as "pitch=a2" or "loudness=fade.csv" for a stream of `seconds` (an
    endless one, None, holds the last of them), and what identifies them in a `Take`.

    None where the model has no curves, or its sketch draws all of them. Raises ControlError.
    """
    curves = [parse_curve(text) for text in texts]
    given = {}
    for text, curve in zip(texts, curves, strict=True):
        value = text.partition("=")[2].strip()
        given[curve.name] = f"{value} {curve.digest}" if Path(value).is_file() else value
    if not curves and not model.told:
        return None, given
    hop = model.checkpoint.shape.hop
    return curve_frames(curves, model.told, model.sample_rate, hop, seconds or 0.0), given
