"""What the likelihood of some clips is, as JSON types and as a table to read."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from audio_gen.evaluation.baselines import Baseline
from audio_gen.evaluation.blocks import Bar, Bars, Block, Section
from audio_gen.evaluation.calibration import Calibration

NONE = "(none)"
"""Stands for the missing value among the values of a label."""
SHOWN = 30  # values per label, and names of files left out, in the text; to_dict has all of them


@dataclass(frozen=True)
class ClipScore:
    """One clip's own figure."""

    source: str
    bits_per_sample: float
    samples: int
    labels: dict[str, str]
    """What the model was told of the clip."""


@dataclass(frozen=True)
class LabelScore:
    """All clips that share one value of one label; a label's rows together are all clips."""

    label: str
    value: str
    """NONE for the clips without a value."""
    bits_per_sample: float
    samples: int
    clips: int


@dataclass(frozen=True)
class Stretch:
    """The same stretch of time of every clip that lasts so long."""

    start_seconds: float
    end_seconds: float | None
    """None: to the end."""
    bits_per_sample: float
    samples: int
    clips: int


@dataclass(frozen=True)
class Yardstick:
    """The baselines, and the model on exactly the tokens that they were judged by."""

    baselines: tuple[Baseline, ...]
    """From weakest to strongest."""
    model_bits_per_sample: float
    samples: int
    fitted_on: str
    """"training split", or "scored audio" where there is nothing else to fit them to."""


@dataclass(frozen=True)
class Evaluation:
    """What the samples of some clips cost a model: the mean over all samples, in bits."""

    model: str
    hash: str
    """Of the model."""
    data: str
    split: str
    """"valid", "train" or "all" of a token store; "recordings" where files were given."""
    sample_rate: int
    """Hertz."""
    levels: int
    bits_per_sample: float
    samples: int
    clips: tuple[ClipScore, ...]
    """In the order of the store."""
    labels: tuple[LabelScore, ...]
    """Label by label, the values that cost least first."""
    over_time: tuple[Stretch, ...]
    yardstick: Yardstick | None
    calibration: Calibration | None = None
    """Where it was asked for."""
    excluded: tuple[tuple[str, str], ...] = ()
    """(source, reason) of each recording that could not be scored."""
    notes: tuple[str, ...] = ()
    """What a reader of the figures must know, a sentence each."""

    @property
    def seconds(self) -> float:
        """Of audio that was scored."""
        return self.samples / self.sample_rate

    def to_dict(self) -> dict[str, Any]:
        """JSON types; every clip is in it."""
        plain: dict[str, Any] = _plain(asdict(self))
        return plain | {"clip_count": len(self.clips), "seconds": self.seconds}

    def to_text(self) -> str:
        """A table of a screenful, without a line end after it."""
        return "\n".join(_lines(self))

    def section(self) -> Section:
        """The same for a page."""
        return _section(self)


