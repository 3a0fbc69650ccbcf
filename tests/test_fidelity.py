"""Laws of copies held against their recordings: each measure moves as it must, and each gap is said."""

import json
import math
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from command_line import call
from networks import network_settings, random_tensors

from audio_gen.checkpoint import Checkpoint, save_checkpoint
from audio_gen.codec import Codec
from audio_gen.data.prepare import prepare
from audio_gen.data.store import Store
from audio_gen.evaluation import resemblance
from audio_gen.evaluation.clips import copy
from audio_gen.evaluation.copies import Copy, figures
from audio_gen.evaluation.excerpts import Excerpt
from audio_gen.evaluation.fidelity import chosen, obstacle
from audio_gen.evaluation.originals import Originals
from audio_gen.evaluation.packages import missing, remedy
from audio_gen.evaluation.resemblance import Resemblance, Voice, pitch, pitch_errors
from audio_gen.evaluation.spectra import Waveform
from audio_gen.evaluation.speech import Recogniser, transcript, word_errors, words
from audio_gen.recipe import build_recipe
from audio_gen.sampler import Draw, load
from audio_gen.shape import NetworkShape

RATE = 8000
INSTALL = "pip install 'audio-gen[evaluate]'"


def voice(seconds: float, hertz: float, rate: int = RATE, seed: int = 0) -> Waveform:
    """Syllables of a buzz through two moving resonances, at a pitch that wanders about `hertz`."""
    coins = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    grid = np.arange(0.0, seconds + 0.2, 0.2)
    pitch = hertz * np.interp(time, grid, coins.uniform(0.9, 1.1, len(grid)))
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    first, second = (
        np.interp(time, grid, coins.uniform(*span, len(grid))) for span in ((300, 800), (1000, 2500))
    )
    wave = np.zeros(len(time))
    for number in range(1, int(0.45 * rate / hertz / 1.1)):
        at = number * pitch
        wave += np.sin(number * phase) * sum(1 / (1 + ((at - peak) / 120) ** 2) for peak in (first, second))
    loud = np.interp(time, grid, np.resize([0.02, 1.0, 0.7], len(grid)))
    wave = loud * wave / np.abs(wave).max() + 0.001 * coins.standard_normal(len(time))
    return (0.6 * wave).astype(np.float32)


@pytest.mark.parametrize("rate", [8000, 16_000, 22_050])
def test_measures_know_the_same_from_the_noisy(rate: int) -> None:
    wave = voice(1.5, 140.0, rate)
    noise = np.random.default_rng(1).standard_normal(len(wave)).astype(np.float32)
    original = Voice(wave, rate)
    copies = (Voice(wave + level * noise, rate) for level in (0.0, 0.01, 0.1))
    same, faint, loud = map(original.resemblance, copies)
    assert same.pesq > 4.4 and same.stoi > 0.9999
    assert (same.cepstral, same.pitch, same.voicing) == (0.0, 0.0, 0.0)
    assert same.pesq > faint.pesq > loud.pesq >= 1.0 and same.stoi > faint.stoi > loud.stoi
    assert 0.0 < faint.cepstral < loud.cepstral and faint.pitch < 10.0 and loud.voicing > 0.05
    assert resemblance.band(rate) == ("narrow" if rate == 8000 else "wide")


def test_a_shifted_pitch_is_measured_in_cents() -> None:
    one, other, far = (Voice(voice(1.5, 140.0 * 2 ** (cents / 1200)), RATE) for cents in (0, 50, 700))
    found = one.resemblance(other, ["pitch"])
    assert found.pitch == pytest.approx(50.0, abs=4.0) and found.voicing < 0.1 and math.isnan(found.pesq)
    assert one.resemblance(far, ["voicing"]).pitch == pytest.approx(700.0, abs=10.0)
    tone = np.sin(2 * np.pi * 110.0 * np.arange(RATE) / RATE).astype(np.float32)
    assert np.nanmedian(pitch(tone, RATE)) == pytest.approx(110.0, rel=5e-3)
    assert pitch_errors(np.array([math.nan]), np.array([math.nan]))[1] == 0.0


