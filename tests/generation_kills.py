"""Runs `audio-gen` in forks of itself that it kills at random moments, looks at the files each time, resumes, and
says how often it killed.

    python generation_kills.py KILLS SEED LONGEST_SECONDS FOLDER ARGUMENTS...
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

import soundfile

from audio_gen.cli import main as audio_gen
from audio_gen.sampler import load, render  # noqa: F401 - once for all forks


def main(kills: str, seed: str, longest: str, folder: str, *arguments: str) -> None:
    dice, killed, lengths = random.Random(int(seed)), 0, {}
    sys.argv = ["audio-gen", *arguments]
    while True:
        child = os.fork()
        if not child:
            try:
                audio_gen()
            except SystemExit as leaving:
                sys.stderr.flush()
                os._exit(leaving.code)
        if killed < int(kills):
            time.sleep(dice.uniform(0.0, float(longest)))
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        for path in sorted(Path(folder).rglob("*.wav")) + sorted(Path(folder).rglob("*.flac")):
            with soundfile.SoundFile(path) as file:  # valid
                known = file.frames < 2**62  # a FLAC file without a whole frame does not say how long it is
                frames = len(file.read()) if known else 0
            if frames < lengths.get(path, 0):
                sys.exit(f"{path} has lost sound: it shrank from {lengths[path]} to {frames}")
            lengths[path] = frames
        if os.WIFSIGNALED(status):
            killed += 1
        elif status:
            sys.exit(os.waitstatus_to_exitcode(status))
        else:
            break
    print(f"killed {killed}")


if __name__ == "__main__":
    main(*sys.argv[1:])
