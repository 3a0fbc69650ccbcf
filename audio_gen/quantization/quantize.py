"""From a checkpoint to one with int8 scales, and what every precision costs on held-out audio.

    quantization = quantize(load_checkpoint("model.safetensors"), Path("runs/drums/store"))
    print(quantization.to_text())

Needs no torch.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from audio_gen.checkpoint import Checkpoint
from audio_gen.data.prepare import Progress
from audio_gen.evaluation.material import RECORDINGS, Material, open_material
from audio_gen.quantization.calibrate import calibrate
from audio_gen.quantization.clips import Excerpt, batches, beginnings, divide, pieces
from audio_gen.sampler.model import Model, token_bits
from audio_gen.sampler.precision import PRECISIONS, choose

VERSION = 1
CALIBRATION_SECONDS = 40.0
HELD_OUT_SECONDS = 60.0
LOGITS = 1 << 22  # rows x time x levels of one call, which bounds the memory
WORST = 8  # layers shown in the text


@dataclass(frozen=True)
class Quantization:
    """A checkpoint with int8 scales, and how good they are."""

    checkpoint: Checkpoint
    bits: dict[str, float]
    """Bits per sample of each precision, on the same held-out audio."""
    errors: dict[str, float]
    """By matrix product: relative rms error of what it gives in int8, its inputs exact, on calibration audio."""
    calibrated_on: str
    held_out: str
    calibration_seconds: float
    """Of audio."""
    held_out_seconds: float
    """Of audio."""
    seconds: float
    """That it took."""

    @property
    def automatic(self) -> str:
        """The precision that this model plays in unless told otherwise."""
        return choose(self.checkpoint, "auto")

    def to_dict(self) -> dict[str, Any]:
        """JSON types."""
        checkpoint = self.checkpoint
        return {
            "model": str(checkpoint.card.get("name", "model")),
            "hash": checkpoint.hash,
            "scales_hash": checkpoint.scales_hash,
            "bits": self.bits,
            "auto": self.automatic,
            "errors": self.errors,
            "calibrated_on": self.calibrated_on,
            "calibration_seconds": self.calibration_seconds,
            "held_out": self.held_out,
            "held_out_seconds": self.held_out_seconds,
            "seconds": self.seconds,
        }

    def to_text(self) -> str:
        """A table of a screenful, without a line end after it."""
        return "\n".join(_lines(self))


def quantize(
    checkpoint: Checkpoint,
    data: Path,
    *,
    max_seconds: float = HELD_OUT_SECONDS,
    threads: int = 1,
    progress: Progress | None = None,
) -> Quantization:
    """Calibrate int8 on a part of `data`, and score every precision on another.

    `data`: a token store or a run folder, which say what was held out; or a folder of recordings, of which
    every fourth is held out. At most `max_seconds` of held-out audio are scored. The same checkpoint and data
    give the same scales. Raises DataError, AudioFileError, ControlError.
    """
    began = time.perf_counter()
    tell = progress or (lambda done, total, text: None)
    plain = replace(checkpoint, scales={}, quantization={})
    model = Model(plain, threads=threads, precision="fp32")
    with open_material(model, data, "all", progress) as material:
        learned, others = divide(material)
        excerpts = pieces(model, learned, CALIBRATION_SECONDS)
        judged = beginnings(model, others, max_seconds)
        tensors = {name: np.asarray(tensor, np.float32) for name, tensor in plain.tensors.items()}
        tell(0, 0, "listening to the activations")
        scales, errors = calibrate(plain.shape, tensors, batches(model, material, excerpts), tell)
        calibrated = replace(plain, scales=scales)
        bits: dict[str, float] = {}
        for number, precision in enumerate(PRECISIONS):
            tell(number, len(PRECISIONS), f"scoring {precision}")
            player = Model(calibrated, threads=threads, precision=precision)
            bits[precision] = _bits_per_sample(player, material, judged)
        names = _names(material, data)
        took = time.perf_counter() - began
    record = {
        "version": VERSION,
        "calibrated_on": names[0],
        "held_out": names[1],
        "bits": {precision: round(value, 5) for precision, value in bits.items()},
        "seconds": round(took, 1),
    }
    rate = plain.sample_rate
    return Quantization(
        replace(calibrated, quantization=record),
        bits,
        errors,
        *names,
        sum(excerpt.samples for excerpt in excerpts) / rate,
        sum(excerpt.samples for excerpt in judged) / rate,
        took,
    )


def _bits_per_sample(model: Model, material: Material, excerpts: list[Excerpt]) -> float:
    """What each sample of `excerpts` costs `model`, on average."""
    total = 0.0
    for batch in batches(model, material, excerpts):
        state = model.engine.start(batch.labels)
        rows, longest = batch.tokens.shape
        block = max(1, LOGITS // (rows * model.levels))
        for start in range(0, longest, block):
            part = batch.tokens[:, start : start + block]
            costs = token_bits(model.engine.logits(state, part, batch.curves), part)
            total += float(costs[np.arange(start, start + part.shape[1]) < batch.lengths[:, None]].sum())
    return total / sum(excerpt.samples for excerpt in excerpts)


def _names(material: Material, data: Path) -> tuple[str, str]:
    """What was calibrated on and what was judged by, for the card."""
    if material.split == RECORDINGS:
        return f"three of four recordings of {data.name}", f"every fourth recording of {data.name}"
    digest = material.store.hash[:12]
    return f"training split of store {digest}", f"held-out split of store {digest}"


def _lines(found: Quantization) -> Iterator[str]:
    yield f"bits per sample on {found.held_out_seconds:.1f} s of held-out audio ({found.held_out})"
    for precision, bits in found.bits.items():
        more = "" if precision == "fp32" else f"  {bits - found.bits['fp32']:+.4f}"
        yield f"  {precision:<5} {bits:8.4f}{more}{'  <- auto' if precision == found.automatic else ''}"
    yield ""
    yield f"int8 error of each product, relative rms, the largest {min(WORST, len(found.errors))}"
    ranked = sorted(found.errors.items(), key=lambda pair: -pair[1])
    width = max(len(name) for name in found.errors)
    for name, error in ranked[:WORST]:
        yield f"  {name:<{width}}  {100 * error:5.2f} %"
    yield ""
    yield (
        f"calibrated on {found.calibration_seconds:.1f} s of audio ({found.calibrated_on}), "
        f"{found.seconds:.0f} s in all"
    )
