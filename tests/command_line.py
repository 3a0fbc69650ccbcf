"""Calls of the command line inside the test's process, and small random models to call it with."""

import io
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from networks import network_settings, random_tensors

from audio_gen.checkpoint import Checkpoint, save_checkpoint
from audio_gen.cli.app import main
from audio_gen.codec import Codec
from audio_gen.shape import NetworkShape

RATE = 4000
LABELS = {"drum": ["hat", "kick"], "velocity": ["1", "2", "3"]}


@dataclass(frozen=True)
class Called:
    """What a call left on its streams."""

    code: int
    output: bytes
    errors: str

    @property
    def text(self) -> str:
        return self.output.decode()


def call(*arguments: object) -> Called:
    """Run `audio-gen ARGUMENTS` here."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
    argv = ["audio-gen", *map(str, arguments)]
    code: Any = None
    with mock.patch.multiple(sys, argv=argv, stdout=out, stderr=err):
        try:
            main()
        except SystemExit as leaving:
            code = leaving.code
        out.flush()
        err.flush()
    assert isinstance(code, int), f"left with {code!r}"
    return Called(code, out.buffer.getvalue(), err.buffer.getvalue().decode())  # type: ignore[attr-defined]


def write_model(
    path: Path,
    *,
    levels: int = 256,
    pre_emphasis: float = 0.0,
    rate: int = RATE,
    curves: tuple[str, ...] = (),
    quiet: bool = False,
    **network: Any,
) -> Path:
    """A checkpoint of two small tiers with random weights; a `quiet` one keeps away from full scale."""
    settings = {"labels": LABELS, "head_channels": 16, "curve_channels": len(curves), **network}
    shape = NetworkShape.from_dict(network_settings([3, 3], [12, 12], [4], levels=levels, **settings))
    card = {"name": "toy", "description": "A random network.", "licence": "CC0 1.0", "credit": "nobody"}
    tensors = random_tensors(shape, 5)
    if quiet:
        tensors["head.logits.bias"] -= 20 * np.abs(np.linspace(-1, 1, levels, dtype=np.float32))
    checkpoint = Checkpoint(shape, Codec(levels, pre_emphasis), rate, tensors, curves, card=card)
    save_checkpoint(path, checkpoint)
    return path
