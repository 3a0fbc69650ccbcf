"""One self-describing .safetensors file per model: weights, shape, codec, card. Readable without torch.

The header is one JSON text under the metadata key "audio_gen". A newer version than this program knows is an
error that says so; nothing is ever unpickled.
"""

import hashlib
import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audio_gen.codec import Codec
from audio_gen.composer import CURVE_CHANNELS, TOKENS, NoteCodec
from audio_gen.curves import curve_channels
from audio_gen.errors import AudioGenError, CheckpointError
from audio_gen.shape import NetworkShape
from audio_gen.sketch import CurveCodec, told_curves
from audio_gen.targets import write_whole

VERSION = 1
SUFFIX = ".safetensors"
_SCALES = "scales."
"""Begins the names of the int8 scales among the tensors of a file; no weight is called so."""
_SKETCH, _COMPOSER = "sketch.", "composer."
"""Begin the names of the tensors of a model's other networks."""

_CODECS: dict[str, type[Codec]] = {"curves": CurveCodec, "notes": NoteCodec}
"""Of tokens that are no samples, as a header has them."""


@dataclass(frozen=True)
class Checkpoint:
    """A trained network and everything needed to use it."""

    shape: NetworkShape
    codec: Codec
    sample_rate: int
    """Hertz."""
    tensors: Mapping[str, NDArray[Any]]
    """Weights by name, float32 or float16; names and shapes as in `audio_gen.network`."""
    curves: tuple[str, ...] = ()
    """Names of the curves, in the order of their channels."""
    gain: Mapping[str, Any] = field(default_factory=dict)
    """How the training audio was levelled: {"mode": "dataset", "peak": 0.9, "usual_peak": 0.5, "gains": {...}}."""
    end_seconds: float = 0.0
    """Silence learned after the end of each clip, seconds."""
    card: Mapping[str, Any] = field(default_factory=dict)
    """For people: data, licence, credit, steps, minutes, bits per sample, baselines, date, recipe ..."""
    scales: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    """What one int8 step of each activation is worth, float32 (channels,), by name; empty: not quantised."""
    quantization: Mapping[str, Any] = field(default_factory=dict)
    """How the scales were found: {"calibrated_on": ..., "bits": {"fp32": 1.05, ...}, "seconds": ...}."""
    sketch: "Checkpoint | None" = None
    """What draws the curves where none are given: see `audio_gen.sketch`."""
    composer: "Checkpoint | None" = None
    """What makes up the notes where none are given: see `audio_gen.composer`."""

    @property
    def told(self) -> list[str]:
        """Names of the curves that no sketch draws."""
        return list(self.curves if self.sketch is None else self.sketch.curves)

    @property
    def deaf(self) -> bool:
        """Whether all that the network hears is the same to it: see `train.deaf`."""
        heard = self.tensors["embedding.weight"]
        return bool((heard == heard[:1]).all())

    @property
    def usual_peak(self) -> float:
        """What most recordings like those it was trained on stay below, once levelled; never 0."""
        return float(self.gain.get("usual_peak") or self.gain.get("peak", 0.9))

    @property
    def bits(self) -> dict[str, float]:
        """Bits per sample of each precision, as `audio-gen quantize` has measured them; or empty."""
        return dict(self.quantization.get("bits", {}))

    @property
    def sketch_bits(self) -> float | None:
        """Bits per sample of audio that the sketch needs for the curves. Together with those of the samples given the
        curves it is an upper bound of what the model needs for the audio. None without a sketch that was scored."""
        bits = self.sketch.card.get("bits_per_sample") if self.sketch is not None else None
        if self.sketch is None or bits is None:
            return None
        return float(bits) * self.sketch.shape.pool[0] / self.shape.hop

    @property
    def scales_hash(self) -> str:
        """Hex digest of what determines the sound in int8 beside `hash`; empty without scales."""
        return _digest(self.scales) if self.scales else ""

    @property
    def hash(self) -> str:
        """Hex digest of what determines the sound: weights, shape, codec and rate (neither card nor scales)."""
        sounding = [
            self.shape.to_dict(),
            self.codec.levels,
            self.codec.pre_emphasis,
            self.sample_rate,
            list(self.curves),
        ]
        if self.sketch is not None:
            sounding.append(self.sketch.hash)
        if self.composer is not None:
            sounding.append({"composer": self.composer.hash})
        return _digest(self.tensors, json.dumps(sounding, sort_keys=True))

    @property
    def parameters(self) -> int:
        """Those of the sketch and the composer among them."""
        own = sum(tensor.size for tensor in self.tensors.values())
        return own + sum(part.parameters for part in (self.sketch, self.composer) if part is not None)


