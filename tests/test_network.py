"""The laws of the network: causal, chunkable, and as far-hearing as the formula says."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from audio_gen.network import Network
from audio_gen.shape import NetworkShape

SHAPES = {
    "classic": NetworkShape(256, (6,), (8,), dilation_cycle=3, skip_channels=12, head_channels=16),
    "classic-k3": NetworkShape(
        256, (4,), (8,), dilation_cycle=2, kernel_size=3, skip_channels=8, head_channels=16
    ),
    "one-tier-no-skip": NetworkShape(512, (5,), (8,), dilation_cycle=5, head_channels=16),
    "two-tiers": NetworkShape(256, (2, 3), (8, 12), (3,), head_channels=16),
    "three-tiers": NetworkShape(256, (2, 2, 3), (8, 12, 16), (4, 2), head_channels=16),
    "three-tiers-k3-skip": NetworkShape(
        1024, (2, 1, 2), (8, 8, 8), (2, 3), kernel_size=3, skip_channels=24, head_channels=32
    ),
    "predictors": NetworkShape(256, (2, 2), (8, 12), (4,), head_channels=16, predictors=(8, 16)),
    "anchored": NetworkShape(256, (2, 2), (8, 12), (4,), head_channels=16, predictors=(8, 16), anchored=True),
    "envelope": NetworkShape(
        256, (2, 2), (8, 12), (4,), head_channels=16, curve_channels=3, hop=8, envelope=(8, 3, 8000)
    ),
    "period": NetworkShape(
        256, (2, 2), (8, 12), (4,), head_channels=16, curve_channels=4, hop=8, period=(1, 400, 64)
    ),
}


def build(shape: NetworkShape, seed: int = 0) -> Network:
    """A network with random weights of the kind training ends with, in float64."""
    torch.manual_seed(seed)
    network = Network(shape).double()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.5 if parameter.dim() == 1 else parameter.shape[-1] ** -0.5)
    return network


def tokens_for(shape: NetworkShape, batch: int, time: int, seed: int = 1) -> torch.Tensor:
    return torch.randint(shape.levels, (batch, time), generator=torch.Generator().manual_seed(seed))


@pytest.fixture(params=SHAPES, ids=SHAPES)
def shape(request) -> NetworkShape:
    return SHAPES[request.param]


def test_changing_the_future_leaves_the_past_bit_equal(shape):
    network, tokens = build(shape), tokens_for(shape, 2, 60)
    logits, _ = network(tokens)
    for cut in (1, 17, 36, 59):
        changed = tokens.clone()
        changed[:, cut:] = (changed[:, cut:] + 7) % shape.levels
        assert torch.equal(network(changed)[0][:, :cut], logits[:, :cut])
        assert not torch.equal(network(changed)[0][:, cut:], logits[:, cut:])


@pytest.mark.parametrize("chunk", [1, 2, 5, 7, 32])
def test_chunks_joined_equal_the_whole(shape, chunk):
    network, tokens = build(shape), tokens_for(shape, 2, 3 * shape.receptive_field)
    whole, end = network(tokens)
    state, parts = None, []
    for part in tokens.split(chunk, dim=1):
        logits, state = network(part, state)
        parts.append(logits)
    assert torch.allclose(torch.cat(parts, dim=1), whole, atol=1e-10)
    assert state.position == end.position == tokens.shape[1]
    for ours, theirs in zip(state.tensors(), end.tensors(), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-10)


def test_the_receptive_field_by_gradient_equals_the_formula(shape):
    # what they expect is a whole number, without a gradient
    shape = replace(shape, predictors=(), envelope=(), period=(), anchored=False)
    network = build(shape)
    field, period = shape.receptive_field, shape.pooling[-1]
    time = field + 2 * period
    weights = torch.nn.functional.one_hot(tokens_for(shape, 1, time), shape.levels).double().requires_grad_()
    embedded = weights @ network.embedding.weight
    network.embedding.forward = lambda _: embedded.transpose(0, 1)[:, :, None]  # one row per token
    logits, _ = network(tokens_for(shape, 1, time))
    farthest = 0
    for end in range(time - period, time):  # every phase of the slowest tier
        (gradient,) = torch.autograd.grad(logits[0, end].square().sum(), weights, retain_graph=True)
        reached = np.flatnonzero(gradient[0].abs().sum(-1).numpy())
        assert reached.max() == end
        farthest = max(farthest, end - reached.min() + 1)
    assert farthest == field


def test_streams_of_a_batch_do_not_hear_each_other(shape):
    network, tokens = build(shape), tokens_for(shape, 3, 40)
    alone = torch.cat([network(row[None])[0] for row in tokens])
    assert torch.allclose(network(tokens)[0], alone, atol=1e-10)


def conditioned(tiers: bool) -> NetworkShape:
    labels = {"drum": ("kick", "snare"), "velocity": ("1", "2", "3")}
    steer = {"labels": labels, "curve_channels": 3, "hop": 8, "condition_channels": 5, "head_channels": 16}
    if tiers:
        return NetworkShape(256, (2, 2, 2), (8, 8, 8), (4, 2), around=1, **steer)
    return NetworkShape(256, (4,), (8,), dilation_cycle=2, skip_channels=8, **steer)


@pytest.mark.parametrize("tiers", [True, False], ids=["tiers", "classic"])
def test_labels_and_curves_steer_and_chunks_still_join(tiers):
    shape = conditioned(tiers)
    network, tokens = build(shape), tokens_for(shape, 2, 90)
    labels = torch.tensor([[1, 0], [2, 3]])
    curves = torch.randn(2, 12, 3, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    whole, _ = network(tokens, None, labels, curves)
    for chunk in (1, 7, 33):
        state, parts = None, []
        for part in tokens.split(chunk, dim=1):
            logits, state = network(part, state, labels, curves)
            parts.append(logits)
        assert torch.allclose(torch.cat(parts, dim=1), whole, atol=1e-10)
    assert not torch.allclose(network(tokens, None, labels.flip(0), curves)[0], whole)
    late = curves.clone()
    late[:, 5] += 1.0  # frame 5 steers samples 40 to 47, those before that are told of it, and what follows
    changed = network(tokens, None, labels, late)[0]
    first = 40 - 8 * shape.around
    assert torch.equal(changed[:, :first], whole[:, :first])
    assert not torch.allclose(changed[:, first], whole[:, first])


def test_no_label_is_a_label_of_its_own():
    shape = conditioned(True)
    network, tokens = build(shape), tokens_for(shape, 1, 20)
    none = torch.zeros(1, 2, dtype=torch.long)
    assert torch.equal(network(tokens)[0], network(tokens, None, none)[0])
    assert not torch.equal(network(tokens)[0], network(tokens, None, none + 1)[0])


def test_a_label_may_have_any_name():
    network = Network(NetworkShape(256, (2,), (8,), labels={"type": ("a", "b"), "values": ("c",)}))
    assert "labels.type.weight" in dict(network.named_parameters())
    zeros = torch.zeros(1, 4, dtype=torch.long)
    assert network(zeros, None, zeros[:, :2] + 1)[0].shape == (1, 4, 256)


def test_state_rows_can_fall_silent_alone():
    shape = SHAPES["three-tiers"]
    network, tokens = build(shape), tokens_for(shape, 2, 16)
    _, state = network(tokens)
    _, fresh = network(tokens[:1])
    silenced = state.keep(torch.tensor([False, True]))
    assert all(tensor[:, 0].abs().sum() == 0 for tensor in silenced.tensors())
    assert all(
        torch.allclose(ours[:, 1:], theirs[:, 1:])
        for ours, theirs in zip(silenced.tensors(), state.tensors(), strict=True)
    )
    assert fresh.position == silenced.position


def test_a_stream_can_be_taken_up_anywhere_after_one_receptive_field(shape):
    network = build(shape)
    field = shape.receptive_field
    tokens = tokens_for(shape, 1, 2 * field + 40)
    whole, _ = network(tokens)
    for position in range(field, field + shape.pooling[-1] + 1):
        late, _ = network(tokens[:, position:], network.start(1, position))
        assert torch.allclose(late[:, field - 1 :], whole[:, position + field - 1 :], atol=1e-10)
