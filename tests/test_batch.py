"""Laws of a batch: what is asked for is made, once, alike however it was interrupted, and listed as it is."""

import json
import os
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from networks import network_settings, random_tensors

from audio_gen.audio import read, read_tags
from audio_gen.batch import Rendered, expand, render, run_batch
from audio_gen.batch.jobs import safe
from audio_gen.checkpoint import Checkpoint
from audio_gen.codec import Codec
from audio_gen.data.prepare import prepare
from audio_gen.data.store import Store
from audio_gen.errors import AudioGenError, CheckpointError, ControlError, DataError, OutputError, RecipeError
from audio_gen.pages.listening import write_page
from audio_gen.pages.manifest import Manifest, read_manifest
from audio_gen.recipe import build_recipe
from audio_gen.sampler.model import Model
from audio_gen.sampler.take import Take
from audio_gen.settings import GenerateSettings, Recipe
from audio_gen.shape import NetworkShape

RATE = 4000
LABELS = {"drum": ["hat", "kick"], "velocity": ["1", "2", "3"]}
CARD = {
    "name": "tiny",
    "description": "not for the page",
    "data": "Sines",
    "licence": "CC0",
    "credit": "",
    "steps": 10,
    "minutes": 0.5,
    "bits_per_sample": 3.25,
    "baselines": {"uniform": 8.0},
    "hardware": "a test",
    "date": "2026-01-02",
    "version": "0.1.0",
    "recipe": {"name": "tiny"},
}
HITS = {
    "name": "hits",
    "clips": 2,
    "seconds": 0.6,
    "labels": {"drum": "*", "velocity": ["1", "3"]},
    "temperature": [0.9, 1.0],
    "seed": 7,
}
FREE = {"name": "free play", "clips": 3, "seconds": 0.3, "top_p": 0.95, "file": "{seed}/{index}.flac"}


def make_model(levels: int = 256, pre_emphasis: float = 0.0, card: Any = None, **settings: Any) -> Model:
    settings = {"labels": LABELS, "head_channels": 8, **settings}
    shape = NetworkShape.from_dict(network_settings([2, 2], [8, 8], [4], levels=levels, **settings))
    codec = Codec(levels, pre_emphasis)
    tensors = random_tensors(shape, 5)
    return Model(Checkpoint(shape, codec, RATE, tensors, card=CARD if card is None else card))


def make_recipe(source: Path, *tables: dict[str, Any], neighbours: int = 2, **codec: Any) -> Recipe:
    labels = {"drum": {"from": "{drum}"}, "velocity": {"from": "{velocity}"}}
    return build_recipe(
        {
            "name": "tiny",
            "data": {
                "source": str(source),
                "sample_rate": RATE,
                "pattern": "{drum}_{velocity}_{repeat}",
                "group": "{drum}_{repeat}",
                "valid_where": {"repeat": ["0", "1", "2"]},
                "end_seconds": 0.1,
            },
            "codec": codec,
            "controls": {"labels": labels},
            "generate": list(tables),
            "page": {"title": "Tiny", "text": "A test.", "neighbours": neighbours},
        }
    )


def tables(*settings: dict[str, Any]) -> list[GenerateSettings]:
    return [GenerateSettings.model_validate(table) for table in settings]


@pytest.fixture(scope="module")
def model() -> Model:
    return make_model()


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """2 drums, 3 velocities, 4 hits each, of which 3 are held out; no kick of velocity 3 is."""
    folder = tmp_path_factory.mktemp("recordings")
    for seed in range(24):
        drum, velocity, repeat = ("hat", "kick")[seed % 2], seed // 2 % 3 + 1, seed // 6
        if (drum, velocity) == ("kick", 3) and repeat < 3:
            continue
        seconds = 2.0 if (drum, velocity) == ("hat", 2) else 0.2 + 0.01 * seed
        noise = np.random.default_rng(seed).uniform(-0.5, 0.5, round(seconds * RATE))
        soundfile.write(folder / f"{drum}_{velocity}_{repeat}.wav", noise, RATE)
    return folder


