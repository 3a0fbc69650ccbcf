"""Laws of what listens to generated clips: each figure moves as it must on audio of which the truth is known."""

import json
import math
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from command_line import call
from networks import network_settings, random_tensors

from audio_gen.checkpoint import Checkpoint, save_checkpoint
from audio_gen.codec import Codec
from audio_gen.data.prepare import prepare
from audio_gen.data.store import Clip, Store
from audio_gen.evaluation import novelty
from audio_gen.evaluation.blocks import Lines
from audio_gen.evaluation.calibration import Calibration, Tally, tally
from audio_gen.evaluation.clips import end_of, make
from audio_gen.evaluation.detectors import clicks
from audio_gen.evaluation.distribution import compare
from audio_gen.evaluation.excerpts import Excerpt, cut, matched, mixed
from audio_gen.evaluation.long_runs import detect, judge
from audio_gen.evaluation.recognition import Heard, Rate, mean_distance, recognise
from audio_gen.evaluation.spectra import Ear, Waveform
from audio_gen.recipe import build_recipe
from audio_gen.sampler.draw import Draw
from audio_gen.sampler.model import Model
from audio_gen.settings import Recipe
from audio_gen.shape import NetworkShape

RATE = 4000
EAR = Ear(RATE)
WORDS = {"low": (200.0, 900.0), "mid": (420.0, 650.0), "high": (800.0, 250.0)}  # hertz, from and to
PARTS = ("likelihood", "calibration", "recognisability", "distribution", "novelty", "long-runs")


def quietly(done: int, total: int) -> None:
    """Progress that nobody reads."""


def word(name: str, seed: int, seconds: float = 0.35) -> Waveform:
    """Two gliding partials that come and go, with a vibrato of its own, over a little noise."""
    coins = np.random.default_rng([seed, len(name)])
    time = np.arange(round((seconds + 0.05 * coins.random()) * RATE)) / RATE
    start, stop = np.array(WORDS[name]) * coins.uniform(0.93, 1.07)
    shake = coins.uniform(10, 60) * np.sin(2 * np.pi * coins.uniform(2, 8) * time + coins.uniform(0, 6))
    phase = np.cumsum(start + (stop - start) * time / time[-1] + shake) * 2 * np.pi / RATE
    ratio, grid = coins.uniform(1.3, 1.9), np.linspace(0, time[-1], 7)
    first, second = (np.interp(time, grid, coins.uniform(0.02, 0.3, 7)) for _ in range(2))
    wave = first * np.sin(phase) + second * np.sin(ratio * phase)
    return (wave + 0.003 * coins.standard_normal(len(time))).astype(np.float32)


def words(count: int, first: int = 0) -> tuple[list[Waveform], list[dict[str, str]]]:
    names = [name for name in WORDS for _ in range(count)]
    waves = [word(name, first + place % count) for place, name in enumerate(names)]
    return waves, [{"word": name} for name in names]


def heard(waves: list[Waveform], labels: list[dict[str, str]]) -> Heard:
    return Heard.of(EAR, waves, labels)


def test_calibration_knows_a_model_that_means_what_it_says() -> None:
    coins = np.random.default_rng(0)
    logits = 2.0 * coins.standard_normal((20_000, 16))
    odds = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    tokens = (odds.cumsum(axis=1) < coins.random((len(odds), 1))).sum(axis=1).clip(0, 15)
    right, bold, timid = (Calibration.of(tally(logits * scale, tokens)) for scale in (1.0, 2.0, 0.5))
    assert right.off["1"] < 0.01 < 0.05 < min(bold.off["1"], timid.off["1"])
    assert abs(right.paid_bits - right.expected_bits) < 0.03
    assert bold.paid_bits > bold.expected_bits + 0.3 and timid.paid_bits < timid.expected_bits - 0.3
    assert bold.covered(0.9) < 0.85 < right.covered(0.9) < 0.95 < timid.covered(0.9)
    assert right.off["1"] < min(right.off["0.8"], right.off["1.25"])  # the scale that stands beside it
    assert max(right.amplitude) < 0.06 and sum(right.amplitude) == pytest.approx(1.0)
    halves = Tally.sum([tally(logits[:700], tokens[:700]), tally(logits[700:], tokens[700:])])
    assert Calibration.of(halves).off == pytest.approx(right.off)


