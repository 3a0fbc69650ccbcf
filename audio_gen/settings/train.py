"""[train], [sketch] and [composer]: the three trainings."""

import math
from typing import Literal, Self

from pydantic import Field, model_validator

from audio_gen.settings.table import Settings


class TrainSettings(Settings):
    """[train]: the loop. It stops at `steps` or at `minutes`, whichever comes first."""

    steps: int | None = Field(None, ge=1)
    minutes: float | None = Field(None, gt=0.0)
    clock: Literal["wall", "processor"] = "wall"
    """What minutes are of: of the day; or of processor time, all threads together, with which trainings by one thread
    each stay comparable where the machine does other work besides."""
    batch_size: int = Field(8, ge=1)
    """Streams read side by side."""
    crop: int = Field(4096, ge=1)
    """Samples per stream and step. The next step may go on where this one ended: see `walk`."""
    walk: int = Field(16, ge=1)
    """Crops a stream reads one after another, its network state carried along as left context."""
    balance: float = Field(0.0, ge=0.0, le=1.0)
    """0: every recording is read as often as any other, so that whatever there is little of is hardly learned; 1: every
    combination of labels as often as any other, however little there is of it; between, by the power of this."""
    starts: float = Field(0.0, ge=0.0, le=1.0)
    """0: walks begin anywhere, as if nothing had been before, and the model learns to begin anywhere in a recording
    (textures, long pieces).
    Above 0: this share of walks begins where a clip begins, and so does what is generated (one-shots, words);
    the others spend their first crop on context that is not learned from."""
    onset: float = Field(1.0, ge=1.0, le=1000.0)
    """How much more a beginning counts than the rest: the first frame of a clip (of a walk, where `starts` is 0), or
    its first sample where there are no curves. It is a small part of what there is to learn, and all that follows
    hangs on it."""
    optimiser: Literal["adamw", "muon"] = "adamw"
    """Muon moves the hidden matrices by orthogonal steps, each of which takes longer. After 300 steps on digits AdamW
    was ahead, after 800 on drums there was little between them: try both for some minutes."""
    learning_rate: float | None = Field(None, gt=0.0)
    """Left out: `usual_rate` of the minutes."""
    warmup: float = Field(0.02, ge=0.0, le=1.0)
    """Share of the run in which the learning rate rises from 0."""
    decay: float = Field(1.0, ge=0.0, le=1.0)
    """Share of the run, at its end, in which the learning rate falls to 0."""
    weight_decay: float = Field(0.01, ge=0.0)
    clip_norm: float = Field(1.0, gt=0.0)
    """Largest gradient norm."""
    ema: float = Field(0.999, ge=0.0, lt=1.0)
    """Decay per step of the averaged parameters, which are the ones validated, saved and played."""
    label_dropout: float = Field(0.1, ge=0.0, le=1.0)
    """How often each label is hidden, on its own, so that the model also knows clips with some or no labels."""
    gain_range: float = Field(0.0, ge=0.0, le=40.0)
    """Augmentation for small collections: half of the walks are heard softer, by up to so many decibels."""
    flip: bool = False
    """Augmentation: half of the walks are heard with reversed polarity, which sounds the same."""
    input_noise: float = Field(0.0, ge=0.0, le=32.0)
    """Largest standard deviation, in tokens, of the noise added to what the network hears, never to what it
    learns to predict; each walk draws its own from `least_noise` to this. Teaches a stream to recover from its own
    slips."""
    least_noise: float = Field(0.0, ge=0.0, le=32.0)
    """The smallest. As large as `input_noise` where the past shall never be trusted, but what is told."""
    end_noise: float | None = Field(None, ge=0.0, le=32.0)
    """What `input_noise` comes to at the end of the training, on a straight line; left out, it stays. Much noise
    teaches to follow what is told, and less of it, afterwards, to make use of the past as well."""
    tell_noise: bool = False
    """The network is told how strong the noise is, and a player says how much of what it hears it shall believe:
    `audio_gen.sampler.Draw.doubt`."""
    deaf: bool = False
    """The network hears which moment it is and what it is told, and nothing of what came before."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    seed: int = Field(0, ge=0, lt=2**63)
    validate_every: int = Field(500, ge=1)
    """Steps between validations; each also writes a checkpoint and previews."""
    valid_seconds: float = Field(20.0, gt=0.0)
    """Held-out audio scored at each validation; the last validation scores all of it."""
    preview_seconds: float = Field(1.0, ge=0.0)
    """Length of the preview clip per label value at each checkpoint; 0: none."""

    @property
    def rate(self) -> float:
        """The learning rate, said or usual."""
        return usual_rate(self.minutes) if self.learning_rate is None else self.learning_rate

    @model_validator(mode="after")
    def _some_end(self) -> Self:
        if self.steps is None and self.minutes is None:
            raise ValueError("needs steps or minutes (or both)")
        _check_noise(self.least_noise, self.input_noise)
        if self.tell_noise and self.least_noise == self.input_noise:
            raise ValueError(
                "tell_noise: there is no noise to tell of; input_noise must be above least_noise"
            )
        if self.end_noise is not None:
            _check_noise(self.least_noise, self.end_noise, "end_noise")
            if self.tell_noise:
                raise ValueError(
                    "end_noise: not with tell_noise, which tells shares of input_noise; leave one out"
                )
        return self

    def noise_after(self, done: float) -> float:
        """The largest standard deviation of the noise, in tokens, when this share of the training is over.

        >>> settings = TrainSettings(steps=100, input_noise=6.0, end_noise=2.0)
        >>> [settings.noise_after(done) for done in (0.0, 0.5, 1.0)]
        [6.0, 4.0, 2.0]
        """
        if self.end_noise is None:
            return self.input_noise
        return self.input_noise + done * (self.end_noise - self.input_noise)


def usual_rate(minutes: float | None) -> float:
    """A learning rate for so many minutes, or for a number of steps (None): 2e-3 up to ten, and from there on less, by
    the square root. An hour at the rate of ten minutes may end above ten minutes; see benchmarks/LEARNED.md.

    >>> usual_rate(None), usual_rate(10.0), round(usual_rate(40.0), 6), round(usual_rate(160.0), 6)
    (0.002, 0.002, 0.001, 0.0005)
    """
    return 2e-3 if minutes is None else 2e-3 * min(1.0, math.sqrt(10.0 / minutes))


class SketchSettings(Settings):
    """[sketch]: a second, smaller network that draws the curves for the labels asked for, where none are given.

    It is trained before the first one, on the same recordings. Its tokens are the curves' channels, frame by frame.
    """

    layers: list[int] = [5, 6]
    """Gated residual layers: within a frame, and over the frames."""
    channels: list[int] = [96, 160]
    head_channels: int = Field(128, ge=1, le=4096)
    condition_channels: int = Field(64, ge=1, le=1024)
    steps: int | None = Field(None, ge=1)
    minutes: float | None = Field(None, gt=0.0)
    batch_size: int = Field(16, ge=1)
    frames: int = Field(32, ge=1)
    """Frames per stream and step."""
    walk: int = Field(4, ge=1)
    """Of so many frames each, that a stream reads one after another."""
    onset: float = Field(1.0, ge=1.0, le=1000.0)
    """As in [train]: how much more the first frame counts."""
    learning_rate: float = Field(2e-3, gt=0.0)
    weight_decay: float = Field(0.1, ge=0.0)
    ema: float = Field(0.995, ge=0.0, lt=1.0)
    label_dropout: float = Field(0.15, gt=0.0, le=1.0)
    """How often each label is hidden: guidance needs to know what is drawn where nothing is asked for."""
    input_noise: float = Field(6.0, ge=0.0, le=32.0)
    """As in [train], in steps of 1.5 dB. What a sketch hears is its own, slips and all. On spoken digits noise made
    the likelihood worse and the sketches right far more often."""
    least_noise: float = Field(0.0, ge=0.0, le=32.0)
    """As in [train]."""
    end_noise: float | None = Field(None, ge=0.0, le=32.0)
    """As in [train]."""
    deaf: bool = False
    """It does not hear what it has drawn, so every value is drawn from what is told alone: for curves that are as good
    as decided by that, such as the spectrum of notes. A sketch that hears itself follows itself sooner than notes."""
    validate_every: int = Field(400, ge=1)

    @model_validator(mode="after")
    def _shapes(self) -> Self:
        if len(self.layers) != 2 or len(self.channels) != 2:
            raise ValueError("layers and channels have two entries each: within a frame, and over the frames")
        if self.steps is None and self.minutes is None:
            raise ValueError("needs steps or minutes (or both)")
        _check_noise(self.least_noise, self.input_noise)
        if self.end_noise is not None:
            _check_noise(self.least_noise, self.end_noise, "end_noise")
        return self


class ComposerSettings(Settings):
    """[composer]: a third network, which makes up the notes where none are given. It is trained before the others, on
    the notes beside the same recordings, each heard in twelve keys and five tempos. Its tokens are what notes are."""

    layers: list[int] = [3, 3]
    """Gated residual layers: within a note, and over the notes. Few: what was played longer ago than ten notes it is
    told as keys that it has heard, and more of it makes it know tens of pieces by heart."""
    channels: list[int] = [96, 32]
    head_channels: int = Field(128, ge=1, le=4096)
    condition_channels: int = Field(128, ge=1, le=1024)
    steps: int | None = Field(None, ge=1)
    minutes: float | None = Field(None, gt=0.0)
    batch_size: int = Field(16, ge=1)
    notes: int = Field(64, ge=1)
    """Per stream and step."""
    walk: int = Field(8, ge=1)
    """Of so many notes each, that a stream reads one after another."""
    learning_rate: float = Field(8e-3, gt=0.0)
    weight_decay: float = Field(0.3, ge=0.0)
    ema: float = Field(0.99, ge=0.0, lt=1.0)
    label_dropout: float = Field(0.15, gt=0.0, le=1.0)
    input_noise: float = Field(1.0, ge=0.0, le=32.0)
    """As in [train], in steps of what a note is: a semitone, 4 of velocity, 8 % of a wait."""
    temperature: float = Field(1.0, ge=0.0, le=10.0)
    """What it composes with where nobody says otherwise."""
    top_p: float = Field(0.98, gt=0.0, le=1.0)
    """The same: from the likeliest that together hold this probability. One slip is a wrong note."""
    validate_every: int = Field(100, ge=1)

    @model_validator(mode="after")
    def _shapes(self) -> Self:
        if len(self.layers) != 2 or len(self.channels) != 2:
            raise ValueError("layers and channels have two entries each: within a note, and over the notes")
        if self.steps is None and self.minutes is None:
            raise ValueError("needs steps or minutes (or both)")
        return self


def _check_noise(least: float, most: float, name: str = "input_noise") -> None:
    if least > most:
        raise ValueError(f"least_noise must not be above {name}, got {least:g} and {most:g}")