@pytest.fixture(scope="module")
def store(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("run") / "store"
    prepare(make_recipe(source), folder)
    return Store(folder)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below, hidden ones too."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# Expansion


def test_every_combination_is_made_clips_times_in_order(model: Model) -> None:
    jobs = expand(tables(HITS, FREE), model)
    assert len(jobs) == 2 * 2 * 2 * 2 + 3
    assert len({job.file for job in jobs}) == len(jobs)
    seen = [(*job.take.labels.values(), job.take.draw.temperature, job.take.stream) for job in jobs[:16]]
    assert seen == list(product(LABELS["drum"], "13", (0.9, 1.0), (0, 1)))
    assert jobs[0].file == "hits/hat-1-t0.9-000.wav" and jobs[3].file == "hits/hat-1-t1.0-001.wav"
    assert jobs[-1].file == "free_play/0/2.flac" and jobs[-1].set == "free play"
    assert {(job.take.seed, job.take.seconds, job.take.model_hash) for job in jobs[:16]} == {
        (7, 0.6, model.checkpoint.hash)
    }
    assert jobs[-1].take.draw.top_p == 0.95 and dict(jobs[-1].take.labels) == {}
    assert expand([], model) == []


@pytest.mark.parametrize(
    ("file", "first"),
    [
        ("{labels}-{temperature}-{index}.wav", "kick-2-0.5-0.wav"),
        ("{drum}/{velocity}_{seed:04}_{temperature:.2f}_{index:03}.flac", "kick/2_0009_0.50_000.flac"),
        ("{set}{{}}.WAV", "s{}.WAV"),
    ],
)
def test_templates_are_filled(model: Model, file: str, first: str) -> None:
    labels = {"drum": "kick", "velocity": "2"}
    table = {"name": "s", "clips": 1, "labels": labels, "temperature": 0.5, "seed": 9, "file": file}
    (job,) = expand(tables(table), model)
    assert job.file == f"s/{first}"
    (job,) = expand(tables({"name": "s", "clips": 1, "file": "{labels}-{drum}.wav"}), model)
    assert job.file == "s/free-free.wav"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"file": "{labels}.wav"}, ["two clips", "{index}"]),
        ({"file": "{index}.wav", "temperature": [0.5, 1.0]}, ["two clips", "{temperature}"]),
        ({"file": "{index}.wav", "labels": {"drum": "*"}}, ["two clips", "{labels}"]),
        ({"temperature": [1.0, 1.0]}, ["two clips", "twice"]),
        ({"file": "{temperature:.0f}-{index}.wav", "temperature": [0.9, 1.0]}, ["two clips", "format"]),
        ({"file": "{lables}-{index}.wav"}, ["{lables}", "did you mean {labels}?"]),
        ({"file": "{index.real}.wav"}, ["no field {index.real}"]),
        ({"file": "{index!r}.wav"}, ["no field"]),
        ({"file": "{}.wav"}, ["no field {}"]),
        ({"file": "{index:{seed}}.wav"}, ["no field"]),
        ({"file": "{index:q}.wav"}, ["no template"]),
        ({"file": "{index.wav"}, ["no template"]),
        ({"file": "../{index}.wav"}, ["leaves the set's folder"]),
        ({"file": "/tmp/{index}.wav"}, ["leaves the set's folder"]),
        ({"file": "a/../../{index}.wav"}, ["leaves the set's folder"]),
        ({"file": "C:{index}.wav"}, ["no file name"]),
        ({"file": "a\\{index}.wav"}, ["no file name"]),
        ({"file": ".{index}.wav"}, ["begin"]),
        ({"file": "{index}.mp3"}, [".wav or .flac"]),
        ({"file": "{index}"}, [".wav or .flac"]),
        ({"file": ""}, ["no file name"]),
        ({"temperature": []}, ["temperature is an empty list"]),
        ({"labels": {"drum": []}}, ["labels.drum is an empty list"]),
        ({"temperature": 11.0}, ["temperature", "10"]),
        ({"name": "Real"}, ["Real", "another name"]),
    ],
)
def test_impossible_tables_are_refused_by_name(
    model: Model, settings: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(RecipeError) as refusal:
        expand(tables({"name": "mine", **settings}), model)
    message = str(refusal.value)
    assert f"[[generate]] {settings.get('name', 'mine')}" in message and "\n" not in message
    assert all(word in message for word in words), message


def test_sets_that_would_share_files_are_refused(model: Model) -> None:
    with pytest.raises(RecipeError, match="'a b' and 'A/B' need names"):
        expand(tables({"name": "a b"}, {"name": "A/B"}), model)


@pytest.mark.parametrize(
    ("labels", "hint"),
    [
        ({"drumm": "*"}, "unknown label 'drumm'; did you mean 'drum'"),
        ({"drum": ["kick", "kik"]}, "unknown value 'kik'"),
        ({"drum": ["*"]}, "unknown value"),
    ],
)
def test_unknown_labels_are_control_errors(model: Model, labels: Any, hint: str) -> None:
    with pytest.raises(ControlError, match=r"\[\[generate\]\] mine: .*" + hint):
        expand(tables({"name": "mine", "labels": labels}), model)


@given(st.text())
def test_a_safe_name_is_one_plain_part_of_a_path(text: str) -> None:
    name = safe(text)
    assert name and not set(name) & set('/\\:*?"<>|\0\n') and name[0] != "." and name[-1] not in ". "
    assert safe(name) == name
    os.fsencode(name)


# Rendering


def test_clips_of_a_batch_equal_the_same_clips_made_alone(model: Model, tmp_path: Path) -> None:
    jobs = expand(tables(HITS, FREE), model)
    assert render(jobs, model, tmp_path, rows=5) == Rendered(19, 0)
    for job in jobs:
        take = job.take
        settings = {"temperature": take.draw.temperature, "top_p": take.draw.top_p, "seed": take.seed}
        alone = model.generate(take.seconds or 0.0, labels=take.labels, stream=take.stream, **settings)
        made = read(tmp_path / job.file)
        assert np.array_equal(model.codec.encode(made), model.codec.encode(alone))
        assert np.abs(made - alone).max() <= 2.0**-15
        assert Take.from_tags(read_tags(tmp_path / job.file), "") == job.take
        assert soundfile.info(tmp_path / job.file).subtype == "PCM_16"
    assert soundfile.info(tmp_path / jobs[-1].file).format == "FLAC"
    widest = contents(tmp_path)
    render(jobs, model, tmp_path / "other", rows=1)
    assert contents(tmp_path / "other") == widest


def test_fine_codecs_get_24_bits(tmp_path: Path) -> None:
    model = make_model(1024)
    (job,) = expand(tables({"name": "s", "clips": 1, "seconds": 0.1}), model)
    render([job], model, tmp_path)
    assert soundfile.info(tmp_path / job.file).subtype == "PCM_24"


def test_a_second_run_skips_all_and_touches_nothing(
    model: Model, source: Path, store: Store, tmp_path: Path
) -> None:
    recipe = make_recipe(source, HITS, FREE)
    assert run_batch(recipe, model, store, tmp_path) == Rendered(19, 0)
    before = contents(tmp_path)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    calls: list[tuple[int, int, float]] = []
    again = run_batch(recipe, model, store, tmp_path, progress=lambda *values: calls.append(values))
    assert again == Rendered(0, 19)
    assert calls == [(19, 19, 0.0)]
    assert contents(tmp_path) == before
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == times
    card = {**model.checkpoint.card, "name": "another"}
    renamed = Model(replace(model.checkpoint, card=card))
    assert run_batch(recipe, renamed, store, tmp_path) == Rendered(0, 19)
    assert run_batch(recipe, model, store, tmp_path, force=True) == Rendered(19, 0)
    assert contents(tmp_path) == before


def test_progress_only_grows_and_ends_with_everything(model: Model, tmp_path: Path) -> None:
    calls: list[tuple[int, int, float]] = []
    jobs = expand(tables(HITS), model)
    render(jobs, model, tmp_path, progress=lambda *values: calls.append(values), rows=4)
    assert calls == sorted(calls) and {total for _, total, _ in calls} == {16}
    assert calls[0] == (0, 16, 0.0) and calls[-1] == (16, 16, pytest.approx(16 * 0.6))
    assert len(calls) > 2 * 16 / 4


@pytest.mark.parametrize("at", [1, 3, 4, 9, 14])
def test_an_interrupted_batch_ends_as_if_it_had_not_been(
    model: Model, source: Path, store: Store, tmp_path: Path, at: int
) -> None:
    recipe = make_recipe(source, HITS, FREE)
    run_batch(recipe, model, store, tmp_path / "whole")
    calls = 0

    def stop(*_: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == at:
            raise KeyboardInterrupt

    for _ in range(2):
        calls = 0
        with pytest.raises(KeyboardInterrupt):
            run_batch(recipe, model, store, tmp_path / "torn", progress=stop)
            raise KeyboardInterrupt  # the second time there may be too little left to do
        for file in contents(tmp_path / "torn"):
            assert not file.endswith(".part")
            assert contents(tmp_path / "torn")[file] == contents(tmp_path / "whole")[file]
    run_batch(recipe, model, store, tmp_path / "torn")
    assert contents(tmp_path / "torn") == contents(tmp_path / "whole")


def test_a_change_renders_only_what_it_touches(
    model: Model, source: Path, store: Store, tmp_path: Path
) -> None:
    recipe = make_recipe(source, HITS, FREE)
    run_batch(recipe, model, store, tmp_path)
    hotter = make_recipe(source, {**HITS, "temperature": [0.9, 1.1]}, FREE)
    assert run_batch(hotter, model, store, tmp_path) == Rendered(8, 11)
    listed = {clip.file for clip in read_manifest(tmp_path).clips}
    assert "hits/kick-1-t1.1-000.wav" in listed and "hits/kick-1-t1.0-000.wav" not in listed
    assert (tmp_path / "clips/hits/kick-1-t1.0-000.wav").is_file()  # former clips stay
    assert run_batch(recipe, model, store, tmp_path) == Rendered(0, 19)
    for change in ({"seconds": 0.35}, {"seed": 1}, {"top_k": 20}, {"min_p": 0.01}):
        free = {**FREE, "file": "{index}.wav"}
        run_batch(make_recipe(source, HITS, free), model, store, tmp_path)
        changed = make_recipe(source, HITS, {**free, **change})
        assert run_batch(changed, model, store, tmp_path) == Rendered(3, 16)
    other = Model(replace(model.checkpoint, tensors=random_tensors(model.checkpoint.shape, 6)))
    assert run_batch(recipe, other, store, tmp_path) == Rendered(19, 0)


def test_damaged_and_foreign_files_are_rendered_again(model: Model, tmp_path: Path) -> None:
    jobs = expand(tables(HITS), model)
    render(jobs, model, tmp_path)
    whole = contents(tmp_path)
    files = [tmp_path / job.file for job in jobs[:5]]
    files[0].write_bytes(files[0].read_bytes()[:-200])
    files[1].write_bytes(b"")
    files[2].write_bytes(b"not audio")
    soundfile.write(files[3], np.zeros(2400), RATE)
    with soundfile.SoundFile(files[4], "w", RATE, 1) as file:
        file.comment = "5"
        file.write(np.zeros(2400))
    files[0].with_name(f".{files[0].name}.part").write_bytes(b"left by a killed run")
    assert render(jobs, model, tmp_path) == Rendered(5, 11)
    assert contents(tmp_path) == whole


def test_no_list_is_better_than_a_wrong_one(model: Model, source: Path, store: Store, tmp_path: Path) -> None:
    table = {"name": "s", "seconds": 0.3, "file": "{index}.wav"}
    run_batch(make_recipe(source, table), model, store, tmp_path)

    def stop(done: int, total: int, seconds: float) -> None:
        if seconds > 0:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):  # new files alone leave the list as true as it was
        more = {"name": "more", "seconds": 0.3}
        run_batch(make_recipe(source, table, more), model, store, tmp_path, progress=stop)
    assert len(read_manifest(tmp_path).clips) == 4
    with pytest.raises(KeyboardInterrupt):
        run_batch(make_recipe(source, {**table, "seed": 1}), model, store, tmp_path, progress=stop)
    with pytest.raises(DataError, match="no manifest"):
        read_manifest(tmp_path)


def test_what_cannot_be_written_is_one_clear_error(model: Model, tmp_path: Path) -> None:
    jobs = expand(tables(HITS), model)
    (tmp_path / jobs[0].file).mkdir(parents=True)
    with pytest.raises(OutputError, match=r"000\.wav"):
        render(jobs, model, tmp_path)
    assert not [file for file in contents(tmp_path) if file.endswith(".part")]
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="file/hits"):
        render(jobs, model, tmp_path / "file")


