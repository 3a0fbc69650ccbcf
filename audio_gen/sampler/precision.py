"""How finely a network is computed, and which precision a model plays in unless told otherwise."""

from typing import Literal, get_args

from audio_gen.checkpoint import Checkpoint
from audio_gen.errors import CheckpointError, SettingError

Precision = Literal["fp32", "bf16", "int8"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
"""From the most exact to the fastest."""
TOLERANCE = 0.01
"""Bits per sample above fp32 that "auto" gives away for speed."""


def choose(checkpoint: Checkpoint, wanted: str) -> Precision:
    """The precision to play in. "auto": the fastest whose loss, as recorded by `quantize`, is within TOLERANCE.

    Raises SettingError for an unknown one, CheckpointError for int8 without scales.
    """
    if wanted == "auto":
        bits = checkpoint.bits
        known = [precision for precision in PRECISIONS if precision in bits]
        if "int8" in known and not checkpoint.scales:
            known.remove("int8")
        close = [each for each in known if "fp32" in bits and bits[each] <= bits["fp32"] + TOLERANCE]
        return close[-1] if close else "fp32"
    for precision in PRECISIONS:
        if precision == wanted:
            if precision == "int8" and not checkpoint.scales:
                name = checkpoint.card.get("name", "model")
                raise CheckpointError(f"{name} has no int8 scales: run `audio-gen quantize {name}`")
            return precision
    raise SettingError(f"precision must be auto, {', '.join(PRECISIONS)}; got {wanted}")
