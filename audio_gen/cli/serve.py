"""The verb serve."""

import math
import socket
from typing import Annotated

import typer

from audio_gen.cli.options import Precision, PrecisionName, Quiet, need
from audio_gen.cli.progress import say
from audio_gen.errors import OutputError, SettingError


def serve(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[MODEL]...",
            help="Bundled models, checkpoints or run folders.  [default: all bundled]",
            show_default=False,
        ),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen at; 0.0.0.0 for other machines.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0: any that is free.")] = 8000,
    voices: Annotated[int, typer.Option(min=1, help="Clips made at once; more are asked to wait.")] = 2,
    most_seconds: Annotated[float, typer.Option(help="Longest clip, seconds.")] = 600.0,
    precision: Precision = PrecisionName.AUTO,
    quiet: Quiet = False,
) -> None:
    """Play models over HTTP: WAVs that begin at once, and what can be asked for as JSON.

    Example: audio-gen serve drums --port 8000
    """
    if not 0.0 < most_seconds < math.inf:
        raise SettingError(f"--most-seconds must be above 0 and finite, got {most_seconds:g}")
    need("fastapi", "uvicorn", verb="serve", extra="serve")
    import uvicorn

    from audio_gen.sampler import load
    from audio_gen.sampler.library import bundled
    from audio_gen.server import create_app

    loaded = [load(name, precision=precision.value) for name in models or bundled()]
    names = [model.name for model in loaded]
    if len({*names}) < len(names):
        raise SettingError(f"two of the models have one name: {', '.join(names)}; serve them at two ports")
    app = create_app(loaded, voices=voices, most_seconds=most_seconds)
    with _listening(host, port) as ear:
        place = f"http://{host}:{ear.getsockname()[1]}"
        say(f"plays {', '.join(names)}; try {place}/models/{names[0]}/play; Ctrl-C stops", quiet)
        uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[ear])


def _listening(host: str, port: int) -> socket.socket:
    """Raises OutputError where nobody can listen."""
    try:
        return socket.create_server((host, port))
    except OSError as error:
        raise OutputError(
            f"{host}:{port}: cannot be listened at: {error.strerror}; give another --port"
        ) from None
