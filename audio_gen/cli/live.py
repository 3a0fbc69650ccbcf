"""The verb live."""

from pathlib import Path
from typing import Annotated

import typer

from audio_gen.cli.options import Force, ModelName, Precision, PrecisionName, Quiet, need
from audio_gen.cli.progress import Live, product, say
from audio_gen.errors import EngineError


def live(
    model: ModelName,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="The page.  [default: MODEL-live.html]", show_default=False),
    ] = None,
    force: Force = False,
    precision: Precision = PrecisionName.AUTO,
    quiet: Quiet = False,
) -> None:
    """Write a page that plays a model in the browser of whoever opens it: one file, with the engine in it.

    Example: audio-gen live textures -o textures.html
    """
    from audio_gen.engine.build import BuildError, build_browser
    from audio_gen.pages.live import check_playable, write_live
    from audio_gen.sampler import load
    from audio_gen.targets import check_free

    loaded = load(model, precision=precision.value)
    check_playable(loaded)
    path = output or Path(f"{loaded.name}-live.html")
    check_free(path, force)
    need("ziglang", verb="live", extra="web")
    with Live(quiet) as status:
        status.show(None, "compiling the engine for browsers", None)
        try:
            engine = build_browser().read_bytes()
        except BuildError as error:
            raise EngineError(f"the engine cannot be compiled for browsers: {error}") from None
    write_live(loaded, path, engine, force=force)
    say(f"wrote {path} ({path.stat().st_size / 1e6:.1f} MB, {loaded.precision}); open it in a browser", quiet)
    product(path)
