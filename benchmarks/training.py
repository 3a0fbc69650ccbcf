"""How fast a training step runs, by formulation: `python -m benchmarks.training [--threads 2 1] [--compile]`.

The same weights and the same tokens in three layouts, interleaved in one process:

    convolutions    (batch, channels, time), conv1d modules: what most implementations do
    rows            (batch, time, channels), matrix multiplies over shifted views: a plain prototype
    time-major      (time, batch, channels), the same with contiguous views

each in float32 and, where the processor multiplies it, under bfloat16 autocast; `time-major` also through
torch.compile with --compile. `fused` is what audio_gen trains with on a CPU: time-major, the layers of a tier, the
embedding and the cross-entropy as one operation each. A step is forward, loss, backward, gradient clipping and AdamW.
The error is the largest difference of the logits from the float32 time-major ones. The last column is the share of the
multiply-accumulates per second that a matrix product of 4,096 × 512 × 512 in the narrowest of these numbers makes
between the same steps.
`--plain-allocator` shows what audio_gen.training.allocator brings. `-o FILE` keeps the tables as a page.
"""

import argparse
import datetime
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from audio_gen.engine.limits import hardware
from audio_gen.network import Network, compiled
from audio_gen.presets import preset_shape
from audio_gen.settings import PREDICTORS
from audio_gen.shape import NetworkShape
from audio_gen.training.allocator import keep_memory
from audio_gen.training.loop import multiplies_bf16
from audio_gen.training.step import cross_entropy

SHAPES = {
    "classic: 20 layers, 64 residual, 128 skip": NetworkShape(
        256, (20,), (64,), skip_channels=128, head_channels=128
    ),
    "three tiers: 4 of 64, 6 of 128, 7 of 256": NetworkShape(256, (4, 6, 7), (64, 128, 256), (4, 4)),
    "preset base, which hears three linear predictors": preset_shape("base", predictors=PREDICTORS),
}
BATCH, TIME = 4, 4096
TITLE = (
    "# Where the time of a training step goes{without}\n\n"
    "Made by `python -m benchmarks.training`, which says what is what."
)
PRODUCT, PRODUCTS = "matrix product", 16
NAMES = {torch.float32: "fp32", torch.bfloat16: "bf16"}
Forward = Callable[[Network, Tensor], Tensor]


def fused(network: Network, tokens: Tensor) -> Tensor:
    """audio_gen's own. Logits (batch, time, levels)."""
    logits: Tensor = network(tokens)[0]
    return logits


def time_major(network: Network, tokens: Tensor) -> Tensor:
    """The same in PyTorch's operations."""
    with unfused():
        return fused(network, tokens)


@contextmanager
def unfused() -> Iterator[None]:
    """The network as it runs where nothing is fused."""
    ours, compiled.usable = compiled.usable, lambda *_: False
    try:
        yield
    finally:
        compiled.usable = ours


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

    last = _tiers(network, _embedded(network, tokens), layer, down, up)
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

    last = _tiers(network, _embedded(network, tokens).transpose(1, 2), layer, down, up)
    hidden = F.relu(linear(network.head.hidden, F.relu(last)))
    return linear(network.head.logits, hidden).transpose(1, 2)


def _embedded(network: Network, tokens: Tensor) -> Tensor:
    heard, _, _ = network.hear(tokens, network.start(len(tokens)))
    return network.embedding(heard).sum(-2)


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
        logits, targets = logits.reshape(-1, logits.shape[-1]), targets.reshape(-1)
        if forward is fused:
            losses = cross_entropy(logits, targets)
        else:
            losses = F.cross_entropy(logits.float(), targets, reduction="none")
        losses.mean().backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()

    return step


def randomised(shape: NetworkShape) -> Network:
    """Weights that make the head's logits depend on everything, so that the error means something."""
    network = Network(shape)
    torch.nn.init.normal_(network.head.logits.weight, std=shape.head_channels**-0.5)
    return network


