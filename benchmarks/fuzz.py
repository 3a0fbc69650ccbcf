"""Random networks, weights and calls through a sanitized engine: `python -m benchmarks.fuzz --minutes 10`.

Every case is a valid shape in a random precision and instruction set. Half of them get random bits written over their
packed weights (so NaN, infinities and the largest numbers), which may end in "not finite" but must not read or write
where nothing is. The others run on a second instruction set too, which must give the same bits.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audio_gen.engine import Engine, binding, engine
from audio_gen.engine.build import build, find_compiler
from audio_gen.engine.pack import PRECISIONS, scale_shapes, tensor_shapes
from audio_gen.errors import EngineError
from audio_gen.sampler.draw import Draw
from audio_gen.shape import PHASES, NetworkShape

CHECKS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g", "-O1"]
LIBRARY = "AUDIO_GEN_FUZZ_LIBRARY"


def random_shape(random: np.random.Generator) -> NetworkShape:
    tiers = int(random.integers(1, 4))

    def many(low: int, high: int, count: int = tiers) -> tuple[int, ...]:
        return tuple(int(value) for value in random.integers(low, high + 1, count))

    pool = many(2, 5, tiers - 1)
    label_values = many(1, 4, int(random.integers(0, 3)))
    curves = int(random.choice([0, random.integers(1, 9)]))
    predictors = tuple(8 * order for order in many(1, 16, int(random.integers(0, 5))))
    envelope = (8 * int(random.integers(1, 9)), curves, 8000) if curves > 1 and random.random() < 0.5 else ()
    pitched = curves > 2 and random.random() < 0.5
    period = (int(random.integers(0, curves - 2)), 8000, int(random.choice([0, PHASES]))) if pitched else ()
    # Predictors know the amplitudes of a waveform's tokens alone; other networks may have any number of levels.
    levels = int(
        random.choice([256, 512, 1024] if predictors or envelope or period else [32, 64, 256, 512, 1024])
    )
    return NetworkShape(
        levels=levels,
        layers=many(1, 4),
        channels=many(1, 150),
        pool=pool,
        dilation_cycle=int(random.integers(1, 6)),
        kernel_size=int(random.integers(2, 9)),
        skip_channels=int(random.choice([0, random.integers(1, 200)])),
        head_channels=int(random.integers(1, 150)),
        condition_channels=int(random.integers(1, 40)),
        labels={f"label{i}": tuple(map(str, range(count))) for i, count in enumerate(label_values)},
        curve_channels=curves,
        hop=int(np.prod(pool)) * int(random.integers(1, 9)),
        predictors=predictors,
        envelope=envelope,
        period=period,
    )


def random_engines(shape: NetworkShape, random: np.random.Generator) -> list[Engine]:
    """The same network for one instruction set, or for two that must agree."""
    size = 10.0 ** random.uniform(-3, 3)
    tensors = {
        name: (size * random.standard_normal(wanted)).astype(np.float32)
        for name, wanted in tensor_shapes(shape).items()
    }
    precision = str(random.choice(list(PRECISIONS)))
    scales = {
        name: (10.0 ** random.uniform(-30, 30) * np.ones(channels)).astype(np.float32)
        if random.random() < 0.1
        else random.uniform(0.001, 0.1, channels).astype(np.float32)
        for name, channels in scale_shapes(shape).items()
    }
    isas = binding.usable_isas(binding.load_library(engine.library_path()))
    wanted = random.choice(isas, 2)
    options: dict[str, Any] = {"precision": precision, "scales": scales if precision == "int8" else None}
    engines = [Engine(shape, tensors, isa=str(isa), **options) for isa in wanted]
    if random.random() < 0.5:
        engines = engines[:1]
        weights = engines[0]._network._weights
        hit = random.integers(0, weights.size, max(1, weights.size // int(random.choice([10, 1000, 10**6]))))
        weights[hit] = random.integers(0, 1 << 32, len(hit), np.uint32)
    return engines


def play(one: Engine, seed: int) -> list[bytes]:
    """What some calls of random lengths give; the same for the same seed."""
    random, shape = np.random.default_rng(seed), one.shape
    streams = int(random.choice([1, 1, 2, 3, 5, 33, 70]))
    labels = np.array(
        [[random.integers(0, len(v) + 1) for v in shape.labels.values()] for _ in range(streams)]
    )
    position = int(random.choice([0, random.integers(0, 10**6)]))
    state = one.start(labels.reshape(streams, -1).astype(int), position)
    frames = (position + 10**3) // shape.hop + 1 if random.random() < 0.5 else 1
    curves = None
    if shape.curve_channels:
        row = random.standard_normal((1, frames, shape.curve_channels)).astype(np.float32)
        curves = np.repeat(row, streams, 0)
    draws = [Draw(float(random.choice([0.0, 1.0, 5.0])), int(random.choice([0, 7]))) for _ in range(streams)]
    made = []
    for _ in range(int(random.integers(1, 6))):
        steps = int(random.choice([0, 1, 2, 9, 64, 65, 130]))
        tokens = random.integers(0, shape.levels, (streams, steps))
        coins = random.random((streams, steps), np.float32)
        call = int(random.integers(0, 4))
        if call == 0:
            one.prime(state, tokens, curves)
        elif call == 1:
            made.append(known_bits(one.logits(state, tokens, curves)))
        elif call == 2:
            made.append(known_bits(one.log_probabilities(state, tokens, curves)))
        else:
            scores = np.zeros(coins.shape, np.float32)
            made.append(one.sample(state, coins, draws, curves, log_probabilities=scores).tobytes())
            made.append(known_bits(scores))
            if streams % 2 == 0:
                pairs = [float(random.choice([0.0, 0.5, 9.0]))] * (streams // 2)
                made.append(one.sample(state, coins, draws, curves, guidance=pairs).tobytes())
    return made


def known_bits(numbers: NDArray[np.float32]) -> bytes:
    """All NaN are one: their sign and payload are the processor's own business."""
    return np.where(np.isnan(numbers), np.float32(np.nan), numbers).tobytes()


