"""How well a model foresees recordings: bits per sample, per label and over time, beside simple baselines.

    evaluation = evaluate(audio_gen.load("drums"), Path("recordings"))
    print(evaluation.to_text())

Needs no torch.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from audio_gen.controls import label_indices, natural_key
from audio_gen.data.prepare import Progress
from audio_gen.data.store import Store
from audio_gen.errors import SettingError
from audio_gen.evaluation.calibration import Calibration, Tally, tally
from audio_gen.evaluation.material import RECORDINGS, Item, Material, open_material
from audio_gen.evaluation.score import NONE, ClipScore, Evaluation, LabelScore, Stretch, Yardstick
from audio_gen.evaluation.yardsticks import (
    JUDGED_TOKENS,
    fit_baselines,
    spread,
    store_baselines,
    training_pieces,
)
from audio_gen.sampler.model import Model, token_bits

ROWS = 32  # clips side by side, at most
LOGITS = 1 << 19  # rows x time x levels of one block, which bounds the memory: about 15 MB
CURVE_SAMPLES = 1 << 23  # of clips side by side that have curves, which are held for whole clips
LEAST_FILL = 2 / 3  # of a row; a clip much shorter than its neighbours would be mostly padding
CALIBRATED_TOKENS = 300_000  # whose predictions are held against what came, at most
BINS = 10
BIN_SECONDS = 0.1


def evaluate(
    model: Model,
    data: Path,
    *,
    split: str = "valid",
    max_seconds: float | None = None,
    baselines: bool = True,
    calibrate: bool = False,
    threads: int = 1,
    progress: Progress | None = None,
) -> Evaluation:
    """Score every sample of `data` by `model`, each clip from its beginning.

    `data`: a token store or a run folder, of which the `split` ("valid", "train" or "all") is scored; or an
    audio file or a folder of recordings, all of which are scored, read and labelled by the rules in the
    model's card. The silence that a store keeps after each clip does not count. `max_seconds`: not more than
    so much audio, evenly spread. `calibrate`: hold the predicted probabilities against what came, too, on at
    most CALIBRATED_TOKENS. `threads`: groups of clips at once; the figures do not depend on it.

    Raises DataError, AudioFileError, ControlError, SettingError: each says what does not fit, and what to do.
    """
    if max_seconds is not None and not 0.0 < max_seconds < math.inf:
        raise SettingError(f"max_seconds must be above 0 and finite, got {max_seconds:g}")
    if threads < 1:
        raise SettingError(f"threads must be 1 or more, got {threads}")
    with open_material(model, Path(data), split, progress) as material:
        return score(
            model, material, str(data), max_seconds=max_seconds, baselines=baselines, calibrate=calibrate,
            threads=threads, progress=progress,
        )  # fmt: skip


def score(
    model: Model,
    material: Material,
    data: str,
    *,
    max_seconds: float | None = None,
    baselines: bool = True,
    calibrate: bool = False,
    threads: int = 1,
    progress: Progress | None = None,
) -> Evaluation:
    """The same for material that is open already; `data` is its name."""
    tell = progress or (lambda done, total, text: None)
    rate = model.sample_rate
    lengths = [item.samples for item in material.items]
    if max_seconds is not None:
        lengths = spread(lengths, max(1, int(max_seconds * rate)), rate)
    tasks = _tasks(material.items, lengths, rate, calibrate)
    costs = _score(model, material.store, tasks, threads, tell)
    tallies = [cost.tally for cost in costs if cost.tally is not None]
    yardstick, notes = None, [*material.notes, *_curve_notes(model)]
    if baselines:
        tell(0, 0, "fitting baselines")
        whole = all(task.samples == task.item.samples for task in tasks) and len(tasks) == len(lengths)
        yardstick = _measure(material, tasks, costs, whole, model.checkpoint.end_seconds)
        notes += _yardstick_notes(material, yardstick)
    samples = sum(task.samples for task in tasks)
    return Evaluation(
        model=model.name,
        hash=model.checkpoint.hash,
        data=data,
        split=material.split,
        sample_rate=rate,
        levels=model.levels,
        bits_per_sample=math.fsum(cost.bits for cost in costs) / samples,
        samples=samples,
        clips=tuple(
            ClipScore(task.item.clip.source, cost.bits / task.samples, task.samples, task.item.labels)
            for task, cost in zip(tasks, costs, strict=True)
        ),
        labels=tuple(_by_label(model.labels, tasks, costs)),
        over_time=tuple(_over_time(tasks, costs, rate)),
        yardstick=yardstick,
        calibration=Calibration.of(Tally.sum(tallies)) if tallies else None,
        excluded=material.excluded,
        notes=tuple(notes),
    )


@dataclass(frozen=True)
class _Task:
    """A clip and how much of it to score."""

    item: Item
    samples: int
    judged: int
    """The first samples, which the baselines are judged by too."""
    calibrated: int
    """The first samples, whose predictions are held against what came."""


@dataclass(frozen=True)
class _Cost:
    """What one clip cost, in bits."""

    bits: float
    judged: float
    """The first `judged` samples."""
    bins: NDArray[np.float64]
    """(BINS + 1,) the stretches of BIN_SECONDS, and the rest."""
    tally: Tally | None


def _tasks(items: Sequence[Item], lengths: Sequence[int], sample_rate: int, calibrate: bool) -> list[_Task]:
    judged = spread(lengths, JUDGED_TOKENS, sample_rate)
    calibrated = spread(lengths, CALIBRATED_TOKENS, sample_rate) if calibrate else [0] * len(lengths)
    rows = zip(items, lengths, judged, calibrated, strict=True)
    return [_Task(*row) for row in rows if row[1]]


def _score(model: Model, store: Store, tasks: Sequence[_Task], threads: int, tell: Progress) -> list[_Cost]:
    """The cost of each of `tasks`, in their order."""
    groups = list(_side_by_side(model, tasks, threads))
    total, done = sum(task.samples for task in tasks), 0
    costs: dict[int, _Cost] = {}

    def score_some(group: Sequence[int]) -> list[_Cost]:
        return _score_group(model, store, [tasks[place] for place in group])

    for group, found in zip(groups, _map(score_some, groups, threads), strict=True):
        costs.update(zip(group, found, strict=True))
        done += sum(tasks[place].samples for place in group)
        tell(done, total, "scoring")
    return [costs[place] for place in range(len(tasks))]


def _map(
    score: Callable[[Sequence[int]], list[_Cost]], groups: Sequence[Sequence[int]], threads: int
) -> Iterator[list[_Cost]]:
    """Results in order; the compiled engine lets several groups run at once."""
    if threads == 1:
        yield from map(score, groups)
        return
    with ThreadPoolExecutor(threads, "audio-gen-evaluate") as pool:
        yield from pool.map(score, groups)


def _side_by_side(model: Model, tasks: Sequence[_Task], threads: int) -> Iterator[list[int]]:
    """Places of tasks of about equal length, longest first; enough groups to keep the threads busy."""
    most = max(1, min(ROWS, -(-len(tasks) // threads)))
    samples = math.inf if not model.checkpoint.shape.curve_channels else CURVE_SAMPLES
    order = sorted(range(len(tasks)), key=lambda place: -tasks[place].samples)
    group: list[int] = []
    for place in order:
        longest = tasks[group[0]].samples if group else 0
        full = len(group) >= most or (len(group) + 1) * longest > samples
        if group and (full or tasks[place].samples < LEAST_FILL * longest):
            yield group
            group = []
        group.append(place)
    yield group


def _score_group(model: Model, store: Store, tasks: Sequence[_Task]) -> list[_Cost]:
    """The costs of some clips, as rows of one stream state."""
    indices = np.stack([label_indices(task.item.labels, model.checkpoint.shape.labels) for task in tasks])
    state = model.engine.start(indices.reshape(len(tasks), -1))
    curves = _curves(store, tasks) if model.checkpoint.shape.curve_channels else None
    tokens = [store.tokens(task.item.clip) for task in tasks]
    lengths = np.array([task.samples for task in tasks])
    judged = np.array([task.judged for task in tasks])
    totals, judged_totals = np.zeros(len(tasks)), np.zeros(len(tasks))
    width = max(1, round(BIN_SECONDS * model.sample_rate))
    bins = np.zeros((len(tasks), BINS + 1))
    tallies: list[list[Tally]] = [[] for _ in tasks]
    block = max(1, LOGITS // (len(tasks) * model.levels))
    longest = int(lengths.max())
    for start, stop in pairwise([*range(0, longest, block), longest]):
        part = np.full((len(tasks), stop - start), model.codec.silence, np.uint16)
        for row, clip in enumerate(tokens):
            known = clip[start : min(stop, int(lengths[row]))]
            part[row, : len(known)] = known
        logits = model.engine.logits(state, part, curves)
        costs = token_bits(logits, part)
        for row, task in enumerate(tasks):
            if task.calibrated > start:
                inside = slice(0, min(stop, task.calibrated) - start)
                tallies[row].append(tally(logits[row, inside], part[row, inside]))
        places = np.arange(start, stop)
        costs[places >= lengths[:, None]] = 0.0
        totals += costs.sum(axis=1)
        judged_totals += np.where(places < judged[:, None], costs, 0.0).sum(axis=1)
        in_bin = np.minimum(places // width, BINS)
        for each in range(int(in_bin[0]), int(in_bin[-1]) + 1):
            bins[:, each] += costs[:, in_bin == each].sum(axis=1)
    counted = [Tally.sum(each) if each else None for each in tallies]
    rows = zip(totals.tolist(), judged_totals.tolist(), bins, counted, strict=True)
    return [_Cost(*row) for row in rows]


def _curves(store: Store, tasks: Sequence[_Task]) -> NDArray[np.float32]:
    """Curves (rows, frames, channels) of whole clips; the last frame of shorter ones is held."""
    found = (store.curves_of(task.item.clip) for task in tasks)
    each = [curves for curves in found if curves is not None]
    frames = max(map(len, each))
    return np.stack([np.pad(curves, ((0, frames - len(curves)), (0, 0)), mode="edge") for curves in each])


def _measure(
    material: Material, tasks: Sequence[_Task], costs: Sequence[_Cost], whole: bool, end_seconds: float
) -> Yardstick:
    """The baselines, and the model on the same tokens."""
    store = material.store
    judged = [store.tokens(task.item.clip)[: task.judged] for task in tasks if task.judged]
    samples = sum(map(len, judged))
    fitted_on = "training split"
    if material.split == "valid" and whole:
        found = store_baselines(store, cache=material.cache, end_seconds=end_seconds)
    elif material.split == RECORDINGS:
        fitted_on = "scored audio"
        found = fit_baselines(iter(judged), judged, store)
    else:
        found = fit_baselines(training_pieces(store, end_seconds), judged, store)
    bits = math.fsum(cost.judged for cost in costs) / samples
    return Yardstick(tuple(found), bits, samples, fitted_on)


def _curve_notes(model: Model) -> Iterator[str]:
    """What a model that is told curves has been told."""
    if not model.checkpoint.shape.curve_channels:
        return
    told = f"the model is told the curves ({', '.join(model.checkpoint.curves)}) of what it scores"
    more = model.checkpoint.sketch_bits
    if more is None:
        yield f"{told}; the baselines are not."
    else:
        yield (
            f"{told}; the baselines are not. Its sketch needed {more:.4f} bits per sample for held-out curves; the "
            "sum is the most that the model needs for the audio alone."
        )


def _yardstick_notes(material: Material, yardstick: Yardstick) -> Iterator[str]:
    if yardstick.fitted_on == "scored audio":
        yield (
            "there is no training split, so the baselines were fitted to the very audio that they are judged "
            "by, which flatters them: on new audio they would do worse."
        )
    elif material.split != "valid":
        yield (
            "training clips are among those scored; they flatter the baselines, and the model if it learned "
            "from them."
        )


def _by_label(
    vocabulary: dict[str, list[str]], tasks: Sequence[_Task], costs: Sequence[_Cost]
) -> Iterator[LabelScore]:
    """Every value of every label that occurs; a label that no clip has is left out."""
    for label in vocabulary:
        places: dict[str, list[int]] = defaultdict(list)
        for place, task in enumerate(tasks):
            places[task.item.labels.get(label, NONE)].append(place)
        if set(places) == {NONE}:
            continue
        scores = []
        for value, some in places.items():
            samples = sum(tasks[place].samples for place in some)
            bits = math.fsum(costs[place].bits for place in some) / samples
            scores.append(LabelScore(label, value, bits, samples, len(some)))
        yield from sorted(scores, key=lambda score: (score.bits_per_sample, natural_key(score.value)))


def _over_time(tasks: Iterable[_Task], costs: Iterable[_Cost], sample_rate: int) -> Iterator[Stretch]:
    width = max(1, round(BIN_SECONDS * sample_rate))
    lengths = np.array([task.samples for task in tasks])
    bits = np.sum([cost.bins for cost in costs], axis=0)
    for each in range(BINS + 1):
        stop = (each + 1) * width if each < BINS else int(lengths.max())
        inside = np.clip(lengths, each * width, max(stop, each * width)) - each * width
        samples = int(inside.sum())
        if samples:
            end = (each + 1) * width / sample_rate if each < BINS else None
            clips = int(np.count_nonzero(inside))
            yield Stretch(each * width / sample_rate, end, float(bits[each]) / samples, samples, clips)
