"""The program: its verbs in the order of the work, and what becomes of errors.

stdout carries the product (a path, a table asked for, audio with `-o -`); everything else goes to stderr.
Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted.
"""

import os
import sys
from typing import Annotated

import typer

from audio_gen import __version__
from audio_gen.cli import data, generate, models, pipeline, train
from audio_gen.errors import AudioGenError

app = typer.Typer(
    name="audio-gen",
    help="Autoregressive audio generation: learn from a folder of recordings, stream new audio to WAV.",
    epilog="Example: audio-gen generate drums --label drum=kick -o kick.wav",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"audio-gen {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    pass


app.command("doctor")(data.doctor)
app.command("prepare")(data.prepare)
app.command("train")(train.train)
app.command("generate")(generate.generate)
app.command("evaluate")(models.evaluate)
app.command("batch")(pipeline.batch)
app.command("page")(pipeline.page)
app.command("run")(pipeline.run)
app.command("models")(models.models)
app.command("info")(models.info)


def main() -> None:
    """Run the command line, and turn errors into one line and an exit code."""
    try:
        app(standalone_mode=True)
    except AudioGenError as error:
        if getattr(error, "closed_pipe", False):
            _silence_stdout()
        print(f"audio-gen: error: {error}", file=sys.stderr)
        sys.exit(1)
    except BrokenPipeError:  # the reader of our text has left
        _silence_stdout()
        print("audio-gen: error: standard output was closed before all was written", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("audio-gen: interrupted", file=sys.stderr)
        sys.exit(130)


def _silence_stdout() -> None:
    """Keep the interpreter from complaining about the closed pipe once more on its way out."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
