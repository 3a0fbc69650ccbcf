import base64
import io
import json
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from audio_gen.errors import AudioFileError, DataError, OutputError, SettingError
from audio_gen.pages import images
from audio_gen.pages.listening import write_page

RATE = 8000


class Page(HTMLParser):
    """A page as a list of elements (tag, attributes, tags it stands in), and its text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.raw = path.read_text(encoding="utf-8")
        self.folder = path.parent
        self.elements: list[tuple[str, dict[str, str], list[str]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(self.raw)
        self.close()
        assert self._open == []  # every element is closed, in order

    def handle_starttag(self, tag, attrs):
        assert len(dict(attrs)) == len(attrs)
        self.elements.append((tag, dict(attrs), list(self._open)))
        if tag not in ("meta", "img", "br", "path"):
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs), list(self._open)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if not {"script", "style"} & set(self._open):
            self.text += data

    def all(self, tag, **wanted):
        found = [a for t, a, _ in self.elements if t == tag]
        return [a for a in found if all(a.get(k.rstrip("_")) == v for k, v in wanted.items())]

    @property
    def played(self):
        return [unquote(audio["src"]) for audio in self.all("audio")]


def tone(hz=440.0, seconds=0.3, amplitude=0.5, rate=RATE):
    return (amplitude * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def make_run(run, *, real_amplitude=0.6, title="Drums & more", labels=("kick", "snare"), prefix=""):
    """A run of two sets: per label two clips at each of two temperatures, and three clips without a label."""
    clips, real = [], []
    clips_folder = run / "clips"

    def add(file, waveform):
        (clips_folder / file).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(clips_folder / file, waveform, RATE)
        return {"file": file, "seconds": len(waveform) / RATE}

    def generated(file, waveform, **values):
        settings = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "seed": 3, "clipped": 0}
        clips.append({**add(file, waveform), **settings, **values})

    for i, label in enumerate(labels):
        for k in range(2):
            entry = add(f"real/{prefix}{i}-{k}.wav", tone(200 * (i + 1), 0.3, real_amplitude))
            real.append({**entry, "labels": {"drum": label}, "source": f"oh/{prefix}{i}-{k}.flac"})
        for temperature in (0.9, 1.0):
            for k in range(2):
                generated(
                    f"hits/{prefix}{i}-t{temperature}-{k:03}.wav", tone(210 * (i + 1), 0.15 + 0.15 * k),
                    set="hits", labels={"drum": label}, temperature=temperature, stream=k,
                )  # fmt: skip
    for k in range(3):
        generated(
            f"free/{prefix}{k}.wav", tone(300, 0.6), set="free", labels={}, stream=k, top_p=0.9, clipped=k
        )
    facts = {"model": "drums", "parameters": 1234567, "receptive_field": 3070, "sample_rate": RATE,
             "bits_per_sample": 2.5, "baselines": {"uniform": 8.0, "unigram": 5.0}}  # fmt: skip
    manifest = {"version": 1, "title": title, "text": "", "facts": facts, "clips": clips, "real": real}
    save(run, manifest)
    return manifest


def save(run, manifest):
    (run / "clips").mkdir(parents=True, exist_ok=True)
    (run / "clips" / "clips.json").write_text(json.dumps(manifest), encoding="utf-8")


def test_every_generated_clip_is_shown_once_and_every_real_one_at_least_once(tmp_path):
    manifest = make_run(tmp_path)
    page = Page(write_page(tmp_path))
    assert page.folder == tmp_path / "page"
    for clip in manifest["clips"]:
        assert page.played.count(f"../clips/{clip['file']}") == 1
        assert len(page.all("a", download=Path(clip["file"]).name)) == 1
    for clip in manifest["real"]:
        assert f"../clips/{clip['file']}" in page.played
    files_shown = {f"../clips/{clip['file']}" for clip in (*manifest["clips"], *manifest["real"])}
    assert set(page.played) == files_shown
    assert "every clip generated is shown" in page.text
    assert "11 generated, 4 real" in page.text


def test_the_page_refers_to_nothing_but_files_that_exist(tmp_path):
    make_run(tmp_path)
    page = Page(write_page(tmp_path))
    ids = {a["id"] for _, a, _ in page.elements if "id" in a}
    assert len(ids) == sum("id" in a for _, a, _ in page.elements)
    for tag, attributes, _ in page.elements:
        for name in ("src", "href"):
            target = attributes.get(name)
            if target is None:
                continue
            if target.startswith("#"):
                assert target[1:] in ids
            elif not target.startswith("data:image/png;base64,"):
                assert (page.folder / unquote(target)).is_file()
        assert tag not in ("link", "iframe", "object", "embed", "base")
    assert "://" not in page.raw
    assert "@import" not in page.raw and "url(" not in page.raw


def test_every_cell_says_what_it_is_to_eyes_and_ears(tmp_path):
    manifest = make_run(tmp_path)
    page = Page(write_page(tmp_path))
    cells = page.all("div", class_="cell")
    assert len(cells) == len(page.played) == len(page.all("audio")) == len(page.all("img"))
    generated = [cell for cell in cells if "data-seed" in cell]
    assert len(generated) == len(manifest["clips"])
    for cell in cells:
        assert cell["aria-label"].startswith("Generated" if "data-seed" in cell else "Real")
    for cell in generated:
        said = f"seed {cell['data-seed']}, stream {cell['data-stream']}, temperature"
        assert said in cell["aria-label"]
    assert page.text.count("seed 3 · stream") == len(generated)
    for audio in page.all("audio"):
        assert audio["preload"] == "none" and "controls" in audio and "autoplay" not in audio
        assert audio["aria-label"]
    for image in page.all("img"):
        assert image["alt"].startswith("Spectrogram of ")
    assert all(th["scope"] in ("row", "rowgroup") for th in page.all("th"))
    assert len(page.all("caption")) == len(page.all("table")) == 3  # two sets, and the bits per sample
    assert "1 sample clipped" in page.text and "2 samples clipped" in page.text


def test_each_row_starts_with_the_real_neighbours_of_its_labels(tmp_path):
    make_run(tmp_path)
    page = Page(write_page(tmp_path))
    bodies: list[list[str]] = []
    for tag, attributes, inside in page.elements:
        if tag == "tbody":
            bodies.append([])
        elif tag == "audio" and "tbody" in inside:
            bodies[-1].append(attributes["src"].removeprefix("../clips/"))
    kick, snare, free = [body for body in bodies if body]
    hits = "hits/0-t0.9-000.wav hits/0-t0.9-001.wav hits/0-t1.0-000.wav hits/0-t1.0-001.wav"
    assert kick == ["real/0-0.wav", "real/0-1.wav", *hits.split()]
    assert snare == ["real/1-0.wav", "real/1-1.wav", *hits.replace("/0-", "/1-").split()]
    # No label asked for: real clips of all labels are its neighbours.
    assert free == [f"real/{i}-{k}.wav" for i in (0, 1) for k in (0, 1)] + [f"free/{k}.wav" for k in range(3)]
    assert page.text.count("real, through the codec") == 3


def test_real_clips_that_no_set_asks_for_are_still_shown(tmp_path):
    manifest = make_run(tmp_path)
    manifest["clips"] = [clip for clip in manifest["clips"] if clip["labels"] == {"drum": "kick"}]
    save(tmp_path, manifest)
    page = Page(write_page(tmp_path))
    assert page.played.count("../clips/real/1-0.wav") == 1
    assert "Other held-out recordings" in page.text


def test_names_from_outside_stay_text(tmp_path):
    evil = '<script>alert(1)</script>"onmouseover="x" \' &amp; $title ${css} http://example.org'
    manifest = make_run(tmp_path, title=evil, labels=(evil, "</style>"), prefix="a b&c#d?e%20f\"g'<i>$x")
    manifest["text"] = manifest["facts"]["data"] = manifest["facts"]["model"] = evil
    manifest["facts"]["baselines"][evil] = 3.0
    manifest["clips"] = [clip | {"set": f"{evil} {clip['set']}"} for clip in manifest["clips"]]
    manifest["real"] = [clip | {"source": evil} for clip in manifest["real"]]
    save(tmp_path, manifest)
    page = Page(write_page(tmp_path))
    assert len(page.all("script")) == 2 and len(page.all("style")) == 1
    assert not [name for _, attributes, _ in page.elements for name in attributes if name.startswith("on")]
    assert page.text.count(evil) >= 7
    for clip in (*manifest["clips"], *manifest["real"]):
        assert f"../clips/{clip['file']}" in page.played
    for audio in page.all("audio"):
        assert (page.folder / unquote(audio["src"])).is_file()
        assert not set(audio["src"]) & set("#?\"' <>")


def test_the_same_run_gives_the_same_bytes_wherever_it_lies(tmp_path):
    for name in ("one", "two"):
        make_run(tmp_path / name)
    first = write_page(tmp_path / "one").read_bytes()
    assert write_page(tmp_path / "two").read_bytes() == first
    assert write_page(tmp_path / "one").read_bytes() == first


def test_an_existing_page_is_replaced_and_nothing_half_written_stays(tmp_path):
    make_run(tmp_path)
    (tmp_path / "page").mkdir()
    (tmp_path / "page" / "index.html").write_text("old")
    page = write_page(tmp_path)
    assert page.read_text().startswith("<!DOCTYPE html>")
    assert [path.name for path in (tmp_path / "page").iterdir()] == ["index.html"]


def test_an_embedded_page_holds_the_very_bytes_of_its_clips(tmp_path):
    manifest = make_run(tmp_path)
    page = Page(write_page(tmp_path, audio="embed", output=tmp_path / "samples"))
    assert [path.name for path in page.folder.iterdir()] == ["index.html"]
    held = {base64.b64decode(src.partition(";base64,")[2]) for src in page.played}
    assert held == {
        (tmp_path / "clips" / clip["file"]).read_bytes() for clip in (*manifest["clips"], *manifest["real"])
    }
    assert all(link["href"].startswith("#") for link in page.all("a"))


def test_a_page_elsewhere_takes_its_clips_along(tmp_path):
    manifest = make_run(tmp_path / "run")
    page = Page(write_page(tmp_path / "run", output=tmp_path / "samples"))
    for clip in (*manifest["clips"], *manifest["real"]):
        assert f"clips/{clip['file']}" in page.played
        copy = tmp_path / "samples" / "clips" / clip["file"]
        assert copy.read_bytes() == (tmp_path / "run" / "clips" / clip["file"]).read_bytes()
    assert not list(tmp_path.rglob("*.part"))


def test_a_list_of_kept_clips_makes_a_page_of_them(tmp_path):
    manifest = make_run(tmp_path / "run")
    whole = Page(write_page(tmp_path / "run"))
    cells = [cell["data-file"] for cell in whole.all("div", class_="cell") if "data-file" in cell]
    assert sorted(cells) == sorted(
        clip["file"] for clip in manifest["clips"]
    )  # what its script makes the list of
    kept = [manifest["clips"][place]["file"] for place in (5, 0)]
    (tmp_path / "kept.txt").write_text(f"{kept[0]}\n\nclips/{kept[1]}\n")
    page = Page(write_page(tmp_path / "run", output=tmp_path / "keepers", only=tmp_path / "kept.txt"))
    generated = [name for name in page.played if not name.startswith("clips/real")]
    assert sorted(generated) == sorted(f"clips/{name}" for name in kept)
    assert sum(path.is_file() for path in (tmp_path / "keepers" / "clips" / "hits").iterdir()) == 2
    assert (
        f"Chosen by ear: 2 of {len(manifest['clips'])} generated" in page.text
        and "Uncurated" not in page.text
    )
    assert "Uncurated: every clip generated is shown." in whole.text


def test_lists_of_other_clips_are_one_line(tmp_path):
    make_run(tmp_path / "run")
    listed, output = tmp_path / "kept.txt", tmp_path / "keepers"
    for text, words in [("hits/none.wav\n", r"kept\.txt: names 'hits/none.wav'"), ("\n", "names no clips")]:
        listed.write_text(text)
        with pytest.raises(DataError, match=words):
            write_page(tmp_path / "run", output=output, only=listed)
    with pytest.raises(DataError, match=r"missing\.txt: cannot be read"):
        write_page(tmp_path / "run", output=output, only=tmp_path / "missing.txt")
    with pytest.raises(SettingError, match="say where that of some goes"):
        write_page(tmp_path / "run", only=listed)
    assert not output.exists()


def test_pictures_share_one_scale_of_time_and_colour(tmp_path):
    make_run(tmp_path)
    page = Page(write_page(tmp_path))
    pictures = [
        Image.open(io.BytesIO(base64.b64decode(a["src"].partition(";base64,")[2]))) for a in page.all("img")
    ]
    cells = page.all("div", class_="cell")
    assert len({picture.height for picture in pictures}) == 1
    assert len({tuple(picture.getpalette()) for picture in pictures}) == 1
    widest = max(picture.width for picture in pictures)
    for cell, picture in zip(cells, pictures, strict=True):
        assert picture.width == pytest.approx(widest * float(cell["data-seconds"]) / 0.6, abs=1)


@pytest.mark.parametrize("real_amplitude, louder", [(0.6, 0), (0.25, 11), (0.4999, 0)])
def test_generated_clips_louder_than_all_real_ones_are_marked(tmp_path, real_amplitude, louder):
    make_run(tmp_path, real_amplitude=real_amplitude)
    page = Page(write_page(tmp_path))
    assert page.text.count("louder than any real clip") == louder
    assert ("11 of 11 generated clips are louder" in page.text) == (louder > 0)
    assert ("by at most 6.0 dB" in page.text) == (louder > 0)
    assert ("No generated clip is louder" in page.text) == (louder == 0)
    assert "Nothing is normalised" in page.text


def test_a_run_with_little_to_say_still_has_a_page(tmp_path):
    manifest = make_run(tmp_path)
    save(tmp_path, {"version": 1, "clips": [manifest["clips"][0]]})
    page = Page(write_page(tmp_path))
    assert len(page.played) == 1
    assert "no real clips here" in page.text
    assert not page.all("nav") and not page.all("dl")
    unknown = {"model": None, "baselines": None, "bits_per_sample": 2.0}
    save(tmp_path, {"version": 1, "facts": unknown, "clips": []})
    assert Page(write_page(tmp_path)).played == []


def test_bad_manifests_are_refused_in_one_line(tmp_path):
    manifest = make_run(tmp_path)
    path = tmp_path / "clips" / "clips.json"
    first = manifest["clips"][0]
    whole = path.read_text()

    def refused(text, *words):
        path.write_text(text)
        with pytest.raises(DataError) as caught:
            write_page(tmp_path)
        assert "\n" not in str(caught.value) and str(path) in str(caught.value)
        assert all(word in str(caught.value) for word in words)
        assert not (tmp_path / "page").exists()

    refused(whole[: len(whole) // 2], "damaged")
    refused("", "damaged")
    refused("[]", "damaged")
    refused(json.dumps(manifest | {"version": 2}), "version")
    refused(json.dumps(manifest | {"clips": [{**first, "seed": "x"}]}), "clips.0.seed")
    refused(
        json.dumps(manifest | {"clips": [{**first, "file": "hits/gone.wav"}]}), "hits/gone.wav", "missing"
    )
    refused(json.dumps(manifest | {"clips": [{**first, "file": "../clips/" + first["file"]}]}), "out of")
    refused(json.dumps(manifest | {"clips": [{**first, "file": str(path)}]}), "out of")
    refused(json.dumps(manifest | {"clips": [first, first]}), "twice")
    path.unlink()
    with pytest.raises(DataError, match="no manifest"):
        write_page(tmp_path)


def test_bad_clips_and_outputs_are_refused(tmp_path):
    manifest = make_run(tmp_path)
    with pytest.raises(SettingError, match="embed"):
        write_page(tmp_path, audio="stream")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="cannot be written"):
        write_page(tmp_path, output=tmp_path / "file")
    (tmp_path / "clips" / manifest["clips"][0]["file"]).write_text("no audio")
    with pytest.raises(AudioFileError, match=Path(manifest["clips"][0]["file"]).name):
        write_page(tmp_path)


@pytest.mark.parametrize("rate", [8000, 16_000, 44_100])
@pytest.mark.parametrize("hz", [100.0, 1000.0, 3000.0])
def test_a_tone_is_brightest_at_its_frequency_at_every_sample_rate(hz, rate):
    axes = images.Axes(1.0, 4000.0, columns=20)
    levels = images.spectrogram_db(tone(hz, 1.0, 1.0, rate), rate, axes)
    assert levels.shape == (axes.rows, 20)
    middle = levels[:, 10]
    height = 1.0 - (np.argmax(middle) + 0.5) / axes.rows
    assert height == pytest.approx(axes.height_of(hz), abs=1.5 / axes.rows)
    assert -8.0 < middle.max() < 0.5  # dB of a full-scale sine, which this is


@given(st.integers(0, 2**32), st.sampled_from([0.5, 0.1, 0.01]))
def test_quieter_is_darker_by_as_many_decibels(seed, gain):
    axes = images.Axes(0.1, 4000.0, columns=8, rows=32, floor_db=-300.0, top_db=0.0)
    waveform = np.random.default_rng(seed).uniform(-1, 1, 800).astype(np.float32)
    loud = images.spectrogram_db(waveform, RATE, axes)
    quiet = images.spectrogram_db((gain * waveform.astype(np.float64)), RATE, axes)
    np.testing.assert_allclose(quiet, loud + 20 * np.log10(gain), atol=1e-3)


def test_a_click_stands_at_its_time_and_silence_is_the_floor():
    axes = images.Axes(1.0, RATE / 2, columns=100)
    waveform = np.zeros(RATE, np.float32)
    waveform[round(0.6 * RATE)] = 1.0
    energy = images.spectrogram_db(waveform, RATE, axes).mean(axis=0)
    assert abs(int(np.argmax(energy)) - 60) <= 1
    assert (energy[:57] == axes.floor_db).all() and (energy[63:] == axes.floor_db).all()


def test_a_long_clip_is_drawn_in_parts_without_seams():
    # A steady hum, a column of which is many frames: more than one part, every column alike.
    axes = images.Axes(200.0, RATE / 2, columns=16)
    levels = images.spectrogram_db(tone(500, 200.0), RATE, axes)[:, 1:-1]
    assert np.ptp(levels[np.argmax(levels[:, 0])]) < 0.01


@pytest.mark.parametrize("time", [1, 2, 100])
def test_very_short_clips_have_pictures(time):
    axes = images.Axes(time / RATE, RATE / 2)
    waveform = np.full(time, 0.5, np.float32)
    with Image.open(io.BytesIO(images.spectrogram(waveform, RATE, axes))) as picture:
        assert picture.size == (240, 112) and picture.mode == "P"
    assert images.outline(waveform, 3) == "M0 50 1 50 2 50 2 50 1 50 0 50Z"
    assert axes.tick_seconds <= axes.longest_seconds


def test_noise_makes_a_small_picture_and_the_page_a_small_script():
    noise = np.random.default_rng(0).uniform(-1, 1, 2 * RATE).astype(np.float32)
    assert len(images.spectrogram(noise, RATE, images.Axes(1.0, RATE / 2))) < 40_000
    for name, most in (
        ("listening.js", 150),
        ("keeping.js", 100),
        ("listening.css", 130),
        ("listening.html", 60),
    ):
        assert len((files("audio_gen.pages") / name).read_text().splitlines()) < most


@given(st.integers(0, 2**32), st.integers(1, 50))
def test_an_outline_holds_every_sample(seed, columns):
    waveform = np.random.default_rng(seed).uniform(-1, 1, 60).astype(np.float32)
    points = images.outline(waveform, columns)[1:-1].split()
    heights = np.array(points[1::2], int)
    high, low = heights[:columns], heights[columns:][::-1]
    assert points[::2] == [str(x) for x in (*range(columns), *reversed(range(columns)))]
    for time, value in enumerate(waveform.tolist()):
        column = next(x for x in reversed(range(columns)) if x * 60 // columns <= time)
        assert high[column] - 0.5 <= 100 - 100 * value <= low[column] + 0.5


@pytest.mark.parametrize("seconds", [0.01, 0.3, 1.0, 2.0, 5.0, 8.0, 60.0, 3600.0])
def test_ticks_are_round_and_neither_crowded_nor_sparse(seconds):
    axes = images.Axes(seconds, 8000.0)
    assert 4 <= seconds / axes.tick_seconds <= 13
    assert f"{axes.tick_seconds:.0e}"[0] in "125"
    assert axes.ticks_hz == [250, 1000, 2000, 4000]


def test_impossible_axes_are_refused():
    for values in [(0.0, 4000.0), (1.0, -1.0), (float("inf"), 4000.0)]:
        with pytest.raises(SettingError):
            images.Axes(*values)
    with pytest.raises(SettingError):
        images.Axes(1.0, 4000.0, floor_db=0.0, top_db=-10.0)
