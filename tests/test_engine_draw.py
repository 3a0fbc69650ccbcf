"""The engine's draw is the definition's: temperature, top-k, top-p, min-p, inverse CDF."""

import numpy as np
import pytest
from engine_cases import ISAS, Case, coins_of, draw, numpy_draw
from networks import network_settings, random_tensors

from audio_gen.engine import Engine


@pytest.mark.parametrize(
    "setting",
    [
        draw(), draw(temperature=0.0), draw(temperature=0.7), draw(temperature=3.0), draw(temperature=0.01),
        draw(top_k=1), draw(top_k=5), draw(top_k=9999), draw(top_p=0.9), draw(top_p=0.05), draw(min_p=0.1),
        draw(min_p=1.0), draw(0.8, 20, 0.9, 0.02), draw(1.5, 100, 0.5, 0.001),
    ],
    ids=lambda s: f"t{s.temperature}-k{s.top_k}-p{s.top_p}-m{s.min_p}",
)  # fmt: skip
@pytest.mark.parametrize("levels", [256, 1024])
def test_draws_are_those_of_the_definition(setting, levels):
    settings = network_settings([1], [8], levels=levels)
    generator = np.random.default_rng(9)
    for isa in ISAS:
        engine = Engine(settings, random_tensors(settings, 0), isa=isa)
        for spread in (0.1, 2.0, 12.0):
            for coin in coins_of(9, 1, 40)[0]:
                logits = (spread * generator.standard_normal(levels)).astype(np.float32)
                assert engine.draw(logits, coin, setting) == numpy_draw(logits, coin, setting)


def test_ties_go_to_the_lower_token():
    settings = network_settings([1], [8])
    engine = Engine(settings, random_tensors(settings, 0))
    logits = np.zeros(256, np.float32)
    logits[[40, 7, 200]] = 5.0
    assert engine.draw(logits, 0.5, draw(temperature=0.0)) == 7
    assert {engine.draw(logits, coin, draw(top_k=2)) for coin in np.linspace(0, 0.999, 50)} == {7, 40}
    assert {engine.draw(logits, coin, draw(top_p=0.3, top_k=3)) for coin in np.linspace(0, 0.999, 50)} == {7}
    assert [engine.draw(np.zeros(256, np.float32), coin, draw()) for coin in (0.0, 0.5, 1 - 2**-24)] == [
        0,
        128,
        255,
    ]


def test_each_stream_may_draw_in_its_own_way():
    case, coins = Case("classic"), coins_of(10, 3, 60)
    settings = [draw(), draw(temperature=0.0), draw(0.5, top_k=4)]
    drawn = case.sample(coins, setting=settings)
    for row, setting in enumerate(settings):
        assert np.array_equal(case.sample(coins, rows=slice(row, row + 1), setting=setting)[0], drawn[row])
