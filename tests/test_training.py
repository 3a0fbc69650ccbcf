"""Laws of training: what is read, what is learned, and that no kill, NaN or full disk loses or changes anything."""

import dataclasses
import errno
import itertools
import json
import math
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from toys import RATE, TONES, learn, outcome, toy_recipe, toy_store, write_tones

from audio_gen.audio import read
from audio_gen.checkpoint import load_checkpoint
from audio_gen.curves import extract_curves
from audio_gen.data.batches import Batch, Readers
from audio_gen.data.store import Store
from audio_gen.errors import AudioGenError, CheckpointError, DataError, OutputError, RecipeError, SettingError
from audio_gen.evaluation.baselines import fit_and_score
from audio_gen.network import Network
from audio_gen.recipe import build_recipe
from audio_gen.settings import Recipe, TrainSettings
from audio_gen.shape import NetworkShape
from audio_gen.training import loop, publish, step
from audio_gen.training.loop import CLOCKS, Training
from audio_gen.training.validation import choose_clips, validate

CURVES = {"labels": {}, "curves": ["loudness"], "hop": 64}
PLAIN = torch.autocast("cpu", torch.bfloat16, enabled=False)


@pytest.fixture(scope="module")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tones(tmp_path_factory.mktemp("tones"))


@pytest.fixture(scope="module")
def store(tones: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    return toy_store(toy_recipe(tones), tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def curved(tones: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    return toy_store(toy_recipe(tones, controls=CURVES), tmp_path_factory.mktemp("curved"))


class Tokens:
    """A store of given clips, each token of which says where it stands: clip * 1000 + position."""

    def __init__(self, lengths: list[int], hop: int = 0) -> None:
        self.lengths, self.hop = lengths, hop or 256
        self.codec = dataclasses.make_dataclass("Silent", [("silence", int), ("levels", int)])(65_535, 65_536)
        self.labels = {"parity": ["even", "odd"], "half": ["low", "high"]}
        self.curves, self.curve_channels = (["place"], 1) if hop else ([], 0)
        self.unit = self.hop if hop else 1

    def clips(self, split: str) -> list[Any]:
        clip = dataclasses.make_dataclass("C", ["number", "length", "labels"])
        return [
            clip(n, length, {"parity": "odd" if n % 2 else "even", "half": "low"})
            for n, length in enumerate(self.lengths)
        ]

    def tokens(self, clip: Any) -> Any:
        return (clip.number * 1000 + np.arange(clip.length)).astype(np.uint16)

    def curves_of(self, clip: Any) -> Any:
        return np.arange(-(-clip.length // self.hop), dtype=np.float32)[:, None]


def readers(lengths: list[int], hop: int = 0, around: int = 0, **settings: Any) -> Readers:
    plain = {"steps": 1, "batch_size": 3, "crop": 8, "walk": 4, **settings}
    return Readers(Tokens(lengths, hop), TrainSettings(**plain), around)  # type: ignore[arg-type]


# Batches


@pytest.mark.parametrize("hop", [0, 4])
def test_every_token_of_every_clip_is_read_equally_often(hop: int) -> None:
    lengths, counts = [5, 20, 32, 33, 70, 301], Counter[int]()
    source = readers(lengths, hop, batch_size=16)
    for _ in range(2500):
        batch = source.next()
        counts.update(batch.targets[batch.weights > 0].tolist())
    mean = counts.total() / sum(lengths)
    for clip, length in enumerate(lengths):
        read = np.array([counts[clip * 1000 + position] for position in range(length)])
        assert read.mean() == pytest.approx(mean, rel=0.1), f"clip of {length}"
        # Tokens of a clip are read together, so the mean above says little of each: no place stands out.
        assert np.abs(read / mean - 1).max() < 0.25, f"clip of {length}"


@pytest.mark.parametrize("balance", [0.5, 1.0])
def test_rare_labels_may_be_read_as_often_as_others(balance: float) -> None:
    lengths, counts = [20, 301, 33, 70], Counter[int]()
    source = readers(lengths, batch_size=16, balance=balance)
    for _ in range(2500):
        batch = source.next()
        counts.update((batch.targets[batch.weights > 0] // 1000).tolist())
    even, odd = 53, 371
    read = (counts[0] + counts[2]) / (counts[1] + counts[3])
    assert read == pytest.approx((even / odd) ** (1 - balance), rel=0.1)
    for some in ((0, 2), (1, 3)):
        assert counts[some[0]] / counts[some[1]] == pytest.approx(
            lengths[some[0]] / lengths[some[1]], rel=0.1
        )


def test_inputs_are_the_tokens_before_the_targets_and_only_the_clip_is_real() -> None:
    lengths = [5, 20, 32, 33, 70, 301]
    source = readers(lengths)
    seen: dict[int, int] = {}  # row: the target it read last
    for _ in range(300):
        batch = source.next()
        for row in range(3):
            real = batch.weights[row] > 0
            count = int(real.sum())
            assert count and real[:count].all(), "a crop's real samples come first, and there are some"
            targets, inputs = batch.targets[row, :count], batch.inputs[row, :count]
            clip, first = divmod(int(targets[0]), 1000)
            assert np.array_equal(targets, targets[0] + np.arange(count)) and first + count <= lengths[clip]
            begins = first == 0 or batch.fresh[row]
            assert inputs[0] == (65_535 if begins else targets[0] - 1), "before a walk lies silence"
            assert np.array_equal(inputs[1:], targets[:-1])
            assert (batch.targets[row, count:] == 65_535).all()
            if not batch.fresh[row]:
                assert targets[0] == seen[row] + 1, "a walk leaves no gap"
            seen[row] = int(targets[-1])


def test_curves_of_a_crop_begin_at_its_first_sample() -> None:
    source = readers([5, 33, 70, 301], hop=4)
    for _ in range(200):
        batch = source.next()
        assert batch.curves is not None and batch.curves.shape == (3, 2, 1)
        first = batch.targets[:, 0] % 1000
        assert (first % 4 == 0).all() and np.array_equal(batch.curves[:, 0, 0], first // 4)


def test_a_crop_brings_the_frames_around_its_own() -> None:
    source = readers([5, 33, 70, 301], hop=4, around=2)
    for _ in range(200):
        batch = source.next()
        assert batch.curves is not None and batch.curves.shape == (3, 6, 1)
        first, clip = batch.targets[:, :1] % 1000 // 4, batch.targets[:, 0] // 1000
        last = np.array([-(-length // 4) for length in (5, 33, 70, 301)])[clip] - 1
        assert np.array_equal(batch.curves[:, :, 0], np.clip(first + np.arange(-2, 4), 0, last[:, None])), (
            "at either end the outermost one is held"
        )


def test_what_is_told_around_a_crop_is_what_is_told_of_the_whole() -> None:
    shape = NetworkShape(256, (2, 2), (8, 8), (2,), head_channels=16, curve_channels=1, hop=4, around=2)
    network = Network(shape)
    source = readers([301], hop=4, around=2, batch_size=1, crop=8, walk=40, starts=1.0)
    whole = torch.arange(76.0)[None, :, None]
    state, told, bits = network.start(1), None, []
    for _ in range(20):
        batch = source.next()
        batch = dataclasses.replace(batch, inputs=batch.inputs % 256, targets=batch.targets % 256)
        with torch.no_grad():
            loss, state = step.loss_bits(network, batch, state, torch.device("cpu"))
            logits, told = network(torch.from_numpy(batch.inputs), told, None, whole)
        expected = torch.nn.functional.cross_entropy(
            logits[0], torch.from_numpy(batch.targets[0])
        ) / math.log(2.0)
        bits.append((loss.item(), expected.item()))
    assert np.allclose(*zip(*bits, strict=True), atol=1e-5)


def test_label_dropout_hides_each_label_that_often() -> None:
    source = readers([20] * 10, batch_size=20, walk=1, crop=20, label_dropout=0.3)
    batches = [source.next() for _ in range(1000)]
    both = np.concatenate([batch.labels[batch.fresh] for batch in batches])
    assert np.mean((both == 0).all(1)) == pytest.approx(0.09, abs=0.01), "each on its own"
    fresh = both[:, 0]
    clips = np.concatenate([batch.targets[batch.fresh][:, 0] for batch in batches]) // 1000
    assert np.mean(fresh == 0) == pytest.approx(0.3, abs=0.02)
    assert np.array_equal(fresh[fresh > 0], (clips % 2 + 1)[fresh > 0])
    for share in (0.0, 1.0):
        labels = readers([20] * 4, label_dropout=share).next().labels
        assert ((labels == 0) == (share == 1.0)).all()


def test_batches_depend_on_seed_and_place_alone() -> None:
    def batches(source: Readers, count: int = 6) -> list[Batch]:
        return [source.next() for _ in range(count)]

    def equal(ours: list[Batch], theirs: list[Batch]) -> bool:
        return all(np.array_equal(a.targets, b.targets) for a, b in zip(ours, theirs, strict=True))

    whole = batches(readers([5, 33, 301]))
    assert equal(whole, batches(readers([5, 33, 301])))
    assert not equal(whole, batches(readers([5, 33, 301], seed=1)))
    begun, later = readers([5, 33, 301]), readers([5, 33, 301])
    batches(begun, 4)
    later.readers = [dataclasses.replace(reader) for reader in begun.readers]
    assert equal(whole[4:], batches(later, 2))


@pytest.mark.parametrize("hop", [0, 16])
def test_crops_with_carried_state_cost_what_the_whole_clip_costs(
    store: Store, curved: Store, hop: int
) -> None:
    source = curved if hop else store
    recipe = toy_recipe(
        Path(), controls=CURVES if hop else None, crop=64, walk=100, batch_size=3, label_dropout=0.0
    )
    torch.manual_seed(1)
    network = Network(publish.shape_of(recipe, source))
    torch.nn.init.normal_(network.get_parameter("head.logits.weight"), std=0.1)
    reading, carried, bits = Readers(source, recipe.train), network.start(3), np.zeros(3)
    clips, counts, finished = [-1] * 3, np.zeros(3), 0
    for _ in range(40):
        batch = reading.next()
        for row in range(3):  # the clip that has just ended
            if batch.fresh[row] and clips[row] >= 0:
                clip = source.clips("train")[clips[row]]
                assert counts[row] == clip.length
                whole = validate(network, source, [(clip, clip.length)], PLAIN)
                assert bits[row] / counts[row] == pytest.approx(whole, abs=1e-4)
                bits[row], counts[row], finished = 0.0, 0.0, finished + 1
            clips[row] = reading.readers[row].clip
        with torch.no_grad():
            for row in range(3):  # one row at a time, for the loss of each
                alone = dataclasses.replace(batch, weights=batch.weights * (np.arange(3) == row)[:, None])
                cost, after = step.loss_bits(network, alone, carried, torch.device("cpu"))
                bits[row] += float(cost) * batch.weights[row].sum()
                counts[row] += batch.weights[row].sum()
        carried = after
    assert finished >= 4


# Learning


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_tones_are_learned_far_below_the_baselines_of_no_context(
    tones: Path, store: Store, tmp_path: Path, precision: str
) -> None:
    training, reports = learn(
        toy_recipe(tones, steps=300, validate_every=150, learning_rate=2e-2, ema=0.98, precision=precision),
        store,
        tmp_path,
    )
    assert training.autocast_enabled == (precision == "bf16")
    tokens = {split: [store.tokens(clip) for clip in store.clips(split)] for split in ("train", "valid")}
    unigram = next(
        b for b in fit_and_score(tokens["train"], tokens["valid"], store.codec) if b.name == "unigram"
    )
    assert reports[-1].valid is not None and reports[-1].valid < unigram.bits_per_sample - 3.0
    assert reports[-1].loss < unigram.bits_per_sample - 3.0
    model = load_checkpoint(tmp_path / "model.safetensors")
    assert model.card["bits_per_sample"] == round(reports[-1].valid, 4)


def test_curves_steer_and_are_previewed(tones: Path, curved: Store, tmp_path: Path) -> None:
    recipe = toy_recipe(tones, controls=CURVES, steps=30, learning_rate=1e-2, ema=0.0)
    learn(recipe, curved, tmp_path)
    assert len(list(tmp_path.glob("previews/step-000030/*.wav"))) == 4
    assert load_checkpoint(tmp_path / "model.safetensors").shape.curve_channels == 1


def test_the_average_follows_the_parameters_by_its_decay(tones: Path, store: Store, tmp_path: Path) -> None:
    training = Training(toy_recipe(tones), store, tmp_path)
    state = training.state
    for number, decay in ((0, 0.1), (9, 10 / 19), (10**6, 0.99)):
        before = [average.clone() for average in state.average]
        for parameter in state.network.parameters():
            parameter.data += 1.0
        state.progress.step = number
        step.average(state, 0.99)
        for old, new, parameter in zip(before, state.average, state.network.parameters(), strict=True):
            assert torch.allclose(new, decay * old + (1 - decay) * parameter, atol=1e-6)


def test_the_rate_rises_holds_and_falls_to_nothing() -> None:
    settings = TrainSettings(steps=1, learning_rate=2.0, warmup=0.1, decay=0.5)
    rates = [step.learning_rate(settings, progress) for progress in np.linspace(0, 1, 21)]
    assert rates[0] == 0.0 and rates[1] == pytest.approx(1.0) and rates[2:11] == [2.0] * 9
    assert all(a > b for a, b in itertools.pairwise(rates[10:])) and rates[-1] == 0.0
    flat = TrainSettings(steps=1, learning_rate=2.0, warmup=0.0, decay=0.0)
    assert {step.learning_rate(flat, progress) for progress in (0.0, 0.5, 1.0)} == {2.0}
    usual = TrainSettings(minutes=40.0, warmup=0.0, decay=0.0)
    assert step.learning_rate(usual, 0.5) == pytest.approx(1e-3)


def test_it_stops_by_minutes(tones: Path, store: Store, tmp_path: Path) -> None:
    training, reports = learn(
        toy_recipe(tones, steps=None, minutes=0.5 / 60, validate_every=10**6), store, tmp_path
    )
    assert 0.5 <= training.progress.seconds < 1.0 and training.done == 1.0
    assert reports[-1].valid is not None and reports[-1].seconds_left == 0.0


def test_initial_weights_come_of_the_seed_and_leave_the_global_one(
    tones: Path, store: Store, tmp_path: Path
) -> None:
    def weights(seed: int, name: str) -> bytes:
        training = Training(toy_recipe(tones, seed=seed), store, tmp_path / name)
        return b"".join(p.detach().numpy().tobytes() for p in training.state.network.parameters())

    torch.manual_seed(11)
    state = torch.get_rng_state()
    ours = weights(3, "a")
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(5)
    assert weights(3, "b") == ours != weights(4, "c")


# What it leaves


@pytest.fixture(scope="module")
def run(tones: Path, store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "whole"
    learn(toy_recipe(tones), store, folder)
    return folder


def test_a_run_holds_checkpoints_metrics_curves_and_a_preview_per_label(run: Path, store: Store) -> None:
    for number in (10, 20, 30):
        previews = sorted((run / f"previews/step-{number:06}").iterdir())
        assert [path.name for path in previews] == sorted(f"{tone}.wav" for tone in TONES)
        assert all(len(read(path)) == round(0.1 * RATE) for path in previews)
    assert (run / "curves.png").read_bytes().startswith(b"\x89PNG")
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [10, 20, 30] and rows[-1]["whole"]
    assert all(math.isfinite(row["valid"]) and math.isfinite(row["train"]) for row in rows)
    assert not list(run.rglob("*.part"))


def test_a_checkpoint_knows_how_loud_most_clips_are(tmp_path: Path) -> None:
    for number, amplitude in enumerate([0.5, *[0.1] * 3, *[0.05] * 4]):  # one is ten times as loud as most
        wave = amplitude * np.sin(2 * np.pi * 300.0 * np.arange(RATE // 4) / RATE)
        soundfile.write(tmp_path / f"high_{number}.wav", wave, RATE, subtype="PCM_24")
    recipe = toy_recipe(tmp_path, data={"valid_where": {"index": ["7"]}}, steps=1)
    learn(recipe, toy_store(recipe, tmp_path / "store"), tmp_path / "run")
    assert load_checkpoint(tmp_path / "run" / "model.safetensors").usual_peak == pytest.approx(0.18, rel=0.03)


def test_the_card_says_where_the_model_comes_from(
    run: Path, tones: Path, store: Store, tmp_path: Path
) -> None:
    card = load_checkpoint(run / "model.safetensors").card
    assert (card["data"], card["licence"], card["credit"]) == ("noisy tones", "CC0 1.0", "nobody")
    assert (card["name"], card["steps"], card["seed"], card["store"]) == ("toy", 30, 3, store.hash)
    assert card["minutes"] >= 0.0 and card["samples"] > 0 and card["hardware"] and card["threads"] >= 1
    assert 0.0 < card["bits_per_sample"] < 8.0 and card["scored"] == "all held-out audio"
    assert card["recipe"]["data"]["source"] == tones.name, "no paths of this machine"
    build_recipe(card["recipe"])
    tokens = {split: [store.tokens(clip) for clip in store.clips(split)] for split in ("train", "valid")}
    baselines = fit_and_score(tokens["train"], tokens["valid"], store.codec)
    Training(toy_recipe(tones, steps=2), store, tmp_path).train(baselines, lambda report: None)
    card = load_checkpoint(tmp_path / "model.safetensors").card
    assert card["baselines"] == {b.name: round(b.bits_per_sample, 4) for b in baselines}


def test_the_best_is_the_best_on_the_same_clips(tones: Path, store: Store, tmp_path: Path) -> None:
    """The end scores everything, but for the choice of the best only what the others were judged by."""
    recipe = toy_recipe(tones, steps=200, validate_every=50, learning_rate=3e-3, ema=0.9, valid_seconds=0.3)
    training, _ = learn(recipe, store, tmp_path)
    part = choose_clips(store, 0.3, 0.0)
    assert len(part) < len(store.clips("valid"))
    assert training.progress.best == pytest.approx(
        validate(training._averaged, store, part, training.autocast)
    )
    best, model = (load_checkpoint(tmp_path / f"{name}.safetensors") for name in ("best", "model"))
    assert best.hash == model.hash and best.card["scored"] == "all held-out audio"


def test_a_short_run_has_a_best_too(tones: Path, store: Store, tmp_path: Path) -> None:
    learn(toy_recipe(tones, steps=3), store, tmp_path)
    assert load_checkpoint(tmp_path / "best.safetensors").card["steps"] == 3


def test_nothing_held_out_is_no_obstacle(tones: Path, tmp_path: Path) -> None:
    recipe = toy_recipe(tones, steps=3, data={"valid_where": {}, "valid_fraction": 0.0})
    _, reports = learn(recipe, toy_store(recipe, tmp_path / "store"), tmp_path / "run")
    assert reports[-1].valid is None
    assert load_checkpoint(tmp_path / "run/model.safetensors").card["bits_per_sample"] is None


def test_no_training_clips_is_a_data_error(
    tones: Path, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Store, "clips", lambda store, split: [])
    with pytest.raises(DataError, match="no training clips"):
        Training(toy_recipe(tones), store, tmp_path)


def test_an_unknown_device_is_one_line(tones: Path, store: Store, tmp_path: Path) -> None:
    for device in ("warp", "cuda:77"):
        with pytest.raises(SettingError) as caught:
            Training(toy_recipe(tones), store, tmp_path, device=device)
        assert "\n" not in str(caught.value) and "--device" in str(caught.value)


# Validation


def test_validation_cuts_nothing_but_the_silence_at_the_end(store: Store) -> None:
    everything = choose_clips(store, None, 0.05)
    assert [clip for clip, _ in everything] == store.clips("valid")
    assert all(samples == clip.length - 0.05 * RATE for clip, samples in everything)
    some = choose_clips(store, 0.6, 0.0)
    assert (
        0.1 < sum(samples for _, samples in some) / RATE < 1.2 and len({clip.source for clip, _ in some}) > 1
    )
    assert choose_clips(store, 0.6, 0.0) == some


def test_validation_does_not_depend_on_its_batches(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    network = Network(publish.shape_of(toy_recipe(Path()), store))
    torch.nn.init.normal_(network.get_parameter("head.logits.weight"), std=0.1)
    chosen = choose_clips(store, None, 0.0)
    whole = validate(network, store, chosen, PLAIN)
    for rows, crop in ((1, 4096), (3, 37), (8, 500)):
        monkeypatch.setattr("audio_gen.training.validation.ROWS", rows)
        monkeypatch.setattr("audio_gen.training.validation.CROP", crop)
        assert validate(network, store, chosen, PLAIN) == pytest.approx(whole, abs=1e-5)


# Stopping and going on


class Stop(Exception):  # noqa: N818 - nothing went wrong
    """Ends a training where a test wants it to end."""


@pytest.mark.parametrize("optimiser", ["adamw", "muon"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("curves", [False, True], ids=["labels", "curves"])
def test_ctrl_c_saves_and_resuming_changes_nothing(
    tones: Path, store: Store, curved: Store, tmp_path: Path, precision: str, curves: bool, optimiser: str
) -> None:
    source = curved if curves else store
    controls = CURVES if curves else None
    noise = {"input_noise": 4.0, "end_noise": 1.0}
    recipe = toy_recipe(tones, controls=controls, precision=precision, optimiser=optimiser, **noise)
    learn(recipe, source, tmp_path / "whole")

    def interrupt(report: loop.Report) -> None:
        if report.step in (1, 7, 8, 10, 23) and report.step not in stops:
            stops.append(report.step)
            raise KeyboardInterrupt

    stops: list[int] = []
    for _ in range(5):
        with pytest.raises(KeyboardInterrupt):
            Training(recipe, source, tmp_path / "parts", resume=True).train([], interrupt)
    learn(recipe, source, tmp_path / "parts", resume=True)
    assert stops == [1, 7, 8, 10, 23]
    assert outcome(tmp_path / "parts") == outcome(tmp_path / "whole")


def test_ctrl_c_within_a_step_waits_for_its_end(
    tones: Path, store: Store, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And within a validation it stops at once, and the validation is done again."""
    real_step, real_validate, calls = loop.take_step, loop.validate, Counter[str]()

    def stepping(*arguments: Any) -> float:
        bits = real_step(*arguments)
        calls["step"] += 1
        if calls["step"] == 4:
            signal.raise_signal(signal.SIGINT)
        return bits

    def validating(*arguments: Any) -> float:
        calls["validate"] += 1
        if calls["validate"] == 2:
            signal.raise_signal(signal.SIGINT)
        return real_validate(*arguments)

    monkeypatch.setattr(loop, "take_step", stepping)
    monkeypatch.setattr(loop, "validate", validating)
    for expected in (4, 20):
        training = Training(toy_recipe(tones), store, tmp_path, resume=True)
        with pytest.raises(KeyboardInterrupt):
            training.train([], lambda report: None)
        assert training.progress.step == expected
    learn(toy_recipe(tones), store, tmp_path, resume=True)
    assert outcome(tmp_path) == outcome(run)


def test_a_stop_anywhere_in_a_validation_changes_nothing(
    tones: Path, store: Store, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed without a chance to save, before and after every file is written."""
    from audio_gen.training import metrics

    def dying(function: Any) -> Any:
        def once(*arguments: Any, **named: Any) -> Any:
            calls["now"] += 1
            if calls["now"] == calls["at"]:
                raise Stop
            result = function(*arguments, **named)
            calls["now"] += 1
            if calls["now"] == calls["at"]:
                raise Stop
            return result

        return once

    calls = Counter[str]()
    for owner, name in (
        (loop, "save_checkpoint"),
        (metrics.Metrics, "append"),
        (metrics.Metrics, "draw"),
        (publish, "write_previews"),
        (loop.saved, "save_state"),
    ):
        monkeypatch.setattr(owner, name, dying(getattr(owner, name)))
    stops = 0
    for at in range(1, 14):
        calls.update(at=at - calls["at"], now=-calls["now"])
        try:
            learn(toy_recipe(tones), store, tmp_path, resume=True)
        except Stop:
            stops += 1
    assert stops == 13
    calls["at"] = 0
    learn(toy_recipe(tones), store, tmp_path, resume=True)
    assert outcome(tmp_path) == outcome(run)


def kill_and_compare(
    store: Store, recipe: Recipe, whole: Path, folder: Path, kills: int, longest: float
) -> None:
    folder.mkdir()
    (folder / "recipe.json").write_text(json.dumps(recipe.to_dict()))
    ground = Path(__file__).with_name("killing_ground.py")
    command = [sys.executable, str(ground), str(store.path), str(folder / "recipe.json"), str(folder / "run")]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    told = subprocess.run(
        [*command, str(kills), "9", str(longest)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=600,
    )
    assert told.returncode == 0, told.stderr
    assert 0 < int(told.stdout) <= kills
    assert outcome(folder / "run") == outcome(whole)
    assert not list((folder / "run").rglob("*.wav.part"))


@pytest.mark.skipif(sys.platform == "win32", reason="kills forks")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_kills_change_nothing(tones: Path, store: Store, tmp_path: Path, precision: str) -> None:
    recipe = toy_recipe(tones, precision=precision, steps=24, validate_every=5)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in the forks: sums depend on their order
    try:
        learn(recipe, store, tmp_path / "whole")
    finally:
        torch.set_num_threads(threads)
    kill_and_compare(store, recipe, tmp_path / "whole", tmp_path / "killed", 3, 0.8)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="kills forks")
def test_twenty_kills_change_nothing(tones: Path, curved: Store, tmp_path: Path) -> None:
    recipe = toy_recipe(tones, controls=CURVES, precision="bf16", steps=400, validate_every=20)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        learn(recipe, curved, tmp_path / "whole")
    finally:
        torch.set_num_threads(threads)
    kill_and_compare(curved, recipe, tmp_path / "whole", tmp_path / "killed", 20, 2.0)


def test_a_finished_run_is_left_alone_and_can_be_prolonged(tones: Path, store: Store, tmp_path: Path) -> None:
    learn(toy_recipe(tones, steps=10, decay=0.0, warmup=0.0), store, tmp_path)
    before = (tmp_path / "metrics.jsonl").read_bytes()
    _, reports = learn(toy_recipe(tones, steps=10, decay=0.0, warmup=0.0), store, tmp_path, resume=True)
    assert not reports and (tmp_path / "metrics.jsonl").read_bytes() == before
    training, reports = learn(
        toy_recipe(tones, steps=25, decay=0.0, warmup=0.0), store, tmp_path, resume=True
    )
    assert training.progress.step == 25 and reports[0].step == 11
    assert (tmp_path / "metrics.jsonl").read_bytes().startswith(before)


def test_a_run_is_neither_replaced_nor_continued_unasked(tones: Path, store: Store, tmp_path: Path) -> None:
    learn(toy_recipe(tones, steps=2), store, tmp_path)
    with pytest.raises(OutputError, match=r"--resume.*--force"):
        Training(toy_recipe(tones, steps=2), store, tmp_path)
    other = toy_recipe(tones, steps=2, learning_rate=1e-3)
    with pytest.raises(CheckpointError, match="another recipe") as caught:
        Training(other, store, tmp_path, resume=True)
    assert "\n" not in str(caught.value)

    def stop(report: loop.Report) -> None:
        raise Stop

    afresh = Training(other, store, tmp_path, force=True)
    with pytest.raises(Stop):
        afresh.train([], stop)
    assert Training(other, store, tmp_path, resume=True).progress.step == 0, (
        "the old training is gone at once"
    )


def test_a_training_may_begin_with_the_weights_of_another(
    run: Path, tones: Path, store: Store, tmp_path: Path
) -> None:
    first = load_checkpoint(run / "model.safetensors")
    recipe = toy_recipe(tones, steps=2)
    training = Training(recipe, store, tmp_path, begin_from=first)
    for name, parameter in training.state.network.named_parameters():
        assert np.array_equal(parameter.detach().numpy(), first.tensors[name].astype(np.float32))
    training.train([], lambda report: None)
    model = load_checkpoint(tmp_path / "model.safetensors")
    assert model.card["began_from"] == first.hash != model.hash
    wider = toy_recipe(tones, steps=2, network={"channels": [16, 24]})
    with pytest.raises(RecipeError, match="channels differ"):
        Training(wider, store, tmp_path / "wider", begin_from=first)
    assert not (tmp_path / "wider").exists()


def test_what_begins_from_a_model_may_hear_more_predictors(
    run: Path, tones: Path, store: Store, tmp_path: Path
) -> None:
    first = load_checkpoint(run / "model.safetensors")
    more = toy_recipe(tones, steps=2, network={"predictors": [256, *first.shape.predictors], "anchor": True})
    training = Training(more, store, tmp_path, begin_from=first)
    before = Network(first.shape)
    publish.load_into(before, first)
    tokens = torch.from_numpy(
        np.stack([store.tokens(clip)[:600] for clip in store.clips("train")[:2]]).astype(np.int64)
    )
    labels = torch.zeros(2, len(first.shape.labels), dtype=torch.long)
    with torch.no_grad():
        assert torch.allclose(
            training.state.network(tokens, labels=labels)[0], before(tokens, labels=labels)[0], atol=0.1
        )
    training.train([], lambda report: None)
    grown = load_checkpoint(tmp_path / "model.safetensors")
    assert grown.shape.predictors == (256, *first.shape.predictors)
    fewer = toy_recipe(tones, steps=2, network={"predictors": []})
    with pytest.raises(RecipeError, match="predictors differ"):
        Training(fewer, store, tmp_path / "fewer", begin_from=first)


def test_damaged_resume_state_is_one_line(tones: Path, store: Store, run: Path, tmp_path: Path) -> None:
    whole = (run / "resume.safetensors").read_bytes()
    other = (run / "model.safetensors").read_bytes()
    for damaged in (b"", whole[:7], whole[:5000], whole[:-1], b"no" * 99, other):
        (tmp_path / "resume.safetensors").write_bytes(damaged)
        with pytest.raises(CheckpointError) as caught:
            Training(toy_recipe(tones), store, tmp_path, resume=True)
        assert "\n" not in str(caught.value) and "resume.safetensors" in str(caught.value)


def test_lost_metrics_do_not_stop_a_resumed_training(tones: Path, store: Store, tmp_path: Path) -> None:
    learn(toy_recipe(tones, steps=10), store, tmp_path)
    (tmp_path / "metrics.jsonl").unlink()
    learn(toy_recipe(tones, steps=20), store, tmp_path, resume=True)
    assert [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()] == [
        20
    ]


# Bad days


def test_a_batch_that_gives_nan_changes_no_weight(
    tones: Path, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = step.loss_bits, Counter[str]()

    def poisoned(*arguments: Any) -> Any:
        loss, carried = real(*arguments)
        calls["now"] += 1
        if calls["now"] in (5, 6, 17):
            return loss * (math.nan if calls["now"] != 6 else math.inf), carried.replaced(
                [t * math.nan for t in carried.tensors()]
            )
        return loss, carried

    monkeypatch.setattr(step, "loss_bits", poisoned)
    weights: dict[int, bytes] = {}
    training = Training(toy_recipe(tones), store, tmp_path)
    messages: list[str] = []

    def watch(report: loop.Report) -> None:
        if report.message:
            messages.append(report.message)
        if report.valid is None:
            arrays = [*training.state.network.parameters(), *training.state.average]
            weights[report.step] = b"".join(array.detach().numpy().tobytes() for array in arrays)

    training.train([], watch)
    assert training.progress.skipped == len(messages) == 3 and training.progress.setbacks == 0
    assert weights[4] == weights[5] == weights[6] and weights[16] == weights[17]
    assert weights[6] != weights[7] and weights[17] != weights[18]
    assert all("\n" not in message and "not taken" in message for message in messages)
    assert training.progress.smooth_loss is not None and math.isfinite(training.progress.smooth_loss)


def test_a_spike_is_not_taken(
    tones: Path, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step, "SETTLED", 10)
    real, calls = step.loss_bits, Counter[str]()

    def spiking(*arguments: Any) -> Any:
        loss, carried = real(*arguments)
        calls["now"] += 1
        return (loss + 9.0 if calls["now"] == 15 else loss), carried

    monkeypatch.setattr(step, "loss_bits", spiking)
    training, reports = learn(toy_recipe(tones), store, tmp_path)
    assert training.progress.skipped == 1 and [report.step for report in reports if report.message] == [15]


def test_what_is_rare_and_loud_is_learned_too(
    tones: Path, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch that costs the averaged parameters as much as the present ones is no spike."""
    monkeypatch.setattr(step, "SETTLED", 10)
    monkeypatch.setattr(step, "SPIKE", 0.2)
    real, calls = step.loss_bits, Counter[str]()

    def loud(*arguments: Any) -> Any:
        loss, carried = real(*arguments)
        calls["now"] += 1
        return (loss * 0.0 + 7.9 if calls["now"] in (25, 26) else loss), carried  # averaged the second time

    monkeypatch.setattr(step, "loss_bits", loud)
    training, reports = learn(toy_recipe(tones), store, tmp_path)
    assert calls["now"] > training.progress.step, "nobody asked the averaged parameters"
    assert training.progress.skipped == 0 and not any(report.message for report in reports)


def test_lasting_nan_goes_back_and_on_from_the_last_checkpoint(
    tones: Path, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "PATIENCE", 3)
    training, broken = Training(toy_recipe(tones), store, tmp_path), []

    def watch(report: loop.Report) -> None:
        if report.step == 13 and not broken:
            broken.append(report.step)
            next(training.state.network.parameters()).data.fill_(math.nan)

    training.train([], watch)
    assert training.progress.setbacks == 1 and training.progress.skipped == 3 and training.progress.step == 30
    model = load_checkpoint(tmp_path / "model.safetensors")
    assert model.card["steps"] == 30 and model.card["bits_per_sample"] < 8.0


@pytest.mark.parametrize("rate", [1e2, 1e6, 1e30])
def test_divergence_ends_in_one_clear_line(
    tones: Path, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rate: float
) -> None:
    monkeypatch.setattr(step, "SETTLED", 20)
    recipe = toy_recipe(tones, steps=4000, validate_every=50, learning_rate=rate, warmup=0.0)
    training, messages = Training(recipe, store, tmp_path), []
    with pytest.raises(AudioGenError, match="diverges") as caught:
        training.train([], lambda report: messages.append(report.message))
    assert "\n" not in str(caught.value) and "learning_rate" in str(caught.value)
    assert sum("back to step" in message for message in messages) == loop.SETBACKS


def failing(error: int) -> Any:
    def fail(*_: Any, **__: Any) -> Any:
        raise OSError(error, os.strerror(error))

    return fail


@pytest.mark.parametrize("name", ["fsync", "replace"])
def test_a_full_disk_is_one_line_and_harms_no_checkpoint(
    tones: Path, store: Store, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    training = Training(toy_recipe(tones), store, tmp_path)

    def fill(report: loop.Report) -> None:
        if report.step == 15:
            owner = os if name == "fsync" else Path
            monkeypatch.setattr(owner, name, failing(errno.ENOSPC))

    with pytest.raises(OutputError, match="No space left") as caught:
        training.train([], fill)
    assert "\n" not in str(caught.value)
    monkeypatch.undo()
    learn(toy_recipe(tones), store, tmp_path, resume=True)
    assert outcome(tmp_path) == outcome(run)
    assert not list(tmp_path.glob("*.part"))


def test_a_folder_that_cannot_be_written_is_one_line(tones: Path, store: Store, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    for folder in (tmp_path / "file", tmp_path / "file/run"):
        with pytest.raises(OutputError) as caught:
            Training(toy_recipe(tones), store, folder)
        assert "\n" not in str(caught.value) and "cannot be written" in str(caught.value)


@pytest.mark.parametrize("failure", ["open", "savefig"])
def test_metrics_that_cannot_be_written_are_one_line(
    tones: Path, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: str
) -> None:
    from matplotlib.figure import Figure

    training = Training(toy_recipe(tones, steps=1, preview_seconds=0.0), store, tmp_path)
    if failure == "savefig":
        monkeypatch.setattr(Figure, "savefig", failing(errno.EROFS))
    else:
        real = Path.open

        def refuse(path: Path, *arguments: Any, **named: Any) -> Any:
            if path.name == "metrics.jsonl":
                raise OSError(errno.EROFS, "Read-only file system")
            return real(path, *arguments, **named)

        monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(OutputError, match="Read-only file system"):
        training.train([], lambda report: None)


def test_minutes_may_be_of_processor_time(
    tones: Path, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(CLOCKS, "processor", itertools.count(0, 15).__next__)
    recipe = toy_recipe(tones, steps=9, minutes=1.0, clock="processor")  # of which each step takes a quarter
    training, _ = learn(recipe, store, tmp_path)
    assert (training.progress.step, training.progress.seconds) == (4, 60.0)


def test_tensorboard_gets_the_metrics(tones: Path, store: Store, tmp_path: Path) -> None:
    learn(toy_recipe(tones, steps=3), store, tmp_path, tensorboard=True)
    events = b"".join(path.read_bytes() for path in (tmp_path / "tensorboard").iterdir())
    assert b"valid" in events and b"learning_rate" in events


def test_noise_disturbs_what_is_heard_and_nothing_else() -> None:
    clean, noisy = readers([500] * 4, crop=50), readers([500] * 4, crop=50, input_noise=3.0)
    again = readers([500] * 4, crop=50, input_noise=3.0)
    spreads = set()
    for _ in range(20):
        plain, disturbed = clean.next(), noisy.next()
        assert np.array_equal(plain.targets, disturbed.targets)
        assert np.array_equal(disturbed.inputs, again.next().inputs)
        difference = disturbed.inputs - plain.inputs
        assert 0 < np.abs(difference).max() < 20
        spreads |= set(np.round(difference[(plain.weights > 0).all(1)].std(1)))
    assert len(spreads) >= 3, "each walk has its own strength"
    assert disturbed.inputs.min() >= 0 and disturbed.inputs.max() < 65_536


def test_noise_may_be_as_strong_on_every_walk() -> None:
    clean = readers([500] * 4, crop=50)
    noisy = readers([500] * 4, crop=50, input_noise=8.0, least_noise=8.0)
    for _ in range(10):
        plain, disturbed = clean.next(), noisy.next()
        difference = (disturbed.inputs - plain.inputs)[(plain.weights > 0).all(1)]
        assert np.all(np.abs(difference.std(1) - 8.0) < 4.0)
    with pytest.raises(ValueError, match="least_noise must not be above input_noise, got 3 and 2"):
        TrainSettings(steps=1, input_noise=2.0, least_noise=3.0)


def test_noise_may_fall_to_its_end() -> None:
    clean, noisy = readers([500] * 4, crop=50), readers([500] * 4, crop=50, input_noise=8.0, end_noise=0.0)
    spreads = []
    for done in (0.0, 0.5, 1.0):
        of_all = []
        for _ in range(40):
            plain, disturbed = clean.next(done), noisy.next(done)
            assert np.array_equal(plain.targets, disturbed.targets)
            of_all.append((disturbed.inputs - plain.inputs)[(plain.weights > 0).all(1)].ravel())
        spreads.append(np.concatenate(of_all).std())
    assert spreads[0] > 3.0 and 0.4 < spreads[1] / spreads[0] < 0.6 and spreads[2] == 0.0
    with pytest.raises(ValueError, match="least_noise must not be above end_noise, got 3 and 2"):
        TrainSettings(steps=1, input_noise=4.0, least_noise=3.0, end_noise=2.0)
    with pytest.raises(ValueError, match="end_noise: not with tell_noise"):
        TrainSettings(steps=1, input_noise=4.0, end_noise=2.0, tell_noise=True)


def test_a_deaf_network_hears_nothing_and_learns_all_the_same(
    tones: Path, store: Store, tmp_path: Path
) -> None:
    recipe = toy_recipe(tones, network={"predictors": []}, deaf=True, steps=40)
    training, reports = learn(recipe, store, tmp_path)
    network = training.state.network
    rows = network.embedding.weight
    assert torch.equal(rows, rows[:1].expand_as(rows))
    generator = torch.Generator().manual_seed(0)
    some, others = (torch.randint(256, (2, 50), generator=generator) for _ in range(2))
    assert torch.equal(network(some)[0], network(others)[0])
    bits = [report.valid for report in reports if report.valid is not None]
    assert bits[-1] < bits[0] < 8.5
    published = load_checkpoint(tmp_path / "model.safetensors").tensors["embedding.weight"]
    assert np.ptp(published, axis=0).max() == 0.0


def test_augmented_walks_differ_from_the_clip_by_polarity_and_gain_alone(tmp_path: Path) -> None:
    write_tones(tmp_path / "in")
    store = toy_store(toy_recipe(tmp_path / "in"), tmp_path / "store")
    plain, varied = (
        Readers(store, TrainSettings(steps=1, batch_size=4, crop=100, walk=2, **settings))  # type: ignore[arg-type]
        for settings in ({}, {"flip": True, "gain_range": 12.0})
    )
    flipped, gains = 0, []
    for _ in range(120):
        clean, batch = plain.next(), varied.next()
        assert np.array_equal(clean.weights, batch.weights)
        assert np.array_equal(batch.inputs[:, 1:], batch.targets[:, :-1])
        for row in np.flatnonzero((clean.weights > 0).all(1)):
            x, y = (store.codec.decode(each.targets[row]).astype(float) for each in (clean, batch))
            gain = float(x @ y / (x @ x))
            flipped += gain < 0.0
            gains.append(abs(gain))
            assert np.abs(y - gain * x).max() < 0.05
    assert 0.3 < flipped / len(gains) < 0.7
    assert min(gains) > 10.0 ** (-12.5 / 20.0) and max(gains) < 1.02
    assert 0.3 < np.mean(np.array(gains) > 0.98) < 0.7, "half of the walks keep their gain"


def test_the_curves_of_softer_walks_are_softer(tmp_path: Path) -> None:
    """What a walk is heard with is what its own sound would be measured with."""
    write_tones(tmp_path / "in")
    recipe = toy_recipe(tmp_path / "in", controls={"curves": ["loudness"], "hop": 16})
    store = toy_store(recipe, tmp_path / "store")
    settings = TrainSettings(steps=1, batch_size=4, crop=96, walk=2, gain_range=12.0)
    varied, softened = Readers(store, settings), 0
    for _ in range(60):
        batch = varied.next()
        assert batch.curves is not None
        for row in np.flatnonzero(batch.weights.all(1)):
            wave = store.codec.decode(batch.targets[row])
            measured = extract_curves(wave, RATE, ["loudness"], 16)
            assert np.abs(measured - batch.curves[row])[1:-1].max() < 0.3 / 40.0
            softened += batch.curves[row][2] < 0.75
    assert softened > 20


@pytest.mark.parametrize("starts", [0.0, 0.5])
def test_the_first_sample_counts_more(starts: float) -> None:
    source = readers([200] * 4, crop=10, walk=4, onset=32.0, starts=starts)
    firsts = 0
    for _ in range(100):
        batch = source.next()
        begins = batch.targets % 1000 == 0
        if not starts:
            begins[batch.fresh, 0] = True  # it shall begin anywhere
        firsts += begins.sum()
        assert np.array_equal(batch.weights > 1, begins & (batch.weights > 0))
        assert (batch.weights[begins & (batch.weights > 0)] == 32).all()
    assert firsts > 3


def test_what_shall_begin_where_clips_do_hears_what_was_before_a_walk() -> None:
    source = readers([200] * 4, crop=10, walk=4, starts=0.5)
    for _ in range(100):
        batch = source.next()
        first = batch.targets[:, 0]
        before = np.where(first % 1000 == 0, 65_535, first - 1)
        assert np.array_equal(batch.inputs[batch.fresh, 0], before[batch.fresh])


def test_with_starts_walks_from_the_middle_learn_nothing_from_their_first_crop() -> None:
    source = readers([200] * 4, crop=10, walk=4, starts=0.5)
    begun_at_the_start = fresh = 0
    for _ in range(400):
        batch = source.next()
        for row in np.flatnonzero(batch.fresh):
            fresh += 1
            first = source.readers[row].position == 10
            begun_at_the_start += first
            assert batch.weights[row].any() == first
    assert 0.5 <= begun_at_the_start / fresh < 0.75
