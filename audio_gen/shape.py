"""The shape of a network: what its two writings (PyTorch and C) and its checkpoints agree on. Needs no torch."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from math import prod
from typing import Any

from audio_gen.errors import CheckpointError

MAX_PREDICTORS = 4  # these and POINTS as in engine.h
MAX_ORDER = 512
WINDOW = 16
MAX_WINDOW = 4096
REFIT = 32
LONG_REFIT = 128
LONG = 128
SPREADS = 96
POINTS = 257
LOWEST_PITCH = 25
"""Hz; LOWEST and TAPS as in engine.h."""
TAPS = 8
PHASES = 64
"""Parts of a period."""
DOUBT = "doubt"
"""A label of its own kind, the last one where there is one: how much noise there is in what is heard, in DOUBTS steps
up to the most that was learned. Index 0, that of other labels' "no label", is none."""
DOUBTS = 8
MAX_ENVELOPE = 64
"""Largest order of a predictor made from a curve."""


def fit_window(order: int) -> int:
    """Samples that a linear predictor of this order is fitted to."""
    return min(WINDOW * order, MAX_WINDOW)


def refit_of(order: int) -> int:
    """Samples between two fits of a linear predictor of this order."""
    return LONG_REFIT if order > LONG else REFIT


@dataclass(frozen=True)
class NetworkShape:
    """Sizes of every part, per tier where they are lists (fastest tier first)."""

    levels: int
    """Number of tokens."""
    layers: tuple[int, ...]
    """Gated residual layers per tier."""
    channels: tuple[int, ...]
    """Residual width per tier."""
    pool: tuple[int, ...] = ()
    """Frames of tier k that make one frame of tier k + 1."""
    dilation_cycle: int = 10
    """Dilation of layer i of any tier is 2 ** (i % dilation_cycle)."""
    kernel_size: int = 2
    skip_channels: int = 0
    """Width of the fastest tier's skip sum; 0: the head reads its last residual stream."""
    head_channels: int = 256
    condition_channels: int = 32
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Values of each label, in order; embedding row 0 is "no label", row i + 1 is value i."""
    curve_channels: int = 0
    """Values per curve frame; 0: no curves."""
    hop: int = 256
    """Samples per curve frame."""
    around: int = 0
    """Frames before the present one, and after it, that the network is told beside it."""
    predictors: tuple[int, ...] = ()
    """Orders of the linear predictors whose expectations the network hears beside each token; multiples of 8."""

    envelope: tuple[int, ...] = ()
    """Of one more predictor, whose coefficients come from the mel curve: its order, a multiple of 8; how many of the
    curves are mel, which come first; and the sample rate (Hz) that places them. Empty: none."""

    period: tuple[int, ...] = ()
    """Of one more, which looks back one period of the pitch: the first of the three curves that say the pitch, the
    sample rate (Hz), and into how many parts a period is cut to say in which of them a sample lies: PHASES, or 0,
    where that is not said. Empty: none."""

    anchored: bool = False
    """Whether the logits fall off around what the predictors expect, see engine/anchor.h."""

    def __post_init__(self) -> None:
        tiers = len(self.layers)
        sizes = [self.levels, self.kernel_size, self.head_channels, self.hop, self.dilation_cycle]
        sizes += [*self.layers, *self.channels, *self.pool]
        widths = [self.skip_channels, self.curve_channels, self.condition_channels, self.around]
        if (
            tiers == 0
            or len(self.channels) != tiers
            or len(self.pool) != tiers - 1
            or any(not isinstance(size, int) or not 1 <= size <= 1 << 20 for size in sizes)
            or any(not isinstance(width, int) or not 0 <= width <= 1 << 20 for width in widths)
            or any(pool < 2 for pool in self.pool)
            or max(self.layers) > 1000
            or self.dilation_cycle > 24
            or not 2 <= self.kernel_size <= 64
            or (self.curve_channels and self.hop % prod(self.pool))
            or (self.conditioned and self.condition_channels < 1)
            or len(self.predictors) > MAX_PREDICTORS
            or any(order % 8 or not 8 <= order <= MAX_ORDER for order in self.predictors)
            or len({*self.predictors}) < len(self.predictors)
            or (self.anchored and not self.predictor_count)
            or not self._envelope_is_possible
            or not self._period_is_possible
            or (self.doubts and ([*self.labels][-1] != DOUBT or len(self.labels[DOUBT]) != DOUBTS))
        ):
            raise CheckpointError(f"impossible network shape: {self.to_dict()}")

    @property
    def doubts(self) -> bool:
        """Whether the network is told how much noise there is in what it hears."""
        return DOUBT in self.labels

    @property
    def player_labels(self) -> dict[str, tuple[str, ...]]:
        """The labels that a player may ask for."""
        return {name: values for name, values in self.labels.items() if name != DOUBT}

    @property
    def conditioned(self) -> bool:
        """Whether labels or curves reach the layers."""
        return bool(self.labels) or self.curve_channels > 0

    @property
    def offsets(self) -> tuple[int, ...]:
        """Which frames of the curves are told at a time, counted from the present one: 0, -1, 1, -2 ..."""
        return (0, *(side * far for far in range(1, self.around + 1) for side in (-1, 1)))

    @property
    def curve_inputs(self) -> int:
        """Values of the curves that are told at a time."""
        return self.curve_channels * len(self.offsets)

    @property
    def label_rows(self) -> tuple[int, ...]:
        """Rows of each label's embedding."""
        return tuple(len(values) + 1 for values in self.labels.values())

    @property
    def tiers(self) -> int:
        return len(self.layers)

    @property
    def pooling(self) -> tuple[int, ...]:
        """Samples per frame of each tier: 1 for the fastest."""
        return tuple(prod(self.pool[:tier]) for tier in range(self.tiers))

    @property
    def _envelope_is_possible(self) -> bool:
        if not self.envelope:
            return True
        if len(self.envelope) != 3 or any(not isinstance(size, int) for size in self.envelope):
            return False
        order, bands, rate = self.envelope
        return (
            order % 8 == 0
            and 8 <= order <= MAX_ENVELOPE
            and 2 <= bands <= min(256, self.curve_channels)
            and rate > 0
        )

    @property
    def _period_is_possible(self) -> bool:
        if not self.period:
            return True
        if len(self.period) != 3 or any(not isinstance(size, int) for size in self.period):
            return False
        column, rate, phases = self.period
        return 0 <= column <= self.curve_channels - 3 and 1 <= rate <= 1 << 20 and phases in (0, PHASES)

    @property
    def pitch_column(self) -> int:
        """The first of the three curves of pitch; 0 where no predictor looks back a period."""
        return self.period[0] if self.period else 0

    @property
    def period_rate(self) -> int:
        """Sample rate (Hz) of the predictor that looks back a period; 0 without one."""
        return self.period[1] if self.period else 0

    @property
    def phases(self) -> int:
        """Parts of a period that are told apart; 0 where none are."""
        return self.period[2] if self.period else 0

    @property
    def predictors_follow(self) -> bool:
        """Whether a predictor is made from curves."""
        return bool(self.envelope or self.period)

    @property
    def envelope_order(self) -> int:
        """0 without one."""
        return self.envelope[0] if self.envelope else 0

    @property
    def envelope_bands(self) -> int:
        return self.envelope[1] if self.envelope else 0

    @property
    def predictor_count(self) -> int:
        """Linear predictors: those that are fitted, then that of the envelope, then that of the period."""
        return len(self.predictors) + bool(self.envelope) + bool(self.period)

    @property
    def input_codes(self) -> int:
        """Rows of the embedding that are added up for each sample: of its token, of what each predictor expects
        next, and of how far that predictor was off of late; and of the phase, where it is told."""
        return 1 + 2 * self.predictor_count + bool(self.phases)

    @property
    def input_rows(self) -> int:
        """Rows of the embedding: a block for the tokens, two per predictor, and one for no phase and each phase."""
        return sum(self.input_blocks.values())

    @property
    def input_blocks(self) -> dict[str, int]:
        """What each block of those rows is of, and how many there are, in order."""
        names = [f"predictor {order}" for order in self.predictors]
        names += ["envelope"] * bool(self.envelope) + ["period"] * bool(self.period)
        blocks = {"token": self.levels, **dict.fromkeys(names, self.levels + SPREADS)}
        return {**blocks, "phase": 1 + self.phases} if self.phases else blocks

    @property
    def logit_rows(self) -> int:
        """Outputs of the head: one per level; where they are anchored, how far each predictor is believed, by how much
        all of them are off, how sure that is, and how broad."""
        return self.levels + (self.predictor_count + 3 if self.anchored else 0)

    @property
    def head_inputs(self) -> int:
        return self.skip_channels or self.channels[0]

    def dilation(self, layer: int) -> int:
        """Distance between the taps of one layer, in frames of its tier."""
        return 1 << (layer % self.dilation_cycle)

    def has_residual(self, tier: int, layer: int) -> bool:
        """The last residual of the fastest tier is dead weight when the head reads the skips."""
        return not (self.skip_channels and tier == 0 and layer == self.layers[0] - 1)

    def reach(self, tier: int) -> int:
        """Frames of its own that one tier's output depends on, the present one included."""
        return 1 + (self.kernel_size - 1) * sum(self.dilation(layer) for layer in range(self.layers[tier]))

    @property
    def receptive_field(self) -> int:
        """Input samples that one prediction can depend on, at the phase where that is most.

        A tier's frame i hears the slower tier's frame j = (i + 1) // pool - 1 at the latest, which ends up to
        pool - 1 frames before i and reaches back `span` slow frames from there.
        """
        span = self.reach(self.tiers - 1)
        for tier in reversed(range(self.tiers - 1)):
            span = self.reach(tier) - 1 + self.pool[tier] * (span + 1) - 1
        # How far off a predictor was REFIT - 1 samples ago depends on a fit up to `refit_of` - 1 samples before that,
        # that of the envelope on as many samples as its order, that of the period on those of the longest one.
        fitted = max((fit_window(o) + refit_of(o) - 1 + REFIT - 1 for o in self.predictors), default=0)
        enveloped = self.envelope_order + REFIT - 1 if self.envelope else 0
        period = (
            max(self.period_rate // LOWEST_PITCH, TAPS // 2) + TAPS // 2 + REFIT - 1 if self.period else 0
        )
        return span + max(fitted, enveloped, period)

    @property
    def macs_per_sample(self) -> float:
        """Multiply-accumulates per generated sample; the embedding is a row gather, conditioning is per frame."""
        total = float(self.head_inputs * self.head_channels + self.head_channels * self.logit_rows)
        for order in self.predictors:  # correlating a window, solving, predicting
            total += (fit_window(order) * (order + 1) + order * order) / refit_of(order) + order
        if self.envelope:
            order = self.envelope_order
            total += (POINTS * (order + 1) + order * order) / self.hop + order
        if self.period:
            total += TAPS * (TAPS - 1) / self.hop + TAPS
        for tier, (layers, width, pooling) in enumerate(
            zip(self.layers, self.channels, self.pooling, strict=True)
        ):
            per_layer = 2 * width * width * self.kernel_size + (
                self.skip_channels * width if tier == 0 else 0
            )
            residuals = sum(self.has_residual(tier, layer) for layer in range(layers)) * width * width
            resampling = 2 * self.pool[tier - 1] * self.channels[tier - 1] * width if tier else 0
            total += (layers * per_layer + residuals + resampling) / pooling
        return total

    def to_dict(self) -> dict[str, Any]:
        """JSON types; `from_dict` takes it back."""
        plain = asdict(self)
        for key in ("layers", "channels", "pool", "predictors", "envelope", "period"):
            plain[key] = list(plain[key])
        plain["labels"] = {name: list(values) for name, values in self.labels.items()}
        # As it was before these came: the hash of older checkpoints stands on it.
        for key in ("predictors", "envelope", "period", "around", "anchored"):
            if not plain[key]:
                del plain[key]
        return plain

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> "NetworkShape":
        """Raises CheckpointError if anything is missing or impossible."""
        try:
            known = {
                "predictors": (),
                "envelope": (),
                "period": (),
                **plain,
            }  # which older checkpoints do not have
            for key in ("layers", "channels", "pool", "predictors", "envelope", "period"):
                known[key] = tuple(known[key])
            known["labels"] = {str(name): tuple(values) for name, values in known["labels"].items()}
            return cls(**known)
        except (TypeError, KeyError, AttributeError, ValueError) as error:
            raise CheckpointError(f"impossible network shape: {error}") from None
