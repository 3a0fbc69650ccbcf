"""The command line: the only room that prints, reads arguments or chooses an exit code."""

from audio_gen.cli.app import main

__all__ = ["main"]
