"""Laws of a temperature that changes: each sample is drawn at that of its frame, however the stream is cut."""

from pathlib import Path

import numpy as np
import pytest
import test_sketch
from command_line import call, write_model
from test_mixtures import labelled
from toys import RATE, toy_recipe, toy_store, toy_vocoder, write_tones

from audio_gen.audio import read, read_tags
from audio_gen.batch import run_batch
from audio_gen.batch.jobs import expand
from audio_gen.errors import RecipeError, SettingError
from audio_gen.fades import Fade, parse_fade
from audio_gen.pages.listening import write_page
from audio_gen.pages.manifest import read_manifest
from audio_gen.recipe import build_recipe
from audio_gen.sampler import load
from audio_gen.sampler.draw import Draw
from audio_gen.sampler.model import Model
from audio_gen.sampler.parts import parts_of
from audio_gen.sampler.take import Take

MODELS = {"labels": labelled, "sketch": test_sketch.random_checkpoint}
FADE = "0.3@0.05,2@0.2,0@0.31"


@pytest.fixture(params=MODELS, scope="module")
def model(request):
    return Model(MODELS[request.param]())


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        (0.9, 0.9),
        ("1e-1", 0.1),
        ("0.9@3", Fade((3.0,), (0.9,))),
        (" 0.5@0 , 1@2.50", Fade((0.0, 2.5), (0.5, 1.0))),
        ([(0, 1), (np.float32(0.5), 2)], Fade((0.0, 0.5), (1.0, 2.0))),
        (Fade((0.0,), (1.0,)), Fade((0.0,), (1.0,))),
    ],
)
def test_what_is_written_is_what_is_asked_for(asked, found):
    assert parse_fade(asked, "temperature") == found
    if isinstance(found, Fade):
        assert parse_fade(str(found), "temperature") == found


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ("warm", "temperature must be a number, or numbers at seconds such as 0.7@0,1.2@20, got 'warm'"),
        ("0.7@0,1.2", "got '0.7@0,1.2'"),
        ("0.7@0,1.2@@2", "got '0.7@0,1.2@@2'"),
        ("1@2,2@1", "temperature: moments must ascend, got 1@2,2@1"),
        ("1@0,nan@1", "must be finite"),
        ("1@0,11@1", "temperature must be from 0 to 10, got 11"),
        ("lost.csv", "temperature: lost.csv: cannot be read as numbers over time"),
        ([], "temperature: what changes over time needs a moment"),
        ([1.0, 2.0], "got [1.0, 2.0]"),
    ],
)
def test_what_cannot_be_asked_for_is_one_line(model, asked, words):
    with pytest.raises(SettingError) as caught:
        parts_of(RATE, 1.0, temperature=[asked])
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_one_that_stays_is_a_number(model):
    plain = model.generate(0.3, temperature=0.6, seed=3)
    for same in ("0.6@0", "0.6@0.1,0.6@0.2", Fade((-1.0, 9.0), (0.6, 0.6))):
        assert np.array_equal(model.generate(0.3, temperature=same, seed=3), plain)
    assert not np.array_equal(model.generate(0.3, temperature="0.6@0,0.7@0.2", seed=3), plain)


