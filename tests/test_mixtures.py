"""Laws of mixtures: a pure label is what it always was, and what changes over time does so at its moment, however a
stream is cut."""

from itertools import pairwise

import numpy as np
import pytest
from engine_cases import ISAS, NETWORKS, Case, coins_of, draw, numpy_draw
from reference_network import reference_logits

from audio_gen.errors import ControlError

LABELLED = [name for name, settings in NETWORKS.items() if settings["labels"]]


class Mixed(Case):
    """A case whose streams are asked for other mixtures at sample 0 and at each of some odd moments."""

    moments = (0, 1, 19, 64, 101)

    def __init__(self, name, precision="fp32"):
        super().__init__(name, precision)
        self.rows = self.engine.shape.label_rows
        generator = np.random.default_rng(11)
        parts = [generator.dirichlet(np.ones(rows), (len(self.moments), 3)) for rows in self.rows]
        self.shares = np.concatenate(parts, axis=-1)  # (moments, streams, rows)

    def pure(self):
        """Shares (streams, rows) that say what `labels` say."""
        return np.concatenate([np.eye(rows)[self.labels[:, at]] for at, rows in enumerate(self.rows)], axis=1)

    def calls(self, time, chunk):
        """(first sample, last one plus 1, which shares are new, or None) of each call."""
        cuts = sorted({*range(0, time, chunk), *(at for at in self.moments if at < time), time})
        for first, last in pairwise(cuts):
            yield first, last, self.moments.index(first) if first in self.moments else None

    def started(self, engine, rows):
        return engine.start(np.zeros_like(self.labels[rows]))

    def logits(self, engine=None, chunk=None, rows=slice(None)):
        engine, parts = engine or self.engine, []
        curves = None if self.curves is None else self.curves[rows]
        state = self.started(engine, rows)
        for first, last, new in self.calls(self.time, chunk or self.time):
            if new is not None:
                engine.ask(state, self.shares[new, rows])
            parts.append(engine.logits(state, self.tokens[rows, first:last], curves))
        return np.concatenate(parts, axis=1)

    def sample(self, coins, engine=None, chunk=None, rows=slice(None), setting=None):
        engine, parts = engine or self.engine, []
        curves = None if self.curves is None else self.curves[rows]
        state = self.started(engine, rows)
        for first, last, new in self.calls(coins.shape[1], chunk or coins.shape[1]):
            if new is not None:
                engine.ask(state, self.shares[new, rows])
            parts.append(engine.sample(state, coins[rows, first:last], setting or draw(), curves))
        return np.concatenate(parts, axis=1)

    def reference(self, row, tokens=None):
        tokens = self.tokens[row] if tokens is None else tokens
        at = np.searchsorted(self.moments, np.arange(len(tokens)), side="right") - 1
        curves = None if self.curves is None else self.curves[row]
        return reference_logits(self.settings, self.tensors, tokens, self.shares[at, row], curves)


@pytest.fixture(params=LABELLED, scope="module")
def case(request):
    return Mixed(request.param)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
@pytest.mark.parametrize("name", LABELLED)
def test_a_share_of_one_is_the_label(name, precision):
    case = Mixed(name, precision)
    plain, asked = case.engine.start(case.labels), case.started(case.engine, slice(None))
    case.engine.ask(asked, case.pure())
    assert np.array_equal(asked.condition, plain.condition)
    tokens = case.tokens[:, :70]
    assert np.array_equal(
        case.engine.logits(asked, tokens, case.curves), case.engine.logits(plain, tokens, case.curves)
    )


def test_logits_of_mixtures_are_those_of_the_equations(case):
    logits = case.logits()
    for row in range(3):
        assert np.abs(logits[row] - case.reference(row)).max() < 5e-5
    coins = coins_of(5, 3, 130)
    tokens = case.sample(coins)
    for row in range(3):
        of = case.reference(row, tokens[row])
        assert np.array_equal(tokens[row], [numpy_draw(of[t], coins[row, t], draw()) for t in range(len(of))])


def test_cuts_company_and_instructions_leave_the_bits_of_mixtures(case):
    coins = coins_of(2, 3, 130)
    whole, drawn = case.logits(), case.sample(coins)
    for chunk in (1, 7):
        assert np.array_equal(case.logits(chunk=chunk), whole)
        assert np.array_equal(case.sample(coins, chunk=chunk), drawn)
    for engine in (case.compiled(threads=2), *(case.compiled(isa=isa) for isa in ISAS)):
        assert np.array_equal(case.logits(engine), whole)
        assert np.array_equal(case.sample(coins, engine), drawn)
    for row in range(3):
        rows = slice(row, row + 1)
        assert np.array_equal(case.logits(rows=rows)[0], whole[row])
        assert np.array_equal(case.sample(coins, rows=rows)[0], drawn[row])


def test_the_torch_network_hears_the_same_mixtures():
    torch = pytest.importorskip("torch")
    from audio_gen.network import Network
    from audio_gen.sampler.reference import ReferenceEngine

    case = Mixed("three-tiers-k3")
    network = Network(case.engine.shape)
    network.load_state_dict({name: torch.as_tensor(tensor) for name, tensor in case.tensors.items()})
    reference = ReferenceEngine(network)
    assert np.abs(case.logits() - case.logits(reference)).max() < 5e-5
    plain, asked = reference.start(case.labels), case.started(reference, slice(None))
    reference.ask(asked, case.pure())
    tokens = case.tokens[:, :70]
    assert np.array_equal(
        reference.logits(asked, tokens, case.curves), reference.logits(plain, tokens, case.curves)
    )


def test_a_copied_state_keeps_what_it_is_asked_for(case):
    state = case.started(case.engine, slice(None))
    tokens, curves = case.tokens[:, :50], case.curves
    case.engine.ask(state, case.shares[0])
    case.engine.prime(state, tokens[:, :20], curves)
    case.engine.ask(state, case.shares[1])
    twin = state.copy()
    assert np.array_equal(case.engine.logits(state, tokens, curves), case.engine.logits(twin, tokens, curves))


def test_impossible_shares_are_refused(case):
    state = case.started(case.engine, slice(None))
    with pytest.raises(ControlError, match="shares must be finite"):
        case.engine.ask(state, case.shares[0, :, 1:])
    with pytest.raises(ControlError, match="shares must be finite"):
        case.engine.ask(state, np.full_like(case.shares[0], np.nan))
