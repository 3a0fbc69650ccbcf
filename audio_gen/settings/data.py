"""[data] and [codec]: from recordings to tokens."""

from string import Formatter
from typing import Literal

from pydantic import Field, field_validator

from audio_gen.settings.table import Settings


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
