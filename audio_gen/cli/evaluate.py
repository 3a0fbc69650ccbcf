"""The verb evaluate."""

import json
import time
from dataclasses import replace
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
    Temperature,
    TopK,
    TopP,
    need,
)
from audio_gen.cli.progress import Live, product, say
from audio_gen.errors import OutputError

if TYPE_CHECKING:
    from audio_gen.evaluation.report import Report

REPORTS = ("report.html", "report.json", "report.txt")


def evaluate(
    model: ModelName,
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA",
            help="Token store, run folder, audio file, or folder of recordings.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FOLDER",
            help="Write report.html, report.json and report.txt there, too.",
            show_default=False,
        ),
    ] = None,
    only: Annotated[
        str | None,
        typer.Option(
            metavar="PART,...",
            help="likelihood, calibration, recognisability, distribution, novelty, long-runs, fidelity, "
            "intonation, transcription, composition.  "
            "[default: all]",
            show_default=False,
        ),
    ] = None,
    clips: Annotated[int, typer.Option(help="Clips to generate, of all labels in turn.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Of the clips; equal seeds, equal report.")] = 0,
    temperature: Temperature = None,
    top_k: TopK = None,
    top_p: TopP = None,
    min_p: MinP = None,
    sketch_temperature: SketchTemperature = None,
    guidance: Guidance = None,
    doubt: Doubt = None,
    long_runs: Annotated[int, typer.Option(help="Long runs to play.")] = 3,
    long_seconds: Annotated[float, typer.Option(help="Length of each long run, seconds.")] = 60.0,
    copies: Annotated[
        int, typer.Option(help="Held-out recordings to copy, by a model that follows curves.")
    ] = 40,
    recordings: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="What the store was made from: for fidelity, with transcripts (.txt) beside them.",
            show_default=False,
        ),
    ] = None,
    split: Annotated[
        str, typer.Option(help="Part of a store for likelihood: valid, train or all.")
    ] = "valid",
    max_seconds: Annotated[
        float | None,
        typer.Option(help="Likelihood of an evenly spread part of this length, seconds.", show_default=False),
    ] = None,
    baselines: Annotated[
        bool, typer.Option("--baselines/--no-baselines", help="Score simple predictors beside the model.")
    ] = True,
    threads: Annotated[int, typer.Option(min=1, help="Processor threads.")] = 1,
    precision: Precision = PrecisionName.AUTO,
    as_json: Annotated[bool, typer.Option("--json", help="Everything, as JSON.")] = False,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Judge a model: its likelihood and calibration on real audio, and the clips and long runs that it makes.

    Clips need a token store or run folder, with training and held-out recordings to hold them against. A model that
    follows curves also copies held-out recordings, which are held against their originals.

    Example: audio-gen evaluate drums runs/drums -o report
    """
    from audio_gen.evaluation.judge import judge
    from audio_gen.evaluation.packages import LISTENING, MODULES
    from audio_gen.evaluation.report import CALIBRATION, FIDELITY, LIKELIHOOD, PARTS
    from audio_gen.evaluation.settings import Settings
    from audio_gen.sampler import Draw, load

    parts = PARTS if only is None else tuple(part.strip() for part in only.split(","))
    draw = Draw().but(temperature, top_k, top_p, min_p, sketch_temperature, guidance, doubt)
    settings = Settings(
        parts, split, max_seconds, baselines, clips, seed, draw, long_runs, long_seconds, threads,
        copies, recordings,
    )  # fmt: skip
    if only is not None and not set(parts) <= {LIKELIHOOD, CALIBRATION, FIDELITY}:
        need(
            *(MODULES.get(each, each) for each in LISTENING), verb=f"evaluate --only {only}", extra="evaluate"
        )
    if output is not None:
        _check_free(output, force)
    loaded = load(model, threads=threads, precision=precision.value)
    draw = loaded.draw.but(temperature, top_k, top_p, min_p, sketch_temperature, guidance, doubt)
    settings = replace(settings, draw=draw)
    with Live(quiet) as live:
        report = judge(loaded, data, settings, _Clock(live).show)
    say(f"{loaded.name} judged in {loaded.precision}", quiet)
    product(json.dumps(report.to_dict(), indent=1) if as_json else report.to_text())
    if output is not None:
        _write(output, report)
        say(f"wrote {output / REPORTS[0]}", quiet)


class _Clock:
    """Progress with the time that is left of each phase."""

    def __init__(self, live: Live) -> None:
        self._live, self._text, self._began = live, "", time.monotonic()

    def show(self, done: int, total: int, text: str) -> None:
        now = time.monotonic()
        if text != self._text:
            self._text, self._began = text, now
        left = (now - self._began) * (total - done) / done if total and done else None
        self._live.show(done / total if total else None, text, left)


def _check_free(folder: Path, force: bool) -> None:
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder}: is a file; give -o a folder")
    there = [name for name in REPORTS if (folder / name).exists()]
    if there and not force:
        raise OutputError(f"{folder / there[0]}: exists; use --force to overwrite it")


def _write(folder: Path, report: "Report") -> None:
    from audio_gen.audio.files import create, output_errors
    from audio_gen.pages.report import report_html

    contents = (report_html(report), json.dumps(report.to_dict(), indent=1) + "\n", report.to_text() + "\n")
    with output_errors(str(folder)):
        folder.mkdir(parents=True, exist_ok=True)
    for name, content in zip(REPORTS, contents, strict=True):
        with output_errors(str(folder / name)):
            create(folder / name, content.encode())
