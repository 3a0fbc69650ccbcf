"""The live page: one HTML file that holds a model and the engine, and plays in the visitor's own browser.

Nothing is installed and nothing is sent anywhere. Equal seeds give the tokens that `audio-gen generate` draws in the
same precision.
"""

import base64
import json
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audio_gen.checkpoint import Checkpoint
from audio_gen.engine.binding import c_shape
from audio_gen.engine.pack import check_scales, check_tensors, pack
from audio_gen.errors import ControlError
from audio_gen.sampler.asking import doubt_shares
from audio_gen.sampler.model import Model
from audio_gen.sampler.precision import PRECISIONS
from audio_gen.shape import DOUBT
from audio_gen.sketch import SETTLED
from audio_gen.targets import check_free, write_whole

LONGEST_CLIP = 2.0
"""Seconds that a take lasts unless the visitor wants more, of a model that learned clips."""
_TYPES = {"float32": "f4", "float64": "f8", "uint8": "u1"}


def write_live(model: Model, path: Path, engine: bytes, *, force: bool = False) -> None:
    """Write the page of `model` to `path`; `engine` is the module that `build_browser` compiles.

    Raises ControlError as `check_playable`, OutputError.
    """
    check_playable(model)
    check_free(path, force)
    header, packed = pack_player(model)
    template = Template((files(__package__) / "live.html").read_text(encoding="utf-8"))
    card = model.card
    credits = [str(card[key]) for key in ("data", "licence", "credit") if card.get(key)]
    text = template.substitute(
        title=escape(model.name),
        description=escape(str(card.get("description", ""))),
        credits=escape("; ".join(credits)),
        style=_file("live.css"),
        player=_file("player.js"),
        script=_file("live.js"),
        header=json.dumps(header).replace("<", "\\u003c"),
        model=base64.b64encode(packed).decode(),
        engine=base64.b64encode(engine).decode(),
    )
    with write_whole(path, parents=True) as file:
        file.write(text.encode())


def check_playable(model: Model) -> None:
    """Raises ControlError for a model that follows what no label says."""
    if model.told:
        raise ControlError(
            f"{model.name}: follows {' and '.join(model.told)}, which a live page cannot give it; it plays models that "
            "labels are enough for"
        )


def pack_player(model: Model) -> tuple[dict[str, Any], bytes]:
    """What player.js needs to know of a model, and the arrays that it refers to."""
    store = _Arrays()
    draw = model.draw
    header = {
        "name": model.name,
        "precision": model.precision,
        "sampleRate": model.sample_rate,
        "seconds": LONGEST_CLIP if model.checkpoint.end_seconds else None,
        "bits": model.codec.pcm_bits,
        "labels": model.labels,
        "draw": {
            "temperature": draw.temperature,
            "topK": draw.top_k,
            "topP": draw.top_p,
            "minP": draw.min_p,
            "sketchTemperature": draw.sketch_temperature,
            "guidance": draw.guidance,
        },
        "samples": _network(store, model.checkpoint, model.precision, draw.doubt),
        "sketch": _network(store, model.sketch.checkpoint, "fp32", 0.0) if model.sketch else None,
        "settled": SETTLED if model.sketch and model.sketch.checkpoint.deaf else None,
    }
    return header, store.bytes()


class _Arrays:
    """Arrays one after another, each at a multiple of eight bytes."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.size = 0

    def add(self, array: NDArray[Any]) -> dict[str, Any]:
        """Where it lies, as `unpack` in player.js reads it."""
        plain = np.ascontiguousarray(array)
        place = {"type": _TYPES[plain.dtype.name], "at": self.size, "count": plain.size}
        self.parts.append(plain.tobytes() + bytes(-plain.nbytes % 8))
        self.size += len(self.parts[-1])
        return place

    def bytes(self) -> bytes:
        return b"".join(self.parts)


def _network(store: _Arrays, checkpoint: Checkpoint, precision: str, doubt: float) -> dict[str, Any]:
    shape = checkpoint.shape
    tensors = check_tensors(shape, checkpoint.tensors)
    scales = check_scales(shape, checkpoint.scales) if precision == "int8" else None
    labels = [
        {
            "name": name,
            "rows": len(values) + 1,
            "embedding": store.add(tensors[f"labels.{name}.weight"].ravel()),
            "fixed": doubt_shares([doubt])[0].tolist() if name == DOUBT else None,
        }
        for name, values in shape.labels.items()
    ]
    return {
        "shape": store.add(np.frombuffer(bytes(c_shape(shape)), np.uint8)),
        "weights": store.add(pack(shape, tensors, precision, scales).view(np.uint8)),
        "precision": PRECISIONS.index(precision),
        "hop": shape.hop,
        "offsets": list(shape.offsets),
        "channels": shape.curve_channels,
        "conditionChannels": shape.condition_channels if shape.conditioned else 0,
        "labels": labels,
        "curveBias": store.add(tensors["curves.bias"]) if shape.curve_channels else None,
        "amplitudes": store.add(checkpoint.codec.amplitudes),
        "preEmphasis": checkpoint.codec.pre_emphasis,
    }


def _file(name: str) -> str:
    return (files(__package__) / name).read_text(encoding="utf-8")