# Real neighbours and the list


def test_real_neighbours_carry_the_labels_and_are_the_held_out_tokens(
    model: Model, source: Path, store: Store, tmp_path: Path
) -> None:
    table = {"name": "s", "clips": 1, "seconds": 0.5, "labels": {"drum": "*", "velocity": "*"}}
    run_batch(make_recipe(source, table), model, store, tmp_path)
    real = read_manifest(tmp_path).real
    held_out = {clip.source: clip for clip in store.clips("valid")}
    for drum in LABELS["drum"]:
        for velocity in LABELS["velocity"]:
            found = [clip for clip in real if clip.labels == {"drum": drum, "velocity": velocity}]
            assert len(found) == 0 if (drum, velocity) == ("kick", "3") else len(found) >= 2
    for entry in real:
        clip = held_out[entry.source]
        assert entry.labels == clip.labels
        heard = read(tmp_path / "clips" / entry.file)
        tokens = store.tokens(clip)
        assert np.array_equal(store.codec.encode(heard), tokens[: len(heard)])
        assert len(heard) == round(entry.seconds * RATE) == min(len(tokens) - 400, 4000)
        assert read_tags(tmp_path / "clips" / entry.file)["source"] == entry.source
    assert any(clip.seconds == 1.0 for clip in real)
    assert len({clip.file for clip in real}) == len(contents(tmp_path / "clips/real")) == len(real)


