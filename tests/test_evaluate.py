"""Laws of evaluation: every sample counts once, and no way of computing or slicing changes the figures."""

import json
import math
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from networks import network_settings, random_tensors

from audio_gen.audio import read
from audio_gen.checkpoint import Checkpoint
from audio_gen.codec import Codec
from audio_gen.curves import curve_channels
from audio_gen.data.prepare import prepare
from audio_gen.data.store import Store
from audio_gen.errors import AudioFileError, ControlError, DataError, SettingError
from audio_gen.evaluation import likelihood, yardsticks
from audio_gen.evaluation.baselines import Baseline
from audio_gen.evaluation.likelihood import evaluate
from audio_gen.evaluation.score import NONE, Evaluation, meaning
from audio_gen.evaluation.yardsticks import spread, store_baselines
from audio_gen.recipe import build_recipe
from audio_gen.sampler.model import Model
from audio_gen.settings import Recipe
from audio_gen.shape import NetworkShape

RATE = 8000
LABELS = {"drum": ["kick", "snare"], "take": ["0", "1", "2", "3"]}
RULES = {"drum": {"from": "{kind}", "values": {"kick": ["k"], "snare": ["s"]}}, "take": {"from": "{index}"}}


def record(path: Path, seconds: float, seed: int, peak: float = 0.5, rate: int = RATE) -> Path:
    """A decaying noisy tone."""
    time = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(seed).normal(0, 0.1, len(time))
    wave = (np.sin(2 * np.pi * (80 + 40 * (seed % 5)) * time) + noise) * np.exp(-3 * time)
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, wave / np.abs(wave).max() * peak, rate)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Kicks and snares, four takes each, of several lengths; one matches no pattern."""
    folder = tmp_path / "drums"
    for index in range(4):
        record(folder / f"k_{index}.wav", 0.2 + 0.05 * index, index)
        record(folder / f"s_{index}.wav", 0.9 + 0.25 * index, 10 + index, 0.3)
    record(folder / "odd.wav", 0.17, 20)
    return folder


def recipe(source: Path, codec: Any = None, controls: Any = None, **data: Any) -> Recipe:
    tables = {"source": str(source), "sample_rate": RATE, "pattern": "{kind}_{index}", **data}
    steer = {"labels": RULES} | (controls or {})
    network = {"layers": [1], "channels": [1], "pool": []}
    return build_recipe(
        {"name": "test", "data": tables, "controls": steer, "codec": codec or {}, "network": network}
    )


def model(
    like: Recipe, labels: dict[str, list[str]] | None = None, flat: bool = False, seed: int = 0, **how: Any
) -> Model:
    """A tiny random model that was trained by the recipe `like`, as it were; `flat`: all tokens alike."""
    codec = Codec(like.codec.levels, like.codec.pre_emphasis)
    channels = curve_channels(like.controls.curves, like.controls.mel_bands)
    settings = network_settings(
        [2, 2], [16, 16], [4], levels=codec.levels, labels=LABELS if labels is None else labels,
        curve_channels=channels, hop=like.controls.hop,
    )  # fmt: skip
    shape = NetworkShape.from_dict(settings)
    tensors = random_tensors(settings, seed)
    if flat:
        tensors = {name: value * (not name.startswith("head.logits")) for name, value in tensors.items()}
    gain = {"mode": like.data.gain, "peak": like.data.peak, "gains": {}}
    card = {"name": "tiny", "recipe": like.to_dict()}
    facts = {"gain": gain, "end_seconds": like.data.end_seconds, "card": card}
    checkpoint = Checkpoint(
        shape, codec, like.data.sample_rate, tensors, tuple(like.controls.curves), **(facts | how)
    )
    return Model(checkpoint)


def made(folder: Path, path: Path, **settings: Any) -> tuple[Recipe, Store]:
    rules = recipe(folder, **settings)
    prepare(rules, path)
    return rules, Store(path)


def figures(evaluation: Evaluation) -> dict[str, Any]:
    """Everything measured, without the names of the data."""
    found = evaluation.to_dict()
    return {key: found[key] for key in ("bits_per_sample", "samples", "clips", "labels", "over_time")}


def bits_of(baselines: Iterable[Baseline]) -> dict[str, float]:
    return {baseline.name: baseline.bits_per_sample for baseline in baselines}


def test_every_sample_of_every_clip_counts_once(folder: Path, tmp_path: Path) -> None:
    rules, store = made(folder, tmp_path / "store", end_seconds=0.05, valid_fraction=0.4)
    tiny = model(rules)
    for split in ("valid", "train"):
        found = evaluate(tiny, store.path, split=split, baselines=False)
        clips = store.clips(split)
        costs = [
            tiny.bits(store.tokens(clip)[: soundfile.info(folder / clip.source).frames], labels=clip.labels)
            for clip in clips
        ]
        assert [clip.source for clip in found.clips] == [clip.source for clip in clips]
        assert [clip.samples for clip in found.clips] == [len(cost) for cost in costs]
        for clip, cost in zip(found.clips, costs, strict=True):
            assert clip.bits_per_sample == pytest.approx(cost.mean(), abs=1e-6)
        joined = np.concatenate(costs)
        assert found.samples == len(joined) and found.seconds == len(joined) / RATE
        assert found.bits_per_sample == pytest.approx(joined.mean(), abs=1e-6)
    assert evaluate(tiny, store.path, split="all", baselines=False).samples == sum(
        clip.length - 400 for split in ("train", "valid") for clip in store.clips(split)
    )


def test_rows_blocks_and_threads_change_nothing(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules, store = made(folder, tmp_path / "store", codec={"levels": 512, "pre_emphasis": 0.85})
    tiny = model(rules)
    base = evaluate(tiny, store.path, split="all", baselines=False)
    for rows, logits, fill, threads in ((1, 1 << 19, 0.0, 1), (3, 1 << 12, 0.0, 1), (32, 1 << 14, 0.9, 3)):
        monkeypatch.setattr(likelihood, "ROWS", rows)
        monkeypatch.setattr(likelihood, "LOGITS", logits)
        monkeypatch.setattr(likelihood, "LEAST_FILL", fill)
        other = evaluate(tiny, store.path, split="all", baselines=False, threads=threads)
        assert [clip.source for clip in other.clips] == [clip.source for clip in base.clips]
        for one, two in zip(base.clips, other.clips, strict=True):
            assert one.bits_per_sample == pytest.approx(two.bits_per_sample, abs=1e-6)
        assert other.bits_per_sample == pytest.approx(base.bits_per_sample, abs=1e-6)


def test_labels_and_stretches_of_time_average_back_to_the_whole(folder: Path) -> None:
    found = evaluate(model(recipe(folder)), folder, baselines=False)
    for parts in (
        [score for score in found.labels if score.label == "drum"],
        [score for score in found.labels if score.label == "take"],
        list(found.over_time),
        list(found.clips),
    ):
        assert sum(part.samples for part in parts) == found.samples
        total = sum(part.bits_per_sample * part.samples for part in parts)
        assert total / found.samples == pytest.approx(found.bits_per_sample, abs=1e-9)
    assert {score.value for score in found.labels if score.label == "drum"} == {"kick", "snare", NONE}
    assert [stretch.clips for stretch in found.over_time][:3] == [9, 9, 7]
    assert found.over_time[-1].end_seconds is None and found.over_time[-1].start_seconds == 1.0


def test_a_label_is_heard(folder: Path, tmp_path: Path) -> None:
    rules, store = made(folder, tmp_path / "store")
    tiny = model(rules)
    clip = store.clips("train")[0]
    found = evaluate(tiny, store.path, split="train", baselines=False).clips[0]
    told, untold = (tiny.bits(store.tokens(clip), labels=labels).mean() for labels in (clip.labels, {}))
    assert found.bits_per_sample == pytest.approx(told, abs=1e-6)
    assert abs(told - untold) > 1e-3


@pytest.mark.parametrize("levels", [256, 512, 1024])
def test_uniform_logits_cost_the_logarithm_of_the_levels(folder: Path, levels: int) -> None:
    found = evaluate(model(recipe(folder, codec={"levels": levels}), flat=True), folder, baselines=False)
    bits = math.log2(levels)
    assert found.bits_per_sample == pytest.approx(bits, abs=1e-12)
    assert all(score.bits_per_sample == pytest.approx(bits, abs=1e-12) for score in found.labels)
    assert meaning(found).startswith(f"Against {bits:.2f} bits")


def test_recordings_without_a_training_split_flatter_the_baselines_and_it_is_said(folder: Path) -> None:
    found = evaluate(model(recipe(folder), flat=True), folder)
    assert found.yardstick is not None and found.yardstick.fitted_on == "scored audio"
    assert bits_of(found.yardstick.baselines)["uniform"] == 8.0
    assert found.yardstick.samples == found.samples
    assert "flatters" in found.to_text() and "no better" in meaning(found)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"gain": "{kind}", "peak": 0.7},
        {"gain": "file", "end_seconds": 0.1},
        {"gain": "none", "codec": {"levels": 1024, "pre_emphasis": 0.85}},
        {"controls": {"curves": ["loudness", "mel"], "hop": 64, "mel_bands": 8}},
    ],
)
def test_a_folder_is_scored_as_the_store_made_from_it(
    folder: Path, tmp_path: Path, settings: dict[str, Any]
) -> None:
    (folder / "odd.wav").unlink()  # with gain = "{kind}" prepare would leave it out
    rules, store = made(folder, tmp_path / "store", **settings)
    tiny = model(rules)
    assert store.labels == LABELS
    of_store = evaluate(tiny, store.path, split="all", baselines=False)
    of_folder = evaluate(tiny, folder, baselines=False)
    one, two = figures(of_store), figures(of_folder)
    assert one.pop("bits_per_sample") == pytest.approx(two.pop("bits_per_sample"), abs=1e-9)
    by_source = [sorted(each["clips"], key=lambda clip: clip["source"]) for each in (one, two)]
    for clip, same in zip(*by_source, strict=True):
        assert clip == same | {"bits_per_sample": pytest.approx(same["bits_per_sample"], abs=1e-9)}
    assert of_folder.split == "recordings" and of_store.split == "all"


def test_curves_are_heard_for_clips_of_every_length(folder: Path, tmp_path: Path) -> None:
    rules, store = made(folder, tmp_path / "store", controls={"curves": ["loudness"], "hop": 64})
    tiny = model(rules)
    clips = [clip for split in ("train", "valid") for clip in store.clips(split)]
    found = evaluate(tiny, store.path, split="all", baselines=False).clips
    for clip, score in zip(clips, found, strict=True):
        tokens, curves = store.tokens(clip), store.curves_of(clip)
        assert curves is not None
        steered = tiny.bits(tokens, labels=clip.labels, curves=curves).mean()
        assert score.bits_per_sample == pytest.approx(steered, abs=1e-6)
        assert abs(steered - tiny.bits(tokens, labels=clip.labels, curves=curves * 0).mean()) > 1e-4


def test_names_that_tell_nothing_are_scored_without_labels(folder: Path) -> None:
    record(folder / "s_9.wav", 0.2, 30)  # a take that the model has never heard of
    for gain in ("dataset", "{kind}"):
        found = evaluate(model(recipe(folder, gain=gain)), folder, baselines=False)
        labels = {clip.source: clip.labels for clip in found.clips}
        assert len(labels) == 10 and not found.excluded
        assert labels["odd.wav"] == {} and labels["s_9.wav"] == {"drum": "snare"}
        assert labels["k_2.wav"] == {"drum": "kick", "take": "2"}
        assert any("'9'" in note for note in found.notes)
    plain = model(recipe(folder), labels={}, card={})  # knows nothing of names
    found = evaluate(plain, folder, baselines=False)
    assert len(found.clips) == 10 and found.labels == ()


def test_one_file_is_read_labelled_and_levelled_by_the_same_rules(folder: Path, tmp_path: Path) -> None:
    rules = recipe(folder, gain="file", pattern="{kind}/{index}")
    file = record(tmp_path / ".hidden" / "k" / "3.wav", 0.3, 5, rate=11_025)
    tiny = model(rules)
    found = evaluate(tiny, file)
    (clip,) = found.clips
    assert clip.labels == {"drum": "kick", "take": "3"}
    wave = read(file, RATE)
    tokens = tiny.codec.encode(wave * (0.9 / np.abs(wave).max()))
    expected = float(tiny.bits(tokens, labels=clip.labels).mean())
    assert found.samples == len(wave)
    assert found.bits_per_sample == pytest.approx(expected, abs=0.01)  # the gain is rounded


def test_a_subset_is_spread_evenly_and_always_the_same(folder: Path, tmp_path: Path) -> None:
    rules, store = made(folder, tmp_path / "store")
    tiny = model(rules)
    told: list[tuple[int, int, str]] = []
    one, two = (
        evaluate(
            tiny,
            store.path,
            split="all",
            max_seconds=1.5,
            baselines=False,
            progress=lambda *state: told.append(state),
        )
        for _ in range(2)
    )
    assert one == two
    assert told[-1] == (one.samples, one.samples, "scoring")
    assert 0.5 < one.seconds <= 1.5 and {"kick", "snare"} <= {score.value for score in one.labels}
    whole = evaluate(tiny, store.path, split="all", max_seconds=1e6, baselines=False)
    assert figures(whole) == figures(evaluate(tiny, store.path, split="all", baselines=False))


@pytest.mark.parametrize("seed", range(5))
def test_spread_keeps_its_limit_and_reaches_everywhere(seed: int) -> None:
    generator = np.random.default_rng(seed)
    lengths = generator.integers(1, 10 ** generator.integers(1, 7), generator.integers(1, 400)).tolist()
    for limit in (1, 100, sum(lengths) // 2 + 1, sum(lengths), sum(lengths) + 1):
        taken = spread(lengths, limit, 100)
        assert 0 < sum(taken) <= limit
        assert all(0 <= some <= whole for some, whole in zip(taken, lengths, strict=True))
        assert taken == lengths or sum(lengths) > limit
        places = np.flatnonzero(taken)
        if sum(lengths) > limit and len(places) > 1:
            gaps = np.diff([-1, *places, len(lengths)])
            assert gaps.max() <= 2 * len(lengths) / len(places) + 1
    assert sum(spread([10_000] * 3, 15_000, 1000)) == 15_000


def test_baselines_and_model_are_judged_by_the_same_tokens(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules, store = made(folder, tmp_path / "run" / "store", end_seconds=0.05, valid_fraction=0.5)
    tiny = model(rules)
    found = evaluate(tiny, tmp_path / "run")
    assert found.yardstick is not None and found.yardstick.fitted_on == "training split"
    assert found.yardstick.samples == found.samples
    assert found.yardstick.model_bits_per_sample == pytest.approx(found.bits_per_sample, abs=1e-9)
    assert len(found.yardstick.baselines) == 4 and bits_of(found.yardstick.baselines)["uniform"] == 8.0
    kept = store_baselines(store, cache=tmp_path / "run" / "baselines.json", end_seconds=0.05)
    assert tuple(kept) == found.yardstick.baselines

    monkeypatch.setattr(yardsticks, "JUDGED_TOKENS", 3000)
    monkeypatch.setattr(likelihood, "JUDGED_TOKENS", 3000)
    part = evaluate(tiny, tmp_path / "run")
    assert part.bits_per_sample == found.bits_per_sample
    assert part.yardstick is not None and 0 < part.yardstick.samples <= 3000
    clips = store.clips("valid")
    taken = spread([clip.length - 400 for clip in clips], 3000, RATE)
    costs = [
        tiny.bits(store.tokens(clip)[:some], labels=clip.labels)
        for clip, some in zip(clips, taken, strict=True)
        if some
    ]
    assert part.yardstick.model_bits_per_sample == pytest.approx(np.concatenate(costs).mean(), abs=1e-6)
    assert "on the same" in part.to_text() and "on the same" not in found.to_text()


def test_cached_baselines_are_those_of_the_same_store_only(folder: Path, tmp_path: Path) -> None:
    _, store = made(folder, tmp_path / "one", valid_fraction=0.5)
    cache = tmp_path / "baselines.json"
    first = store_baselines(store, cache=cache)
    kept = cache.read_bytes()
    doctored = json.loads(kept)
    doctored["baselines"]["unigram"] = 1.25
    cache.write_text(json.dumps(doctored))
    assert bits_of(store_baselines(store, cache=cache))["unigram"] == 1.25  # not computed again
    for damage in (b"", b"[]", b"\xff", kept[:-30]):
        cache.write_bytes(damage)
        assert store_baselines(store, cache=cache) == first
        assert cache.read_bytes() == kept
    _, other = made(folder, tmp_path / "two", valid_fraction=0.5, codec={"levels": 512})
    assert bits_of(store_baselines(other, cache=cache))["uniform"] == 9.0
    assert store_baselines(store, cache=None) == first
    assert store_baselines(store, cache=tmp_path / "nowhere" / "baselines.json") == first  # cannot be written


def test_silence_learned_at_the_end_does_not_count(folder: Path, tmp_path: Path) -> None:
    bare, with_end = made(folder, tmp_path / "bare"), made(folder, tmp_path / "end", end_seconds=0.1)
    tiny = model(with_end[0])
    one, two = (evaluate(tiny, store.path, split="all", baselines=False) for _, store in (bare, with_end))
    assert figures(one) == figures(two)


def test_text_and_json_say_the_same(folder: Path, tmp_path: Path) -> None:
    rules, store = made(folder, tmp_path / "store", valid_fraction=0.5)
    found = evaluate(model(rules), store.path)
    plain = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert plain["bits_per_sample"] == found.bits_per_sample and plain["clip_count"] == len(plain["clips"])
    text = found.to_text()
    assert f"{found.bits_per_sample:.2f}" in text and "lower is better" in text
    for word in ("uniform", "unigram", "table", "linear prediction", "this model", "kick", "within clips"):
        assert word in text
    assert max(map(len, text.split(meaning(found))[0].splitlines())) <= 100
    better = replace(found, yardstick=replace(found.yardstick, model_bits_per_sample=1.0))
    best = min(baseline.bits_per_sample for baseline in found.yardstick.baselines)
    assert f"{best - 1.0:.2f} bits fewer" in meaning(better)


def test_it_needs_no_torch() -> None:
    heavy = "{'torch', 'librosa', 'scipy'} & set(sys.modules)"
    check = f"import sys, audio_gen.evaluation.likelihood; sys.exit(bool({heavy}))"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


def test_it_agrees_with_the_validation_of_the_training(folder: Path, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from audio_gen.network import Network
    from audio_gen.training.publish import load_into
    from audio_gen.training.validation import choose_clips, validate

    rules, store = made(folder, tmp_path / "store", end_seconds=0.05, valid_fraction=0.5)
    tiny = model(rules)
    network = Network(tiny.checkpoint.shape)
    load_into(network, tiny.checkpoint)
    chosen = choose_clips(store, None, rules.data.end_seconds)
    bits = validate(network, store, chosen, torch.autocast("cpu", torch.bfloat16, enabled=False))
    found = evaluate(tiny, store.path, baselines=False)
    assert found.bits_per_sample == pytest.approx(bits, abs=1e-3)
    assert found.samples == sum(samples for _, samples in chosen)


def one_line(error: pytest.ExceptionInfo[Exception]) -> str:
    text = str(error.value)
    assert text and "\n" not in text
    return text


def test_data_that_is_none(folder: Path, tmp_path: Path) -> None:
    tiny = model(recipe(folder))
    (tmp_path / "empty").mkdir()
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.wav").write_text("this is no sound")
    (tmp_path / "notes.txt").write_text("nor is this")
    record(tmp_path / "run" / "previews" / "kick.wav", 0.1, 1)
    (tmp_path / "run" / "recipe.json").write_text("{}")
    cases: list[tuple[str, type[Exception], str]] = [
        ("nowhere", DataError, "no such file or folder"),
        ("empty", DataError, "holds no audio files"),
        ("texts", DataError, "nothing is left to score"),
        ("texts/a.wav", AudioFileError, "a.wav"),
        ("notes.txt", AudioFileError, "convert it"),
        ("run", DataError, "store.*prepare it"),
    ]
    for name, kind, words in cases:
        with pytest.raises(kind, match=words) as error:
            evaluate(tiny, tmp_path / name)
        assert name.split("/")[0] in one_line(error)


def test_bad_files_among_good_ones_are_told(folder: Path) -> None:
    (folder / "k_7.wav").write_text("this is no sound")
    found = evaluate(model(recipe(folder)), folder, baselines=False)
    assert len(found.clips) == 9
    assert [source for source, _ in found.excluded] == ["k_7.wav"]
    assert "k_7.wav" in found.to_text()


def test_stores_that_do_not_fit(folder: Path, tmp_path: Path) -> None:
    tiny = model(recipe(folder))
    cases: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"sample_rate": 4000}, DataError, "4000 Hz.*8000 Hz"),
        ({"codec": {"levels": 512}}, DataError, "512 levels.*256 levels"),
        ({"codec": {"pre_emphasis": 0.5}}, DataError, "pre-emphasis 0.5"),
        ({"controls": {"labels": {"drum": {"from": "{kind}"}}}}, ControlError, "drum = 'k'"),
        ({"controls": {"labels": {"player": {"from": "{index}"}}}}, ControlError, "player"),
    ]
    for number, (settings, kind, words) in enumerate(cases):
        _, store = made(folder, tmp_path / str(number), **settings)
        with pytest.raises(kind, match=words) as error:
            evaluate(tiny, store.path)
        assert "recordings themselves" in one_line(error)
    steered = model(recipe(folder, controls={"curves": ["loudness"], "hop": 64}))
    _, store = made(folder, tmp_path / "plain")
    with pytest.raises(ControlError, match="loudness") as error:
        evaluate(steered, store.path)
    assert "recordings themselves" in one_line(error)


def test_calls_that_ask_for_nonsense(folder: Path, tmp_path: Path) -> None:
    rules, store = made(folder, tmp_path / "store", valid_fraction=0.0)
    tiny = model(rules)
    for data in (store.path, folder):
        with pytest.raises(DataError, match="no split 'test'; known: valid, train, all"):
            evaluate(tiny, data, split="test")
    with pytest.raises(DataError, match="holds no clips") as error:
        evaluate(tiny, store.path)
    assert "'all'" in one_line(error)
    for bad in ({"max_seconds": 0.0}, {"max_seconds": math.nan}, {"max_seconds": math.inf}, {"threads": 0}):
        with pytest.raises(SettingError):
            evaluate(tiny, store.path, split="train", **bad)