def outcome(one: Engine, seed: int) -> list[bytes] | None:
    """None: not finite."""
    try:
        return play(one, seed)
    except EngineError:
        return None


def run(minutes: float, first: int) -> None:
    """Cases from seed `first` on."""
    library = Path(os.environ[LIBRARY])
    engine.library_path = lambda: library
    end, seed, strange = time.monotonic() + 60 * minutes, first, 0
    while time.monotonic() < end:
        random = np.random.default_rng(seed)
        engines = random_engines(random_shape(random), random)
        made = [outcome(one, seed) for one in engines]
        strange += made[0] is None
        names = ", ".join(one.isa for one in engines)
        if len(made) == 2 and made[0] != made[1]:
            raise SystemExit(f"case {seed}: {engines[0].precision} differs between {names}")
        seed += 1
    sys.stdout.write(f"{seed - first} cases from seed {first}, {strange} not finite, nothing found\n")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0, help="of the first case")
    arguments = parser.parse_args()
    if LIBRARY in os.environ:
        run(arguments.minutes, arguments.seed)
        return
    compiler = find_compiler()
    assert compiler is not None
    where = [*compiler, "-print-file-name=libasan.so"]
    runtime = subprocess.run(where, capture_output=True, text=True, check=True).stdout.strip()
    with tempfile.TemporaryDirectory() as folder:
        library = build(Path(folder) / "checked.so", flags=CHECKS)
        checked = {"LD_PRELOAD": runtime, "ASAN_OPTIONS": "detect_leaks=0", LIBRARY: str(library)}
        command = [sys.executable, "-m", "benchmarks.fuzz", *sys.argv[1:]]
        raise SystemExit(subprocess.run(command, env=os.environ | checked, check=False).returncode)


if __name__ == "__main__":
    main()
