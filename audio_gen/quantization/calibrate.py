"""The steps of int8: for every channel that a matrix product reads, what one step is worth.

A vector is read as whole numbers from -127 to 127, each channel in steps of its own. The matrix absorbs the
steps, so wide steps cost weights and narrow ones activations: between them lies the balance of SmoothQuant
(Xiao et al. 2023, arXiv:2211.10438), activations ** a / weights ** (1 - a). The exponent, and how much of the
range to give up for finer steps, are searched for every site alone, by the error of the products that read it.
"""

from collections.abc import Callable, Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from audio_gen.engine.pack import quantised, scale_shapes
from audio_gen.quantization.clips import Batch
from audio_gen.quantization.forward import Array, forward
from audio_gen.shape import NetworkShape

EXPONENTS = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
RANGES = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4)
"""Shares of the largest activation that the steps reach."""
ROWS = 2048
"""Activations per site that the errors are measured on, about."""
QUIETEST = 1e-3
"""Channels below this share of the loudest one are taken for as loud: they may wake up some day."""
LARGEST = np.float32(127)

Tell = Callable[[int, int, str], None]


def calibrate(
    shape: NetworkShape, tensors: Mapping[str, Array], batches: Iterable[Batch], tell: Tell
) -> tuple[dict[str, Array], dict[str, float]]:
    """Steps by site, float32 (channels,), and the relative rms error of what each product then gives."""
    largest, heard = _listen(shape, tensors, batches)
    products = _products(shape, tensors)
    scales: dict[str, Array] = {}
    errors: dict[str, float] = {}
    for place, site in enumerate(scale_shapes(shape)):
        tell(place, len(products), f"calibrating {site}")
        scales[site] = best_steps(largest[site], heard[site], products[site])
        for name, matrix in products[site].items():
            errors[name] = relative_error(heard[site], matrix, heard[site] @ matrix.T, scales[site])
    return scales, errors


def _listen(
    shape: NetworkShape, tensors: Mapping[str, Array], batches: Iterable[Batch]
) -> tuple[dict[str, Array], dict[str, Array]]:
    """By site: the largest magnitude of each channel, and some activations (rows, channels)."""
    generator = np.random.default_rng(0)  # which activations: always the same ones
    largest: dict[str, Array] = {}
    heard: dict[str, list[Array]] = {}
    everything = list(batches)
    samples = sum(int(batch.lengths.sum()) for batch in everything)
    for batch in everything:
        wanted = -(-ROWS * int(batch.lengths.sum()) // samples)

        def look(site: str, x: Array, batch: Batch = batch, wanted: int = wanted) -> Array:
            period = batch.tokens.shape[1] // max(1, x.shape[1])
            real = np.arange(x.shape[1]) * period < batch.lengths[:, None]
            known = x[real]
            if len(known):
                top = np.abs(known).max(axis=0)
                largest[site] = np.maximum(largest.get(site, top), top)
                chosen = generator.permutation(len(known))[:wanted]
                heard.setdefault(site, []).append(known[chosen])
            return x

        forward(shape, tensors, batch.tokens, batch.labels, batch.curves, look)
    silence = {site: np.zeros(channels, np.float32) for site, channels in scale_shapes(shape).items()}
    return silence | largest, {
        site: np.concatenate(heard.get(site, [nothing[None]])) for site, nothing in silence.items()
    }


def _products(shape: NetworkShape, tensors: Mapping[str, Array]) -> dict[str, dict[str, Array]]:
    """By site: the matrices (outputs, channels) that read it. Taps and slots stand below one another."""

    def stacked(name: str, parts: int = 1) -> dict[str, Array]:
        return {name: np.concatenate(np.split(tensors[f"{name}.weight"], parts, axis=1))}

    found = {}
    for site in scale_shapes(shape):
        name = site.rpartition(".")[0]
        if site.endswith(".gated"):
            readers = [reader for reader in ("residual", "skip") if f"{name}.{reader}.weight" in tensors]
            found[site] = {f"{name}.{reader}": tensors[f"{name}.{reader}.weight"] for reader in readers}
        elif ".layers." in site:
            found[site] = stacked(f"{name}.dilated", shape.kernel_size)
        elif name.endswith(".down"):
            found[site] = stacked(name, shape.pool[int(name.split(".")[1]) - 1])
        else:
            found[site] = stacked(name)
    return found


def best_steps(largest: Array, heard: Array, products: Mapping[str, Array]) -> Array:
    """The steps (channels,) with the least error of all products together."""
    matrix = np.concatenate(list(products.values()))
    exact = heard @ matrix.T
    loud, heavy = _awake(largest), _awake(np.abs(matrix).max(axis=0))
    best, least = loud / LARGEST, np.inf
    for exponent in EXPONENTS:
        balance = loud**exponent / heavy ** (1.0 - exponent)
        whole = balance * ((loud / balance).max() / LARGEST)
        for part in RANGES:
            steps = np.asarray(whole * part, np.float32)
            error = relative_error(heard, matrix, exact, steps)
            if error < least:
                best, least = steps, error
    return best


def _awake(magnitudes: Array) -> Array:
    loudest = float(magnitudes.max()) or 1.0
    return np.maximum(magnitudes, np.float32(QUIETEST * loudest))


def relative_error(heard: Array, matrix: Array, exact: NDArray[np.floating], steps: Array) -> float:
    """Relative rms error of `matrix` reading `heard` in `steps`, as the engine does it."""
    scale, (whole,) = quantised([matrix], steps)
    read = np.clip(np.rint(heard * (np.float32(1.0) / steps)), -LARGEST, LARGEST)
    given = (read @ whole.astype(np.float32).T) * scale
    size = float(np.square(exact, dtype=np.float64).sum())
    return float(np.sqrt(np.square(given - exact, dtype=np.float64).sum() / size)) if size else 0.0
