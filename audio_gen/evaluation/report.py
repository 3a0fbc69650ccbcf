"""All that an evaluation found, as one report: JSON types, text, and sections for a page."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

from audio_gen.evaluation.blocks import Section, Sounds, percent, section_lines
from audio_gen.evaluation.calibration import Calibration
from audio_gen.evaluation.composition import Composition
from audio_gen.evaluation.distribution import Distribution
from audio_gen.evaluation.fidelity import Fidelity
from audio_gen.evaluation.intonation import Intonation
from audio_gen.evaluation.long_runs import LongRuns
from audio_gen.evaluation.novelty import Novelty
from audio_gen.evaluation.recognition import Recognition
from audio_gen.evaluation.score import Evaluation
from audio_gen.evaluation.transcription import Transcription

LIKELIHOOD, CALIBRATION, RECOGNISABILITY = "likelihood", "calibration", "recognisability"
DISTRIBUTION, NOVELTY, LONG_RUNS = "distribution", "novelty", "long-runs"
FIDELITY, INTONATION, TRANSCRIPTION = "fidelity", "intonation", "transcription"
COMPOSITION = "composition"
PARTS = (
    LIKELIHOOD,
    CALIBRATION,
    RECOGNISABILITY,
    DISTRIBUTION,
    NOVELTY,
    LONG_RUNS,
    FIDELITY,
    INTONATION,
    TRANSCRIPTION,
    COMPOSITION,
)
VERSION = 1
"""Of the JSON."""


@dataclass(frozen=True)
class Generated:
    """The clips that were made to be judged."""

    clips: int
    seconds: float
    silent: int
    """Clips without any sound."""
    endless: int
    """Clips that did not end by themselves, of a model that learned to."""
    ends: bool
    """The model learned to end its clips."""


@dataclass(frozen=True)
class Report:
    """One model on some data. A part is None where it was not asked for or does not apply."""

    model: str
    hash: str
    """Of the model."""
    data: str
    sample_rate: int
    """Hertz."""
    settings: Mapping[str, Any]
    """Number, seed and draw of the generated clips: what makes the report again."""
    likelihood: Evaluation | None = None
    calibration: Calibration | None = None
    generated: Generated | None = None
    recognisability: Recognition | None = None
    distribution: Distribution | None = None
    novelty: Novelty | None = None
    long_runs: LongRuns | None = None
    fidelity: Fidelity | None = None
    intonation: Intonation | None = None
    transcription: Transcription | None = None
    composition: Composition | None = None
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Why, for each part that was asked for and does not apply."""

    def to_dict(self) -> dict[str, Any]:
        """JSON types; every clip is in it, and no audio."""
        plain: dict[str, Any] = _plain(self)
        if self.likelihood is not None:
            plain["likelihood"] = self.likelihood.to_dict()
            del plain["likelihood"]["calibration"]
        return {"version": VERSION} | plain

    def to_text(self) -> str:
        """To read on a terminal, without a line end after it."""
        return "\n".join(self._lines())

    def sections(self) -> list[Section]:
        """The parts there are, in their order, each for a page."""
        parts = (self.likelihood, self.calibration, self.recognisability, self.distribution, self.novelty)
        more = (self.long_runs, self.fidelity, self.intonation, self.transcription, self.composition)
        return [part.section() for part in (*parts, *more) if part is not None]

    def facts(self) -> str:
        """What was generated, in a sentence; "" if nothing was."""
        if self.generated is None:
            return ""
        made, settings = self.generated, self.settings
        said = (
            f"{made.clips:,} clips were generated, {made.seconds:,.1f} s, from seed {settings['seed']} at "
            f"temperature {settings['draw']['temperature']:g}, none chosen."
        )
        if made.ends:
            said += f" {percent(1.0 - made.endless / made.clips)} of them ended by themselves."
        return said + (f" Silent: {made.silent:,}." if made.silent else "")

    def _lines(self) -> Iterator[str]:
        if self.likelihood is not None:
            yield self.likelihood.to_text()
        else:
            yield f"{self.model} on {self.data}"
        if self.generated is not None:
            yield ""
            yield self.facts()
        for section in self.sections():
            if section.title != "Likelihood":
                yield ""
                yield from section_lines(section)
        if self.left_out:
            yield ""
            yield "left out"
            yield from (f"  {part}: {why}" for part, why in self.left_out.items())


def _plain(value: Any) -> Any:
    """JSON knows no dataclasses, tuples and NaN."""
    if isinstance(value, Sounds):
        return None
    if is_dataclass(value):
        named = {each.name: getattr(value, each.name) for each in fields(value)}
        return {name: _plain(each) for name, each in named.items() if not isinstance(each, Sounds)}
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and value != value else value
