"""The curves of a recording, for a model that follows curves: measured, kept in a file, and checked.

A file is an .npz with `curves` (frames, channels) and how they were measured: `names`, `sample_rate` (Hz), `hop`
(samples per frame). A bare .npy holds the curves alone, and only their number of channels can be checked.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from audio_gen.checkpoint import Checkpoint
from audio_gen.curves import curve_channels, extract_curves
from audio_gen.errors import ControlError, OutputError, SettingError

Curves = NDArray[np.float32]
ARRAYS = (".npy", ".npz")


def mel_bands(checkpoint: Checkpoint) -> int:
    """Bands of the mel curve the model follows; 0 if it follows none."""
    if "mel" not in checkpoint.curves:
        return 0
    return checkpoint.shape.curve_channels - curve_channels(
        [name for name in checkpoint.curves if name != "mel"], 0
    )


def measure(checkpoint: Checkpoint, waveform: ArrayLike, decibels: float | None = None) -> Curves:
    """Curves (frames, channels) of a `waveform` (time,) at the model's sample rate, as the model follows them.

    It is made louder by `decibels`; None brings its peak to that of the recordings the model learned from.
    Raises ControlError for a model without curves or a silent waveform that cannot be levelled.
    """
    if not checkpoint.curves:
        raise ControlError(f"{checkpoint.card.get('name', 'the model')}: follows no curves")
    waveform = np.asarray(waveform, np.float32)
    if decibels is None:
        peak = float(np.abs(waveform).max(initial=0.0))
        if not peak > 0.0:
            raise ControlError("the recording is silent; say how much louder it shall be")
        decibels = 20.0 * math.log10(float(checkpoint.gain.get("peak", 0.9)) / peak)
    louder = waveform * np.float32(10.0 ** (decibels / 20.0))
    bands = max(1, mel_bands(checkpoint))
    return extract_curves(louder, checkpoint.sample_rate, checkpoint.curves, checkpoint.shape.hop, bands)


def save_features(path: Path, checkpoint: Checkpoint, curves: Curves, force: bool = False) -> None:
    """Write `curves` with how they were measured. Raises OutputError, SettingError."""
    check_target(path, force)
    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb") as file:
            np.savez(file, curves=curves, **_settings(checkpoint))
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from None


def check_target(path: Path, force: bool) -> None:
    """Raises OutputError or SettingError if `save_features` would not write to `path`."""
    if path.suffix != ".npz":
        raise SettingError(f"{path}: curves are kept in .npz files")
    if path.exists() and not force:
        raise OutputError(f"{path}: exists; use --force to overwrite it")


def load_features(path: Path, checkpoint: Checkpoint) -> Curves:
    """Curves (frames, channels) from an .npz or .npy, checked against what the model follows. Raises ControlError."""
    try:
        loaded: Any = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise ControlError(f"{path}: no such file") from None
    except (OSError, ValueError, EOFError) as error:
        raise ControlError(f"{path}: cannot be read as an array: {error}") from None
    if isinstance(loaded, np.ndarray):
        curves = loaded
    else:
        with loaded:
            if "curves" not in loaded.files:
                raise ControlError(f"{path}: holds no `curves`, only {', '.join(loaded.files) or 'nothing'}")
            curves = loaded["curves"]
            for key, ours in _settings(checkpoint).items():
                if key in loaded.files and not np.array_equal(loaded[key], ours):
                    theirs = loaded[key].tolist()
                    raise ControlError(
                        f"{path}: measured with {key} {theirs}, the model follows {ours.tolist()}"
                    )
    width = checkpoint.shape.curve_channels
    if curves.ndim != 2 or curves.shape[1] != width or not len(curves):
        raise ControlError(f"{path}: must be (frames, {width}), got {curves.shape}")
    if not np.issubdtype(curves.dtype, np.number) or not np.isfinite(curves).all():
        raise ControlError(f"{path}: holds values that are no finite numbers")
    return curves.astype(np.float32)


def _settings(checkpoint: Checkpoint) -> dict[str, Any]:
    return {
        "names": np.array(checkpoint.curves),
        "sample_rate": np.array(checkpoint.sample_rate),
        "hop": np.array(checkpoint.shape.hop),
    }