def _plain(value: Any) -> Any:
    """JSON knows lists, and no tuples."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, tuple) else value


def _lines(evaluation: Evaluation) -> Iterator[str]:
    kinds = {"valid": "held-out clip", "train": "training clip", "recordings": "recording"}
    kind = kinds.get(evaluation.split, "training or held-out clip")
    yield f"{evaluation.model} on {evaluation.data}"
    yield (
        f"{_count(len(evaluation.clips), kind)}, {evaluation.seconds:,.1f} s at {evaluation.sample_rate:,} Hz, "
        f"{evaluation.levels} levels"
    )
    yield ""
    yield "bits per sample, lower is better"
    yield from _comparison(evaluation)
    yield ""
    yield meaning(evaluation)
    for note in evaluation.notes:
        yield f"Note: {note}"
    for label in dict.fromkeys(score.label for score in evaluation.labels):
        yield ""
        yield from _label_table(label, [score for score in evaluation.labels if score.label == label])
    if len(evaluation.over_time) > 1:
        yield ""
        yield "within clips"
        yield from _table([(_span(stretch), stretch.bits_per_sample, "") for stretch in evaluation.over_time])
    if evaluation.excluded:
        yield ""
        yield f"left out: {len(evaluation.excluded)}"
        yield from (f"  {source}: {reason}" for source, reason in evaluation.excluded[:SHOWN])
        yield from _more(len(evaluation.excluded))


def _section(evaluation: Evaluation) -> Section:
    yardstick = evaluation.yardstick
    known = [] if yardstick is None else [(each.name, each.bits_per_sample) for each in yardstick.baselines]
    ours = evaluation.bits_per_sample if yardstick is None else yardstick.model_bits_per_sample
    bars = [Bar(name, bits, f"{bits:.2f}") for name, bits in known]
    bars.append(Bar("this model", ours, f"{ours:.2f}", "ours"))
    blocks: list[Block] = [Bars("Bits per sample, lower is better", tuple(bars))]
    if len(evaluation.over_time) > 1:
        spans = [
            Bar(_span(each), each.bits_per_sample, f"{each.bits_per_sample:.2f}", "ours")
            for each in evaluation.over_time
        ]
        blocks.append(Bars("Bits per sample over time within clips", tuple(spans)))
    for label in dict.fromkeys(score.label for score in evaluation.labels):
        scores = [score for score in evaluation.labels if score.label == label]
        values = [
            Bar(score.value, score.bits_per_sample, f"{score.bits_per_sample:.2f}", "ours")
            for score in scores
        ]
        blocks.append(Bars(f"Bits per sample by {label}", tuple(values)))
    amount = f"{_count(len(evaluation.clips), 'clip')}, {evaluation.seconds:,.1f} s."
    return Section("Likelihood", (amount, meaning(evaluation), *evaluation.notes), tuple(blocks))


def _comparison(evaluation: Evaluation) -> Iterator[str]:
    yardstick = evaluation.yardstick
    if yardstick is None:
        yield from _table([("this model", evaluation.bits_per_sample, "")])
        return
    rows = [(baseline.name, baseline.bits_per_sample, "") for baseline in yardstick.baselines]
    part = yardstick.samples < evaluation.samples
    where = f"on the same {yardstick.samples / evaluation.sample_rate:,.1f} s" if part else ""
    rows.append(("this model", yardstick.model_bits_per_sample, where))
    if part:
        rows.append(("this model", evaluation.bits_per_sample, f"on all {evaluation.seconds:,.1f} s"))
    yield from _table(rows)


def meaning(evaluation: Evaluation) -> str:
    """One sentence: what the figures say of the model, beside the best baseline."""
    yardstick = evaluation.yardstick
    if yardstick is None or not yardstick.baselines:
        uniform = float(evaluation.levels.bit_length() - 1)
        saved = uniform - evaluation.bits_per_sample
        verb = "saves" if saved >= 0.0 else "wastes"
        unknown = f"Against {uniform:.2f} bits for a sample of which nothing is known"
        return f"{unknown}, this model {verb} {abs(saved):.2f}."
    best = min(yardstick.baselines, key=lambda baseline: baseline.bits_per_sample)
    ahead = best.bits_per_sample - yardstick.model_bits_per_sample
    times = 2.0 ** abs(ahead)
    if ahead <= 0.0:
        return (
            f"This model foresees the next sample no better than the best simple rule ({best.name}): it "
            f"needs {-ahead:.2f} bits more; train it longer, or on audio more like this."
        )
    return (
        f"This model needs {ahead:.2f} bits fewer than the best simple rule ({best.name}): hearing the past, "
        f"it finds the sample that really comes next {times:.1f} times as likely, on average."
    )


def _label_table(label: str, scores: list[LabelScore]) -> Iterator[str]:
    yield label
    rows = [(score.value, score.bits_per_sample, _count(score.clips, "clip")) for score in scores]
    yield from _table(rows[:SHOWN])
    yield from _more(len(scores))


def _table(rows: list[tuple[str, float, str]]) -> Iterator[str]:
    """Name, figure and remark, in columns."""
    width = max(len(name) for name, _, _ in rows)
    for name, bits, remark in rows:
        yield f"  {name:<{width}}  {bits:5.2f}  {remark}".rstrip()


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _more(count: int) -> Iterator[str]:
    if count > SHOWN:
        yield f"  and {count - SHOWN} more"


def _span(stretch: Stretch) -> str:
    if stretch.end_seconds is None:
        return f"after {stretch.start_seconds:.1f} s"
    return f"{stretch.start_seconds:.1f} to {stretch.end_seconds:.1f} s"
