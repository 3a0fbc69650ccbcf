"""Trains in forks of itself that it kills at random moments, resumes each time, and says how often it had to.

python killing_ground.py STORE RECIPE.json RUN KILLS SEED LONGEST_SECONDS
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

from audio_gen.data.store import Store
from audio_gen.recipe import build_recipe
from audio_gen.training.loop import Training
from audio_gen.training.metrics import Metrics


def main(store: str, recipe: str, run: str, kills: str, seed: str, longest: str) -> None:
    torch.set_num_threads(1)
    settings, dice, done = build_recipe(json.loads(Path(recipe).read_text())), random.Random(int(seed)), 0
    Path(run).mkdir()
    Metrics(Path(run) / "metrics.jsonl", 0).draw(
        Path(run) / "curves.png", "", []
    )  # fonts, once for all forks
    while True:
        child = os.fork()
        if not child:
            training = Training(settings, Store(store), Path(run), resume=True)
            training.train([], lambda report: None)
            os._exit(0)
        if done < int(kills):
            time.sleep(dice.uniform(0.0, float(longest)))
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            done += 1
        elif status:
            sys.exit(1)
        else:
            break
    print(done)


if __name__ == "__main__":
    main(*sys.argv[1:])
