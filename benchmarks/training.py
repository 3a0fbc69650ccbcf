"""How fast a training step runs, by formulation: `python -m benchmarks.training [--threads 2] [--compile]`.

The same weights and the same tokens in three layouts, interleaved in one process:

    convolutions    (batch, channels, time), conv1d modules: what most implementations do
    rows            (batch, time, channels), matrix multiplies over shifted views: the plain prototype
    time-major      (time, batch, channels), the same with contiguous views: audio_gen.network

each in float32 and under bfloat16 autocast, `time-major` also compiled with --compile. A step is forward,
loss, backward, gradient clipping and AdamW. The error is the largest difference of the logits from the
float32 time-major ones. `--plain-allocator` shows what audio_gen.training.allocator brings.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import Tensor
from torch.nn import functional as F

from audio_gen.network import Network
from audio_gen.shape import NetworkShape
from audio_gen.training.allocator import keep_memory

SHAPES = {
    "classic: 20 layers, 64 residual, 128 skip": NetworkShape(
        256, (20,), (64,), skip_channels=128, head_channels=128
    ),
    "three tiers: 4 of 64, 6 of 128, 7 of 256": NetworkShape(256, (4, 6, 7), (64, 128, 256), (4, 4)),
}
BATCH, TIME = 4, 4096
Forward = Callable[[Network, Tensor], Tensor]


def time_major(network: Network, tokens: Tensor) -> Tensor:
    """audio_gen's own. Logits (batch, time, levels)."""
    logits: Tensor = network(tokens)[0]
    return logits