def _digest(tensors: Mapping[str, NDArray[Any]], before: str = "") -> str:
    digest = hashlib.blake2b(before.encode(), digest_size=16)
    for name in sorted(tensors):
        tensor = np.ascontiguousarray(tensors[name])
        digest.update(f"{name} {tensor.dtype} {tensor.shape}".encode())
        digest.update(tensor.tobytes())
    return digest.hexdigest()


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write `checkpoint` to `path`: whole or not at all. Raises OutputError."""
    header = {"version": VERSION, **_header(checkpoint)}
    write_tensors(path, _all_tensors(checkpoint), {"audio_gen": json.dumps(header)})


def _header(checkpoint: Checkpoint) -> dict[str, Any]:
    codec: dict[str, Any] = {
        "levels": checkpoint.codec.levels,
        "pre_emphasis": checkpoint.codec.pre_emphasis,
    }
    for name, kind in _CODECS.items():
        if isinstance(checkpoint.codec, kind):
            codec["of"] = name
    header: dict[str, Any] = {
        "network": checkpoint.shape.to_dict(),
        "codec": codec,
        "sample_rate": checkpoint.sample_rate,
        "curves": list(checkpoint.curves),
        "gain": dict(checkpoint.gain),
        "end_seconds": checkpoint.end_seconds,
        "card": dict(checkpoint.card),
        "hash": checkpoint.hash,
    }
    if checkpoint.scales or checkpoint.quantization:
        header["quantization"] = {**checkpoint.quantization, "scales_hash": checkpoint.scales_hash}
    if checkpoint.sketch is not None:
        header["sketch"] = _header(checkpoint.sketch)
    if checkpoint.composer is not None:
        header["composer"] = _header(checkpoint.composer)
    return header


def _all_tensors(checkpoint: Checkpoint) -> dict[str, NDArray[Any]]:
    """Weights, scales, and those of the sketch and the composer."""
    tensors = {**checkpoint.tensors, **{_SCALES + name: steps for name, steps in checkpoint.scales.items()}}
    if checkpoint.sketch is not None:
        tensors |= {_SKETCH + name: tensor for name, tensor in _all_tensors(checkpoint.sketch).items()}
    if checkpoint.composer is not None:
        tensors |= {_COMPOSER + name: tensor for name, tensor in _all_tensors(checkpoint.composer).items()}
    return tensors


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Read and check a checkpoint: header, shapes, and the hashes against damage. Raises CheckpointError."""
    path = Path(path)
    tensors, metadata = read_tensors(path)
    if "audio_gen" not in metadata:
        raise CheckpointError(f"{path}: a safetensors file, but not one of audio_gen's checkpoints")
    try:
        header = json.loads(metadata["audio_gen"])
        version = header["version"]
        if not isinstance(version, int) or version > VERSION:
            raise CheckpointError(
                f"{path}: checkpoint version {version}, this program knows up to {VERSION}; upgrade audio-gen"
            )
        return _checkpoint(header, tensors, path)
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError, AttributeError) as error:
        raise CheckpointError(
            f"{path}: damaged checkpoint header ({error}); fetch or train it again"
        ) from None
    except AudioGenError as error:
        raise CheckpointError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from None