def test_it_is_that_of_the_middle_of_each_frame(model):
    """Told by drawing frame after frame at constant temperatures, each after all that went before."""
    hop, fade = model.checkpoint.shape.hop, parse_fade(FADE, "temperature")
    fading, position = model.generate(0.4, temperature=FADE, seed=3), 0
    while position < len(fading):
        constant = fade.at((position // hop + 0.5) * hop / RATE)
        parts = parts_of(RATE, 0.4, seed=3, draw=Draw(constant))
        voices = model.start(parts, None, fading[None, :position], position)
        count = min(hop, len(fading) - position)
        assert np.array_equal(voices.next(count)[0], fading[position : position + count])
        position += count


def test_chunks_company_and_engines_leave_it(model):
    alone = model.generate(0.5, temperature=FADE, seed=3)
    for chunk_seconds in (1 / RATE, 0.007, 5.0):
        chunks = model.stream(0.5, temperature=FADE, seed=3, chunk_seconds=chunk_seconds)
        assert np.array_equal(np.concatenate([*chunks]), alone)
    company = {"temperature": [0.7, FADE, "2@0,0.1@0.6", None], "stream": [4, 0, 7, 8]}
    for other in (Model(model.checkpoint, threads=2), Model(model.checkpoint, engine="reference")):
        clips = other.generate([0.1, 0.5, 0.4, 0.45], seed=3, **company)
        assert np.array_equal(clips[1], alone)
        assert np.array_equal(clips[3], model.generate(0.45, seed=3, stream=8))


@pytest.mark.parametrize("seconds", [0.03, 0.1, 0.256, 0.4])
def test_it_goes_on_as_if_it_had_never_stopped(model, seconds):
    whole, position = model.generate(0.6, temperature=FADE, seed=3), round(seconds * RATE)
    first = max(0, position - model.receptive_field - 1)
    voices = model.start(
        parts_of(RATE, 0.6, seed=3, temperature=FADE), None, whole[None, first:position], position
    )
    assert np.array_equal(voices.next(len(whole) - position)[0], whole[position:])


def test_it_begins_where_a_prompt_ends():
    model = Model(labelled())
    hop = model.checkpoint.shape.hop
    prompt = model.prompt(model.generate(4 * hop / RATE, seed=8))
    late = ",".join(f"{value}@{second + 4 * hop / RATE}" for value, second in ((0.3, 0.05), (2, 0.2)))
    after = model.generate(0.4, temperature="0.3@0.05,2@0.2", seed=3, prompt=prompt)
    parts = parts_of(RATE, 1.0, seed=3, temperature=late)
    voices = model.start(parts, None, prompt.waveform[None], 4 * hop)
    assert np.array_equal(voices.next(len(after))[0], after)


@pytest.fixture
def toy(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return write_model(tmp_path / "toy.safetensors")


def test_the_command_line_fades_and_files_tell_of_it(toy):
    Path("wilder.csv").write_text("seconds,temperature\n0,0.5\n0.3,1.25\n")
    for text in ("0.50@0,1.25@0.3", "wilder.csv"):
        called = call("generate", toy, "--temperature", text, "--seconds", 0.4, "-o", "a.wav", "--force")
        assert called.code == 0, called.errors
        made = Take.from_tags(read_tags("a.wav"), "a.wav")
        assert (made.fade, made.draw.temperature) == ("0.5@0,1.25@0.3", 0.5)
        again = load(str(toy)).generate(0.4, temperature=made.fade)
        assert np.array_equal(read("a.wav"), np.float32(np.rint(again * 2**15).clip(max=2**15 - 1) / 2**15))


def test_it_is_resumed_in_a_file(toy):
    fade = ("--temperature", "0.5@0.05,1.5@0.6", "--seed", 3)
    assert call("generate", toy, *fade, "--seconds", 0.7, "-o", "whole.wav").code == 0
    for seconds in (0.1, 0.33, 0.7):
        called = call("generate", toy, *fade, "--seconds", seconds, "-o", "a.wav", "--resume")
        assert called.code == 0, called.errors
    assert Path("a.wav").read_bytes() == Path("whole.wav").read_bytes()
    called = call(
        "generate", toy, "--temperature", 0.5, "--seed", 3, "--seconds", 1, "-o", "a.wav", "--resume"
    )
    assert called.code == 1 and "fade 0.5@0.05,1.5@0.6, now none" in called.errors


def test_wrong_ones_are_one_line_and_wrong_usage(toy):
    for text in ("warm", "1@0,11@1", "1@2,2@1", "lost.csv"):
        called = call("generate", toy, "--temperature", text)
        assert called.code == 2 and called.errors.count("\n") == 1, called.errors
        assert not list(Path().glob("*.wav"))


def test_recipes_fade_and_pages_show_it(tmp_path):
    source = write_tones(tmp_path / "tones")
    table = {"name": "rising", "clips": 1, "seconds": 0.1, "labels": {"tone": "low"}}

    def recipe_of(temperature):
        return build_recipe(
            toy_recipe(source).to_dict()
            | {"page": {"neighbours": 1}, "generate": [table | {"temperature": temperature}]}
        )

    recipe = recipe_of([0.5, "0.50@0,1.5@0.08"])
    store = toy_store(recipe, tmp_path / "store")
    model = Model(toy_vocoder(store, follows=False))
    run_batch(recipe, model, store, tmp_path)
    assert run_batch(recipe, model, store, tmp_path).made == 0
    plain, rising = read_manifest(tmp_path).clips
    assert (plain.temperature, plain.fade, rising.temperature, rising.fade) == (
        0.5,
        None,
        0.5,
        "0.5@0,1.5@0.08",
    )
    assert [plain.file, rising.file] == ["rising/low-t0.5-000.wav", "rising/low-t0.5_0_1.5_0.08-000.wav"]
    sounds = [read(tmp_path / "clips" / clip.file) for clip in (plain, rising)]
    assert not np.array_equal(*sounds)
    assert "temperature 0.5@0,1.5@0.08" in write_page(tmp_path).read_text()
    with pytest.raises(
        RecipeError, match=r"generate\.0\.temperature: .*must be a number, or numbers at seconds"
    ):
        recipe_of("warm")
    with pytest.raises(
        RecipeError, match=r"\[\[generate\]\] rising: temperature must be from 0 to 10, got 11"
    ):
        expand(recipe_of("1@0,11@1").generate, model)