def compare(name: str, shape: NetworkShape, compile_too: bool, rounds: int) -> str:
    """Time all formulations of one shape in turn; their table, in Markdown."""
    tokens = torch.randint(shape.levels, (BATCH, TIME), generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    weights = randomised(shape).state_dict()
    fastest = torch.bfloat16 if multiplies_bf16() else torch.float32
    formulations: list[tuple[Forward, bool]] = [
        (forward, half)
        for forward in (convolutions, rows, time_major, fused)
        for half in ((False, True) if fastest is torch.bfloat16 else (False,))
    ]
    steps: dict[str, Callable[[], None]] = {}
    errors: dict[str, float] = {}
    reference = time_major(_loaded(shape, weights), tokens).detach()
    for forward, half in formulations:
        label = f"{forward.__name__.replace('_', '-')}, {NAMES[torch.bfloat16 if half else torch.float32]}"
        network = _loaded(shape, weights)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16) if half else nullcontext():
            errors[label] = (forward(network, tokens).float() - reference).abs().max().item()
        steps[label] = make_step(network, forward, tokens, half)
    if compile_too:
        network = _loaded(shape, weights)
        by_torch = torch.compile(network)
        label = f"time-major, {NAMES[fastest]}, torch.compile"
        errors[label] = float("nan")
        steps[label] = make_step(
            network, lambda _, given: _of_unfused(by_torch, given), tokens, fastest is torch.bfloat16
        )
    factors = torch.randn(4096, 512).to(fastest), torch.randn(512, 512).to(fastest)
    steps[PRODUCT] = lambda: [F.linear(*factors) for _ in range(PRODUCTS)] and None
    for step in steps.values():
        step()
        step()
    times: dict[str, list[float]] = {label: [] for label in steps}
    for _ in range(rounds):
        for label, step in steps.items():
            began = time.perf_counter()
            step()
            times[label].append(time.perf_counter() - began)
    medians = {label: statistics.median(spent) for label, spent in times.items()}
    limit = PRODUCTS * 4096 * 512 * 512 / medians.pop(PRODUCT)
    plain = f"rows, {NAMES[fastest]}"
    lines = [
        f"{name}: {sum(p.numel() for p in network.parameters()):,} parameters, {shape.macs_per_sample:,.0f} "
        f"multiply-accumulates per sample, batch {BATCH} × {TIME:,}; a matrix product makes {limit / 1e9:,.0f} G a "
        "second.",
        "",
        f"| formulation | samples/s | of {plain} | largest logit error | of the matrix product's rate |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for label, median in medians.items():
        speed = BATCH * TIME / median
        share = 3 * shape.macs_per_sample * speed / limit  # forwards once, backwards twice
        lines.append(
            f"| {label} | {speed:,.0f} | {medians[plain] / median:.2f}× | {errors[label]:.1e} | {share:.0%} |"
        )
    return "\n".join(lines)


def _loaded(shape: NetworkShape, weights: dict[str, Tensor]) -> Network:
    network = Network(shape)
    network.load_state_dict(weights)
    return network


def _of_unfused(network: Callable[[Tensor], tuple[Tensor, object]], tokens: Tensor) -> Tensor:
    with unfused():
        return network(tokens)[0]


def main() -> None:
    """Read the options and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--threads",
        type=int,
        nargs="+",
        default=[torch.get_num_threads()],
        help="one or more; one after the other",
    )
    parser.add_argument("--rounds", type=int, default=9, help="steps of each formulation (default 9)")
    parser.add_argument("--compile", action="store_true", help="also torch.compile (a minute each)")
    parser.add_argument("-o", "--output", type=Path, help="keep the tables as this page")
    parser.add_argument(
        "--plain-allocator", action="store_true", help="leave the C library's allocator as it is"
    )
    options = parser.parse_args()
    if not options.plain_allocator:
        keep_memory()
    allocator = "plain" if options.plain_allocator else "keeping memory"
    said = [TITLE.format(without="" if multiplies_bf16() else " without bfloat16")]
    for threads in options.threads:
        torch.set_num_threads(threads)
        said.append(
            f"## {threads} thread{'s' if threads > 1 else ''}\n\n{hardware()}, PyTorch {torch.__version__}, "
            f"allocator {allocator}, {datetime.date.today()}."
        )
        print(f"\n{said[-1]}")
        for name, shape in SHAPES.items():
            said.append(compare(name, shape, options.compile, options.rounds))
            print(f"\n{said[-1]}", flush=True)
    if options.output:
        options.output.write_text("\n\n".join(said) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