def test_where_no_recording_has_all_labels_those_with_fewer_stand_in_as_what_they_are(
    model: Model, source: Path, store: Store, tmp_path: Path
) -> None:
    table = {"name": "s", "clips": 1, "seconds": 0.1, "labels": {"drum": "kick", "velocity": "3"}}
    run_batch(make_recipe(source, table), model, store, tmp_path)
    labels = [clip.labels for clip in read_manifest(tmp_path).real]
    assert len(labels) == 2 and all(each["drum"] == "kick" and each["velocity"] != "3" for each in labels)


def test_neighbours_come_from_different_groups_and_are_shared(
    model: Model, source: Path, store: Store, tmp_path: Path
) -> None:
    table = {"name": "s", "clips": 1, "seconds": 0.1, "labels": {"drum": "kick"}}
    for count in (0, 1, 2, 3, 6, 100):
        run_batch(make_recipe(source, table, neighbours=count), model, store, tmp_path / str(count))
        real = read_manifest(tmp_path / str(count)).real
        assert len(real) == min(count, 6) and all(clip.labels["drum"] == "kick" for clip in real)
        repeats = {Path(clip.source).stem[-1] for clip in real}  # groups are drum and repeat
        assert len(repeats) == min(count, 3)
    both = [table, {**table, "name": "more", "labels": {}}]
    run_batch(make_recipe(source, *both, neighbours=100), model, store, tmp_path / "both")
    assert len(read_manifest(tmp_path / "both").real) == len(store.clips("valid"))


