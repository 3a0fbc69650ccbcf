"""Streams about to play: from their beginning, from a prompt, or where they were left."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from audio_gen.codec import Tokens
from audio_gen.errors import SettingError
from audio_gen.player_curves import curve_frames, curve_of
from audio_gen.sampler.asking import Asking, asking_of
from audio_gen.sampler.composing import ComposedNotes
from audio_gen.sampler.held import Followed, Frames, hold
from audio_gen.sampler.parts import Each, Part
from audio_gen.sampler.prompt import Prompt
from audio_gen.sampler.sketching import Sketching
from audio_gen.sampler.voices import Curves, Voices
from audio_gen.sketch import GUIDANCE, TEMPERATURE

if TYPE_CHECKING:
    from audio_gen.sampler.model import Model


def start(
    model: "Model",
    parts: Sequence[Part],
    curves: Each[Curves] | None,
    heard: NDArray[np.floating] | None,
    position: int,
    prompt: Prompt | None,
) -> Voices:
    """As `Model.start`."""
    if prompt is not None and position <= len(prompt.waveform):
        position = len(prompt.waveform)
        # Two more than it can depend on: the token before, and what pre-emphasis looks at.
        heard = np.repeat(prompt.waveform[None, -(model.receptive_field + 2) :], len(parts), axis=0)
    if position:
        given, needed = 0 if heard is None else heard.shape[1], min(position, model.receptive_field + 1)
        if not needed <= given <= position:
            raise SettingError(
                f"to go on at {position}, the last {needed} samples must be heard, got {given}"
            )
    rows = len(parts)
    late = 0.0 if prompt is None else len(prompt.waveform) / model.sample_rate
    asking = asking_of(
        model,
        [part.labels for part in parts],
        [part.draw.doubt for part in parts],
        [part.fade for part in parts],
        late,
    )
    for part in parts if model.sketch is None else ():
        if (part.draw.sketch_temperature, part.draw.guidance) != (TEMPERATURE, GUIDANCE):
            raise SettingError(f"{model.name}: has no sketch; leave sketch_temperature and guidance out")
    follows = _followed(model, parts, curves, asking, prompt)
    sketching = follows if isinstance(follows, Sketching) else None
    spread = None if isinstance(follows, Sketching) else follows
    nothing = np.zeros((rows, len(model.checkpoint.shape.labels)), np.int32)
    first, tokens, previous = 0, np.zeros((rows, 0), np.uint16), np.zeros(rows, np.float32)
    if heard is not None and position:
        tokens = _tokens_of(model, np.asarray(heard, np.float32), begins=heard.shape[1] == position)
        first = position - tokens.shape[1]
        # Decoded from its tokens, for a file of integers holds it rounded, and pre-emphasis looks back at it.
        before = heard[:, 0] if heard.shape[1] > tokens.shape[1] else np.zeros(rows)
        ends = [model.codec.decode(row, float(one))[-1] for row, one in zip(tokens, before, strict=True)]
        previous = np.array(ends, np.float32)
    if first == 0:
        state = model.engine.start(nothing)
    else:  # the first known token is only the one before those to be heard
        state, first, tokens = model.engine.start(nothing, first + 1, tokens[:, 0]), first + 1, tokens[:, 1:]
    voices = Voices(
        model.engine, state, model.codec, parts, asking, [*range(rows)], spread, first, previous, sketching
    )  # fmt: skip
    voices.hear(tokens)
    return voices


def _followed(
    model: "Model",
    parts: Sequence[Part],
    curves: Each[Curves] | None,
    asking: Asking,
    prompt: Prompt | None,
) -> Sketching | Followed | None:
    """What the streams follow: what the player gives, or a composer makes up, and what a sketch draws beside it. Raises
    ControlError."""
    several = isinstance(curves, Sequence)
    frames = [frames_of(model, each) for each in (curves if isinstance(curves, Sequence) else [curves])]
    known = None if prompt is None or prompt.curves is None else prompt.curves[:, model.drawn]
    if model.composer is not None and all(each is None for each in frames):
        composed = ComposedNotes.begin(model, parts, asking, prompt)
        if model.sketch is None:
            return composed
        return Sketching.begin(model.sketch, parts, asking, composed, model.drawn, known)
    sketched = model.sketch is not None and _leaves_to_sketch(model, frames)
    places = ~model.drawn if sketched else np.ones_like(model.drawn)
    told = model.told if sketched else [*model.checkpoint.curves]
    if prompt is not None and prompt.curves is not None:
        frames = [
            each if each is None else prompt.before(each, places, told, model.hop_seconds) for each in frames
        ]
    given = frames if several else frames[0]
    if model.sketch is None or not sketched:
        return hold(model.checkpoint, given, len(parts), model.hop_seconds)
    followed = hold(model.sketch.checkpoint, given, len(parts), model.hop_seconds)
    return Sketching.begin(model.sketch, parts, asking, followed, model.drawn, known)


def frames_of(model: "Model", curves: Curves | None) -> Frames | None:
    """(frames, channels) of what is to be told; None if that is left out. Raises ControlError."""
    if not isinstance(curves, Mapping):
        return None if curves is None else np.asarray(curves, np.float32)
    given = [curve_of(name, value) for name, value in curves.items()]
    return curve_frames(given, model.told, model.sample_rate, model.checkpoint.shape.hop)


def _leaves_to_sketch(model: "Model", frames: Sequence[Frames | None]) -> bool:
    """Whether `frames` leave out what the sketch draws."""
    first = frames[0] if frames else None
    return first is None or first.shape[-1:] == (np.count_nonzero(~model.drawn),)


def _tokens_of(model: "Model", heard: NDArray[np.float32], begins: bool) -> Tokens:
    """Tokens (rows, time); with pre-emphasis one sample less, unless it is the stream's beginning."""
    if begins or not model.codec.pre_emphasis:
        return np.stack([model.codec.encode(row) for row in heard])
    return np.stack([model.codec.encode(row[1:], float(row[0])) for row in heard])