def test_cepstral_distance_is_that_of_smooth_spectra() -> None:
    """A cosine over the mel bands of amplitude a dB has the root mean square a / sqrt(2)."""
    levels = 3.0 * np.cos(np.pi * 4 * (np.arange(resemblance.BANDS) + 0.5) / resemblance.BANDS)
    cepstra = resemblance._cepstra(levels[None] - 40.0)
    assert np.sqrt(2 * np.square(cepstra).sum()) == pytest.approx(3.0 / math.sqrt(2.0))
    wave = voice(1.0, 140.0)
    assert resemblance.cepstral_distance(wave, 0.5 * wave, RATE) < 0.05  # loudness is the 0th


def test_what_cannot_be_told_is_not_a_number() -> None:
    wave, nothing = Voice(voice(1.0, 140.0), RATE), Voice(np.zeros(RATE, np.float32), RATE)
    brief = Voice(wave.waveform[:1000], RATE)
    silent = nothing.resemblance(nothing)
    assert all(map(math.isnan, astuple(replace(silent, voicing=math.nan)))) and silent.voicing == 0.0
    lost = wave.resemblance(nothing)
    assert math.isnan(lost.pesq) and lost.cepstral > 5.0 and lost.voicing > 0.3
    little = brief.resemblance(brief)
    assert math.isnan(little.pesq) and math.isnan(little.stoi) and little.cepstral == 0.0
    with pytest.raises(ValueError, match="copy of 1000"):
        wave.resemblance(brief)


def test_word_errors_by_hand(tmp_path: Path) -> None:
    said = words("The cat, sat on—the MAT.")
    assert said == ["the", "cat", "sat", "on", "the", "mat"]
    for heard, errors in (
        (said, 0), ([], 6), (said[1:], 1), (["a", *said[1:]], 1), ([*said, "too", "long"], 2),
        (["cat", "the", "sat", "on", "a", "mat"], 3),
    ):  # fmt: skip
        assert word_errors(said, heard) == word_errors(heard, said) == errors
    (tmp_path / "a.txt").write_bytes("\ufeffIt’s 3 o'clock\n".encode())
    (tmp_path / "b.txt").write_text(" - \n")
    assert transcript(tmp_path / "a.wav") == ["it's", "3", "o'clock"]
    assert transcript(tmp_path / "b.wav") is None and transcript(tmp_path / "c.wav") is None


class Stub:
    """A decoder that hears what it is told to, and notes what it was given."""

    def __init__(self, *heard: str | None) -> None:
        self._heard, self.calls = list(heard), list[Any]()

    def get_cmn(self, update: bool) -> str:
        return "40,3"

    def hyp(self) -> Any:
        text = self._heard.pop(0)
        return None if text is None else type("Hypothesis", (), {"hypstr": text})

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *given: self.calls.append((name, *given))


def test_the_recogniser_hears_each_recording_as_if_it_were_the_first() -> None:
    stub = Stub("hello world", None)
    recogniser = Recogniser(stub)  # type: ignore[arg-type]
    wave = np.array([0.0, 0.5, -2.0], np.float32)
    assert recogniser.hear(wave, 16_000) == ["hello", "world"]
    assert stub.calls == [
        ("set_cmn", "40,3"), ("start_utt",),
        ("process_raw", np.array([0, 16_384, -32_767], "<i2").tobytes(), False, True), ("end_utt",),
    ]  # fmt: skip
    assert recogniser.hear(voice(0.5, 140.0), RATE) == [] and len(stub.calls[6][1]) == 16_000
    assert recogniser.hear(wave[:0], 16_000) == []


def test_a_real_decoder_is_not_spoiled_by_silence() -> None:
    pytest.importorskip("pocketsphinx")
    recogniser = Recogniser()
    speech, silence = voice(1.0, 140.0, 16_000), np.zeros(8000, np.float32)
    before = recogniser.hear(speech, 16_000)
    assert isinstance(recogniser.hear(silence, 16_000), list)
    assert recogniser.hear(speech, 16_000) == before