def test_the_list_passes_the_page_and_tells_what_is_known(
    model: Model, source: Path, store: Store, tmp_path: Path
) -> None:
    recipe = make_recipe(source, HITS, FREE)
    run_batch(recipe, model, store, tmp_path)
    manifest = read_manifest(tmp_path)
    assert (manifest.title, manifest.text) == ("Tiny", "A test.")
    assert [clip.file for clip in manifest.clips] == [job.file for job in expand(recipe.generate, model)]
    assert [clip.set for clip in manifest.clips] == ["hits"] * 16 + ["free play"] * 3
    facts = manifest.facts
    known = [
        "data",
        "licence",
        "steps",
        "minutes",
        "bits_per_sample",
        "baselines",
        "hardware",
        "date",
        "version",
    ]
    assert all(getattr(facts, name) == CARD[name] for name in known) and facts.credit is None
    assert (facts.model, facts.hash, facts.sample_rate) == ("tiny", model.checkpoint.hash, RATE)
    assert (facts.parameters, facts.levels) == (model.checkpoint.parameters, 256)
    assert facts.receptive_field == model.receptive_field
    for clip in manifest.clips:
        assert clip.seconds == pytest.approx(soundfile.info(tmp_path / "clips" / clip.file).duration)
        assert clip.clipped == 0
    text = write_page(tmp_path).read_text(encoding="utf-8")
    assert all(clip.file in text for clip in manifest.everything)


