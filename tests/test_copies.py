"""Laws of copies: held-out recordings, played again from their own curves, beside nothing but themselves."""

import base64
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import Called, call
from test_batch import contents, tables
from test_sketch import random_checkpoint
from toys import BANDS, HOP, RATE, toy_recipe, toy_vocoder, write_tones

from audio_gen.audio import read, read_tags
from audio_gen.batch import Rendered, expand, run_batch
from audio_gen.data.prepare import prepare
from audio_gen.data.store import Store
from audio_gen.errors import ControlError, DataError, RecipeError
from audio_gen.pages.listening import write_page
from audio_gen.pages.manifest import read_manifest
from audio_gen.recipe import build_recipe
from audio_gen.sampler.model import Model
from audio_gen.sampler.prompt import Prompt
from audio_gen.sampler.take import Take
from audio_gen.settings import Recipe

MEL = {"curves": ["mel"], "hop": HOP, "mel_bands": BANDS}
COPIES = {"name": "again", "copies": 3, "temperature": [0.7, 1.0], "seed": 4}
END = 0.1


def vocoder_recipe(source: Path, *generate: Mapping[str, Any], **controls: Any) -> Recipe:
    tables = toy_recipe(source, controls=MEL | controls, data={"end_seconds": END}).to_dict()
    return build_recipe(tables | {"generate": list(generate)})


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tones(tmp_path_factory.mktemp("recordings"))


