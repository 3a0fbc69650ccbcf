"""The program: its verbs in the order of the work, and what becomes of errors.

stdout carries the product (a path, a table asked for, audio with `-o -`); everything else goes to stderr.
Exit codes: 0 done, 1 failed, 2 wrong usage (or a setting out of its range), 130 interrupted.
"""

import io
import os
import signal
import sys
import threading
from contextlib import suppress
from typing import Annotated, Any

import typer

from audio_gen import __version__
from audio_gen.cli import (
    bench,
    compose,
    data,
    evaluate,
    generate,
    live,
    models,
    pipeline,
    presets,
    quantize,
    replay,
    serve,
    train,
    vocode,
)
from audio_gen.errors import AudioGenError, SettingError

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
app.command("presets")(presets.presets)
app.command("prepare")(data.prepare)
app.command("train")(train.train)
app.command("generate")(generate.generate)
app.command("compose")(compose.compose)
app.command("vocode")(vocode.vocode)
app.command("replay")(replay.replay)
app.command("evaluate")(evaluate.evaluate)
app.command("quantize")(quantize.quantize)
app.command("batch")(pipeline.batch)
app.command("page")(pipeline.page)
app.command("live")(live.live)
app.command("run")(pipeline.run)
app.command("models")(models.models)
app.command("info")(models.info)
app.command("bench")(bench.bench)
app.command("serve")(serve.serve)


def main() -> None:
    """Run the command line, and turn errors into one line and an exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names that the terminal has no letters for
    code, before = 0, _terminate_as_interrupted()
    try:
        app(prog_name="audio-gen")
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
        if code == 130:  # Ctrl-C, which typer turns into this
            _complain("audio-gen: interrupted")
    except SettingError as error:
        code = _fail(error, 2)
    except AudioGenError as error:
        code = _fail(error, 1)
    except OSError as error:  # what the system refuses: a full disk, a folder that may not be written
        code = _fail(f"{error.filename}: {error.strerror}" if error.filename else error.strerror or error, 1)
    except KeyboardInterrupt:
        code = 130
        _complain("audio-gen: interrupted")
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)
    try:
        sys.stdout.flush()
    except OSError as error:
        _silence_stdout()
        code = code or _fail(f"standard output: cannot be written: {error.strerror}", 1)
    sys.exit(code)


def _fail(error: object, code: int) -> int:
    """Say what went wrong, in one line."""
    _complain(f"audio-gen: error: {' '.join(str(error).splitlines())}")
    return code


def _complain(text: str) -> None:
    with suppress(OSError):  # whoever read our errors may have gone too
        print(text, file=sys.stderr, flush=True)


def _terminate_as_interrupted() -> Any:
    """Let SIGTERM (a batch system, a shutdown) end things as gently as Ctrl-C, also where Ctrl-C itself is ignored,
    as in the background of a script. Returns the former handler."""
    if threading.current_thread() is not threading.main_thread():
        return None
    return signal.signal(signal.SIGTERM, lambda number, frame: signal.default_int_handler(number, frame))


def _silence_stdout() -> None:
    """Keep the interpreter from complaining about the closed pipe once more on its way out."""
    with suppress(OSError):  # a stand-in for stdout may be without a descriptor
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
