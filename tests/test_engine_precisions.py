"""The laws of the engine's precisions: the stated arithmetic to the last bit, however the engine is called."""

import numpy as np
import pytest
from engine_arithmetic import Arithmetic
from engine_cases import ISAS, NETWORKS, Case, coins_of, draw
from networks import network_settings, random_scales, random_tensors

from audio_gen.engine import Engine


@pytest.fixture(params=[(n, p) for n in NETWORKS for p in ("bf16", "int8")], ids="-".join, scope="module")
def case(request):
    return Case(*request.param)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
@pytest.mark.parametrize("name", NETWORKS)
def test_logits_are_those_of_the_stated_arithmetic(name, precision):
    case = Case(name, precision)
    engine = case.compiled(isa=ISAS[0])
    plain = Arithmetic(engine.shape, case.tensors, precision, case.scales)
    row, logits = 1, case.logits(engine)
    curves = None if case.curves is None else case.curves[row]
    assert np.array_equal(logits[row], plain.logits(case.tokens[row], case.labels[row], curves))


def test_every_instruction_set_gives_the_same_bits(case):
    coins = coins_of(1, 3, 120)
    engines = [case.compiled(isa=isa) for isa in ISAS]
    logits, drawn = case.logits(engines[0]), case.sample(coins, engines[0])
    for engine in engines[1:]:
        assert np.array_equal(case.logits(engine), logits)
        assert np.array_equal(case.sample(coins, engine), drawn)


@pytest.mark.parametrize("chunk", [1, 7, 110])
def test_chunks_leave_the_bits(case, chunk):
    coins = coins_of(2, 3, 120)
    assert np.array_equal(case.logits(chunk=chunk), case.logits())
    assert np.array_equal(case.sample(coins, chunk=chunk), case.sample(coins))


def test_other_streams_leave_the_bits(case):
    coins, threaded = coins_of(3, 3, 70), case.compiled(threads=2)
    whole, drawn = case.logits(), case.sample(coins)
    assert np.array_equal(case.logits(threaded), whole)
    assert np.array_equal(case.sample(coins, threaded), drawn)
    for row in range(3):
        assert np.array_equal(case.logits(rows=slice(row, row + 1))[0], whole[row])
        assert np.array_equal(case.sample(coins, rows=slice(row, row + 1))[0], drawn[row])


def test_drawing_hears_what_priming_hears(case):
    coins, curves = coins_of(4, 3, 90), case.curves
    sampled, primed = case.engine.start(case.labels), case.engine.start(case.labels)
    tokens = case.engine.sample(sampled, coins, draw(), curves)
    case.engine.prime(primed, tokens, curves)
    again = case.engine.logits(sampled, case.tokens[:, :50], curves)
    assert np.array_equal(again, case.engine.logits(primed, case.tokens[:, :50], curves))


@pytest.mark.parametrize("distance", [0, 1, 5])
def test_a_stream_resumes_from_its_last_receptive_field(case, distance):
    engine, curves = case.engine, case.curves
    position = case.time - 20 - distance
    begin = position - engine.receptive_field
    whole = engine.start(case.labels)
    engine.prime(whole, case.tokens[:, :position], curves)
    before = case.tokens[:, begin - 1] if begin else None
    resumed = engine.start(case.labels, position=begin, last=before)
    engine.prime(resumed, case.tokens[:, begin:position], curves)
    coins = coins_of(6, 3, 40)
    assert np.array_equal(
        engine.sample(resumed, coins, draw(), curves), engine.sample(whole, coins, draw(), curves)
    )


@pytest.mark.parametrize("precision", ["bf16", "int8"])
@pytest.mark.parametrize("streams", [1, 2, 4, 5, 8, 31, 32, 70])
def test_batches_leave_the_bits(precision, streams):
    case = Case("classic", precision)
    coins = coins_of(8, streams, 40)
    drawn = case.engine.sample(case.engine.start(np.zeros((streams, 0), int)), coins, draw())
    for row in {0, streams // 2, streams - 1}:
        alone = case.engine.sample(case.engine.start([[]]), coins[row : row + 1], draw())
        assert np.array_equal(alone[0], drawn[row])


@pytest.mark.parametrize(("precision", "tolerance"), [("bf16", 0.02), ("int8", 0.3)])
def test_narrow_numbers_stay_near_the_equations(precision, tolerance):
    """Root mean square of the errors, in units of the logits' own spread; scales are not calibrated here."""
    for name in NETWORKS:
        case = Case(name, precision)
        logits = case.logits()[0]
        assert np.std(logits - case.reference(0)) < tolerance * np.std(logits)


def test_int8_weights_are_one_byte_each():
    settings = network_settings([4], [256], skip_channels=256, head_channels=256)
    tensors, scales = random_tensors(settings, 0), random_scales(settings, 0)
    sizes = {}
    for precision in ("fp32", "bf16", "int8"):
        engine = Engine(
            settings, tensors, precision=precision, scales=scales if precision == "int8" else None
        )
        sizes[precision] = engine.weight_bytes
    embedding = tensors["embedding.weight"].nbytes
    assert (sizes["int8"] - embedding) / (sizes["fp32"] - embedding) < 0.27
    assert (sizes["bf16"] - embedding) / (sizes["fp32"] - embedding) < 0.51


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_log_probabilities_are_those_of_the_logits(precision):
    case = Case("two-tiers", precision)
    logits = case.logits().astype(np.float64)
    expected = np.take_along_axis(logits, case.tokens[..., None].astype(int), 2)[..., 0]
    expected = (expected - np.log(np.exp(logits).sum(-1))) / np.log(2.0)
    state = case.engine.start(case.labels)
    found = case.engine.log_probabilities(state, case.tokens, case.curves)
    assert np.abs(found - expected).max() < 2e-6 * np.abs(expected).max()
    coins, state = coins_of(12, 3, 60), case.engine.start(case.labels)
    scores = np.zeros((3, 60), np.float32)
    tokens = case.engine.sample(state, coins, draw(0.7, top_k=9), case.curves, log_probabilities=scores)
    again = case.engine.log_probabilities(case.engine.start(case.labels), tokens, case.curves)
    assert np.array_equal(scores, again)