def test_the_recogniser_knows_words_and_is_at_chance_on_shuffled_labels() -> None:
    train, real = words(30), words(12, 100)
    shuffled = [train[1][place] for place in np.random.default_rng(1).permutation(len(train[1]))]
    swapped = [{"word": "mid" if labels["word"] == "low" else "low"} for labels in real[1]]
    known = recognise(heard(*train), heard(*real), heard(*real), ["word"])
    assert known is not None
    (word,) = known.labels
    assert word.real.share >= 0.95 and word.generated == word.real and word.chance == pytest.approx(1 / 3)
    assert 0.7 < known.spread < 1.4 and known.spread == known.spread_real
    blind = recognise(heard(train[0], shuffled), heard(*real), heard(*real), ["word"])
    assert blind is not None and abs(blind.labels[0].real.share - 1 / 3) < 0.25
    wrong = recognise(heard(*train), heard(*real), heard(real[0], swapped), ["word"])
    assert wrong is not None and wrong.labels[0].generated.share < 0.1
    same = [real[0][12 * (place // 12)] for place in range(36)]  # one clip of each word, again and again
    uniform = recognise(heard(*train), heard(*real), heard(same, real[1]), ["word"])
    assert uniform is not None and uniform.spread < 0.05
    assert recognise(heard(train[0], [{}] * 90), heard(*real), heard(*real), ["word"]) is None


def test_loudness_is_held_against_what_is_asked_for_within_the_same_other_labels() -> None:
    """Of each kind three clips per velocity, all of them softer for one kind than for the other."""

    def clips(step: float, coins: np.random.Generator) -> tuple[list[Waveform], list[dict[str, str]]]:
        asked = [
            (kind, velocity) for kind in ("kick", "hihat") for velocity in (1, 2, 3, 4) for _ in range(3)
        ]
        decibels = [{"kick": -10.0, "hihat": -40.0}[kind] + step * velocity for kind, velocity in asked]
        waves = [10 ** (level / 20) * coins.standard_normal(800) for level in decibels]
        labels = [{"drum": kind, "velocity": str(velocity)} for kind, velocity in asked]
        return [wave.astype(np.float32) for wave in waves], labels

    coins = np.random.default_rng(0)
    real, falling = (heard(*clips(step, coins)) for step in (3.0, -3.0))
    rising = recognise(real, real, real, ["drum", "velocity"])
    assert rising is not None
    drum, velocity = rising.labels
    assert drum.loudness is None and velocity.loudness is not None
    assert (velocity.loudness.order, velocity.loudness.order_real) == pytest.approx((1.0, 1.0))
    assert [each.name for each in velocity.loudness.groups] == ["hihat", "kick"]
    assert np.allclose(np.diff(velocity.loudness.groups[1].levels), 3.0, atol=1.0)
    assert "rises with velocity with a rank correlation of 1.00, the mean of 2 groups" in str(
        rising.section()
    )
    tails = [0.001 * wave for wave in clips(3.0, coins)[0]]  # of the same hits, later
    waves, labels = clips(3.0, coins)
    starts = [0] * len(waves) + [4000] * len(tails)
    cut_up = Heard.of(EAR, [*waves, *tails], labels * 2, starts)
    again = recognise(cut_up, real, real, ["velocity"])
    assert again is not None and again.labels[0].loudness is not None
    whole, parted = velocity.loudness.groups[0], again.labels[0].loudness.groups[0]
    assert np.allclose(whole.levels_real, parted.levels_real, atol=1.0)
    wrong = recognise(real, real, falling, ["velocity"])
    assert wrong is not None and wrong.labels[0].loudness is not None
    assert wrong.labels[0].loudness.order == pytest.approx(-1.0)
    backwards = recognise(falling, falling, real, ["velocity"])  # no order of loudness, whatever was made
    assert backwards is not None and backwards.labels[0].loudness is None


def test_rates_and_distances() -> None:
    low, high = Rate(98, 100).interval
    assert 0.92 < low < 0.98 < high < 1.0 and Rate(0, 0).share == 0.0
    points = np.array([[0.0, 0.0], [3.0, 4.0], [0.0, 0.0]])
    assert mean_distance(points) == pytest.approx(10 / 3) and math.isnan(mean_distance(points[:1]))


def test_distance_grows_with_distortion() -> None:
    real, others = words(14, 100)[0], words(14)[0]
    found = compare(EAR, others, real, [others], quietly)
    assert found.distance == pytest.approx(found.floor)  # they are the same recordings
    known = {each.name: each.distance for each in found.scale}
    for kind in ("noise", "low-pass", "semitone"):
        distances = [distance for name, distance in known.items() if kind in name]
        assert len(distances) >= 3
        assert (
            min(np.diff(distances)) > -0.01 * distances[-1]
        )  # bands that are empty cannot be emptied further
        assert distances[-1] > 2 * found.floor
    worse = compare(EAR, [np.zeros(RATE, np.float32)] * len(real), real, [others], quietly)
    assert worse.distance > 100 * found.floor and worse.section()


def test_a_copy_is_noticed_and_noise_is_not() -> None:
    train, real = words(20)[0], words(20, 100)[0]
    library = novelty.Library(EAR, [lambda wave=wave: wave for wave in train], real)
    limit = novelty.threshold(each.similarity for each in library.nearest(real, quietly))
    assert limit < 0.99
    for name, change in novelty.disguises(RATE):
        found = library.nearest([change(wave) for wave in train], quietly)
        assert np.mean([each.similarity > limit for each in found]) > 0.9, name
        assert np.mean([each.excerpt == place for place, each in enumerate(found)]) > 0.95, name
    noise = np.random.default_rng(0).normal(0, 0.1, RATE).astype(np.float32)
    hiss, silence = library.nearest([noise, np.zeros(RATE, np.float32)], quietly)
    assert hiss.similarity < limit and (silence.similarity, silence.excerpt) == (0.0, -1)


def texture(seconds: float, seed: int = 0) -> Waveform:
    """Noise whose loudness and colour wander."""
    coins = np.random.default_rng(seed)
    count = round(seconds * RATE)
    level = np.interp(np.arange(count), np.arange(0, count, 400), coins.uniform(0.02, 0.2, -(-count // 400)))
    hiss = coins.standard_normal(count)
    mixture = np.repeat(coins.random(-(-count // 300)), 300)[:count]
    return (level * (hiss * mixture + np.roll(hiss, 1) * (1 - mixture))).astype(np.float32)


def test_detectors_find_what_was_put_there_and_nothing_else() -> None:
    clean = texture(20)
    found = detect(EAR, clean)
    assert (found.silent, found.still, found.looping, found.clicks_per_minute) == (0, 0, 0, 0)
    assert found.first_loop is None and found.silent_from is None

    loop = clean.copy()
    loop[8 * RATE :] = np.tile(clean[6 * RATE : 7 * RATE + 1200], 20)[
        : 12 * RATE
    ]  # again and again, from 8 s on
    loop += 0.001 * np.random.default_rng(1).standard_normal(len(loop)).astype(np.float32)
    found = detect(EAR, loop)
    assert found.looping > 0.4 and found.first_loop is not None and found.first_loop in (9, 10)
    assert found.still == 0

    stuck = clean.copy()
    stuck[10 * RATE :] = 0.2 * np.sin(2 * np.pi * 440 * np.arange(10 * RATE) / RATE)
    found = detect(EAR, stuck)
    assert found.still == pytest.approx(0.5, abs=0.06) and found.looping < 0.1 and found.silent == 0

    ended = clean.copy()
    ended[12 * RATE :] = 0
    found = detect(EAR, ended)
    assert (found.silent, found.silent_from) == (0.4, 12.0) and found.still == 0 and found.looping == 0

    time = np.arange(20 * RATE) / RATE
    smooth = 0.2 * np.sin(2 * np.pi * 100 * time)
    for place in (3000, 20_000, 41_234):
        smooth[place] += 0.4
    assert clicks(smooth, RATE) == pytest.approx([3000, 20_000, 41_234], abs=2)
    attack = np.concatenate([np.zeros(RATE), 0.3 * np.random.default_rng(2).standard_normal(RATE)])
    assert not len(clicks(attack * np.exp(-np.maximum(0, np.arange(2 * RATE) - RATE) / 2000), RATE))


def test_long_runs_are_held_against_real_recordings() -> None:
    real, loud = texture(30), 4 * texture(12, 1)
    drifting = np.concatenate([texture(6, 2), loud[: 6 * RATE]])
    runs = [({}, 0, texture(12, 3)), ({}, 1, drifting)]
    found = judge(EAR, Codec(256), runs, lambda labels: [real], False, quietly)
    steady, drifted = (run.courses[0] for run in found.runs)
    assert all(steady.inside(third) >= 0.5 for third in range(3))
    assert drifted.inside(0) >= 0.5 > drifted.inside(2)
    said = found.section().sentences
    assert "no silence" in said[0] and "outside the range of real recordings in loudness" in said[1]


def test_long_runs_are_held_against_recordings_of_their_own_labels() -> None:
    real = {"soft": texture(30), "loud": 4 * texture(30, 1)}
    runs = [({"kind": "soft"}, 0, texture(12, 2)), ({"kind": "soft"}, 1, 4 * texture(12, 3)),
            ({"kind": "loud"}, 2, 4 * texture(12, 4))]  # fmt: skip
    found = judge(EAR, Codec(256), runs, lambda labels: [real[labels["kind"]]], False, quietly)
    assert [run.courses[0].inside(2) >= 0.5 for run in found.runs] == [True, False, True]
    captions = [block.caption for block in found.section().blocks if isinstance(block, Lines)]
    assert captions[0] == "soft: loudness over time" and "loud: loudness over time" in captions


def test_where_a_clip_ends() -> None:
    sound, rest = np.full(10, 0.5, np.float32), np.zeros(20, np.float32)
    assert end_of(np.concatenate([rest, sound, rest]), 15) == 30
    assert end_of(np.concatenate([sound, rest[:10], sound, rest, sound]), 15) == 30
    assert end_of(np.concatenate([sound, rest[:14]]), 15) is None
    assert end_of(rest, 15) == 0


def excerpt(name: str, index: int) -> Excerpt:
    clip = Clip(f"{name}_{index}.wav", "train", 0, 0, 100, {"word": name}, 1.0, f"{name}{index}", 0)
    return Excerpt(clip, 0, 100, clip.labels)


def test_excerpts_are_mixed_matched_and_cut() -> None:
    some = [excerpt(name, index) for name in WORDS for index in range(5)]
    order = mixed(some)
    assert sorted(order, key=some.index) == some and order == mixed(some[::-1])
    for turn in range(0, 15, 3):
        assert {each.labels["word"] for each in order[turn : turn + 3]} == set(WORDS)
    wanted = order[:6]
    first, second = (matched(wanted, some, turn) for turn in (0, 1))
    assert [each.labels for each in first] == [each.labels for each in wanted]
    assert len({each.clip.source for each in [*first, *second]}) == 12
    long = Clip("long.wav", "train", 0, 0, 9 * RATE, {}, 1.0, "long", 0)
    assert [(each.start, each.samples) for each in cut([(long, 9 * RATE, {})], RATE)] == [
        (0, 4 * RATE), (4 * RATE, 4 * RATE), (8 * RATE, RATE),
    ]  # fmt: skip


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings, a store of them, and two tiny random models: with labels and without."""
    folder = tmp_path_factory.mktemp("desk")
    (folder / "recordings").mkdir()
    for name in WORDS:
        for index in range(8):
            soundfile.write(folder / "recordings" / f"{name}_{index}.wav", word(name, index), RATE)
    for labels, end in ((["word"], 0.05), ([], 0.0)):
        path = folder / ("labelled" if labels else "plain")
        rules = recipe(folder / "recordings", labels, end)
        prepare(rules, path / "store")
        vocabulary = {"word": sorted(WORDS)} if labels else {}
        shape = NetworkShape.from_dict(
            network_settings([2, 2], [8, 8], [4], labels=vocabulary, head_channels=8)
        )
        tensors = random_tensors(shape, 3)
        card = {"name": path.name, "recipe": rules.to_dict()}
        gain = {"mode": "dataset", "peak": 0.9, "gains": {}}
        checkpoint = Checkpoint(shape, Codec(256), RATE, tensors, (), gain, end, card)
        save_checkpoint(path / "model.safetensors", checkpoint)
    return folder


def recipe(source: Path, labels: list[str], end: float) -> Recipe:
    data = {"source": str(source), "sample_rate": RATE, "pattern": "{word}_{index}", "end_seconds": end}
    data["valid_where"] = {"index": ["0", "1", "2"]}
    controls = {"labels": {name: {"from": f"{{{name}}}"} for name in labels}}
    network = {"layers": [1], "channels": [1], "pool": []}
    return build_recipe({"name": "test", "data": data, "controls": controls, "network": network})


SMALL = ("--clips", 12, "--long-seconds", 3, "--long-runs", 2, "--no-baselines")


def test_one_command_gives_one_report(desk: Path, tmp_path: Path) -> None:
    model, folder = desk / "labelled", tmp_path / "report"
    told = call("evaluate", model, model, *SMALL, "-o", folder, "-q")
    assert told.code == 0 and told.errors == ""
    assert (folder / "report.txt").read_text() == told.text
    report = json.loads((folder / "report.json").read_text(), parse_constant=lambda text: pytest.fail(text))
    assert all(report[part.replace("-", "_")] for part in PARTS)
    assert list(report["left_out"]) == [
        "fidelity",
        "intonation",
        "transcription",
        "composition",
    ]  # the model follows no curves
    assert len(report["novelty"]["generated"]) == report["generated"]["clips"] == 12
    assert {tuple(each["labels"].items()) for each in report["novelty"]["generated"]} == {
        (("word", name),) for name in WORDS
    }
    page = (folder / "report.html").read_text()
    for title in ("Likelihood", "Calibration", "Recognisability", "Distance from", "Novelty", "Long runs"):
        assert f"<h2>{title}" in page and (title == "Likelihood" or title in told.text)
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page) and "http" not in page and "nan" not in page
    again = call("evaluate", model, model, *SMALL, "--json", "-q")
    assert json.loads(again.text) == report
    refused = call("evaluate", model, model, *SMALL, "-o", folder, "-q")
    assert refused.code == 1 and "--force" in refused.errors and refused.output == b""


def test_parts_that_do_not_apply_are_left_out_and_said(desk: Path) -> None:
    plain = call("evaluate", desk / "plain", desk / "plain", *SMALL, "--json", "-q", "--only",
                 "recognisability,distribution")  # fmt: skip
    report = json.loads(plain.text)
    assert report["recognisability"] is None and "no labels" in report["left_out"]["recognisability"]
    assert report["distribution"] and report["likelihood"] is None and report["novelty"] is None
    assert list(report["left_out"]) == ["recognisability"]
    loose = call("evaluate", desk / "labelled", desk / "recordings", *SMALL, "-q", "--only",
                 "likelihood,novelty,recognisability")  # fmt: skip
    assert loose.code == 0 and loose.text.count("give a token store or a run folder") == 2
    few = call("evaluate", desk / "plain", desk / "recordings" / "low_0.wav", "-q", "--no-baselines")
    assert few.code == 0 and "1 held-out excerpts are too few" in few.text


def test_wrong_calls_to_evaluate(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    where = (desk / "labelled", desk / "labelled")
    for arguments, words in (
        (("--only", "likelyhood"), "no part 'likelyhood'"),
        (("--clips", 3), "clips must be 8 or more"),
        (("--long-seconds", "inf"), "long runs"),
    ):
        called = call("evaluate", *where, *arguments)
        assert called.code == 2 and words in called.errors and len(called.errors.splitlines()) == 1
    monkeypatch.setitem(sys.modules, "sklearn", None)
    called = call("evaluate", *where, "--only", "novelty")
    assert called.code == 1 and "pip install 'audio-gen[evaluate]'" in called.errors
    assert len(called.errors.splitlines()) == 1
    rest = call("evaluate", *where, "--no-baselines", "-q")
    assert rest.code == 0 and rest.text.count("pip install 'audio-gen[evaluate]'") == 4
    assert call("evaluate", *where, "--no-baselines", "-q", "--only", "likelihood,calibration").code == 0


def test_clips_do_not_depend_on_how_many_are_made(desk: Path) -> None:
    from audio_gen.sampler import load

    model = load(desk / "labelled")
    assert isinstance(model, Model)
    store = Store(desk / "labelled" / "store")
    real = mixed(cut([(clip, clip.length - 200, clip.labels) for clip in store.clips("valid")], RATE))
    few, many = (make(model, store, real, count, 5, Draw(), quietly) for count in (3, 8))
    for one, other in zip(few, many, strict=False):
        length = min(len(one.waveform), len(other.waveform))
        assert one.excerpt == other.excerpt and (one.waveform[:length] == other.waveform[:length]).all()
    other = make(model, store, real, 3, 6, Draw(), quietly)
    assert any(len(a.waveform) != len(b.waveform) or (a.waveform != b.waveform).any()
               for a, b in zip(few, other, strict=True))  # fmt: skip