def rows(network: Network, tokens: Tensor) -> Tensor:
    """Matrix multiplies in (batch, time, channels)."""

    def layer(module, a: Tensor) -> tuple[Tensor, Tensor | None]:  # type: ignore[no-untyped-def]
        heard = F.pad(a, (0, 0, module.memory, 0))
        parts = [
            F.linear(heard[:, tap * module.dilation : tap * module.dilation + a.shape[1]], weight)
            for tap, weight in enumerate(module.dilated.weight.chunk(module.taps, 1))
        ]
        signal, gate = (sum(parts) + module.dilated.bias).chunk(2, -1)
        h = torch.tanh(signal) * torch.sigmoid(gate)
        skip = None if module.skip is None else module.skip(h)
        return (a if module.residual is None else a + module.residual(h)), skip

    def down(tier, faster: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        return tier.down(faster.reshape(faster.shape[0], -1, tier.pool * tier.faster_width))

    def up(tier, slow: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        fast = tier.up(slow).reshape(slow.shape[0], -1, tier.faster_width)
        return F.pad(fast, (0, 0, tier.pool - 1, 0))[:, : fast.shape[1]]

    last = _tiers(network, network.embedding(tokens), layer, down, up)
    return network.head(last)


def convolutions(network: Network, tokens: Tensor) -> Tensor:
    """conv1d in (batch, channels, time)."""

    def linear(module, a: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        return F.conv1d(a, module.weight[:, :, None], module.bias)

    def layer(module, a: Tensor) -> tuple[Tensor, Tensor | None]:  # type: ignore[no-untyped-def]
        width = a.shape[1]
        kernel = module.dilated.weight.view(2 * width, module.taps, width).transpose(1, 2)
        z = F.conv1d(F.pad(a, (module.memory, 0)), kernel, module.dilated.bias, dilation=module.dilation)
        signal, gate = z.chunk(2, 1)
        h = torch.tanh(signal) * torch.sigmoid(gate)
        skip = None if module.skip is None else linear(module.skip, h)
        return (a if module.residual is None else a + linear(module.residual, h)), skip

    def down(tier, faster: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        kernel = tier.down.weight.view(tier.width, tier.pool, tier.faster_width).transpose(1, 2)
        return F.conv1d(faster, kernel, tier.down.bias, stride=tier.pool)

    def up(tier, slow: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        batch, _, frames = slow.shape
        fast = linear(tier.up, slow).view(batch, tier.pool, tier.faster_width, frames)
        fast = fast.permute(0, 2, 3, 1).reshape(batch, tier.faster_width, frames * tier.pool)
        return F.pad(fast, (tier.pool - 1, 0))[:, :, : fast.shape[2]]

    last = _tiers(network, network.embedding(tokens).transpose(1, 2), layer, down, up)
    hidden = F.relu(linear(network.head.hidden, F.relu(last)))
    return linear(network.head.logits, hidden).transpose(1, 2)


def _tiers(network: Network, a: Tensor, layer, down, up) -> Tensor:  # type: ignore[no-untyped-def]
    inputs = [a]
    for tier in list(network.tiers)[1:]:
        inputs.append(down(tier, inputs[-1]))
    slower: Tensor | None = None
    skips: list[Tensor] = []
    for number in reversed(range(len(inputs))):
        a = inputs[number] if slower is None else inputs[number] + up(network.tiers[number + 1], slower)
        for module in network.tiers[number].layers:
            a, skip = layer(module, a)
            skips += [] if skip is None else [skip]
        slower = a
    return sum(skips[1:], skips[0]) if skips else a


def make_step(network: Network, forward: Forward, tokens: Tensor, half: bool) -> Callable[[], None]:
    """One training step as a function."""
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3, fused=True)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16) if half else nullcontext():
            logits = forward(network, tokens)
        # Flatten in the order the logits lie in memory, so that no formulation pays for a copy it does not need.
        targets = tokens
        if forward is not convolutions and logits.stride(1) > logits.stride(0):
            logits, targets = logits.transpose(0, 1), tokens.transpose(0, 1)
        F.cross_entropy(logits.reshape(-1, logits.shape[-1]).float(), targets.reshape(-1)).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()

    return step


def randomised(shape: NetworkShape) -> Network:
    """Weights that make the head's logits depend on everything, so that the error means something."""
    network = Network(shape)
    torch.nn.init.normal_(network.head.logits.weight, std=shape.head_channels**-0.5)
    return network


def compare(name: str, shape: NetworkShape, compile_too: bool, rounds: int) -> None:
    """Time all formulations of one shape in turn, and print a table."""
    tokens = torch.randint(shape.levels, (BATCH, TIME), generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    weights = randomised(shape).state_dict()
    variants: dict[str, tuple[Forward, bool]] = {}
    for forward in (convolutions, rows, time_major):
        for half in (False, True):
            variants[f"{forward.__name__.replace('_', '-')}, {'bf16' if half else 'fp32'}"] = (forward, half)
    steps: dict[str, Callable[[], None]] = {}
    errors: dict[str, float] = {}
    reference: Tensor | None = None
    for label, (forward, half) in reversed(variants.items()):
        network = Network(shape)
        network.load_state_dict(weights)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16) if half else nullcontext():
            logits = forward(network, tokens).float()
        if forward is time_major and not half:
            reference = logits
        errors[label] = (logits - reference).abs().max().item() if reference is not None else float("nan")
        if label == "time-major, bf16":
            late = logits
        steps[label] = make_step(network, forward, tokens, half)
        if compile_too and label == "time-major, bf16":
            compiled = torch.compile(network)
            steps[label + ", compiled"] = make_step(
                network, lambda _, given, run=compiled: run(given)[0], tokens, True
            )
            errors[label + ", compiled"] = float("nan")
    assert reference is not None
    errors["time-major, bf16"] = (late - reference).abs().max().item()
    for step in steps.values():
        step()
        step()
    times: dict[str, list[float]] = {label: [] for label in steps}
    for _ in range(rounds):
        for label, step in steps.items():
            began = time.perf_counter()
            step()
            times[label].append(time.perf_counter() - began)
    base = statistics.median(times["rows, bf16"])
    print(f"\n{name} ({sum(p.numel() for p in network.parameters()):,} parameters, batch {BATCH} × {TIME})")
    print(f"{'formulation':32}{'samples/s':>12}{'of rows, bf16':>16}{'largest logit error':>22}")
    for label in [*variants, *[label for label in steps if label not in variants]]:
        median = statistics.median(times[label])
        print(f"{label:32}{BATCH * TIME / median:12,.0f}{base / median:15.2f}×{errors[label]:22.1e}")


def main() -> None:
    """Read the options and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=9, help="steps of each formulation (default 9)")
    parser.add_argument("--compile", action="store_true", help="also torch.compile (a minute each)")
    parser.add_argument(
        "--plain-allocator", action="store_true", help="leave the C library's allocator as it is"
    )
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if not options.plain_allocator:
        keep_memory()
    allocator = "plain" if options.plain_allocator else "keeping memory"
    print(f"torch {torch.__version__}, {options.threads} threads, allocator {allocator}")
    for name, shape in SHAPES.items():
        compare(name, shape, options.compile, options.rounds)


if __name__ == "__main__":
    main()
