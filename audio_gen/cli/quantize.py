"""The verb quantize."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from audio_gen.cli.options import Force, ModelName, Quiet
from audio_gen.cli.progress import Live, product, say
from audio_gen.errors import OutputError, SettingError

if TYPE_CHECKING:
    from audio_gen.quantization import Quantization


def quantize(
    model: ModelName,
    data: Annotated[
        Path | None,
        typer.Argument(
            metavar="[DATA]",
            help="Token store, run folder, or folder of recordings.  [default: the run MODEL is]",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Where the model with its scales goes.  [default: in place]",
            show_default=False,
        ),
    ] = None,
    max_seconds: Annotated[
        float, typer.Option(min=0.1, help="Held-out audio to score each precision on, at most, seconds.")
    ] = 60.0,
    threads: Annotated[int, typer.Option(min=1, help="Processor threads.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Everything, as JSON.")] = False,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Calibrate int8 on training audio, and say what each precision costs on held-out audio.

    The scales go into the checkpoint; its weights and what it plays in fp32 stay as they are.

    Example: audio-gen quantize runs/drums
    """
    from audio_gen.checkpoint import save_checkpoint
    from audio_gen.sampler.library import bundled_files, find

    source = find(model)
    if data is None:
        data = source.parent
        if not (data / "store").is_dir():
            raise SettingError(
                f"{model}: is not in a run with a store; give DATA, its recordings or token store"
            )
    target = output or source
    if output is None and source in bundled_files().values():
        raise SettingError(f"{model}: comes with audio-gen; give -o FILE for the quantised one")
    if target.is_dir():
        raise OutputError(f"{target}: is a folder; name a file in it, such as {target / source.name}")
    if target.exists() and not force and not target.samefile(source):
        raise OutputError(f"{target}: exists; use --force to overwrite it")
    result = quantize_file(source, data, max_seconds, threads, quiet)
    save_checkpoint(target, result.checkpoint)
    product(json.dumps(result.to_dict(), indent=1) if as_json else result.to_text())
    say(f"wrote {target}", quiet)


def quantize_file(source: Path, data: Path, max_seconds: float, threads: int, quiet: bool) -> "Quantization":
    """Quantise the checkpoint at `source`, showing progress; nothing is written."""
    from audio_gen.quantization import quantize as calibrate
    from audio_gen.sampler import load

    checkpoint = load(source, precision="fp32").checkpoint
    with Live(quiet) as live:

        def show(done: int, total: int, text: str) -> None:
            live.show(done / total if total else None, text)

        return calibrate(checkpoint, data, max_seconds=max_seconds, threads=threads, progress=show)


def quantize_run(folder: Path, threads: int, quiet: bool) -> None:
    """Quantise the model of a run, unless it is quantised already or nothing was held out to judge it by."""
    from audio_gen.checkpoint import load_checkpoint, save_checkpoint
    from audio_gen.data.store import Store

    path = folder / "model.safetensors"
    if load_checkpoint(path).scales:
        say(f"{path}: quantised already", quiet)
        return
    if not Store(folder / "store").clips("valid"):
        say("note: nothing is held out to judge int8 by, so the model is not quantised", quiet)
        return
    result = quantize_file(path, folder, 60.0, threads, quiet)
    save_checkpoint(path, result.checkpoint)
    bits = ", ".join(f"{name} {value:.4f}" for name, value in result.bits.items())
    say(f"quantised {path}: {bits} bits per sample; it plays in {result.automatic}", quiet)
