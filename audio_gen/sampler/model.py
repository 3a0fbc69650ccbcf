"""The model as its user sees it: load it, generate, stream, score. Needs no torch.

```python
model = audio_gen.load("drums")
clip = model.generate(seconds=1.0, labels={"drum": "kick"}, seed=7)
```
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from audio_gen.checkpoint import Checkpoint
from audio_gen.codec import Codec, Waveform
from audio_gen.curves import Floats, Moments
from audio_gen.errors import CheckpointError, SettingError
from audio_gen.fades import Fade
from audio_gen.features import measure
from audio_gen.notes import Notes
from audio_gen.sampler.asking import asking_of
from audio_gen.sampler.composing import compose
from audio_gen.sampler.draw import Draw
from audio_gen.sampler.held import check_frames
from audio_gen.sampler.parts import Each, Labels, Part, is_list, parts_of
from audio_gen.sampler.precision import Precision, choose
from audio_gen.sampler.prompt import Prompt
from audio_gen.sampler.starting import frames_of, start
from audio_gen.sampler.voices import Curves, SamplingEngine, Voices
from audio_gen.sketch import drawn_channels

CHUNK_SECONDS = 0.1


class Model:
    """A trained network, ready to play."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        engine: Literal["compiled", "reference"] = "compiled",
        threads: int = 1,
        precision: str = "auto",
    ) -> None:
        """`threads`: how many groups of clips the compiled engine runs at once.

        `precision`: "fp32", "bf16" or "int8" of the compiled engine; "auto" chooses by what the checkpoint says
        they cost. The reference always computes in full. Raises CheckpointError, EngineError, SettingError.
        """
        self.checkpoint = checkpoint
        self.name = str(checkpoint.card.get("name", "model"))
        self.draw = _draw_of(checkpoint)
        """How it is played where nobody says otherwise: as its card has it."""
        self.sketch: Model | None = None
        """What draws the curves where none are given. Little work, so always in full."""
        if checkpoint.sketch is not None:
            self.sketch = Model(checkpoint.sketch, engine=engine, threads=threads, precision="fp32")
        self.composer: Model | None = None
        """What makes up the notes where none are given. Hardly any work."""
        if checkpoint.composer is not None:
            self.composer = Model(checkpoint.composer, engine=engine, threads=threads, precision="fp32")
        self.engine: SamplingEngine
        if engine == "reference":
            from audio_gen.sampler.reference import ReferenceEngine

            if precision not in ("auto", "fp32"):
                raise SettingError(f"the reference engine computes in full precision, not in {precision}")
            self.precision: Precision = "fp32"
            self.engine = ReferenceEngine.from_checkpoint(checkpoint)
        else:
            from audio_gen.engine import Engine

            self.precision = choose(checkpoint, precision)
            self.engine = Engine(
                checkpoint.shape,
                checkpoint.tensors,
                threads=threads,
                precision=self.precision,
                scales=checkpoint.scales if self.precision == "int8" else None,
            )

    @property
    def arithmetic(self) -> str:
        """What beside the checkpoint's hash decides on the audio: the precision, in int8 with its scales."""
        digest = self.checkpoint.scales_hash[:12] if self.precision == "int8" else ""
        return f"{self.precision} {digest}".rstrip()

    @property
    def sample_rate(self) -> int:
        """Hertz."""
        return self.checkpoint.sample_rate

    @property
    def levels(self) -> int:
        """Number of tokens."""
        return self.checkpoint.codec.levels

    @property
    def codec(self) -> Codec:
        return self.checkpoint.codec

    @property
    def receptive_field(self) -> int:
        """Samples."""
        return self.checkpoint.shape.receptive_field

    @property
    def labels(self) -> dict[str, list[str]]:
        """What can be asked for: each label's values."""
        return {name: list(values) for name, values in self.checkpoint.shape.player_labels.items()}

    @property
    def told(self) -> list[str]:
        """Names of the curves that have to be given, unless there is a composer: those that no sketch draws."""
        return self.checkpoint.told

    @property
    def drawn(self) -> NDArray[np.bool_]:
        """Which channels of the curves a sketch draws where they are not given, (channels,)."""
        channels = drawn_channels(self.checkpoint.curves, self.checkpoint.shape.curve_channels)
        return channels if self.sketch is not None else np.zeros_like(channels)

    @property
    def card(self) -> dict[str, Any]:
        """Where the model comes from and how good it is."""
        return dict(self.checkpoint.card)

    @overload
    def generate(  # type: ignore[overload-overlap]
        self,
        seconds: float,
        *,
        labels: Labels | None = None,
        seed: int = 0,
        stream: int = 0,
        temperature: float | str | Fade | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        sketch_temperature: float | None = None,
        guidance: float | None = None,
        doubt: float | None = None,
        curves: Curves | None = None,
        prompt: ArrayLike | Prompt | None = None,
        chunk_seconds: float = CHUNK_SECONDS,
    ) -> Waveform: ...
    @overload
    def generate(self, seconds: Each[float], **settings: Any) -> list[Waveform]: ...
    def generate(
        self,
        seconds: Each[float],
        *,
        curves: Each[Curves] | None = None,
        prompt: ArrayLike | Prompt | None = None,
        chunk_seconds: float = CHUNK_SECONDS,
        **settings: Any,
    ) -> Waveform | list[Waveform]:
        """A clip, float32 (time,); or, where a setting is a list, a list of clips, made side by side.

        Takes the settings of `streams`. A clip of a list is the clip made alone.
        """
        parts = parts_of(self.sample_rate, seconds, **settings, draw=self.draw)
        if any(math.isinf(part.samples) for part in parts):
            raise SettingError("seconds must be finite, got inf; use stream() for endless audio")
        chunks = self._play(parts, curves, prompt, chunk_seconds)
        clips = [np.concatenate(clip) for clip in zip(*chunks, strict=True)]
        return clips if any(map(is_list, [seconds, *settings.values()])) else clips[0]

    def stream(
        self,
        seconds: float = math.inf,
        *,
        labels: Labels | None = None,
        seed: int = 0,
        stream: int = 0,
        temperature: float | str | Fade | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        sketch_temperature: float | None = None,
        guidance: float | None = None,
        doubt: float | None = None,
        curves: Curves | None = None,
        prompt: ArrayLike | Prompt | None = None,
        chunk_seconds: float = CHUNK_SECONDS,
    ) -> Iterator[Waveform]:
        """Chunks of one clip, float32 (time,), as they are made; endless by default.

        `labels` name what to play ({"drum": "kick"}; what is left out is left open), or what to mix: in shares,
        {"drum": {"kick": 0.7, "snare": 0.3}}, and by the second, {"texture": [(0, "rain"), (20, "waves")]}, from one
        to the next in straight lines; texts as `parse_mixture` reads them do, too. Equal `seed`, `stream` and
        settings are equal audio, however it is chunked. `curves` are told to a model that follows more than labels:
        {"pitch": "a2"}, {"pitch": 55.0}, {"pitch": [(0.0, "a2"), (1.5, 110.0)]}, {"notes": `Notes`}, or frames as
        `start` has them. A
        `prompt` is a recording (time,) at the model's sample rate, or a `Prompt`, that the clip goes on from and does
        not hold; labels and curves begin where it ends. See `Draw` for the settings of the draw;
        those left out are the model's own (`draw`). The temperature may change, "0.7@0,1.2@20", as `parse_fade` has it.
        Raises ControlError for unknown labels, SettingError for settings out of range.
        """
        parts = parts_of(
            self.sample_rate, seconds, labels, seed, stream, temperature, top_k, top_p, min_p,
            sketch_temperature, guidance, doubt, draw=self.draw,
        )  # fmt: skip
        return (chunk[0] for chunk in self._play(parts, curves, prompt, chunk_seconds))

    def streams(
        self,
        seconds: Each[float] = math.inf,
        *,
        labels: Each[Labels] | None = None,
        seed: Each[int] = 0,
        stream: Each[int] = 0,
        temperature: Each[float | str | Fade | None] = None,
        top_k: Each[int | None] = None,
        top_p: Each[float | None] = None,
        min_p: Each[float | None] = None,
        sketch_temperature: Each[float | None] = None,
        guidance: Each[float | None] = None,
        doubt: Each[float | None] = None,
        curves: Each[Curves] | None = None,
        prompt: ArrayLike | Prompt | None = None,
        chunk_seconds: float = CHUNK_SECONDS,
    ) -> Iterator[list[Waveform]]:
        """Like `stream` for several clips side by side: a chunk of each, empty for those that have ended.

        Any setting but the last may be a list of one value per clip; what is no list goes for all of them.
        (`curves` alone do not say how many clips there are.)
        Clip i plays stream `stream + i`, unless each clip has a seed or a stream of its own.
        """
        parts = parts_of(
            self.sample_rate, seconds, labels, seed, stream, temperature, top_k, top_p, min_p,
            sketch_temperature, guidance, doubt, draw=self.draw,
        )  # fmt: skip
        return self._play(parts, curves, prompt, chunk_seconds)

    def _play(
        self,
        parts: Sequence[Part],
        curves: Each[Curves] | None,
        prompt: ArrayLike | Prompt | None,
        chunk_seconds: float,
    ) -> Iterator[list[Waveform]]:
        """Checks at once, and plays when it is asked for chunks."""
        if not chunk_seconds > 0.0:
            raise SettingError(f"chunk_seconds must be above 0, got {chunk_seconds:g}")
        if prompt is not None:
            prompt = prompt if isinstance(prompt, Prompt) else self.prompt(prompt)
            parts = [replace(part, samples=part.samples + len(prompt.waveform)) for part in parts]
        voices = self.start(parts, curves, prompt=prompt)
        return _chunks(voices, max(1, round(chunk_seconds * self.sample_rate)))

    def start(
        self,
        parts: Sequence[Part],
        curves: Each[Curves] | None = None,
        heard: NDArray[np.floating] | None = None,
        position: int = 0,
        prompt: Prompt | None = None,
    ) -> Voices:
        """Streams about to play, from the beginning or from `position` after having heard a waveform.

        `heard` (rows, time) is the end of what has been played up to `position`: at least one sample more than
        the receptive field, or all of it if it is shorter. `curves` are those of every part, or a list of one for
        each: frames (frames, channels), or what each curve is, by name. Beyond its end each holds its last frame. Where
        a sketch draws some of their channels, these may be left out: `curves` are those of `told` alone, or None where
        that is empty or there is a composer.

        With a `prompt` positions, and the samples of `parts`, count from its beginning, where all of them stand or
        later; what they are asked for and told counts from its end. Raises ControlError, SettingError.
        """
        return start(self, parts, curves, heard, position, prompt)

    def prompt(
        self,
        waveform: ArrayLike,
        *,
        decibels: float | None = None,
        notes: Notes | Callable[[Moments], Floats] | None = None,
    ) -> Prompt:
        """What streams can go on from, of a `waveform` (time,) at the model's sample rate: see `Prompt.of`."""
        return Prompt.of(self.checkpoint, waveform, decibels=decibels, notes=notes)

    def compose(
        self,
        seconds: float,
        *,
        labels: Labels | None = None,
        seed: int = 0,
        stream: int = 0,
        temperature: float | None = None,
        prompt: Notes | None = None,
    ) -> Notes:
        """The notes that begin within `seconds`: those that `generate` plays where it is told none. They are composed
        at `temperature`, or as the composer's own card says. A `prompt` is what they go on from, and do not hold; they
        are told by seconds since its end. Raises ControlError for labels that are unknown, SettingError for a model
        without a composer and for settings out of range.
        """
        return compose(self, Part(labels or {}, seed, stream), seconds, temperature, prompt)

    @property
    def hop_seconds(self) -> float:
        """Seconds that a frame of curves lasts."""
        return self.checkpoint.shape.hop / self.sample_rate

    def bits_per_sample(
        self, waveform: ArrayLike, *, labels: Labels | None = None, curves: Curves | None = None
    ) -> float:
        """Mean bits per sample that this model needs for `waveform` (time,) at its own sample rate. `curves`
        (frames, channels) hold all that it follows; left out, they are measured in the waveform: then these are the
        bits that the samples cost beside them."""
        tokens = self.codec.encode(waveform)
        if not len(tokens):
            raise SettingError("bits_per_sample needs at least one sample")
        if curves is None and self.checkpoint.curves:
            curves = measure(self.checkpoint, waveform, decibels=0.0)
        return float(self.bits(tokens, labels=labels, curves=curves).mean())

    def bits(
        self, tokens: ArrayLike, *, labels: Labels | None = None, curves: Curves | None = None
    ) -> NDArray[np.float64]:
        """Bits (time,) that each of `tokens` (time,) costs, from a stream's beginning."""
        tokens = np.asarray(tokens)
        asking = asking_of(self, [labels or {}], [0.0])
        state = self.engine.start(np.zeros((1, len(self.checkpoint.shape.labels)), np.int32))
        steer = check_frames(self.checkpoint, frames_of(self, curves))
        spread = None if steer is None else steer[None]
        costs, start = [], 0
        while start < len(tokens):
            count = asking.turn(self.engine, state, start, min(4096, len(tokens) - start))
            part = tokens[None, start : start + count]
            costs.append(token_bits(self.engine.logits(state, part, spread), part)[0])
            start += count
        return np.concatenate(costs)


