"""The verb generate."""

import math
import re
import time
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from audio_gen.cli.options import (
    Doubt,
    Force,
    Guidance,
    MinP,
    ModelName,
    Precision,
    PrecisionName,
    Quiet,
    SketchTemperature,
    TemperatureOverTime,
    TopK,
    TopP,
    need,
    parse_labels,
)
from audio_gen.cli.progress import Live, product, say
from audio_gen.errors import OutputError, SettingError

if TYPE_CHECKING:
    from audio_gen.sampler.take import Take


LONGEST_WORD = 64
"""Of a file name, in letters: a mixture may be longer than a name can be."""


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
            "--output",
            "-o",
            metavar="PATH",
            show_default=False,
            help="File (.wav, .flac, .raw), - for stdout, or with -n a folder.  [default: MODEL-LABELS-SEED.wav]",
        ),
    ] = None,
    seconds: Annotated[
        float, typer.Option(metavar="SECONDS", help="Length of each clip, seconds; inf: until stopped.")
    ] = 2.0,
    label: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="What to play: one value, drum=kick; a mixture, drum=kick:0.7+snare:0.3; or one that changes, by the "
            "second, texture=rain@0,waves@20 or texture=FILE.csv of rows such as 20,waves. Repeatable.",
            show_default=False,
        ),
    ] = None,
    curve: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE|FILE.csv",
            help="A curve over time, such as pitch=a2, pitch=110 or loudness=fade.csv. Repeatable.",
            show_default=False,
        ),
    ] = None,
    prompt: Annotated[
        str | None,
        typer.Option(
            metavar="FILE[@START-END]",
            help="A recording, or these seconds of it, to go on from. The file begins with it; --seconds, labels and "
            "curves begin where it ends.",
            show_default=False,
        ),
    ] = None,
    gain: Annotated[
        float | None,
        typer.Option(
            metavar="DECIBELS",
            help="Makes the prompt louder.  [default: as loud as most training recordings]",
            show_default=False,
        ),
    ] = None,
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="Clips to make, all of one seed.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Equal seeds give equal audio.")] = 0,
    temperature: TemperatureOverTime = None,
    top_k: TopK = None,
    top_p: TopP = None,
    min_p: MinP = None,
    sketch_temperature: SketchTemperature = None,
    guidance: Guidance = None,
    doubt: Doubt = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue files that a stopped run has left.")
    ] = False,
    force: Force = False,
    format: Annotated[
        FormatName | None,
        typer.Option(help="File format.  [default: by suffix, else wav]", show_default=False),
    ] = None,
    bits: Annotated[
        int | None,
        typer.Option(
            help="16 or 24 of integer, 32 of float.  [default: what the model needs]", show_default=False
        ),
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Processor threads, for several clips.")] = 1,
    engine: Annotated[
        EngineName, typer.Option(help="compiled, or the slow PyTorch reference.")
    ] = EngineName.COMPILED,
    precision: Precision = PrecisionName.AUTO,
    quiet: Quiet = False,
) -> None:
    """Generate new audio with a model, streamed to a file that is playable at every moment.

    Example: audio-gen generate drums --label drum=kick -o kick.wav
    """
    from audio_gen.mixtures import settle_labels
    from audio_gen.sampler import Draw, load
    from audio_gen.sampler.parts import turned
    from audio_gen.sampler.render import begun_precision, render, resumable, samples_in
    from audio_gen.sampler.steering import hear, steer
    from audio_gen.sampler.take import Take

    settings = (temperature, top_k, top_p, min_p, sketch_temperature, guidance, doubt)
    turned(Draw(), *settings)  # refuses what is out of range
    labels = parse_labels(label or [])
    if not seconds > 0:
        raise SettingError(f"--seconds must be above 0, got {seconds:g}")
    if resume and force:
        raise SettingError("--resume keeps what is there, --force replaces it; give one of them")
    if gain is not None and prompt is None:
        raise SettingError("--gain is that of a prompt; give --prompt, too")
    if engine is EngineName.REFERENCE:
        need("torch", verb="--engine reference")
    loaded = load(model, engine=engine.value, threads=threads, precision=precision.value)
    draw, fade = turned(loaded.draw, *settings)
    labels = settle_labels(labels, loaded.labels)
    length = None if math.isinf(seconds) else seconds
    frames, given = steer(loaded, curve or [], length)
    heard, begins = (None, "") if prompt is None else hear(loaded, prompt, gain)
    if heard is not None and length is not None:
        length += len(heard.waveform) / loaded.sample_rate
    takes = [
        Take(
            loaded.name,
            loaded.checkpoint.hash,
            length,
            labels,
            seed,
            stream,
            draw,
            given,
            prompt=begins,
            fade=str(fade or ""),
        )
        for stream in range(count)
    ]
    outputs = _outputs(output, takes, format)
    begun = begun_precision(outputs) if resume and precision is PrecisionName.AUTO else None
    if begun is not None and begun != loaded.precision:  # what a file was begun in decides
        loaded = load(model, engine=engine.value, threads=threads, precision=begun)
    takes = [replace(take, precision=loaded.arithmetic) for take in takes]
    rate = loaded.sample_rate
    begin = 0 if heard is None else len(heard.waveform)
    found = sum(max(begin, samples_in(path) if resume else 0) for path in outputs)
    total = math.inf if length is None else count * max(1, round(length * rate))
    began, made = time.perf_counter(), 0
    with Live(quiet) as live:

        def show(samples: int) -> None:
            nonlocal made
            made += samples
            live.show(*_progress(found, made, total, count, time.perf_counter() - began, rate))

        try:
            clipped = render(
                loaded, takes, outputs, curves=frames, prompt=heard, format=format and format.value, bits=bits,
                force=force, resume=resume, progress=show,
            )  # fmt: skip
        except KeyboardInterrupt:
            final = resumable(loaded, outputs[0], format and format.value, bits)
            advice = "" if final else "; the same command with --resume continues"
            live.say(f"stopped after {(found + made) / count / rate:.1f} s of audio{advice}")
            raise
    name = outputs[0] if count == 1 else Path(outputs[0]).parent
    if resume and not made:
        say(f"{name}: complete already, {found / count / rate:.2f} s; a larger --seconds extends it", quiet)
    else:
        what = f"{count} clips of " if count > 1 else ""
        new = f", {made / count / rate:.2f} s of it new" if found else ""
        speed = made / rate / max(time.perf_counter() - began, 1e-9)
        there = (found + made) / count / rate
        say(
            f"wrote {'standard output' if name == '-' else name} "
            f"({what}{there:.2f} s{new}, {speed:.1f}× real time, seed {seed}, {loaded.precision})",
            quiet,
        )
    if clipped:
        say(f"note: {clipped:,} samples beyond full scale were clipped; --bits 32 keeps them", quiet)
    if output != "-":
        for path in outputs:
            product(path)


