"""The resume state of a training: everything that decides what happens next, in one safetensors file."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from audio_gen.checkpoint import read_tensors, write_tensors
from audio_gen.data.batches import Reader, Readers
from audio_gen.errors import CheckpointError
from audio_gen.network import Network, NetworkState
from audio_gen.training.optimisers import owner

FILE = "resume.safetensors"


@dataclass
class Progress:
    """Counters of a training. JSON types only."""

    step: int = 0
    seconds: float = 0.0
    """Time spent in training steps."""
    samples: int = 0
    """Samples learned from."""
    skipped: int = 0
    """Steps whose loss or gradient was not finite, or spiked through no fault of the batch: they were not taken."""
    in_a_row: int = 0
    """... the last of them, with no good step since."""
    setbacks: int = 0
    """Times the training went back to its last checkpoint, each time with half the learning rate."""
    smooth_loss: float | None = None
    """Running mean of the training loss, bits per sample."""
    best: float | None = None
    """Best validation so far, bits per sample."""
    signature: str = ""
    """Digest of recipe and data that this state belongs to."""
    began_from: str = ""
    """Hash of the checkpoint whose weights it began with; empty: random ones."""
    validated: int = 0
    """Step of the last whole validation."""
    final: bool = False
    """Whether that was the one at the end of the run."""
    metrics_bytes: int = 0
    """Length of metrics.jsonl after that validation; what comes later is cut off on resuming."""


@dataclass
class TrainingState:
    """Live objects of a training."""

    network: Network
    optimisers: list[torch.optim.Optimizer]
    average: list[Tensor]
    """Averaged parameters (EMA), in the order of `network.parameters()`."""
    readers: Readers
    carried: NetworkState
    progress: Progress = field(default_factory=Progress)


def save_state(path: Path, state: TrainingState) -> None:
    """Write everything to `path`, whole or not at all."""
    tensors: dict[str, Any] = {}
    for (name, parameter), average in zip(state.network.named_parameters(), state.average, strict=True):
        tensors[f"parameter.{name}"] = parameter.detach()
        tensors[f"average.{name}"] = average
        for key, value in owner(state.optimisers, parameter).state.get(parameter, {}).items():
            tensors[f"optimiser.{name}.{key}"] = value
    for index, tensor in enumerate(state.carried.tensors()):
        tensors[f"carried.{index}"] = tensor
    arrays = {name: _array(tensor) for name, tensor in tensors.items()}
    header = {
        "progress": asdict(state.progress),
        "readers": [asdict(reader) for reader in state.readers.readers],
    }
    write_tensors(path, arrays, {"audio_gen_training": json.dumps(header)})


def load_state(path: Path, state: TrainingState) -> None:
    """Fill `state` from `path`. Raises CheckpointError if it does not fit this training."""
    arrays, metadata = read_tensors(path)
    try:
        header = json.loads(metadata["audio_gen_training"])
        progress = Progress(**header["progress"])
        if progress.signature != state.progress.signature:
            raise CheckpointError(
                f"{path}: belongs to another recipe or other data; start afresh with --force, or in another folder"
            )
        readers = [Reader(**reader) for reader in header["readers"]]
        with torch.no_grad():
            for (name, parameter), average in zip(
                state.network.named_parameters(), state.average, strict=True
            ):
                parameter.copy_(_tensor(arrays[f"parameter.{name}"]))
                average.copy_(_tensor(arrays[f"average.{name}"]))
                prefix = f"optimiser.{name}."
                kept = {
                    key.removeprefix(prefix): array for key, array in arrays.items() if key.startswith(prefix)
                }
                # The fused optimiser wants even its step counter where the parameter is.
                owner(state.optimisers, parameter).state[parameter] = {
                    key: _tensor(array).to(parameter.device) for key, array in kept.items()
                }
            like = state.carried.tensors()
            restored = [
                _tensor(arrays[f"carried.{index}"]).to(tensor.device, tensor.dtype)
                for index, tensor in enumerate(like)
            ]
        state.carried = state.carried.replaced(restored)
        state.readers.readers = readers
        state.progress = progress
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(
            f"{path}: damaged training state ({error}); start afresh with --force"
        ) from None


def _array(tensor: Tensor) -> np.ndarray[Any, Any]:
    """Floats as float32, whole numbers (what the predictors remember) as they are."""
    plain = tensor.detach().float() if tensor.is_floating_point() else tensor
    return np.asarray(plain.cpu().numpy())


def _tensor(array: np.ndarray[Any, Any]) -> Tensor:
    return torch.from_numpy(np.array(array))
