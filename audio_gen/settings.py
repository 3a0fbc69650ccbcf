"""Everything a recipe can say: typed, strict, frozen tables. All defaults live here and in `clip_sets`."""

import difflib
import json
from string import Formatter
from typing import Any, Literal, Self

from pydantic import BaseModel, Field, field_validator, model_validator

from audio_gen.clip_sets import GenerateSettings
from audio_gen.presets import PRESETS
from audio_gen.shape import MAX_ENVELOPE, MAX_ORDER, MAX_PREDICTORS, REFIT
from audio_gen.sketch import SKETCHABLE, can_sketch
from audio_gen.table import STRICT

PREDICTORS = (16, 32, 128)


class Settings(BaseModel):
    """Base of every table."""

    model_config = STRICT


class DataSettings(Settings):
    """[data]: which recordings, how they are split, and how loud they become."""

    source: str
    """Folder of recordings, searched recursively. A relative path starts at the recipe's own folder."""
    sample_rate: int = Field(16_000, ge=1_000, le=192_000)
    """Hertz. Everything is resampled to it."""
    pattern: str = ""
    """File name without its suffix, as fields: "{digit}_{speaker}_{index}". Folders may be matched too:
    "{articulation}/{note}_vl{velocity}". Empty: names tell nothing."""
    labels_csv: str | None = None
    """CSV with a column `file` and one column per field, instead of or beside `pattern`."""
    exclude: list[str] = []
    """Glob patterns of files to leave out, relative to `source`."""
    gain: str = "dataset"
    """What shares one gain: "dataset", "file", "none", or a field template such as "{speaker}"."""
    peak: float = Field(0.9, gt=0.0, le=1.0)
    """Peak amplitude that the gain brings the loudest sample of each gain group to."""
    gain_share: float = Field(1.0, gt=0.0, le=1.0)
    """Share of each gain group's files, the quieter ones, that the gain is set by. A louder file gets a lower gain
    of its own, so that one stray loud take does not leave its whole group quiet. 1: all files share."""
    split: Literal["file", "time"] = "file"
    """Hold out whole files (or groups of files), or the last part of every file, behind a gap."""
    group: str = ""
    """Field template, such as "{articulation}_{velocity}": files that share it stay on one side of the split."""
    valid_fraction: float = Field(0.1, ge=0.0, lt=1.0)
    """Share held out for validation (of groups, or of time); drawn by a hash of the name, so it never moves."""
    valid_where: dict[str, list[str]] = {}
    """Hold out exactly the files with these field values instead: { index = ["0", "1"] }."""
    gap_seconds: float = Field(1.0, ge=0.0)
    """With split = "time": what is left out between the training and the held-out part."""
    lead_seconds: float | None = Field(None, ge=0.0)
    """How much is kept of what precedes the sound: a clip begins this long before its wave first reaches a tenth
    of its peak. Left out: files are used from their first sample. One-shots with a breath of silence before
    the attack want 0.001, or the model may miss its cue."""
    tail_seconds: float | None = Field(None, ge=0.0)
    """How much is kept after the sound has faded to 54 dB below its peak. Left out: files are used to their last
    sample. The tails of one-shots are mostly the room's noise, which no model can predict and nobody wants."""
    end_seconds: float = Field(0.0, ge=0.0, le=10.0)
    """Silence learned after the end of each clip, so that a one-shot knows how to stop."""
    dither: float | None = Field(None, ge=-90.0, le=-20.0)
    """Decibels (RMS, of full scale) of noise that is laid under all that is learned, silence included. Left out: none.
    Where silence is exact, nothing in it says that it may ever end, and a model may never leave it; -66 is hardly
    heard."""

    @field_validator("pattern", "gain", "group")
    @classmethod
    def _template(cls, value: str) -> str:
        try:
            list(Formatter().parse(value))
        except ValueError as error:
            raise ValueError(f"{value!r} is no template: {error}") from error
        return value


class CodecSettings(Settings):
    """[codec]: how waveforms become tokens."""

    levels: Literal[256, 512, 1024] = 256
    pre_emphasis: float = Field(0.0, ge=0.0, le=0.95)


class LabelSettings(Settings):
    """[controls.labels.NAME]: one thing the player can ask for."""

    source: str = Field(alias="from")
    """Field template, such as "{speaker}"."""
    values: dict[str, list[str]] = {}
    """Value = the raw names it gathers: { kick = ["ks"], snare = ["sc", "se"] }. Empty: the raw names themselves."""


class ControlSettings(Settings):
    """[controls]: labels (one value a clip) and curves (a value per frame)."""

    labels: dict[str, LabelSettings] = {}
    curves: list[Literal["loudness", "pitch", "mel", "notes"]] = []
    """"notes": a piano roll, from a NAME.notes.csv beside each recording: see `audio_gen.notes`."""
    hop: int = Field(256, ge=1, le=65_536)
    """Samples per curve frame."""
    mel_bands: int = Field(80, ge=8, le=256)
    pitch: str = ""
    """Where names tell the note of a clip: a template such as "{note}"; filled in, a name (a4, eb2, f#3) or a MIDI
    key. Then the pitch is looked for beside that note alone. "": it is tracked in the recording."""

    @field_validator("labels")
    @classmethod
    def _names(cls, labels: dict[str, LabelSettings]) -> dict[str, LabelSettings]:
        for name in labels:
            if not name.replace("-", "_").isidentifier():
                raise ValueError(f"{name!r} is no name for a label; use letters, digits, - and _")
        return labels


