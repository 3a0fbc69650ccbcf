"""The verb vocode."""

from hashlib import blake2b
from pathlib import Path
from typing import Annotated

import typer

from audio_gen.cli.options import Force, Precision, PrecisionName, Quiet, TemperatureOverTime, parse_labels
from audio_gen.cli.progress import Live, product, say
from audio_gen.errors import OutputError


def vocode(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="INPUT",
            help="A recording, or its curves: .npz as --save writes them, or .npy (frames, channels).",
            show_default=False,
        ),
    ],
    model: Annotated[str, typer.Option(help="Bundled model, checkpoint or run folder that follows curves.")],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="PATH",
            show_default=False,
            help="File (.wav or .flac).  [default: INPUT-MODEL.wav]",
        ),
    ] = None,
    save: Annotated[
        Path | None,
        typer.Option(metavar="FILE.npz", help="Also keep the curves in this file.", show_default=False),
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Whose voice, say. Repeatable.", show_default=False),
    ] = None,
    gain: Annotated[
        float | None,
        typer.Option(
            metavar="DECIBELS",
            help="Makes the recording louder before it is measured.  [default: as loud as most training recordings]",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Equal seeds give equal audio.")] = 0,
    temperature: TemperatureOverTime = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue a file that a stopped run has left.")
    ] = False,
    force: Force = False,
    precision: Precision = PrecisionName.AUTO,
    quiet: Quiet = False,
) -> None:
    """Say a recording again: measure its curves, and let a model that follows curves play them.

    Example: audio-gen vocode sentence.wav --model runs/voice -o again.wav
    """
    import time

    from audio_gen.audio import read
    from audio_gen.features import ARRAYS, check_target, load_features, measure, save_features
    from audio_gen.mixtures import settle_labels
    from audio_gen.sampler import load
    from audio_gen.sampler.parts import turned
    from audio_gen.sampler.render import render
    from audio_gen.sampler.take import Take

    loaded = load(model, precision=precision.value)
    labels = settle_labels(parse_labels(label or []), loaded.labels)
    rate, hop = loaded.sample_rate, loaded.checkpoint.shape.hop
    if source.suffix.lower() in ARRAYS:
        curves = load_features(source, loaded.checkpoint)
        seconds = len(curves) * hop / rate
    else:
        waveform = read(source, rate)
        curves = measure(loaded.checkpoint, waveform, gain)
        seconds = len(waveform) / rate
    target = output or Path(f"{source.stem}-{loaded.name}.wav")
    if source.exists() and target.exists() and target.samefile(source):
        raise OutputError(f"{target}: is the recording itself; give another file with -o")
    if save is not None:
        check_target(save, force)
    draw, fade = turned(loaded.draw, temperature)
    digest = blake2b(curves.tobytes(), digest_size=8).hexdigest()
    take = Take(
        loaded.name, loaded.checkpoint.hash, seconds, labels, seed, 0, draw,
        dict.fromkeys(loaded.checkpoint.curves, f"{source.name} {digest}"), loaded.arithmetic, fade=str(fade or ""),
    )  # fmt: skip
    began, made = time.perf_counter(), 0
    with Live(quiet) as live:

        def show(samples: int) -> None:
            nonlocal made
            made += samples
            done = made / rate / seconds
            live.show(done, f"{made / rate:.1f} s of {seconds:.1f} s", None)

        try:
            render(loaded, [take], [target], curves=curves, force=force, resume=resume, progress=show)
        except KeyboardInterrupt:
            live.say(
                f"stopped after {made / rate:.1f} s of new audio; the same command with --resume continues"
            )
            raise
    if save is not None:
        save_features(save, loaded.checkpoint, curves, force)
    speed = made / rate / max(time.perf_counter() - began, 1e-9)
    new = f", {made / rate:.2f} s of it new" if resume else ""
    say(f"wrote {target} ({seconds:.2f} s{new}, {speed:.1f}× real time, {loaded.precision})", quiet)
    product(target)
