"""The curves of a recording, for a model that follows curves: measured, kept in a file, and checked.

A file is an .npz with `curves` (frames, channels) and how they were measured: `names`, `sample_rate` (Hz), `hop`
(samples per frame). A bare .npy holds the curves alone, and only their number of channels can be checked.

The mel curve is that of torchaudio and librosa on another scale. Of a recording, for a vocoder (`audio-gen info` says
what its curves are):

```python
import numpy as np, soundfile, torch, torchaudio

rate, bands, hop, window, peak = 16_000, 80, 128, 1024, 0.52
wave = torch.from_numpy(soundfile.read("word.wav", dtype="float32")[0])  # (time,) at that rate
wave *= peak / wave.abs().max()  # as loud as most of the vocoder's training audio
frames, before = -(-len(wave) // hop), (window - hop) // 2  # windows are centred on their frames
padded = torch.nn.functional.pad(wave, (before, (frames - 1) * hop + window - before - len(wave)))
mel = torchaudio.transforms.MelSpectrogram(rate, window, hop_length=hop, n_mels=bands, center=False)
power = mel(padded).T * (2 / mel.spectrogram.window.sum()) ** 2  # a sine of amplitude 1 is 0 dB
curves = 10 * power.clamp(min=1e-8).log10() / 40 + 1  # -80 dB is -1
np.savez("word.npz", curves=curves, names=["mel"], sample_rate=rate, hop=hop)
```

`audio-gen vocode word.npz --model MODEL` plays it. The curves measured here are within 0.002 dB of these, and within
0.0001 dB of `librosa.feature.melspectrogram(..., htk=True, norm=None)` on the same scale, at 16 kHz with 80 bands and
at 8 kHz with 20 (chirp, noise and speech-like sounds; torchaudio's own rounding is most of the difference).
"""

import math
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from audio_gen.checkpoint import Checkpoint
from audio_gen.curves import CurveExtractor, Floats, Moments, curve_channels
from audio_gen.errors import ControlError, SettingError
from audio_gen.targets import check_free, write_whole

Curves = NDArray[np.float32]
ARRAYS = (".npy", ".npz")
FARTHEST = 1.5
"""Values of loudness and mel lie from -1 to little above 1. What leaves this either way is on another scale."""


def mel_bands(checkpoint: Checkpoint) -> int:
    """Bands of the mel curve the model follows; 0 if it follows none."""
    if "mel" not in checkpoint.curves:
        return 0
    return checkpoint.shape.curve_channels - curve_channels(
        [name for name in checkpoint.curves if name != "mel"], 0
    )


def measure(
    checkpoint: Checkpoint,
    waveform: ArrayLike,
    decibels: float | None = None,
    *,
    notes: Callable[[Moments], Floats] | None = None,
) -> Curves:
    """Curves (frames, channels) of a `waveform` (time,) at the model's sample rate, as the model follows them.

    It is made louder by `decibels`; None brings its peak to that of most recordings the model learned from. `notes`
    gives the piano roll, which cannot be measured. Raises ControlError for a model without curves or a silent waveform
    that cannot be levelled.
    """
    if not checkpoint.curves:
        raise ControlError(f"{checkpoint.card.get('name', 'the model')}: follows no curves")
    louder = louder_by(checkpoint, waveform, decibels)
    extractor = CurveExtractor(
        checkpoint.sample_rate,
        checkpoint.curves,
        checkpoint.shape.hop,
        max(1, mel_bands(checkpoint)),
        notes=notes,
    )
    return np.concatenate([*extractor.push(louder), extractor.finish()])


def louder_by(checkpoint: Checkpoint, waveform: ArrayLike, decibels: float | None) -> NDArray[np.float32]:
    """A `waveform` (time,), made louder by `decibels`; None brings its peak to that of most recordings the model
    learned from. Raises ControlError for a silent one, which cannot be."""
    waveform = np.asarray(waveform, np.float32)
    if decibels is None:
        peak = float(np.abs(waveform).max(initial=0.0))
        if not peak > 0.0:
            raise ControlError("the recording is silent; say how much louder it shall be")
        decibels = 20.0 * math.log10(checkpoint.usual_peak / peak)
    louder: NDArray[np.float32] = waveform * np.float32(10.0 ** (decibels / 20.0))
    return louder


def save_features(path: Path, checkpoint: Checkpoint, curves: Curves, force: bool = False) -> None:
    """Write `curves` with how they were measured. Raises OutputError, SettingError."""
    check_target(path, force)
    with write_whole(path) as file:
        np.savez(file, curves=curves, **_settings(checkpoint))


def check_target(path: Path, force: bool) -> None:
    """Raises OutputError or SettingError if `save_features` would not write to `path`."""
    if path.suffix != ".npz":
        raise SettingError(f"{path}: curves are kept in .npz files")
    check_free(path, force)


def load_features(path: Path, checkpoint: Checkpoint) -> Curves:
    """Curves (frames, channels) from an .npz or .npy, checked against what the model follows. Raises ControlError."""
    settings = _settings(checkpoint)
    arrays = _arrays(path, ["curves", *settings])
    for key, ours in settings.items():
        if key in arrays and not np.array_equal(arrays[key], ours):
            theirs = arrays[key].tolist()
            raise ControlError(f"{path}: measured with {key} {theirs}, the model follows {ours.tolist()}")
    curves, width = arrays["curves"], checkpoint.shape.curve_channels
    if curves.ndim != 2 or curves.shape[1] != width or not len(curves):
        turned = "; transpose it" if curves.ndim == 2 and curves.shape[0] == width else ""
        raise ControlError(f"{path}: must be (frames, {width}), got {curves.shape}{turned}")
    if curves.dtype.kind not in "fiu" or not (np.abs(curves) < np.finfo(np.float32).max).all():
        raise ControlError(f"{path}: holds values that are no finite numbers")
    _check_scale(curves, checkpoint, path)
    return curves.astype(np.float32)


def _arrays(path: Path, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Those of `names` that a file of arrays holds, `curves` among them; a bare array is these. Raises ControlError."""
    try:
        with path.open("rb") as file:
            loaded: Any = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return {"curves": loaded}
            if "curves" not in loaded.files:
                raise ControlError(f"{path}: holds no `curves`, only {', '.join(loaded.files) or 'nothing'}")
            return {name: loaded[name] for name in names if name in loaded.files}
    except FileNotFoundError:
        raise ControlError(f"{path}: no such file") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ControlError(f"{path}: cannot be read as an array: {error}") from None


def _check_scale(curves: NDArray[Any], checkpoint: Checkpoint, path: Path) -> None:
    """Refuse loudness and mel on another scale, such as natural logarithms. Raises ControlError."""
    first, bands = 0, mel_bands(checkpoint)
    for name in checkpoint.curves:
        channels = curve_channels([name], bands)
        low, high = (float(pick(curves[:, first : first + channels])) for pick in (np.min, np.max))
        if name != "pitch" and not -FARTHEST <= low <= high <= FARTHEST:
            raise ControlError(
                f"{path}: {name} is on another scale, from {low:.2f} to {high:.2f}; "
                "the model follows decibels / 40 + 1, from -1 to about 1"
            )
        first += channels


def _settings(checkpoint: Checkpoint) -> dict[str, Any]:
    return {
        "names": np.array(checkpoint.curves),
        "sample_rate": np.array(checkpoint.sample_rate),
        "hop": np.array(checkpoint.shape.hop),
    }