@pytest.fixture(scope="module")
def store(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("run") / "store"
    prepare(vocoder_recipe(source), folder)
    return Store(folder)


@pytest.fixture(scope="module")
def model(store: Store) -> Model:
    return Model(toy_vocoder(store))


def test_copies_are_the_chosen_recordings_played_from_their_own_curves(
    source: Path, store: Store, model: Model, tmp_path: Path
) -> None:
    assert run_batch(vocoder_recipe(source, COPIES), model, store, tmp_path) == Rendered(6, 0)
    manifest = read_manifest(tmp_path)
    held_out = store.clips("valid")
    assert len(held_out) == 6
    chosen = [held_out[0], held_out[2], held_out[4]]
    assert [clip.source for clip in manifest.clips] == [clip.source for clip in chosen for _ in range(2)]
    assert [clip.temperature for clip in manifest.clips] == [0.7, 1.0] * 3
    assert manifest.clips[3].file == f"again/{Path(chosen[1].source).stem}-t1.0-001.wav"
    assert len({clip.length for clip in chosen}) > 1  # side by side, each ends on its own
    for entry in manifest.clips:
        (clip,) = [clip for clip in chosen if clip.source == entry.source]
        assert entry.labels == clip.labels and entry.labels
        seconds = clip.length / RATE - END
        assert entry.seconds == pytest.approx(seconds)
        alone = model.generate(
            seconds, labels=clip.labels, seed=4, temperature=entry.temperature, curves=store.curves_of(clip)
        )
        made = read(tmp_path / "clips" / entry.file)
        assert np.array_equal(model.codec.encode(made), model.codec.encode(alone)) and made.std() > 0.01
        told = Take.from_tags(read_tags(tmp_path / "clips" / entry.file), "").curves["mel"]
        assert told.startswith(f"{clip.source} ")
    assert sorted(clip.source for clip in manifest.real) == [clip.source for clip in chosen]
    for real in manifest.real:  # whole, and without the silence learned after it
        (copy, _) = [clip for clip in manifest.clips if clip.source == real.source]
        assert real.seconds == copy.seconds and real.labels == copy.labels
        (clip,) = [clip for clip in chosen if clip.source == real.source]
        heard = store.codec.encode(read(tmp_path / "clips" / real.file))
        assert np.array_equal(heard, store.tokens(clip)[: len(heard)])


def test_each_copy_is_shown_below_its_own_original(
    source: Path, store: Store, model: Model, tmp_path: Path
) -> None:
    run_batch(vocoder_recipe(source, COPIES), model, store, tmp_path)
    manifest = read_manifest(tmp_path)
    page = write_page(tmp_path, audio="embed", output=tmp_path / "one").read_text(encoding="utf-8")
    bodies = page.split("<tbody")[1:]
    assert len(bodies) == 3
    for number, body in enumerate(bodies):
        copies = manifest.clips[2 * number : 2 * number + 2]
        (real,) = [clip for clip in manifest.real if clip.source == copies[0].source]
        played = [base64.b64decode(part.partition('"')[0]) for part in body.split(";base64,")[1:]]
        shown = [audio for audio in played if audio[:4] in (b"RIFF", b"fLaC")]
        assert shown == [(tmp_path / "clips" / clip.file).read_bytes() for clip in (real, *copies)]
        stem = Path(copies[0].source or "").stem
        assert f"<small>recording</small>{stem}<" in body and f'">{stem}</a>' in page
        assert f"Real {', '.join(real.labels.values())}, through" in body
        assert f"Generated from the curves of {copies[0].source}, seed 4" in body
        assert "generated from its curves, temperature 0.7" in body


def test_what_is_there_is_kept_and_a_changed_curve_is_not(source: Path, model: Model, tmp_path: Path) -> None:
    recipe = vocoder_recipe(source, COPIES)
    prepare(recipe, tmp_path / "store")
    run_batch(recipe, model, Store(tmp_path / "store"), tmp_path)
    before = contents(tmp_path / "clips")
    assert run_batch(recipe, model, Store(tmp_path / "store"), tmp_path) == Rendered(0, 6)
    assert contents(tmp_path / "clips") == before
    more = vocoder_recipe(source, {**COPIES, "copies": 6, "file": "{source}-t{temperature}.wav"})
    fewer = vocoder_recipe(source, {**COPIES, "file": "{source}-t{temperature}.wav"})
    assert run_batch(more, model, Store(tmp_path / "store"), tmp_path) == Rendered(12, 0)
    assert run_batch(fewer, model, Store(tmp_path / "store"), tmp_path) == Rendered(0, 6)
    store = Store(tmp_path / "store")
    clip = store.clips("valid")[2]
    curves = np.memmap(tmp_path / "store" / "curves-00000.f16", np.float16, "r+").reshape(-1, BANDS)
    curves[clip.curve_offset + 1] += np.float16(0.25)
    curves.flush()
    changed = Store(tmp_path / "store")
    assert run_batch(fewer, model, changed, tmp_path) == Rendered(2, 4)
    assert run_batch(fewer, model, changed, tmp_path) == Rendered(0, 6)


def test_a_model_that_draws_its_curves_can_be_given_those_of_recordings(
    source: Path, store: Store, tmp_path: Path
) -> None:
    """In one batch; each clip is the clip made alone."""
    model, drawn = Model(random_checkpoint()), {"name": "drawn", "clips": 2, "seconds": 0.4, "guidance": 1.0}
    assert run_batch(vocoder_recipe(source, COPIES, drawn), model, store, tmp_path) == Rendered(8, 0)
    *copies, first, second = read_manifest(tmp_path).clips
    held_out = {clip.source: clip for clip in store.clips("valid")}
    assert {(clip.sketch_temperature, clip.guidance) for clip in copies} == {(None, None)}
    assert first.source is None and (first.guidance, second.stream) == (1.0, 1)
    for entry in (copies[0], copies[5], second):
        curves = None if entry.source is None else store.curves_of(held_out[entry.source])
        if curves is not None:  # as far as the recording sounds, where the last frame is held
            curves = curves[: -(-round(entry.seconds * RATE) // HOP)]
        settings = {} if entry.guidance is None else {"guidance": entry.guidance}
        alone = model.generate(
            entry.seconds, labels=entry.labels, seed=entry.seed, stream=entry.stream, curves=curves,
            temperature=entry.temperature, **settings,
        )  # fmt: skip
        made = read(tmp_path / "clips" / entry.file)
        assert np.array_equal(model.codec.encode(made), model.codec.encode(alone))


@pytest.mark.parametrize("follows", [True, False])
def test_copies_may_go_on_from_the_recordings(
    source: Path, store: Store, follows: bool, tmp_path: Path
) -> None:
    model = Model(toy_vocoder(store, follows))
    recipe = vocoder_recipe(source, {**COPIES, "prompt_seconds": 0.1})
    assert run_batch(recipe, model, store, tmp_path) == Rendered(6, 0)
    assert run_batch(recipe, model, store, tmp_path) == Rendered(0, 6)
    held_out = {clip.source: clip for clip in store.clips("valid")}
    begin = int(0.1 * RATE) // HOP * HOP
    for entry in read_manifest(tmp_path).clips:
        clip = held_out[entry.source or ""]
        made = model.codec.encode(read(tmp_path / "clips" / entry.file))
        assert np.array_equal(made[:begin], store.tokens(clip)[:begin]) and entry.prompt_seconds == 0.1
        curves = store.curves_of(clip)
        assert curves is not None
        prompt = Prompt(model.codec.decode(made[:begin]), curves[: begin // HOP] if follows else None)
        alone = model.generate(
            entry.seconds - begin / RATE, labels=clip.labels, seed=4, temperature=entry.temperature,
            prompt=prompt, curves=curves[begin // HOP :] if follows else None,
        )  # fmt: skip
        assert np.array_equal(made[begin:], model.codec.encode(alone))
    page = write_page(tmp_path, audio="embed", output=tmp_path / "one").read_text(encoding="utf-8")
    assert "generated from its first 0.1 s, temperature 0.7" in page
    with pytest.raises(DataError, match="must leave something to play"):
        expand(tables({**COPIES, "prompt_seconds": 60}), model, store)
    with pytest.raises(ValueError, match="said of copies alone"):
        tables({"name": "new", "prompt_seconds": 1.0})


@pytest.mark.skipif(sys.platform == "win32", reason="kills")
def test_a_killed_batch_of_copies_ends_as_if_it_had_not_been(
    source: Path, store: Store, model: Model, tmp_path: Path
) -> None:
    recipe = vocoder_recipe(source, {**COPIES, "copies": 6, "temperature": [0.6, 0.7, 0.8, 0.9, 1.0]})
    run_batch(recipe, model, store, tmp_path / "whole")
    child = os.fork()
    if not child:
        made: list[int] = []

        def die(done: int, total: int, seconds: float) -> None:
            made.append(done)
            if made.count(16) == 3:  # in the middle of the second group
                os.kill(os.getpid(), signal.SIGKILL)

        run_batch(recipe, model, store, tmp_path / "torn", progress=die)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)
    assert [name for name in contents(tmp_path / "torn") if name.endswith(".part")]
    rendered = run_batch(recipe, model, store, tmp_path / "torn")
    assert rendered == Rendered(14, 16)
    assert contents(tmp_path / "torn") == contents(tmp_path / "whole")


def test_tables_that_cannot_be_are_refused_in_one_line(
    source: Path, store: Store, model: Model, tmp_path: Path
) -> None:
    for name, value in [
        ("clips", 4), ("seconds", 1.0), ("labels", {}), ("guidance", 0.5), ("sketch_temperature", 0.8)
    ]:  # fmt: skip
        with pytest.raises(RecipeError, match=rf"generate\.0: copies are made .* leave {name} out") as caught:
            vocoder_recipe(source, {**COPIES, name: value})
        assert "\n" not in str(caught.value)
    with pytest.raises(RecipeError, match=r"generate\.0\.copies"):
        vocoder_recipe(source, {**COPIES, "copies": 0})
    asked = [expand(tables({**COPIES, "copies": number}), model, store) for number in (6, 7)]
    assert len(asked[0]) == 12 and asked[0] == asked[1], "all there are, at both temperatures"
    with pytest.raises(DataError, match=r"again: .*there is none; prepare it first"):
        run_batch(vocoder_recipe(source, COPIES), model, None, tmp_path)
    with pytest.raises(ControlError, match=r"plain: toy follows curves \(mel\).*copies = 8"):
        expand(tables({"name": "plain"}), model, store)
    with pytest.raises(RecipeError, match=r"no field \{source\}"):
        expand(tables({"name": "plain", "file": "{source}.wav"}), Model(toy_vocoder(store, follows=False)))
    with pytest.raises(
        ControlError, match="again: copies follow the curves of recordings, and toy follows none"
    ):
        expand(tables(COPIES), Model(toy_vocoder(store, follows=False)), store)
    with pytest.raises(RecipeError, match=r"two clips would be called.*put \{source\} into"):
        expand(tables({**COPIES, "temperature": 1.0, "file": "{seed}.wav"}), model, store)
    prepare(vocoder_recipe(source, hop=2 * HOP), tmp_path / "store")
    with pytest.raises(DataError, match="are not those that toy follows"):
        expand(tables(COPIES), model, Store(tmp_path / "store"))


def test_recordings_of_one_name_in_two_folders(source: Path, model: Model, tmp_path: Path) -> None:
    for side in ("left", "right"):
        write_tones(tmp_path / "recordings" / side, clips=4)
    recipe = vocoder_recipe(tmp_path / "recordings")
    tree = recipe.to_dict()
    tree["data"]["pattern"] = "{side}/{tone}_{index}"
    prepare(build_recipe(tree), tmp_path / "store")
    store = Store(tmp_path / "store")
    one = {**COPIES, "copies": len(store.clips("valid")), "temperature": 1.0}
    assert len({job.file for job in expand(tables(one), model, store)}) == 12
    with pytest.raises(RecipeError, match=r"two clips would be called.*put \{index\} into"):
        expand(tables({**one, "file": "{source}.wav"}), model, store)


def test_a_resolved_recipe_of_copies_builds_the_same_recipe(source: Path) -> None:
    recipe = vocoder_recipe(source, COPIES, {"name": "other", "clips": 2})
    assert build_recipe(recipe.to_dict()) == recipe
    assert build_recipe(recipe.to_dict()).to_dict() == recipe.to_dict()


RECIPE = f"""
[data]
source = "recordings"
sample_rate = {RATE}
pattern = "{{tone}}_{{index}}"
valid_where = {{ index = ["0", "1"] }}
[controls]
curves = ["mel"]
hop = {HOP}
mel_bands = {BANDS}
[network]
layers = [2, 2]
channels = [8, 8]
pool = [4]
head_channels = 8
[train]
steps = 2
crop = 128
walk = 2
valid_seconds = 0.5
preview_seconds = 0.1
[[generate]]
name = "again"
COPIES
"""


HELD_OUT = 'valid_where = { index = ["0", "1"] }'


def run(folder: Path, copies: str, held_out: str = HELD_OUT) -> Called:
    (folder / "toy.toml").write_text(RECIPE.replace("COPIES", copies).replace(HELD_OUT, held_out))
    return call("run", folder / "toy.toml", "--run", folder / "run", "--threads", 1)


def test_a_vocoder_runs_from_recordings_to_its_page(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    write_tones(tmp_path / "recordings", clips=6)
    for copies, words in (("clips = 2", "copies = 8, say"), ("copies = 2", "no recordings are held out")):
        called = run(tmp_path, copies, held_out="valid_fraction = 0.0")  # said before the training
        assert called.code == 1 and words in called.errors and called.errors.count("Traceback") == 0
        assert not (tmp_path / "run" / "model.safetensors").exists()
    called = run(tmp_path, "copies = 2\nclips = 3")
    assert called.code in (1, 2) and "leave clips out" in called.errors
    called = run(tmp_path, "copies = 2")
    assert called.code == 0, called.errors
    assert "rendered 2 clips" in called.errors
    page = (tmp_path / "run" / "page" / "index.html").read_text(encoding="utf-8")
    assert "2 generated, 2 real" in page
    again = run(tmp_path, "copies = 2")
    assert again.code == 0 and "2 were there already" in again.errors