def test_a_batch_without_tables_or_store_is_an_empty_or_a_plain_list(
    model: Model, source: Path, store: Store, tmp_path: Path
) -> None:
    assert run_batch(make_recipe(source), model, store, tmp_path / "none") == Rendered(0, 0)
    assert read_manifest(tmp_path / "none").everything == []
    write_page(tmp_path / "none")
    run_batch(make_recipe(source, FREE), model, None, tmp_path / "plain")
    assert len(read_manifest(tmp_path / "plain").everything) == 3


def test_clipped_samples_are_counted_alike_by_every_run(source: Path, tmp_path: Path) -> None:
    model = make_model(pre_emphasis=0.85)
    recipe = make_recipe(source, {"name": "s", "seconds": 0.5})
    run_batch(recipe, model, None, tmp_path)
    before = contents(tmp_path)
    counted = [clip.clipped for clip in read_manifest(tmp_path).clips]
    left = [int((np.abs(model.generate(0.5, stream=i)) > 1.0).sum()) for i in range(4)]
    assert counted == left and sum(left) > 0
    assert run_batch(recipe, model, None, tmp_path) == Rendered(0, 4)
    assert contents(tmp_path) == before


def test_foreign_stores_and_damaged_cards_are_refused(source: Path, store: Store, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="codec"):
        run_batch(make_recipe(source, FREE), make_model(512), store, tmp_path)
    with pytest.raises(CheckpointError, match=r"card.*\(minutes, steps\)"):
        run_batch(make_recipe(source), make_model(card={"steps": "many", "minutes": []}), None, tmp_path)
    assert issubclass(CheckpointError, AudioGenError)


def test_the_list_is_plain_json_of_version_1(model: Model, source: Path, tmp_path: Path) -> None:
    run_batch(make_recipe(source, FREE), model, None, tmp_path)
    plain = json.loads((tmp_path / "clips/clips.json").read_text())
    assert plain["version"] == 1 and "credit" not in plain["facts"]
    assert Manifest.model_validate(plain) == read_manifest(tmp_path)
