"""Laws of the compiled gate: it is the formula, and its gradient that of the formula, whatever the shape."""

import pytest
import torch
from torch import Tensor

from audio_gen.engine.binding import library_path, load_library, usable_isas
from audio_gen.network import gating
from audio_gen.network.gating import gated

SHAPES = [(1, 1, 16), (7, 3, 48), (0, 2, 32), (300, 16, 128)]


def formula(z: Tensor) -> Tensor:
    signal, gate = z.double().chunk(2, -1)
    return torch.tanh(signal) * torch.sigmoid(gate)


def draw(*shape: int, size: float = 2.0, seed: int = 0) -> Tensor:
    return (size * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))).bfloat16()


@pytest.fixture(params=usable_isas(load_library(library_path())))
def isa(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every instruction set that this machine has, in turn."""
    monkeypatch.setenv("AUDIO_GEN_ISA", request.param)
    gating._library.cache_clear()
    request.addfinalizer(gating._library.cache_clear)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("threads", [1, 2])
def test_the_gate_and_its_gradient_are_the_formula_s(
    shape: tuple[int, int, int], threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gating, "SHARE", 64)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    time, batch, width = shape
    z, weights = draw(time, batch, 2 * width).requires_grad_(), draw(time, batch, width, seed=1)
    h = gated(z)
    h.backward(weights)
    exact = z.detach().double().requires_grad_()
    wanted = formula(exact)
    wanted.backward(weights.double())
    # Half of bfloat16's last place, and what float32 leaves of small numbers.
    torch.testing.assert_close(h.double(), wanted, rtol=2**-8, atol=1e-6)
    torch.testing.assert_close(z.grad.double(), exact.grad, rtol=2**-8, atol=4e-6)


@pytest.mark.usefixtures("isa")
def test_extremes_saturate_and_what_is_no_number_stays_none() -> None:
    z = torch.zeros(1, 32, dtype=torch.bfloat16)
    z[0, :4] = torch.tensor([300.0, -300.0, 1e-30, torch.nan])
    z[0, 16:20] = torch.tensor([300.0, 300.0, -300.0, 0.0])
    h = gated(z)[0]
    assert h[:3].tolist() == [1.0, -1.0, 0.0] and h[3].isnan() and h[4:].eq(0.0).all()
    assert gated(torch.full((1, 32), torch.inf, dtype=torch.bfloat16)).isnan().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_other_precisions_and_widths_are_pytorch_s(dtype: torch.dtype) -> None:
    z = draw(5, 2, 24).to(dtype)
    signal, gate = z.chunk(2, -1)
    assert torch.equal(gated(z), torch.tanh(signal) * torch.sigmoid(gate))


def test_views_that_are_not_contiguous() -> None:
    z = draw(6, 32, 4).transpose(1, 2)
    torch.testing.assert_close(gated(z).double(), formula(z), rtol=2**-8, atol=1e-6)