class NetworkSettings(Settings):
    """[network]: one entry per tier in `layers` and `channels`, fastest first; one tier is a classic WaveNet."""

    preset: str | None = Field(None, exclude=True)
    """One of `audio_gen.presets`: all the sizes below that are not given beside it. A shorthand of whoever writes the
    recipe: it is None once its sizes are filled in, so that checkpoints do not change when presets do."""
    layers: list[int] = [4, 6, 7, 7]
    """Gated residual layers of each tier."""
    channels: list[int] = [64, 96, 160, 192]
    """Residual width of each tier."""
    pool: list[int] = [4, 4, 4]
    """How many frames of a tier make one of the next, slower one."""
    dilation_cycle: int = Field(10, ge=1, le=16)
    """Dilation of layer i is 2 ** (i % dilation_cycle)."""
    kernel_size: int = Field(2, ge=2, le=8)
    skip_channels: int = Field(0, ge=0, le=4096)
    """Width of the skip sum of the fastest tier; 0: the head reads the last layer."""
    head_channels: int = Field(256, ge=1, le=4096)
    condition_channels: int = Field(32, ge=1, le=1024)
    """Width of the vector that labels and curves are gathered into."""

    predictors: list[int] | None = None
    """Orders of linear predictors, fitted to what was just heard, whose expectations the network hears beside each
    token: up to four multiples of 8. Low orders follow quickly, high ones know tones. []: none.
    Left out: PREDICTORS, and none where there is an envelope or a period: they drift with what is played."""
    envelope: int = Field(16, multiple_of=8, ge=0, le=MAX_ENVELOPE)
    """Where the first of the curves is mel and the codec has no pre-emphasis: order of one more predictor, a multiple
    of 8, whose coefficients are those of the curve's spectral envelope. It keeps what is played to the curve, where
    the other predictors follow what is heard and may drift with it. 0: none."""
    period: bool = True
    """Where pitch is among the curves and the codec has no pre-emphasis: one more predictor, which looks back one
    period of that pitch. It keeps what is played in tune."""
    phase: bool = True
    """And of each sample it is said where in that period it lies, for what was heard may lose its rhythm."""

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, given: Any) -> Any:
        """The sizes in place of the preset's name; what is no name is left for the checks."""
        name = given.get("preset") if isinstance(given, dict) else None
        if not isinstance(name, str):
            return given
        if name not in PRESETS:
            near = difflib.get_close_matches(name, PRESETS, 1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(PRESETS)}"
            raise ValueError(f"no preset {name!r}; {hint}")
        return {**PRESETS[name], **given, "preset": None}

    @field_validator("predictors")
    @classmethod
    def _orders(cls, orders: list[int] | None) -> list[int] | None:
        if orders is None:
            return None
        if len(orders) > MAX_PREDICTORS or any(order % 8 or not 8 <= order <= MAX_ORDER for order in orders):
            raise ValueError(
                f"predictors must be up to {MAX_PREDICTORS} multiples of 8 from 8 to {MAX_ORDER}, got {orders}"
            )
        return orders

    @model_validator(mode="after")
    def _shapes(self) -> Self:
        tiers = len(self.layers)
        if tiers == 0 or len(self.channels) != tiers or len(self.pool) != tiers - 1:
            raise ValueError(
                f"layers ({tiers}), channels ({len(self.channels)}) and pool ({len(self.pool)}) must describe the same "
                "tiers: as many layers as channels, and one pool fewer"
            )
        if min(self.layers) < 1 or max(self.layers) > 200:
            raise ValueError(f"layers must be from 1 to 200 per tier, got {self.layers}")
        if min(self.channels) < 1 or max(self.channels) > 4096:
            raise ValueError(f"channels must be from 1 to 4096 per tier, got {self.channels}")
        if self.pool and (min(self.pool) < 2 or max(self.pool) > 256):
            raise ValueError(f"pool must be from 2 to 256, got {self.pool}")
        return self


