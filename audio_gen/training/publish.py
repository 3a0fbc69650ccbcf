"""From a training to what people use: a checkpoint of the averaged weights with its card, and previews."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audio_gen import __version__
from audio_gen.audio import AudioWriter
from audio_gen.checkpoint import Checkpoint
from audio_gen.codec import Codec
from audio_gen.curves import channels_of
from audio_gen.data.store import Store, evenly
from audio_gen.engine.limits import hardware
from audio_gen.evaluation.baselines import Baseline
from audio_gen.network import Network
from audio_gen.settings import Recipe, TrainSettings
from audio_gen.shape import DOUBT, DOUBTS, PHASES, NetworkShape
from audio_gen.training.state import Progress, TrainingState

if TYPE_CHECKING:
    from audio_gen.sampler.model import Model

LOOSE = -12.0
"""How sharp an anchor is to begin with in a network that has learned without: 2^-12."""
PEAK_CLIPS = 200
PEAK_SECONDS = 10.0
"""How many clips are looked at for what they usually peak at, and how much of each."""


def shape_of(recipe: Recipe, store: Store) -> NetworkShape:
    """The network a recipe describes, for the labels and curves the store holds."""
    settings = recipe.network
    envelope: tuple[int, ...] = ()
    if recipe.envelope and store.curves:
        bands = channels_of("mel", store.curves, store.curve_channels).stop
        envelope = (recipe.envelope, bands, store.sample_rate)
    period: tuple[int, ...] = ()
    if recipe.follows_period and "pitch" in store.curves:
        column = channels_of("pitch", store.curves, store.curve_channels).start
        period = (column, store.sample_rate, PHASES if settings.phase else 0)
    labels = {name: tuple(values) for name, values in store.labels.items()}
    if recipe.train.tell_noise:
        labels[DOUBT] = tuple(str(step) for step in range(1, DOUBTS + 1))
    return NetworkShape(
        levels=store.codec.levels,
        layers=tuple(settings.layers),
        channels=tuple(settings.channels),
        pool=tuple(settings.pool),
        dilation_cycle=settings.dilation_cycle,
        kernel_size=settings.kernel_size,
        skip_channels=settings.skip_channels,
        head_channels=settings.head_channels,
        condition_channels=settings.condition_channels,
        labels=labels,
        curve_channels=store.curve_channels,
        hop=store.hop,
        around=settings.around if store.curves else 0,
        predictors=recipe.predictors,
        envelope=envelope,
        period=period,
        anchored=recipe.anchored,
    )


def checkpoint_of(
    recipe: Recipe,
    store: Store,
    state: TrainingState,
    baselines: list[Baseline],
    sketch: Checkpoint | None = None,
    composer: Checkpoint | None = None,
) -> Checkpoint:
    """The averaged weights, rounded to float16, which is what is validated, saved and played alike."""
    names = [name for name, _ in state.network.named_parameters()]
    tensors = {
        name: average.detach().cpu().numpy().astype(np.float16)
        for name, average in zip(names, state.average, strict=True)
    }
    card = {
        "name": recipe.name,
        **recipe.card.model_dump(),
        "play": recipe.play.model_dump(exclude_none=True),
        "parameters": sum(tensor.size for tensor in tensors.values())
        + sum(part.parameters for part in (sketch, composer) if part is not None),
        "baselines": {baseline.name: round(baseline.bits_per_sample, 4) for baseline in baselines},
        "seed": recipe.train.seed,
        "recipe": _without_folders(recipe),
        "store": store.hash,
    }
    if state.progress.began_from:
        card["began_from"] = state.progress.began_from
    gain = {
        "mode": recipe.data.gain,
        "peak": recipe.data.peak,
        "usual_peak": round(_usual_peak(store), 3),
        "gains": store.manifest["gains"],
    }
    return Checkpoint(
        state.network.shape,
        store.codec,
        store.sample_rate,
        tensors,
        tuple(store.curves),
        gain,
        recipe.data.end_seconds,
        card,
        sketch=sketch,
        composer=composer,
    )


def _usual_peak(store: Store) -> float:
    """What three of four training clips stay below: all may share a gain that leaves room for the loudest one, which is
    ten times as loud as most."""
    longest = round(PEAK_SECONDS * store.sample_rate)
    some = evenly(store.clips("train"), PEAK_CLIPS)
    peaks = [float(np.abs(store.codec.decode(store.tokens(clip)[:longest])).max()) for clip in some]
    return float(np.quantile(peaks, 0.75))


def are_publishable(state: TrainingState) -> bool:
    """Whether all averaged weights are finite float16 numbers; those of a diverged training may not be."""
    return all(bool(torch.isfinite(average.half()).all()) for average in state.average)


def _without_folders(recipe: Recipe) -> dict[str, Any]:
    """The recipe as it travels: names of the recordings' folder and table, not where they lie."""
    plain = recipe.to_dict()
    for key in ("source", "labels_csv"):
        if plain["data"][key] is not None:
            plain["data"][key] = Path(plain["data"][key]).name
    return plain