def _chunks(voices: Voices, samples: int) -> Iterator[list[Waveform]]:
    """Up to so many samples of every part at a time, none of those that have ended."""
    nothing = np.zeros(0, np.float32)
    while voices.playing:
        chunk = [nothing] * len(voices.parts)
        for number, waveform in voices.advance(samples):
            chunk[number] = waveform
        yield chunk


def token_bits(logits: NDArray[np.floating], tokens: NDArray[np.integer]) -> NDArray[np.float64]:
    """-log2 of the probability of each of `tokens` (rows, time) under `logits` (rows, time, levels)."""
    exact = logits.astype(np.float64)
    top = exact.max(-1, keepdims=True)
    normaliser = top[..., 0] + np.log(np.exp(exact - top).sum(-1))
    chosen = np.take_along_axis(exact, tokens.astype(np.int64)[..., None], -1)[..., 0]
    return np.asarray((normaliser - chosen) / math.log(2.0))


def _draw_of(checkpoint: Checkpoint) -> Draw:
    """What its card says of playing it. Raises CheckpointError."""
    play = checkpoint.card.get("play", {})
    try:
        return Draw().but(**play)
    except (TypeError, SettingError) as error:
        raise CheckpointError(
            f"{checkpoint.card.get('name', 'model')}: its card says how to play it, but: {error}"
        ) from None