def _outputs(output: str | None, takes: "list[Take]", format: FormatName | None) -> list[Path | str]:
    """Where each take goes."""
    suffix = f".{format.value}" if format else ".wav"
    take = takes[0]
    if output == "-":
        if len(takes) > 1:
            raise SettingError("-o - takes one clip; leave -n out, or give a folder")
        return ["-"]
    labels = [re.sub(r'[/\\:*?"<>|]', "_", text)[:LONGEST_WORD] for text in take.labels.values()]
    words = [take.model, *labels, f"seed{take.seed}"]
    if len(takes) == 1:
        if output is None:
            return [Path("-".join(words) + suffix)]
        if Path(output).is_dir():
            raise OutputError(
                f"{output}: is a folder; name a file in it, such as {Path(output) / ('clip' + suffix)}"
            )
        return [Path(output)]
    if (
        output is not None
        and Path(output).suffix.lower() in (".wav", ".flac", ".raw")
        and not Path(output).is_dir()
    ):
        raise SettingError(f"-o {output}: is one file, but -n asks for {len(takes)}; give a folder")
    folder = Path(output or "-".join(words))
    return [folder / f"{number:03}{suffix}" for number in range(len(takes))]


def _progress(
    found: int, made: int, total: float, count: int, elapsed: float, rate: int
) -> tuple[float | None, str, float | None]:
    """What the live line shows: samples `found` in the files and `made` since, over all clips."""
    speed = made / max(elapsed, 1e-9)
    each = (found + made) / count / rate
    whole = "" if math.isinf(total) else f" of {total / count / rate:.1f} s"
    clips = f"{count} clips, " if count > 1 else ""
    text = f"{clips}{each:.1f} s{whole}  {speed:,.0f} samples/s  {speed / rate:.1f}× real time"
    if math.isinf(total):
        return None, f"{text}  Ctrl-C stops", None
    return (found + made) / total, text, (total - found - made) / speed if made else None
