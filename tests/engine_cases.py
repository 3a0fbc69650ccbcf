"""Networks of every kind with streams to run through them, shared by the tests of the compiled engine."""

from types import SimpleNamespace

import numpy as np
from networks import network_settings, random_scales, random_tensors
from reference_network import reference_logits

from audio_gen.engine import Engine
from audio_gen.engine.binding import library_path, load_library, usable_isas

LABELS = {"drum": ["kick", "snare"], "velocity": ["soft", "loud", "louder"]}
NETWORKS = {
    "classic": network_settings([9], [32], skip_channels=48, dilation_cycle=4),
    "classic-k3": network_settings(
        [6], [24], kernel_size=3, dilation_cycle=3, skip_channels=9, labels=LABELS
    ),
    "one-tier-no-skip": network_settings([7], [40], levels=1024, dilation_cycle=5, kernel_size=4),
    "two-tiers": network_settings([3, 4], [20, 36], [3], labels=LABELS, curve_channels=3, hop=6),
    "two-tiers-skip": network_settings([4, 3], [16, 48], [4], skip_channels=33, curve_channels=2, hop=20),
    "three-tiers": network_settings([2, 3, 3], [16, 40, 72], [4, 2], levels=512, labels=LABELS),
    "three-tiers-k3": network_settings(
        [2, 3, 2], [24, 16, 130], [2, 3], kernel_size=3, dilation_cycle=2, skip_channels=100,
        head_channels=50, labels=LABELS, curve_channels=5, hop=12,
    ),
    "predictors": network_settings([2, 3], [20, 36], [3], labels=LABELS, predictors=[8, 24, 256]),
    "anchored": network_settings([2, 3], [20, 36], [3], labels=LABELS, predictors=[8, 256], anchored=True),
    "envelope": network_settings(
        [2, 3], [20, 36], [3], labels=LABELS, predictors=[8], curve_channels=5, hop=48, envelope=[16, 4, 4000],
    ),
    "around": network_settings(
        [2, 3], [20, 36], [3], labels=LABELS, curve_channels=5, hop=48, envelope=[16, 4, 4000], around=2,
    ),
    "period": network_settings(
        [2, 3], [20, 36], [3], labels=LABELS, predictors=[8], curve_channels=7, hop=48, envelope=[8, 4, 1000],
        period=[4, 1000, 0],
    ),
    "phase": network_settings([2, 3], [20, 36], [3], curve_channels=4, hop=48, period=[1, 1000, 64]),
    "predictor-1024": network_settings([3], [24], levels=1024, skip_channels=16, predictors=[16]),
    "four-tiers": network_settings([1, 1, 2, 2], [8, 12, 16, 20], [2, 4, 3], curve_channels=1, hop=24),
}  # fmt: skip
ISAS = usable_isas(load_library(library_path()))


def draw(temperature=1.0, top_k=0, top_p=1.0, min_p=0.0):
    return SimpleNamespace(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)


def coins_of(seed, streams, time):
    return (np.random.default_rng(seed).integers(0, 1 << 24, (streams, time)) / float(1 << 24)).astype(
        np.float32
    )


class Case:
    """A random network with tokens, labels and curves for three streams, and the reference's logits."""

    def __init__(self, name, precision="fp32"):
        self.name, self.settings, self.precision = name, NETWORKS[name], precision
        self.tensors = random_tensors(self.settings, seed=len(name))
        self.scales = random_scales(self.settings, seed=len(name)) if precision == "int8" else None
        self.engine = self.compiled()
        generator = np.random.default_rng(3)
        self.time = 2 * self.engine.receptive_field + 37
        self.tokens = generator.integers(0, self.settings["levels"], (3, self.time)).astype(np.uint16)
        values = [len(values) for values in self.settings["labels"].values()]
        self.labels = np.array(
            [[generator.integers(0, most + 1) for most in values] for _ in range(3)], int
        ).reshape(3, -1)
        self.curves = None
        if channels := self.settings["curve_channels"]:  # too few: the last frame must be held
            frames = self.time // self.settings["hop"] - 1
            self.curves = generator.standard_normal((3, frames, channels)).astype(np.float32)

    def compiled(self, **options):
        return Engine(self.settings, self.tensors, precision=self.precision, scales=self.scales, **options)

    def reference(self, row, tokens=None):
        curves = None if self.curves is None else self.curves[row]
        tokens = self.tokens[row] if tokens is None else tokens
        return reference_logits(self.settings, self.tensors, tokens, self.labels[row], curves)

    def logits(self, engine=None, chunk=None, rows=slice(None)):
        engine, tokens = engine or self.engine, self.tokens[rows]
        curves = None if self.curves is None else self.curves[rows]
        state = engine.start(self.labels[rows])
        chunk = chunk or self.time
        parts = [
            engine.logits(state, tokens[:, at : at + chunk], curves) for at in range(0, self.time, chunk)
        ]
        return np.concatenate(parts, axis=1)

    def sample(self, coins, engine=None, chunk=None, rows=slice(None), setting=None):
        engine, coins = engine or self.engine, coins[rows]
        curves = None if self.curves is None else self.curves[rows]
        state = engine.start(self.labels[rows])
        chunk = chunk or coins.shape[1]
        cuts = range(0, coins.shape[1], chunk)
        drawn = [engine.sample(state, coins[:, at : at + chunk], setting or draw(), curves) for at in cuts]
        return np.concatenate(drawn, axis=1)


def numpy_draw(logits, coin, setting):
    """The definition, in float64."""
    logits = logits.astype(np.float64)
    if setting.temperature == 0:
        return int(np.argmax(logits))
    w = np.exp((logits - logits.max()) / setting.temperature)
    order = np.argsort(-w, kind="stable")
    if setting.top_k:
        order = order[: setting.top_k]
    order = order[w[order] >= setting.min_p]
    if setting.top_p < 1:
        held = np.cumsum(w[order])
        order = order[: np.argmax(held >= setting.top_p * held[-1]) + 1]
    kept = np.sort(order)
    above = np.cumsum(w[kept]) > coin * w[kept].sum()
    return int(kept[np.argmax(above)] if above.any() else kept[-1])
