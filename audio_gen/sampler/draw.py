"""One draw: logits and a coin to a token. The slow and obvious form, which judges the compiled one."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from audio_gen.errors import SettingError
from audio_gen.sketch import GUIDANCE, TEMPERATURE


@dataclass(frozen=True)
class Draw:
    """How boldly to draw. The defaults draw samples from the model's own distribution, and sketches from one that is
    a little calmer and nearer to its labels. Raises SettingError."""

    temperature: float = 1.0
    """Divides the logits: below 1 calmer, above 1 wilder, 0 always the likeliest token. From 0 to 10."""
    top_k: int = 0
    """Draw from the k likeliest tokens only; 0: from all."""
    top_p: float = 1.0
    """Draw from the likeliest tokens that together hold this probability (nucleus; Holtzman et al. 2020)."""
    min_p: float = 0.0
    """Drop tokens below this share of the likeliest one's probability."""
    sketch_temperature: float = TEMPERATURE
    """The temperature of a model's sketch, where it has one. At 0 one that hears what it has drawn draws the likeliest
    value, and one that does not (`sketch.deaf`) a quantile: `audio_gen.sketch.SETTLED`."""
    guidance: float = GUIDANCE
    """How far a sketch is pushed towards its labels, beyond what was learned: 0 to 10. Classifier-free guidance (Ho
    and Salimans 2022, arXiv:2207.12598)."""
    doubt: float = 0.0
    """Of a network that was told how much noise there was in what it heard (`train.tell_noise`): how much it shall
    take to be in what it has played, from 0, none, to 1, the most that it has learned, and on to 3, in the same
    direction beyond. The more it doubts, the more it follows what it is told instead. After the noise levels that
    cascaded diffusion models are told (Ho et al. 2022, arXiv:2106.15282)."""

    def __post_init__(self) -> None:
        for name in ("temperature", "sketch_temperature", "guidance"):
            if not 0.0 <= getattr(self, name) <= 10.0:
                raise SettingError(f"{name} must be from 0 to 10, got {getattr(self, name):g}")
        if self.top_k < 0:
            raise SettingError(f"top_k must be 0 (all) or more, got {self.top_k}")
        if not 0.0 <= self.doubt <= 3.0:
            raise SettingError(f"doubt must be from 0 to 3, got {self.doubt:g}")
        if not 0.0 < self.top_p <= 1.0:
            raise SettingError(f"top_p must be above 0 and at most 1, got {self.top_p:g}")
        if not 0.0 <= self.min_p <= 1.0:
            raise SettingError(f"min_p must be from 0 to 1, got {self.min_p:g}")

    def but(
        self,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        sketch_temperature: float | None = None,
        guidance: float | None = None,
        doubt: float | None = None,
    ) -> "Draw":
        """The same but for what is given. Raises SettingError.

        >>> Draw(temperature=0.9).but(top_k=40)
        Draw(temperature=0.9, top_k=40, top_p=1.0, min_p=0.0, sketch_temperature=0.8, guidance=0.5, doubt=0.0)
        """
        given = {
            "temperature": temperature,
            "top_k": top_k,
            "top_p": top_p,
            "min_p": min_p,
            "sketch_temperature": sketch_temperature,
            "guidance": guidance,
            "doubt": doubt,
        }
        return replace(self, **{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]


def draw_token(logits: NDArray[np.floating], coin: float, draw: Draw) -> int:
    """The token that `coin` in [0, 1) picks from `logits` (levels,), by inverse CDF in token order.

    Ties go to the lower token. Kept in turn: the top_k likeliest, those at least min_p of the best, the
    shortest prefix by likelihood that holds top_p of what is left.
    """
    logits = np.asarray(logits, np.float64)
    if draw.temperature == 0.0:
        return int(np.argmax(logits))
    with np.errstate(over="ignore"):  # the coldest temperatures push all but the likeliest to -inf
        weights = np.exp((logits - logits.max()) / draw.temperature)
    order = np.argsort(-weights, kind="stable")
    if draw.top_k:
        order = order[: draw.top_k]
    order = order[weights[order] >= draw.min_p]
    if draw.top_p < 1.0:
        held = np.cumsum(weights[order])
        order = order[: int(np.searchsorted(held, draw.top_p * held[-1])) + 1]
    kept = np.sort(order)
    cumulative = np.cumsum(weights[kept])
    return int(
        kept[min(int(np.searchsorted(cumulative, coin * cumulative[-1], side="right")), len(kept) - 1)]
    )
