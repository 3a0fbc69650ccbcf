"""Laws of the parts that a training on a CPU runs fused: they are their formulas, and so are their gradients."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from audio_gen.engine import team as team_of
from audio_gen.engine.binding import library_path, load_library, usable_isas
from audio_gen.network import Network, compiled, fused
from audio_gen.shape import NetworkShape

SHAPES = [(1, 1, 16), (7, 3, 48), (0, 2, 32), (300, 16, 128)]
ROUNDED: dict[str, float] = {"rtol": 2**-8, "atol": 1e-5}
"""Half of bfloat16's last place, and what float32 leaves of small numbers."""
NEARLY: dict[str, float] = {"rtol": 1e-5, "atol": 1e-6}
SUMMED: dict[str, float] = {"rtol": 1e-5, "atol": 1e-3}


def draw(*shape: int, size: float = 2.0, seed: int = 0) -> Tensor:
    return size * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def halves(*shape: int, size: float = 2.0, seed: int = 0) -> Tensor:
    return draw(*shape, size=size, seed=seed).bfloat16()


@pytest.fixture(params=usable_isas(load_library(library_path())))
def isa(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every instruction set that this machine has, in turn."""
    monkeypatch.setenv("AUDIO_GEN_ISA", request.param)
    compiled._library.cache_clear()
    request.addfinalizer(compiled._library.cache_clear)


@pytest.fixture(params=["alone", "threads of PyTorch", "threads of its own"])
def team(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Alone, or three at a time, though there is little to do."""
    monkeypatch.setattr(compiled, "SHARE", 64)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1 if request.param == "alone" else 3)
    if request.param == "threads of its own":
        monkeypatch.setattr(team_of, "_openmp", lambda: None)


def steered(z: Tensor, steer: Tensor, frames: Tensor | None) -> Tensor:
    signal, gate = (z + (steer if frames is None else steer[frames])).chunk(2, -1)
    return torch.tanh(signal) * torch.sigmoid(gate)


