"""The verb replay."""

import filecmp
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from audio_gen.cli.options import Force, Quiet
from audio_gen.cli.progress import Live, product, say
from audio_gen.errors import AudioFileError


def replay(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="What audio-gen generate has made.", show_default=False)
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", help="Keep what is made.  [default: only compare]", show_default=False
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="Where its model is now.  [default: the bundled one of its name]", show_default=False
        ),
    ] = None,
    curve: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=FILE", help="A file of a curve that it follows. Repeatable.", show_default=False
        ),
    ] = None,
    prompt: Annotated[
        str | None,
        typer.Option(metavar="FILE[@START-END]", help="The recording it goes on from.", show_default=False),
    ] = None,
    gain: Annotated[
        float | None,
        typer.Option(metavar="DECIBELS", help="Of the prompt, if it was given.", show_default=False),
    ] = None,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Make a file again from what it says of itself, and tell whether it is the same.

    Example: audio-gen replay kick.wav
    """
    from audio_gen.sampler.replay import Replay
    from audio_gen.targets import check_free

    if output is not None:
        check_free(output, force)
    found = Replay.of(file, model)
    take, rate = found.take, found.model.sample_rate
    words = [f"{name}={value}" for name, value in {**take.labels, **take.curves}.items()]
    say(f"{file}: {', '.join([take.model, *words, f'seed {take.seed}', take.precision])}", quiet)
    made = 0
    with Live(quiet) as live, tempfile.TemporaryDirectory() as folder:

        def show(samples: int) -> None:
            nonlocal made
            made += samples
            live.show(made / found.samples, f"{made / rate:.1f} s of {found.samples / rate:.1f} s", None)

        target = output or Path(folder) / f"again{file.suffix}"
        differs = found.make(target, curves=curve or [], prompt=prompt, gain=gain, force=force, progress=show)
        same_bytes = differs is None and filecmp.cmp(target, file, shallow=False)
    if differs is not None:
        raise AudioFileError(
            f"{file}: is not what it says: it differs from {differs / rate:.4f} s on; it was edited, or made by "
            "another version"
        )
    say(f"the same, {found.samples:,} samples{', byte for byte' if same_bytes else ''}", quiet)
    product(output or file)