class TrainSettings(Settings):
    """[train]: the loop. It stops at `steps` or at `minutes`, whichever comes first."""

    steps: int | None = Field(None, ge=1)
    minutes: float | None = Field(None, gt=0.0)
    batch_size: int = Field(8, ge=1)
    """Streams read side by side."""
    crop: int = Field(4096, ge=1)
    """Samples per stream and step. The next step may go on where this one ended: see `walk`."""
    walk: int = Field(16, ge=1)
    """Crops a stream reads one after another, its network state carried along as left context."""
    starts: float = Field(0.0, ge=0.0, le=1.0)
    """0: walks begin anywhere, and the model learns to begin anywhere in a recording (textures, long pieces).
    Above 0: this share of walks begins where a clip begins, and so does what is generated (one-shots, words);
    the others spend their first crop on context that is not learned from."""
    optimiser: Literal["adamw", "muon"] = "adamw"
    """Muon moves the hidden matrices by orthogonal steps, each of which takes longer. After 300 steps on digits AdamW
    was ahead, after 800 on drums there was little between them: try both for some minutes."""
    learning_rate: float = Field(2e-3, gt=0.0)
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

    @model_validator(mode="after")
    def _some_end(self) -> Self:
        if self.steps is None and self.minutes is None:
            raise ValueError("needs steps or minutes (or both)")
        _check_noise(self.least_noise, self.input_noise)
        return self


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
        return self


def _check_noise(least: float, most: float) -> None:
    if least > most:
        raise ValueError(f"least_noise must not be above input_noise, got {least:g} and {most:g}")


class PageSettings(Settings):
    """[page]: the listening page."""

    title: str = ""
    text: str = ""
    neighbours: int = Field(2, ge=0)
    """Held-out real clips shown beside each row, through the same codec. A copy has its original beside it."""


class PlaySettings(Settings):
    """[play]: how the model is played where nobody says otherwise, as `audio_gen.sampler.draw.Draw` has it. Part of
    its card."""

    temperature: float | None = Field(None, ge=0.0, le=10.0)
    top_k: int | None = Field(None, ge=0)
    top_p: float | None = Field(None, gt=0.0, le=1.0)
    min_p: float | None = Field(None, ge=0.0, le=1.0)
    sketch_temperature: float | None = Field(None, ge=0.0, le=10.0)
    guidance: float | None = Field(None, ge=0.0, le=10.0)


class CardSettings(Settings):
    """[card]: what the model's card says of its origin."""

    description: str = ""
    data: str = ""
    licence: str = ""
    credit: str = ""


class Recipe(Settings):
    """A whole experiment."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    data: DataSettings
    codec: CodecSettings = CodecSettings()
    controls: ControlSettings = ControlSettings()
    network: NetworkSettings = NetworkSettings()
    train: TrainSettings = TrainSettings(minutes=60.0)
    sketch: SketchSettings | None = None
    generate: list[GenerateSettings] = []
    page: PageSettings = PageSettings()
    play: PlaySettings = PlaySettings()
    card: CardSettings = CardSettings()

    @model_validator(mode="after")
    def _hop_fits_tiers(self) -> Self:
        slowest = 1
        for pool in self.network.pool:
            slowest *= pool
        if self.controls.curves and self.controls.hop % slowest:
            raise ValueError(
                f"controls.hop ({self.controls.hop}) must be a multiple of the slowest tier's {slowest} samples"
            )
        if self.train.crop % slowest:
            raise ValueError(
                f"train.crop ({self.train.crop}) must be a multiple of the slowest tier's {slowest} samples"
            )
        if (self.predictors or self.envelope or self.follows_period) and self.train.crop % REFIT:
            raise ValueError(
                f"train.crop ({self.train.crop}) must be a multiple of {REFIT} with network.predictors, .envelope "
                "or .period"
            )
        if self.controls.curves and self.train.crop % self.controls.hop:
            raise ValueError(
                f"train.crop ({self.train.crop}) must be a multiple of controls.hop ({self.controls.hop}): "
                "crops begin on curve frames"
            )
        if self.train.gain_range and not set(self.controls.curves) <= {*SKETCHABLE}:
            raise ValueError(
                "train.gain_range makes walks softer, which curves of "
                f"{' and '.join(SKETCHABLE)} can follow; controls.curves is {self.controls.curves}"
            )
        if self.sketch is not None and not can_sketch(self.controls.curves):
            raise ValueError(
                f"[sketch] draws {' and '.join(SKETCHABLE)}; controls.curves is {self.controls.curves}"
            )
        of_sketch = (self.play.sketch_temperature, self.play.guidance)
        if self.sketch is None and of_sketch != (None, None):
            raise ValueError("play.sketch_temperature and play.guidance need a [sketch]")
        names = [table.name for table in self.generate]
        if len(set(names)) < len(names):
            raise ValueError(f"[[generate]] names must differ, got {', '.join(names)}")
        return self

    @property
    def envelope(self) -> int:
        """Order of the predictor made from the mel curve; 0 where there is none to make it from."""
        possible = self.controls.curves[:1] == ["mel"] and not self.codec.pre_emphasis
        return self.network.envelope if possible else 0

    @property
    def follows_period(self) -> bool:
        """Whether a predictor looks back one period of the pitch."""
        return self.network.period and "pitch" in self.controls.curves and not self.codec.pre_emphasis

    @property
    def predictors(self) -> tuple[int, ...]:
        """Orders of the predictors fitted to what was heard."""
        if self.network.predictors is not None:
            return tuple(self.network.predictors)
        return () if self.envelope or self.follows_period else PREDICTORS

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, every default spelled out; `build_recipe` takes it back."""
        plain: dict[str, Any] = json.loads(self.model_dump_json(by_alias=True))
        return plain