def with_results(
    checkpoint: Checkpoint, progress: Progress, bits: float | None, whole: bool, device: torch.device
) -> Checkpoint:
    """The checkpoint with what the training came to in its card."""
    results = {
        "steps": progress.step,
        "minutes": round(progress.seconds / 60, 2),
        "samples": progress.samples,
        "bits_per_sample": None if bits is None else round(bits, 4),
        "scored": "all held-out audio" if whole else "a part of the held-out audio",
        "hardware": _hardware(device),
        "threads": torch.get_num_threads(),
        "date": datetime.now(UTC).date().isoformat(),
        "version": __version__,
    }
    if checkpoint.sketch_bits is not None:
        results["bits_of_sketch"] = round(checkpoint.sketch_bits, 4)
    return replace(checkpoint, card={**checkpoint.card, **results})


def load_into(network: Network, checkpoint: Checkpoint) -> None:
    """Give `network` the checkpoint's weights. What predictors say that only `network` has weighs nothing at first, and
    an anchor that only it has next to nothing."""
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            weights = torch.from_numpy(checkpoint.tensors[name].astype(np.float32))
            if name == "embedding.weight":
                weights = _rearranged(weights, checkpoint.shape, network.shape)
            if name.startswith("head.logits.") and network.shape.anchored and not checkpoint.shape.anchored:
                weights = torch.cat([weights, torch.zeros_like(parameter[len(weights) :])])
                if name == "head.logits.bias":
                    weights[-2] = LOOSE
            parameter.copy_(weights)


def _rearranged(table: Tensor, theirs: NetworkShape, ours: NetworkShape) -> Tensor:
    """The embedding's rows in the blocks of `ours`, zeros where `theirs` has none."""
    blocks = dict(zip(theirs.input_blocks, torch.split(table, [*theirs.input_blocks.values()]), strict=True))
    return torch.cat(
        [blocks.get(name, table.new_zeros(rows, table.shape[1])) for name, rows in ours.input_blocks.items()]
    )


def write_previews(folder: Path, checkpoint: Checkpoint, store: Store, settings: TrainSettings) -> None:
    """A clip per value of the first label (one clip if there is none), all of the recipe's seed; the other
    labels are those of some training clip.

    A model that follows curves which no sketch draws follows those of a few held-out clips instead.
    Raises EngineError, OutputError.
    """
    from audio_gen.sampler.model import Model

    if not settings.preview_seconds or type(checkpoint.codec) is not Codec:
        return
    model = Model(checkpoint)
    for name, clip in _previews(model, store, settings):
        safe = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in name)
        tags = {"comment": f"audio_gen {__version__} preview, seed {settings.seed}"}
        with AudioWriter(folder / f"{safe}.wav", model.sample_rate, tags=tags, force=True) as writer:
            writer.write(clip)


def _previews(
    model: "Model", store: Store, settings: TrainSettings
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Name and waveform of each preview."""
    seconds, seed = settings.preview_seconds, settings.seed
    if model.told:
        for number, heard in enumerate((store.clips("valid") or store.clips("train"))[:4]):
            name = f"{number}-{Path(heard.source).stem}"
            curves = store.curves_of(heard)
            assert curves is not None
            told = curves[:, ~model.drawn]
            yield name, model.generate(seconds, labels=heard.labels, curves=told, seed=seed)
        return
    first = next(iter(model.labels.items()), None)
    wanted = (
        [{}] if first is None else [_usual(store, *first, place) for place in range(min(len(first[1]), 16))]
    )
    clips = model.generate(seconds, labels=wanted, seed=seed)
    for labels, clip in zip(wanted, clips, strict=True):
        yield "-".join(labels.values()) or "preview", clip


def _usual(store: Store, label: str, values: list[str], place: int) -> dict[str, str]:
    """The value at `place` with the other labels of a clip from the middle of those that carry it."""
    alike = [clip.labels for clip in store.clips("train") if clip.labels.get(label) == values[place]]
    return alike[len(alike) // 2] if alike else {label: values[place]}


def _hardware(device: torch.device) -> str:
    """Processor and the cores this training may use, and the GPU if it uses one."""
    return f"{hardware()}, {torch.cuda.get_device_name(device)}" if device.type == "cuda" else hardware()
