"""The verb bench."""

import json
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from audio_gen.cli.models import AsJson
from audio_gen.cli.options import Quiet
from audio_gen.cli.progress import Live, product
from audio_gen.errors import SettingError

if TYPE_CHECKING:
    from audio_gen.sampler.speed import Speed

SECONDS = 4.0
"""For everything together."""


def bench(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="[MODEL]",
            help="Bundled model, checkpoint or run folder.  [default: all bundled]",
            show_default=False,
        ),
    ] = None,
    save: Annotated[
        bool, typer.Option("--save", help="Also keep in MODEL's card how fast one core plays one clip.")
    ] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Measure how fast this machine plays, in a few seconds: times real time, and share of its own limits.

    Example: audio-gen bench
    """
    from audio_gen.checkpoint import load_checkpoint
    from audio_gen.engine import limits
    from audio_gen.sampler.library import bundled, bundled_files, find
    from audio_gen.sampler.speed import Speed, speeds

    if save:
        if model is None:
            raise SettingError("--save needs a MODEL, in whose card the speed is kept")
        if find(model) in bundled_files().values():
            raise SettingError(f"{model}: comes with audio-gen; --save is for models of your own")
    found: list[Speed] = []
    names = [model] if model else bundled()
    with Live(quiet) as live:
        for number, name in enumerate(names):
            checkpoint = load_checkpoint(find(name))
            for speed in speeds(Path(name).name, checkpoint, SECONDS / len(names)):
                found.append(speed)
                live.show(number / len(names), f"measuring {name}")
    if save:
        _keep(find(names[0]), found)
    if as_json:
        speeds_found = [asdict(speed) for speed in found]
        product(json.dumps({"hardware": limits.hardware(), "speeds": speeds_found}, indent=1))
        return
    width = max([5, *(len(speed.model) for speed in found)])
    product(f"{limits.hardware()}\n")
    product(
        f"{'model':{width}}  precision  clips  threads  {'samples/s':>10}  × real time  % of limit  instructions"
    )
    for speed in found:
        product(
            f"{speed.model:{width}}  {speed.precision:9}  {speed.streams:5}  {speed.threads:7}  "
            f"{speed.samples_per_second:10,.0f}  {speed.real_time:11.1f}  {100 * speed.of_limit:10.0f}  "
            f"{speed.instruction_set}"
        )
    product(
        "\nlimit: reading the weights once per sample of all clips, or multiplying, as fast as measured here"
    )


def _keep(path: Path, found: "list[Speed]") -> None:
    """Put into the card at `path` how fast one core played one clip, its sketch and composer not counted."""
    from audio_gen.checkpoint import load_checkpoint, save_checkpoint
    from audio_gen.engine import limits

    checkpoint = load_checkpoint(path)
    alone = [each for each in found if each.streams == each.threads == 1]
    speed = {each.precision: round(each.real_time, 1) for each in alone} | {
        "hardware": f"{limits.hardware().rpartition(', ')[0]}, 1 core, {alone[0].instruction_set}",
        "date": datetime.now(UTC).date().isoformat(),
    }
    save_checkpoint(path, replace(checkpoint, card={**checkpoint.card, "speed": speed}))
