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
NUMBERS = [torch.bfloat16, torch.float32]
ROUNDED: dict[torch.dtype, dict[str, float]] = {
    torch.bfloat16: {"rtol": 2**-8, "atol": 1e-5},
    torch.float32: {"rtol": 1e-5, "atol": 5e-6},
}
"""Half of the last place, and what float32 leaves of small numbers."""
NEARLY: dict[str, float] = {"rtol": 1e-5, "atol": 1e-6}
SUMMED: dict[str, float] = {"rtol": 1e-5, "atol": 1e-3}


def draw(*shape: int, size: float = 2.0, seed: int = 0) -> Tensor:
    return size * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(params=NUMBERS, ids=str)
def number(request: pytest.FixtureRequest) -> torch.dtype:
    """What products read and write."""
    kind: torch.dtype = request.param
    return kind


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
def test_the_gate_and_its_gradient_are_the_formula_s(
    shape: tuple[int, int, int], told: bool, number: torch.dtype
) -> None:
    time, streams, width = shape
    z, dh = draw(time, streams, 2 * width).to(number), draw(time, streams, width, seed=1).to(number)
    frames = torch.arange(time) // 3 if told else None
    steer = draw(time // 3 + 1 if told else 1, streams, 2 * width, seed=2)
    dz = torch.empty_like(z)
    h = compiled.gate(z, steer, frames)
    dsteer = compiled.gate_back(z, steer, frames, dh, dz)
    exact = [each.double().requires_grad_() for each in (z, steer)]
    wanted = steered(exact[0], exact[1], frames)
    wanted.backward(dh.double())
    torch.testing.assert_close(h.double(), wanted, **ROUNDED[number])
    torch.testing.assert_close(dz.double(), exact[0].grad, **ROUNDED[number])
    torch.testing.assert_close(dsteer.double(), exact[1].grad, **SUMMED)


@pytest.mark.usefixtures("isa")
def test_extremes_saturate_and_what_is_no_number_stays_none(number: torch.dtype) -> None:
    z = torch.zeros(1, 1, 32, dtype=number)
    z[..., :5] = torch.tensor([300.0, -torch.inf, 1e-30, torch.nan, 1.0])
    z[..., 16:21] = torch.tensor([300.0, torch.inf, -300.0, 0.0, torch.nan])
    h = compiled.gate(z, torch.zeros(1, 1, 32), None)[0, 0]
    assert h[:3].tolist() == [1.0, -1.0, 0.0] and h[3:5].isnan().all() and h[5:].eq(0.0).all()


@pytest.mark.usefixtures("isa", "team")
@pytest.mark.parametrize("shape", SHAPES)
def test_adding_rounds_and_sums_what_it_adds(shape: tuple[int, int, int], number: torch.dtype) -> None:
    rows, width = shape[0] * shape[1], shape[2]
    a, b, bias, before = (
        draw(rows, width),
        draw(rows, width, seed=1).to(number),
        draw(width, seed=2),
        draw(width, seed=3),
    )
    wanted = a.double() + b.double() + bias.double()
    rounded, sums = torch.empty_like(b), before.clone()
    compiled.add(a, b, bias, rounded, sums)
    torch.testing.assert_close(a.double(), wanted, **NEARLY)
    assert torch.equal(rounded, a.to(number))
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
def test_the_cross_entropy_and_its_gradient_are_pytorch_s(levels: int, number: torch.dtype) -> None:
    logits = draw(70, levels, size=6.0).to(number).requires_grad_()
    targets = torch.randint(levels, (70,), generator=torch.Generator().manual_seed(1))
    weights = draw(70, seed=2)
    losses = fused.cross_entropy(logits, targets)
    (losses * weights).sum().backward()
    exact = logits.detach().double().requires_grad_()
    wanted = F.cross_entropy(exact, targets, reduction="none")
    (wanted * weights.double()).sum().backward()
    torch.testing.assert_close(losses.double(), wanted, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(logits.grad.double(), exact.grad, **ROUNDED[number])


@pytest.mark.usefixtures("isa", "team")
@pytest.mark.parametrize("levels", [16, 256, 1024])
def test_anchored_logits_and_their_gradients_are_those_of_the_formula(
    levels: int, number: torch.dtype
) -> None:
    logits = draw(70, levels, size=3.0).to(number).requires_grad_()
    place = (levels / 2 + levels / 3 * draw(70, seed=3)).requires_grad_()
    sharp, broad = (2.0 ** draw(70, seed=4)).requires_grad_(), (2.0 ** draw(70, seed=5)).requires_grad_()
    dout = draw(70, levels, seed=6)
    anchored = fused.anchor(logits, place, sharp, broad)
    anchored.backward(dout)
    exact = [each.detach().double().requires_grad_() for each in (logits, place, sharp, broad)]
    d = torch.arange(levels) - exact[1][:, None]
    wanted = exact[0] - exact[2][:, None] * (torch.hypot(d, exact[3][:, None]) - exact[3][:, None])
    wanted.backward(dout.double())
    torch.testing.assert_close(anchored.double(), wanted, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(logits.grad.double(), exact[0].grad, **ROUNDED[number])
    for ours, theirs in zip((place, sharp, broad), exact[1:], strict=True):
        size = theirs.grad.abs().max()
        torch.testing.assert_close(ours.grad.double() / size, theirs.grad / size, rtol=1e-3, atol=1e-4)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_logit_that_is_no_number_shows_in_the_loss(bad: float, number: torch.dtype) -> None:
    logits = draw(2, 64).to(number)
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
    "anchored": NetworkShape(256, (2, 2), (16, 16), (4,), predictors=(8, 32), anchored=True),
}


def learned(network: Network, number: torch.dtype) -> tuple[float, Tensor]:
    """Loss of chunks after a first one, and all gradients; in float64, where nothing is fused, or as asked."""
    network = network.double() if number == torch.float64 else network.float()
    network.zero_grad()
    shape = network.shape
    tokens = torch.randint(256, (3, 161), generator=torch.Generator().manual_seed(2))
    told: dict[str, Any] = {}
    if shape.labels:
        curves = draw(3, 8, shape.curve_channels, seed=3)
        told = {"labels": torch.tensor([[1], [2], [0]]), "curves": curves.to(network.embedding.weight)}
    with torch.autocast("cpu", torch.bfloat16, enabled=number == torch.bfloat16):
        _, state = network(tokens[:, :60], **told)
        logits, state = network(tokens[:, 60:160], state.detach(), **told)
        loss = F.cross_entropy(_full(logits).transpose(1, 2), tokens[:, 61:])
        for _ in range(3):  # shorter than what a layer remembers
            logits, state = network(tokens[:, 160:], state.detach(), **told)
            loss = loss + _full(logits).logsumexp(-1).mean()
    loss.backward()
    return loss.item(), torch.cat([parameter.grad.double().flatten() for parameter in network.parameters()])


def _full(logits: Tensor) -> Tensor:
    return logits.float() if logits.dtype == torch.bfloat16 else logits


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_learns_the_same_fused(
    name: str, number: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    network = Network(NETWORKS[name])
    torch.nn.init.normal_(network.head.logits.weight, std=NETWORKS[name].head_channels ** -0.5)
    with torch.no_grad():  # an anchor, where there is one, that does not drown everything else
        network.head.logits.weight[256:] *= 0.1
    calls: list[int] = []
    run_layers = fused.run_layers
    monkeypatch.setattr(fused, "run_layers", lambda *given: calls.append(1) or run_layers(*given))

    loss, gradient = learned(network, number)
    fused_calls = len(calls)
    exact_loss, exact = learned(network, torch.float64)
    assert 5 <= fused_calls == len(calls)  # every chunk is enough for the fastest tier
    monkeypatch.setattr(compiled, "usable", lambda *_: False)
    plain_loss, plain = learned(network, number)
    close = (0.01 if number == torch.bfloat16 else 1e-5) * max(1.0, exact_loss / 20.0)
    assert abs(loss - exact_loss) < close and abs(plain_loss - exact_loss) < close
    # As near to what float64 says as PyTorch is in these numbers.
    assert (gradient - exact).norm() < 1.2 * (plain - exact).norm()
    assert (gradient - exact).norm() < (0.05 if number == torch.bfloat16 else 1e-5) * exact.norm()


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