def _checkpoint(header: Mapping[str, Any], found: Mapping[str, NDArray[Any]], path: Path) -> Checkpoint:
    """A checked checkpoint; those of its sketch and composer are within its header and among its tensors."""
    sketch, composer = _within("sketch", header, found, path), _within("composer", header, found, path)
    others = {name for name in found if name.startswith((_SKETCH, _COMPOSER))}
    scaled = {name for name in found if name.startswith(_SCALES)}
    codec = dict(header["codec"])
    make = _CODECS[codec.pop("of")] if "of" in codec else Codec
    quantization = _quantization(header)
    recorded_scales = quantization.pop("scales_hash", "")
    checkpoint = Checkpoint(
        NetworkShape.from_dict(header["network"]),
        make(**codec),
        int(header["sample_rate"]),
        {name: found[name] for name in found if name not in others | scaled},
        tuple(header["curves"]),
        dict(header["gain"]),
        float(header["end_seconds"]),
        dict(header["card"]),
        {name.removeprefix(_SCALES): found[name] for name in scaled},
        quantization,
        sketch,
        composer,
    )
    if checkpoint.shape.levels != checkpoint.codec.levels or checkpoint.sample_rate < 1:
        raise ValueError("network, codec and sample rate do not belong together")
    if sketch is not None:
        _check_sketch(checkpoint, sketch)
    if composer is not None:
        _check_composer(checkpoint, composer)
    if checkpoint.hash != str(header["hash"]):
        raise CheckpointError(
            f"{path}: the weights do not match their recorded hash; fetch or train it again"
        )
    if checkpoint.scales_hash != recorded_scales:
        raise CheckpointError(
            f"{path}: the int8 scales do not match their recorded hash; fetch or train it again"
        )
    for name, tensor in checkpoint.tensors.items():
        if not np.isfinite(tensor).all():
            raise CheckpointError(f"{path}: {name} holds NaN or infinite weights; train it again")
    return checkpoint


def _within(
    name: str, header: Mapping[str, Any], found: Mapping[str, NDArray[Any]], path: Path
) -> Checkpoint | None:
    """The checkpoint `name` within one of this `header`, if there is one."""
    if name not in header:
        return None
    first = f"{name}."
    own = {key.removeprefix(first): tensor for key, tensor in found.items() if key.startswith(first)}
    return _checkpoint(header[name], own, path)


def _check_composer(checkpoint: Checkpoint, composer: Checkpoint) -> None:
    """Raises ValueError for a composer of something else than this network's notes."""
    if (
        checkpoint.told != ["notes"]
        or not isinstance(composer.codec, NoteCodec)
        or composer.shape.pool != (TOKENS,)
        or composer.shape.curve_channels != CURVE_CHANNELS
        or composer.shape.hop != TOKENS
        or composer.sketch is not None
        or composer.composer is not None
        or composer.shape.labels != checkpoint.shape.player_labels
    ):
        raise ValueError("the composer does not make up what the network follows")


def _check_sketch(checkpoint: Checkpoint, sketch: Checkpoint) -> None:
    """Raises ValueError for a sketch of something else than this network's curves."""
    frame = sketch.shape.pool[0] if sketch.shape.pool else 0
    told = told_curves(checkpoint.curves)
    if (
        not isinstance(sketch.codec, CurveCodec)
        or list(sketch.curves) != told
        or sketch.shape.curve_channels != curve_channels(told, 0)
        or frame != checkpoint.shape.curve_channels - sketch.shape.curve_channels
        or (told and sketch.shape.hop != frame)
        or sketch.sketch is not None
        or sketch.composer is not None
        or sketch.shape.labels != checkpoint.shape.player_labels
    ):
        raise ValueError("the sketch does not draw what the network follows")


def _quantization(header: Mapping[str, Any]) -> dict[str, Any]:
    """What the header says of the scales. Raises TypeError or ValueError if its bits are no numbers."""
    found = dict(header.get("quantization", {}))
    bits = {str(name): float(value) for name, value in dict(found.get("bits", {})).items()}
    if not all(map(math.isfinite, bits.values())):
        raise ValueError("bits per sample that are no numbers")
    return found | {"bits": bits} if found else {}


def write_tensors(path: Path, tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]) -> None:
    """A safetensors file at `path`, whole or not at all, in a folder made for it. Raises OutputError."""
    from safetensors.numpy import save

    data = save({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, dict(metadata))
    with write_whole(path, parents=True) as file:
        file.write(data)


def read_tensors(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Tensors and metadata of a safetensors file. Raises CheckpointError for anything else."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such checkpoint") from None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from None
    try:
        tensors = load(data)
        (size,) = struct.unpack("<Q", data[:8])
        metadata = json.loads(data[8 : 8 + size]).get("__metadata__", {})
    except (SafetensorError, AttributeError, KeyError, TypeError, ValueError, struct.error) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"{path}: not a checkpoint, or a damaged one ({reason})") from None
    return tensors, metadata