@pytest.mark.usefixtures("isa", "team")
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("told", [False, True])
def test_the_gate_and_its_gradient_are_the_formula_s(shape: tuple[int, int, int], told: bool) -> None:
    time, streams, width = shape
    z, dh = halves(time, streams, 2 * width), halves(time, streams, width, seed=1)
    frames = torch.arange(time) // 3 if told else None
    steer = draw(time // 3 + 1 if told else 1, streams, 2 * width, seed=2)
    dz = torch.empty_like(z)
    h = compiled.gate(z, steer, frames)
    dsteer = compiled.gate_back(z, steer, frames, dh, dz)
    exact = [each.double().requires_grad_() for each in (z, steer)]
    wanted = steered(exact[0], exact[1], frames)
    wanted.backward(dh.double())
    torch.testing.assert_close(h.double(), wanted, **ROUNDED)
    torch.testing.assert_close(dz.double(), exact[0].grad, **ROUNDED)
    torch.testing.assert_close(dsteer.double(), exact[1].grad, **SUMMED)


@pytest.mark.usefixtures("isa")
def test_extremes_saturate_and_what_is_no_number_stays_none() -> None:
    z = torch.zeros(1, 1, 32, dtype=torch.bfloat16)
    z[..., :5] = torch.tensor([300.0, -torch.inf, 1e-30, torch.nan, 1.0])
    z[..., 16:21] = torch.tensor([300.0, torch.inf, -300.0, 0.0, torch.nan])
    h = compiled.gate(z, torch.zeros(1, 1, 32), None)[0, 0]
    assert h[:3].tolist() == [1.0, -1.0, 0.0] and h[3:5].isnan().all() and h[5:].eq(0.0).all()


@pytest.mark.usefixtures("isa", "team")
@pytest.mark.parametrize("shape", SHAPES)
def test_adding_rounds_and_sums_what_it_adds(shape: tuple[int, int, int]) -> None:
    rows, width = shape[0] * shape[1], shape[2]
    a, b, bias, before = (
        draw(rows, width),
        halves(rows, width, seed=1),
        draw(width, seed=2),
        draw(width, seed=3),
    )
    wanted = a.double() + b.double() + bias.double()
    rounded, sums = torch.empty_like(b), before.clone()
    compiled.add(a, b, bias, rounded, sums)
    torch.testing.assert_close(a.double(), wanted, **NEARLY)
    assert torch.equal(rounded, a.bfloat16())
    torch.testing.assert_close(sums.double(), before.double() + wanted.sum(0), **SUMMED)
    compiled.add(a, b)
    torch.testing.assert_close(a.double(), wanted + b.double(), **NEARLY)


@pytest.mark.usefixtures("isa", "team")
@pytest.mark.parametrize("codes", [1, 5])
def test_embedding_sums_rows_and_sums_their_gradients(codes: int) -> None:
    places = torch.randint(40, (90, 2, codes), generator=torch.Generator().manual_seed(0))
    table, dsum = draw(40, 48).requires_grad_(), draw(90, 2, 48, seed=1)
    fused.embed(places, table).backward(dsum)
    exact = table.detach().double().requires_grad_()
    wanted = exact[places].sum(-2)
    wanted.backward(dsum.double())
    torch.testing.assert_close(fused.embed(places, table).double(), wanted, **NEARLY)
    torch.testing.assert_close(table.grad.double(), exact.grad, **SUMMED)


@pytest.mark.usefixtures("isa", "team")
@pytest.mark.parametrize("levels", [16, 256, 1024])
def test_the_cross_entropy_and_its_gradient_are_pytorch_s(levels: int) -> None:
    logits = halves(70, levels, size=6.0).requires_grad_()
    targets = torch.randint(levels, (70,), generator=torch.Generator().manual_seed(1))
    weights = draw(70, seed=2)
    losses = fused.cross_entropy(logits, targets)
    (losses * weights).sum().backward()
    exact = logits.detach().double().requires_grad_()
    wanted = F.cross_entropy(exact, targets, reduction="none")
    (wanted * weights.double()).sum().backward()
    torch.testing.assert_close(losses.double(), wanted, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(logits.grad.double(), exact.grad, **ROUNDED)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_logit_that_is_no_number_shows_in_the_loss(bad: float) -> None:
    logits = halves(2, 64)
    logits[1, 33] = bad
    losses = fused.cross_entropy(logits, torch.tensor([1, 2]))
    assert losses[0].isfinite() and losses[1].isnan()


NETWORKS = {
    "tiers": NetworkShape(256, (2, 3), (16, 32), (4,)),
    "told": NetworkShape(
        256,
        (2, 2),
        (32, 16),
        (4,),
        labels={"drum": ("kick", "snare")},
        condition_channels=16,
        curve_channels=3,
        hop=32,
        around=1,
    ),
    "classic": NetworkShape(256, (5,), (16,), skip_channels=48, head_channels=32),
    "kernel of three": NetworkShape(256, (3, 2), (16, 16), (2,), kernel_size=3),
}


def learned(network: Network, half: bool) -> tuple[float, Tensor]:
    """Loss of chunks after a first one, and all gradients."""
    network.zero_grad()
    shape = network.shape
    tokens = torch.randint(256, (3, 161), generator=torch.Generator().manual_seed(2))
    told: dict[str, Any] = {}
    if shape.labels:
        told = {"labels": torch.tensor([[1], [2], [0]]), "curves": draw(3, 8, shape.curve_channels, seed=3)}
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        _, state = network(tokens[:, :60], **told)
        logits, state = network(tokens[:, 60:160], state.detach(), **told)
        loss = F.cross_entropy(logits.float().transpose(1, 2), tokens[:, 61:])
        for _ in range(3):  # shorter than what a layer remembers
            logits, state = network(tokens[:, 160:], state.detach(), **told)
            loss = loss + logits.float().logsumexp(-1).mean()
    loss.backward()
    return loss.item(), torch.cat([parameter.grad.flatten() for parameter in network.parameters()])


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_learns_the_same_fused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    network = Network(NETWORKS[name])
    torch.nn.init.normal_(network.head.logits.weight, std=NETWORKS[name].head_channels ** -0.5)
    calls: list[int] = []
    run_layers = fused.run_layers
    monkeypatch.setattr(fused, "run_layers", lambda *given: calls.append(1) or run_layers(*given))

    loss, gradient = learned(network, True)
    fused_calls = len(calls)
    exact_loss, exact = learned(network, False)
    assert 5 <= fused_calls == len(calls)  # every chunk is enough for the fastest tier
    monkeypatch.setattr(compiled, "usable", lambda *_: False)
    plain_loss, plain = learned(network, True)
    assert abs(loss - exact_loss) < 0.01 and abs(plain_loss - exact_loss) < 0.01
    # As near to what float32 says as PyTorch is in bfloat16.
    assert (gradient - exact).norm() < 1.2 * (plain - exact).norm()
    assert (gradient - exact).norm() < 0.05 * exact.norm()


def test_a_past_that_has_a_gradient_keeps_it() -> None:
    network = Network(NETWORKS["tiers"])
    state = network.start(1)
    past = [tensor.clone().requires_grad_() for tensor in state.tensors()]
    with torch.autocast("cpu", torch.bfloat16):
        logits, _ = network(torch.full((1, 8), 128), state.replaced(past))
    logits.float().square().sum().backward()
    assert any(tensor.grad is not None and tensor.grad.abs().sum() > 0 for tensor in past)


def test_odd_widths_are_pytorch_s() -> None:
    network = Network(NetworkShape(256, (2, 2), (24, 8), (4,)))
    with torch.autocast("cpu", torch.bfloat16):
        logits, _ = network(torch.full((2, 10), 128))
    logits.float().sum().backward()
    assert network.embedding.weight.grad is not None