def test_figures_are_of_all_copies_and_name_the_worst() -> None:
    some = [
        Copy(f"{name}.wav", {}, 1.0, Resemblance(pesq=pesq, cepstral=distance), Resemblance(pesq=4.0))
        for name, pesq, distance in (("a", 3.0, 1.0), ("b", 2.0, math.nan), ("c", math.nan, 4.0))
    ]
    some[0] = some[0].understood(["one", "two", "three"], ["one"], ["one", "two"])
    some[2] = some[2].understood(["one"], [], ["one"])
    found = {each.measure: each for each in figures(some, RATE)}
    assert list(found) == ["pesq", "cepstral", "words"]
    pesq, distance, wrong = found.values()
    assert (pesq.mean, pesq.worst, pesq.worst_source, pesq.codec_alone, pesq.count) == (
        2.5,
        2.0,
        "b.wav",
        4.0,
        2,
    )
    assert (distance.mean, distance.worst_source) == (2.5, "c.wav") and math.isnan(distance.codec_alone)
    assert (wrong.mean, wrong.codec_alone, wrong.worst) == (0.75, 0.25, 1.0)
    assert wrong.written(wrong.mean) == "75.0" and pesq.title == "PESQ, narrow band"


TEXTS = {"0": "the birch canoe", "2": "slid on the smooth planks"}


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings of two speakers, a run of a random vocoder that knows them, and a model without curves."""
    folder = tmp_path_factory.mktemp("desk")
    (folder / "recordings").mkdir()
    for speaker, hertz in (("ann", 200.0), ("bob", 110.0)):
        for index in range(4):
            path = folder / "recordings" / f"{speaker}_{index}.wav"
            soundfile.write(path, 0.3 * voice(0.8 + 0.1 * index, hertz, seed=index), RATE)
            if str(index) in TEXTS:
                path.with_suffix(".txt").write_text(TEXTS[str(index)])
    for name, curves in (("vocoder", ["mel"]), ("plain", [])):
        data = {
            "source": str(folder / "recordings"), "sample_rate": RATE, "pattern": "{who}_{index}",
            "valid_where": {"index": ["0", "1", "2"]},
        }  # fmt: skip
        controls: dict[str, Any] = {"labels": {"who": {"from": "{who}"}}}
        if curves:
            controls |= {"curves": curves, "hop": 64, "mel_bands": 16}
        network = {"layers": [1], "channels": [1], "pool": []}
        rules = build_recipe({"name": name, "data": data, "controls": controls, "network": network})
        prepare(rules, folder / name / "store")
        shape = NetworkShape.from_dict(
            network_settings(
                [2, 2], [8, 8], [4], labels={"who": ["ann", "bob"]}, head_channels=8,
                curve_channels=16 * len(curves), hop=64,
            )
        )  # fmt: skip
        gain = {"mode": "dataset", "peak": 0.9, "gains": {}}
        card = {"name": name, "recipe": rules.to_dict()}
        checkpoint = Checkpoint(
            shape, Codec(256), RATE, random_tensors(shape, 3), tuple(curves), gain, 0.0, card
        )
        save_checkpoint(folder / name / "model.safetensors", checkpoint)
    return folder


def evaluated(*arguments: object) -> dict[str, Any]:
    told = call("evaluate", *arguments, "--only", "fidelity", "--json", "-q")
    assert told.code == 0 and told.errors == ""
    return dict(json.loads(told.text, parse_constant=lambda text: pytest.fail(text)))


def test_one_command_holds_copies_against_recordings(
    desk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pocketsphinx.Decoder", lambda **settings: Stub(*["the birch canoe", None] * 4))
    model, folder = desk / "vocoder", tmp_path / "report"
    options = ("--recordings", desk / "recordings", "--temperature", 0.9)
    told = call("evaluate", model, model, "--only", "fidelity", *options, "-o", folder, "-q")
    assert told.code == 0 and told.errors == ""
    report = json.loads((folder / "report.json").read_text())
    found = report["fidelity"]
    assert not report["left_out"] and report["settings"]["recordings"] == str(desk / "recordings")
    assert [each["source"] for each in found["copies"]] == [
        f"{who}_{n}.wav" for who in ("ann", "bob") for n in "012"
    ]
    assert [each["seconds"] for each in found["copies"][:3]] == pytest.approx([0.8, 0.9, 1.0])
    assert found["copies"][0]["labels"] == {"who": "ann"} and found["temperature"] == 0.9
    by_name = {each["measure"]: each for each in found["figures"]}
    by_name.pop("pitch", None)  # noise has none
    assert list(by_name) == ["pesq", "stoi", "cepstral", "voicing", "words"]
    assert by_name["pesq"]["codec_alone"] > by_name["pesq"]["mean"] + 1.0  # the network knows nothing
    assert by_name["cepstral"]["codec_alone"] < 0.5 * by_name["cepstral"]["mean"]
    assert by_name["voicing"]["codec_alone"] < 0.05 and found["copies"][0]["codec"]["pitch"] < 5.0
    assert (by_name["words"]["mean"], by_name["words"]["codec_alone"]) == (8 / 16, 1.0)
    assert [each["words"]["said"] if each["words"] else None for each in found["copies"]] == [
        TEXTS.get(n) for n in "012012"
    ]
    assert (folder / "report.txt").read_text() == told.text
    for word in (
        "Fidelity",
        "6 of 6 held-out",
        "PESQ, narrow band",
        "word error rate, %",
        "codec alone",
        "in 4 copies",
    ):
        assert word in told.text
    page = (folder / "report.html").read_text()
    assert "<h2>Fidelity" in page and page.count("<audio") == 10 and "nan" not in page
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page)
    assert evaluated(model, model, *options)["fidelity"] == found


def test_copies_are_those_of_vocode_in_any_number(desk: Path, tmp_path: Path) -> None:
    model = desk / "vocoder"
    one, two = (evaluated(model, model, "--copies", count)["fidelity"]["copies"] for count in (1, 2))
    assert [each["source"] for each in two] == ["ann_0.wav", "bob_0.wav"] and one == two[:1]
    store, player = Store(model / "store"), load(model)
    clip = store.clips("valid")[3]
    excerpts = chosen([(clip, clip.length, clip.labels)], 3, RATE)
    (made,) = copy(player, store, excerpts, 7, Draw(0.5), lambda done, total: None)
    target = tmp_path / "again.wav"
    recording = desk / "recordings" / clip.source
    gain = 20 * math.log10(clip.gain)
    said = call("vocode", recording, "--model", model, "-o", target, "--label", "who=bob", "--seed", 7,
                "--temperature", 0.5, "--gain", gain, "-q")  # fmt: skip
    assert said.code == 0
    wave = soundfile.read(target, dtype="float32")[0]
    # The store keeps its curves in half precision, so that some draws differ in the end.
    assert len(wave) == len(made) and (np.abs(wave - made) < 1e-4)[:200].mean() > 0.9


def test_recordings_are_found_again_whole_or_in_parts(desk: Path, tmp_path: Path) -> None:
    data = {"source": str(desk / "recordings"), "sample_rate": RATE, "split": "time", "valid_fraction": 0.4,
            "gap_seconds": 0.05, "gain": "file", "codec": {"levels": 512, "pre_emphasis": 0.5}}  # fmt: skip
    codec = data.pop("codec")
    network = {"layers": [1], "channels": [1], "pool": []}
    prepare(
        build_recipe({"name": "parts", "data": data, "codec": codec, "network": network}), tmp_path / "store"
    )
    store = Store(tmp_path / "store")
    originals = Originals(desk / "recordings", store)
    for clip in store.clips("valid"):
        found = originals.waveform(Excerpt(clip, 0, clip.length, {}))
        assert clip.start > 0 and found is not None and len(found) == clip.length
        assert (store.codec.encode(found) == store.tokens(clip)).mean() > 0.999
        assert originals.waveform(Excerpt(replace(clip, start=0), 0, clip.length, {})) is None
        assert originals.words(clip) is None  # the transcript is of more than was held out
    assert Originals(tmp_path, store).waveform(Excerpt(clip, 0, clip.length, {})) is None


def test_a_run_knows_where_its_recordings_were(
    desk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pocketsphinx.Decoder", lambda **settings: Stub(*[None] * 2))
    run = shutil.copytree(desk / "vocoder", tmp_path / "run")
    for source, there in ((desk / "recordings", True), (tmp_path / "gone", False)):
        (run / "recipe.json").write_text(json.dumps({"data": {"source": str(source)}}))
        (found,) = evaluated(run, run, "--copies", 1)["fidelity"]["copies"]
        assert (found["codec"] is not None) == there


def test_what_is_missing_is_said(desk: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    model = desk / "vocoder"
    bare = evaluated(model, model, "--copies", 2)["fidelity"]
    assert any("transcripts" in note and "--recordings" in note for note in bare["notes"])
    assert any("Codec alone is left out" in note for note in bare["notes"])
    assert all(each["codec"] is None and each["words"] is None for each in bare["copies"])

    monkeypatch.setattr("pocketsphinx.Decoder", lambda **settings: Stub(*[None] * 4))
    loose = evaluated(model, desk / "recordings", "--copies", 2)["fidelity"]  # they are the data themselves
    assert loose["held_out"] == 8 and loose["figures"][0]["codec_alone"] > 2.0

    (tmp_path / "few").mkdir()
    wave = voice(0.8, 90.0)
    soundfile.write(tmp_path / "few" / "ann_0.wav", wave, RATE)  # called alike, and another
    soundfile.write(
        tmp_path / "few" / "ann_1.wav", soundfile.read(desk / "recordings" / "ann_1.wav")[0], RATE
    )
    few = evaluated(model, model, "--recordings", tmp_path / "few")["fidelity"]
    assert [each["codec"] is not None for each in few["copies"]] == [False, True, False, False, False, False]
    assert any("without 5 of 6 recordings" in note for note in few["notes"])
    assert any("no transcripts (.txt) were found beside the recordings" in note for note in few["notes"])

    for module in ("pesq", "pocketsphinx", "librosa"):
        monkeypatch.setitem(sys.modules, module, None)
    part = evaluated(model, model, "--recordings", desk / "recordings", "--copies", 2)["fidelity"]
    assert [each["measure"] for each in part["figures"]] == ["stoi"]
    said = [note.split(";")[0] for note in part["notes"] if INSTALL in note]
    assert said == [
        "Without pesq there is no PESQ",
        "Without librosa there is no mel-cepstral distance, pitch error and voicing error",
        "Without pocketsphinx there is no word error rate",
    ]
    monkeypatch.setitem(sys.modules, "pystoi", None)
    none = evaluated(model, model)
    assert none["fidelity"] is None
    assert none["left_out"]["fidelity"] == f"it needs pesq, pystoi and librosa; run: {INSTALL}"
    assert missing(["pesq", "numpy"]) == ["pesq"] and INSTALL in remedy(["pesq"])


def test_models_and_calls_that_do_not_fit(desk: Path, tmp_path: Path) -> None:
    plain = evaluated(desk / "plain", desk / "plain")
    assert plain["fidelity"] is None and "follows no curves" in plain["left_out"]["fidelity"]
    model = desk / "vocoder"
    drawing = load(model)
    drawing.sketch = drawing
    assert "draws the curves" in str(obstacle(drawing, 1)) and "no held-out" in str(obstacle(load(model), 0))
    for arguments, code, said in (
        (("--copies", 0), 2, "copies must be 1 or more"),
        (("--recordings", tmp_path / "nowhere"), 1, "no such folder"),
        (("--recordings", tmp_path), 1, "holds none of the recordings"),
    ):
        called = call("evaluate", model, model, "--only", "fidelity", *arguments, "-q")
        assert called.code == code and said in called.errors and len(called.errors.splitlines()) == 1
