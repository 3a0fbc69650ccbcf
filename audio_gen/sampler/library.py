"""Where models are: those that come with the package and with the zoo, run folders, checkpoint files."""

from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from audio_gen.checkpoint import SUFFIX, load_checkpoint
from audio_gen.engine.pack import check_scales, check_tensors
from audio_gen.errors import CheckpointError, EngineError
from audio_gen.sampler.model import Model

PRETRAINED = Path(__file__).parents[1] / "pretrained"
ZOO = "audio_gen_zoo"
"""A package of nothing but more models."""


def bundled() -> list[str]:
    """Names of the models that come with the package, and with the zoo if it is installed."""
    return sorted(bundled_files())


def bundled_files() -> dict[str, Path]:
    """Their files, by name. Those of the package come before others of the same name."""
    places = [PRETRAINED]
    if (zoo := find_spec(ZOO)) is not None:
        places += map(Path, zoo.submodule_search_locations or [])
    return {path.stem: path for place in reversed(places) for path in place.glob(f"*{SUFFIX}")}


def find(name_or_path: str | Path) -> Path:
    """The checkpoint file of a bundled model, a run folder, or a path. Raises CheckpointError."""
    path = Path(name_or_path)
    if (shipped := bundled_files().get(str(name_or_path))) is not None:
        return shipped
    if path.is_dir():
        if not (path / f"model{SUFFIX}").exists():
            raise CheckpointError(f"{path}: holds no model{SUFFIX}; train one there first")
        return path / f"model{SUFFIX}"
    if not path.exists() and path.suffix != SUFFIX:
        known = ", ".join(bundled()) or "none"
        raise CheckpointError(f"{name_or_path}: neither a bundled model ({known}) nor a checkpoint file")
    return path


def load(
    name_or_path: str | Path,
    *,
    engine: Literal["compiled", "reference"] = "compiled",
    threads: int = 1,
    precision: str = "auto",
) -> Model:
    """A bundled model by name, or a checkpoint by path. Raises CheckpointError, SettingError.

    `precision`: "fp32", "bf16", "int8", or "auto": the fastest that costs at most 0.01 bits per sample.

    >>> load("no-such-model")
    Traceback (most recent call last):
    audio_gen.errors.CheckpointError: no-such-model: neither a bundled model (...) nor a checkpoint file
    """
    path = find(name_or_path)
    checkpoint = load_checkpoint(path)
    try:
        check_tensors(checkpoint.shape, checkpoint.tensors)
        for part in (checkpoint.sketch, checkpoint.composer):
            if part is not None:
                check_tensors(part.shape, part.tensors)
        if checkpoint.scales:
            check_scales(checkpoint.shape, checkpoint.scales)
    except EngineError as error:
        raise CheckpointError(f"{path}: {error}") from None
    return Model(checkpoint, engine=engine, threads=threads, precision=precision)
