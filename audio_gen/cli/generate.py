"""The verb generate."""

import math
import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from audio_gen.cli.options import Force, ModelName, Quiet, need, parse_labels
from audio_gen.cli.progress import Live, say
from audio_gen.errors import OutputError, SettingError

if TYPE_CHECKING:
    from audio_gen.sampler import Model
    from audio_gen.sampler.take import Take


class EngineName(StrEnum):
    """Which writing of the network plays."""

    COMPILED = "compiled"
    REFERENCE = "reference"


class FormatName(StrEnum):
    """How audio is written."""

    WAV = "wav"
    FLAC = "flac"
    RAW = "raw"


def generate(
    model: ModelName,
    output: Annotated[
        str | None,
        typer.Option(
            "--output", "-o", metavar="PATH", show_default=False,
            help="File (.wav, .flac, .raw), - for stdout, or with -n a folder.  [default: MODEL-LABELS-SEED.wav]",
        ),
    ] = None,
    seconds: Annotated[float, typer.Option(help="Length of each clip, seconds; inf: until stopped.")] = 2.0,
    label: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="What to play, such as drum=kick. Repeatable.", show_default=False),
    ] = None,
    curve: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE|FILE.csv", help="A curve over time, such as loudness=-20. Repeatable.", show_default=False),
    ] = None,
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="Clips to make, all of one seed.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Equal seeds give equal audio.")] = 0,
    temperature: Annotated[float, typer.Option(help="0 to 10: below 1 calmer, above 1 wilder.")] = 1.0,
    top_k: Annotated[int, typer.Option(help="Draw from the k likeliest values only; 0: from all.")] = 0,
    top_p: Annotated[float, typer.Option(help="Draw from the likeliest values that hold this probability, 0 to 1.")] = 1.0,
    min_p: Annotated[float, typer.Option(help="Drop values below this share of the likeliest one, 0 to 1.")] = 0.0,
    resume: Annotated[bool, typer.Option("--resume", help="Continue files that a stopped run has left.")] = False,
    force: Force = False,
    format: Annotated[FormatName | None, typer.Option(help="File format.  [default: by suffix, else wav]", show_default=False)] = None,
    bits: Annotated[int | None, typer.Option(help="16 or 24 of integer, 32 of float.  [default: what the model needs]", show_default=False)] = None,
    threads: Annotated[int, typer.Option(min=1, help="Processor threads, for several clips.")] = 1,
    engine: Annotated[EngineName, typer.Option(help="compiled, or the slow PyTorch reference.")] = EngineName.COMPILED,
    quiet: Quiet = False,
) -> None:
    """Generate new audio with a model, streamed to a file that is playable at every moment.

    Example: audio-gen generate drums --label drum=kick -o kick.wav
    """
    from audio_gen.sampler import Draw, load
    from audio_gen.sampler.render import render
    from audio_gen.sampler.take import Take

    draw = Draw(temperature, top_k, top_p, min_p)
    labels = parse_labels(label or [])
    if not seconds > 0:
        raise SettingError(f"--seconds must be above 0, got {seconds:g}")
    if engine is EngineName.REFERENCE:
        need("torch", verb="--engine reference")
    loaded = load(model, engine=engine.value, threads=threads)
    given = {text.partition("=")[0]: text.partition("=")[2] for text in curve or []}
    length = None if math.isinf(seconds) else seconds
    takes = [
        Take(loaded.name, loaded.checkpoint.hash, length, labels, seed, stream, draw, given) for stream in range(count)
    ]
    outputs = _outputs(output, takes, format)
    frames = _curves(loaded, curve or [], length)
    total = math.inf if length is None else count * max(1, round(length * loaded.sample_rate))
    began, made = time.perf_counter(), 0
    with Live(quiet) as live:

        def show(samples: int) -> None:
            nonlocal made
            made += samples
            live.show(*_progress(made, total, count, time.perf_counter() - began, loaded.sample_rate))

        try:
            clipped = render(
                loaded, takes, outputs, curves=frames, format=format and format.value, bits=bits,
                force=force, resume=resume, progress=show,
            )  # fmt: skip
        except KeyboardInterrupt:
            live.say(f"stopped after {made / count / loaded.sample_rate:.1f} s of audio; the same command with --resume continues")
            raise
    speed = made / loaded.sample_rate / max(time.perf_counter() - began, 1e-9)
    name = outputs[0] if count == 1 else Path(outputs[0]).parent
    what = f"{count} clips of " if count > 1 else ""
    say(f"wrote {'standard output' if name == '-' else name} ({what}{seconds:.2f} s, {speed:.1f}× real time, seed {seed})", quiet)
    if clipped:
        say(f"note: {clipped:,} samples beyond full scale were clipped; --bits 32 keeps them")
    if output != "-":
        for path in outputs:
            print(path)


def _outputs(output: str | None, takes: "list[Take]", format: FormatName | None) -> list[Path | str]:
    """Where each take goes."""
    suffix = f".{format.value}" if format else ".wav"
    take = takes[0]
    if output == "-":
        if len(takes) > 1:
            raise SettingError("-o - takes one clip; leave -n out, or give a folder")
        return ["-"]
    if len(takes) == 1:
        if output is None:
            words = [take.model, *take.labels.values(), f"seed{take.seed}"]
            return [Path("-".join(words).replace("/", "_") + suffix)]
        if Path(output).is_dir():
            raise OutputError(f"{output}: is a folder; name a file in it, such as {Path(output) / ('clip' + suffix)}")
        return [Path(output)]
    if output is not None and Path(output).suffix.lower() in (".wav", ".flac", ".raw"):
        raise SettingError(f"-o {output}: is one file, but -n asks for {len(takes)}; give a folder")
    folder = Path(output or f"{take.model}-seed{take.seed}")
    return [folder / f"{number:03}{suffix}" for number in range(len(takes))]


def _curves(model: "Model", texts: list[str], seconds: float | None):  # type: ignore[no-untyped-def]
    """Frames for the whole stream; an endless one holds the last of them."""
    from audio_gen.curves import parse_curve, player_frames

    curves = [parse_curve(text) for text in texts]
    names = model.checkpoint.curves
    if not names and not curves:
        return None
    end = max([seconds or 0.0, *(curve.seconds[-1] for curve in curves)])
    hop = model.checkpoint.shape.hop
    return player_frames(curves, names, model.sample_rate, hop, 0, math.ceil(end * model.sample_rate / hop) + 1)


def _progress(made: int, total: float, count: int, elapsed: float, rate: int) -> tuple[float | None, str, float | None]:
    speed = made / max(elapsed, 1e-9)
    each = made / count / rate
    whole = "" if math.isinf(total) else f" of {total / count / rate:.1f} s"
    clips = f"{count} clips, " if count > 1 else ""
    text = f"generate  {clips}{each:.1f} s{whole}  {speed:,.0f} samples/s  {speed / rate:.1f}× real time"
    if math.isinf(total):
        return None, text, None
    return made / total, text, (total - made) / speed
