"""The laws of the compiled engine: the network's equations, and the same bits however it is called."""

import numpy as np
import pytest
from engine_cases import ISAS, NETWORKS, Case, coins_of, draw, numpy_draw


@pytest.fixture(params=NETWORKS, ids=NETWORKS, scope="module")
def case(request):
    return Case(request.param)


def test_logits_are_those_of_the_equations(case):
    logits = case.logits()
    for row in range(3):
        assert np.abs(logits[row] - case.reference(row)).max() < 5e-5


def test_logits_are_those_of_the_torch_network():
    torch = pytest.importorskip("torch")
    from audio_gen.network import Network

    case = Case("three-tiers-k3")
    network = Network(case.engine.shape).double()
    network.load_state_dict({name: torch.as_tensor(tensor) for name, tensor in case.tensors.items()})
    inputs = np.concatenate([np.full((3, 1), case.engine.silence), case.tokens[:, :-1]], 1).astype(np.int64)
    with torch.no_grad():
        logits, _ = network(
            torch.as_tensor(inputs), None, torch.as_tensor(case.labels), torch.as_tensor(case.curves).double()
        )
    assert np.abs(case.logits() - logits.numpy()).max() < 5e-5


@pytest.mark.parametrize("isa", ISAS)
def test_every_instruction_set_gives_the_same_bits(case, isa):
    engine, coins = case.compiled(isa=isa), coins_of(1, 3, 150)
    assert engine.isa == isa
    assert np.array_equal(case.logits(engine), case.logits())
    assert np.array_equal(case.sample(coins, engine), case.sample(coins))


@pytest.mark.parametrize("chunk", [1, 7, 160])
def test_chunks_leave_the_bits(case, chunk):
    coins = coins_of(2, 3, 170)
    assert np.array_equal(case.logits(chunk=chunk), case.logits())
    assert np.array_equal(case.sample(coins, chunk=chunk), case.sample(coins))


def test_a_held_frame_goes_on_from_where_it_began():
    """Where in its period a wave is counts from the beginning of the frame, not of the call."""
    case = Case("phase")
    curves, coins = np.full((3, 1, 4), 0.3, np.float32), coins_of(9, 3, 400)
    curves[:, :, 1:3] = 1.0, -1.3  # there is a pitch, whose period is no part of a frame
    state, whole = case.engine.start(case.labels), case.engine.start(case.labels)
    expected = case.engine.sample(whole, coins, draw(), curves)
    chunks = [case.engine.sample(state, coins[:, at : at + 37], draw(), curves) for at in range(0, 400, 37)]
    assert np.array_equal(np.concatenate(chunks, axis=1), expected)


def test_other_streams_leave_the_bits(case):
    coins, threaded = coins_of(3, 3, 100), case.compiled(threads=2)
    whole, drawn = case.logits(), case.sample(coins)
    assert np.array_equal(case.logits(threaded), whole)
    assert np.array_equal(case.sample(coins, threaded), drawn)
    for row in range(3):
        assert np.array_equal(case.logits(rows=slice(row, row + 1))[0], whole[row])
        assert np.array_equal(case.sample(coins, rows=slice(row, row + 1))[0], drawn[row])


def test_drawing_hears_what_priming_hears(case):
    """Sampled tokens, fed again as known ones, leave the same logits after them as sampling left."""
    coins, curves = coins_of(4, 3, 90), case.curves
    sampled, primed = case.engine.start(case.labels), case.engine.start(case.labels)
    tokens = case.engine.sample(sampled, coins, draw(), curves)
    case.engine.prime(primed, tokens, curves)
    again = case.engine.logits(sampled, case.tokens[:, :50], curves)
    assert np.array_equal(again, case.engine.logits(primed, case.tokens[:, :50], curves))


def test_free_running_tokens_are_the_reference_draws(case):
    """Each token is what its coin draws from float64 logits of the tokens before it; thousands of draws."""
    coins = coins_of(5, 3, 400)
    tokens = case.sample(coins)
    for row in range(3):
        logits = case.reference(row, tokens[row])
        expected = [numpy_draw(logits[t], coins[row, t], draw()) for t in range(len(logits))]
        assert np.array_equal(tokens[row], expected)


@pytest.mark.parametrize("distance", [0, 1, 2, 3, 5, 11])
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
    assert np.array_equal(
        engine.logits(resumed, case.tokens[:, :9], curves), engine.logits(whole, case.tokens[:, :9], curves)
    )


def test_the_receptive_field_is_no_longer_than_needed():
    """At the worst phase, a stream with another token just inside the receptive field sounds different."""
    case = Case("three-tiers")
    field, period = case.engine.receptive_field, 8
    differs = []
    for position in range(field + 1, field + 1 + period):
        logits = []
        for begin in (0, position - field + 1):  # the prediction's inputs then begin at `begin` + 1 - 1
            last = None if begin == 0 else (case.tokens[:, begin - 1] + 1) % 512
            state = case.engine.start(case.labels, position=begin, last=last)
            case.engine.prime(state, case.tokens[:, begin:position])
            logits.append(case.engine.logits(state, case.tokens[:, :1]))
        differs.append(not np.array_equal(*logits))
    assert any(differs)


def test_a_copied_state_goes_on_alone():
    case = Case("three-tiers-k3")
    state = case.engine.start(case.labels)
    case.engine.prime(state, case.tokens[:, :30], case.curves)
    twin, coins = state.copy(), coins_of(7, 3, 60)
    first = case.engine.sample(state, coins, draw(), case.curves)
    assert np.array_equal(case.engine.sample(twin, coins, draw(), case.curves), first)
    assert state.position == twin.position == 90


def test_more_streams_than_one_block_holds():
    case = Case("two-tiers")
    streams = 70
    labels = np.zeros((streams, 2), int)
    labels[:, 1] = np.arange(streams) % 4
    curves = np.random.default_rng(8).standard_normal((streams, 9, 3)).astype(np.float32)
    coins = coins_of(8, streams, 50)
    drawn = case.engine.sample(case.engine.start(labels), coins, draw(), curves)
    for row in (0, 63, 64, 69):
        rows = slice(row, row + 1)
        state = case.engine.start(labels[rows])
        assert np.array_equal(case.engine.sample(state, coins[rows], draw(), curves[rows])[0], drawn[row])
