"""Laws of quantising: calibrated on one part of the audio, judged on another, kept beside weights that stay as
they are; and of the precision a model plays in."""

import json
import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from command_line import Called, call
from networks import network_settings, random_tensors
from toys import RATE, toy_recipe, toy_store, write_tones

import audio_gen
from audio_gen.audio import read_tags
from audio_gen.checkpoint import Checkpoint, load_checkpoint, save_checkpoint, write_tensors
from audio_gen.codec import Codec
from audio_gen.data.store import Store
from audio_gen.engine import Engine
from audio_gen.engine.pack import scale_shapes
from audio_gen.errors import AudioGenError, CheckpointError, DataError, SettingError
from audio_gen.quantization import Quantization, quantize
from audio_gen.quantization.calibrate import best_steps, relative_error
from audio_gen.quantization.forward import forward
from audio_gen.sampler import Model
from audio_gen.sampler.precision import PRECISIONS, choose
from audio_gen.shape import NetworkShape


def random_checkpoint(**network: Any) -> Checkpoint:
    settings = {"labels": {"tone": ["high", "low"]}, **network}
    shape = NetworkShape.from_dict(network_settings([3, 2], [16, 16], [4], **settings))
    card = {"name": "toy", "licence": "CC0 1.0", "recipe": {"data": {"pattern": "{tone}_{index}"}}}
    return Checkpoint(shape, Codec(), RATE, random_tensors(shape, 5), card=card)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with a store and a random model; and its recordings."""
    folder = tmp_path_factory.mktemp("run")
    recipe = toy_recipe(write_tones(folder / "recordings", clips=5), data={"gain": "none"})
    toy_store(recipe, folder / "store")
    save_checkpoint(folder / "model.safetensors", random_checkpoint())
    return folder


@pytest.fixture(scope="module")
def quantised(run: Path) -> Quantization:
    return quantize(load_checkpoint(run / "model.safetensors"), run)


@pytest.fixture
def model(quantised: Quantization, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A quantised checkpoint, in an empty folder that is where we are."""
    monkeypatch.chdir(tmp_path)
    save_checkpoint(Path("toy.safetensors"), quantised.checkpoint)
    yield Path("toy.safetensors")


def fails(called: Called, code: int, *words: str) -> None:
    assert called.code == code and called.output == b"", called.errors
    assert called.errors.startswith("audio-gen: error: ") and called.errors.count("\n") == 1
    for word in words:
        assert word in called.errors


@pytest.mark.parametrize(
    "settings",
    [
        {"layers": [3, 3], "channels": [16, 24], "pool": [4], "labels": {"a": ["x", "y"]}},
        {"layers": [4], "channels": [16], "skip_channels": 32},
        {"layers": [3, 2], "channels": [16, 8], "pool": [4], "predictors": [8, 16]},
        {"layers": [2, 2, 1], "channels": [8, 16, 8], "pool": [4, 2], "curve_channels": 2, "hop": 64, "kernel_size": 3,
         "around": 2},
    ],
)  # fmt: skip
def test_what_is_listened_to_is_the_network(settings: dict[str, Any]) -> None:
    shape = NetworkShape.from_dict(network_settings(**settings))
    tensors, generator = random_tensors(shape, 1), np.random.default_rng(2)
    tokens = generator.integers(0, 256, (2, 300))
    labels = np.ones((2, len(shape.labels)), int)
    curves = generator.standard_normal((2, 3, 2)).astype(np.float32) if shape.curve_channels else None
    heard: dict[str, int] = {}

    def look(site: str, x: Any) -> Any:
        heard[site] = x.shape[-1]
        return x

    engine = Engine(shape, tensors)
    ours = forward(shape, tensors, tokens, labels, curves, look)
    np.testing.assert_allclose(ours, engine.logits(engine.start(labels), tokens, curves), atol=1e-4)
    assert heard == scale_shapes(shape)


def test_channels_of_different_loudness_are_balanced() -> None:
    generator, sizes = np.random.default_rng(3), np.geomspace(0.01, 10.0, 24)
    heard = (generator.standard_normal((500, 24)) * sizes).astype(np.float32)
    matrix = (generator.standard_normal((16, 24)) / sizes).astype(np.float32)
    exact, largest = heard @ matrix.T, np.abs(heard).max(axis=0)
    steps = best_steps(largest, heard, {"one": matrix})
    plain = np.full(24, largest.max() / 127, np.float32)
    assert relative_error(heard, matrix, exact, steps) < 0.02
    assert relative_error(heard, matrix, exact, plain) > 0.2


def test_quantising_again_gives_the_same(run: Path, quantised: Quantization) -> None:
    again = quantize(load_checkpoint(run / "model.safetensors"), run, threads=2)
    assert again.checkpoint.scales_hash == quantised.checkpoint.scales_hash
    assert again.bits == quantised.bits and again.errors == quantised.errors
    once_more = quantize(quantised.checkpoint, run / "store")  # what it held before does not matter
    assert once_more.checkpoint.scales_hash == quantised.checkpoint.scales_hash


def test_bits_are_what_the_model_says(run: Path, quantised: Quantization) -> None:
    store = Store(run / "store")
    for precision in PRECISIONS:
        model = Model(quantised.checkpoint, precision=precision)
        bits = [
            model.bits(store.tokens(clip)[: store.sounding(clip, 0.0)], labels=clip.labels)
            for clip in store.clips("valid")
        ]
        assert quantised.bits[precision] == pytest.approx(float(np.concatenate(bits).mean()), abs=1e-6)
    assert quantised.bits["int8"] != quantised.bits["fp32"]
    assert quantised.bits["int8"] == pytest.approx(quantised.bits["fp32"], abs=0.05)
    assert quantised.checkpoint.bits == {name: round(bits, 5) for name, bits in quantised.bits.items()}
    assert 0.0 < max(quantised.errors.values()) < 0.1


def test_what_is_held_out_does_not_steer_the_steps(
    run: Path, quantised: Quantization, tmp_path: Path
) -> None:
    source = write_tones(tmp_path / "recordings", clips=5)
    for tone in ("low", "high"):
        for index in range(3):  # those that the recipe holds out
            noise = np.random.default_rng(index).uniform(-1, 1, 700)
            soundfile.write(source / f"{tone}_{index}.wav", noise, RATE)
    toy_store(toy_recipe(source, data={"gain": "none"}), tmp_path / "store")
    other = quantize(load_checkpoint(run / "model.safetensors"), tmp_path / "store")
    assert other.checkpoint.scales_hash == quantised.checkpoint.scales_hash
    assert other.bits != quantised.bits


def test_scales_come_back_and_weights_stay(run: Path, quantised: Quantization, model: Path) -> None:
    before, found = load_checkpoint(run / "model.safetensors"), load_checkpoint(model)
    assert found.hash == before.hash and found.tensors.keys() == before.tensors.keys()
    assert found.parameters == before.parameters and before.scales_hash == "" != found.scales_hash
    assert found.quantization == quantised.checkpoint.quantization
    assert {name: steps.shape for name, steps in found.scales.items()} == {
        name: (channels,) for name, channels in scale_shapes(found.shape).items()
    }
    for name, steps in quantised.checkpoint.scales.items():
        assert np.array_equal(found.scales[name], steps) and found.scales[name].dtype == np.float32
    settings: Any = {"labels": {"tone": "low"}, "seed": 3}
    plain = audio_gen.load(run / "model.safetensors").generate(0.1, **settings)
    assert np.array_equal(audio_gen.load(model, precision="fp32").generate(0.1, **settings), plain)
    ours = Model(quantised.checkpoint, precision="int8").generate(0.1, **settings)
    assert np.array_equal(audio_gen.load(model, precision="int8").generate(0.1, **settings), ours)
    save_checkpoint(Path("again.safetensors"), found)
    assert Path("again.safetensors").read_bytes() == model.read_bytes()


@pytest.mark.parametrize(
    ("bits", "scaled", "picked"),
    [
        ({}, True, "fp32"),
        ({"fp32": 1.0, "bf16": 1.0, "int8": 1.009}, True, "int8"),
        ({"fp32": 1.0, "bf16": 1.0, "int8": 1.009}, False, "bf16"),
        ({"fp32": 1.0, "bf16": 1.0, "int8": 1.011}, True, "bf16"),
        ({"fp32": 1.0, "bf16": 1.02, "int8": 1.005}, True, "int8"),
        ({"fp32": 1.0, "bf16": 1.02, "int8": 1.02}, True, "fp32"),
        ({"fp32": 1.0, "bf16": 0.9, "int8": 0.8}, True, "int8"),
        ({"int8": 1.0}, True, "fp32"),
    ],
)
def test_auto_is_the_fastest_that_costs_little(bits: Any, scaled: bool, picked: str) -> None:
    scales = {"head.hidden.input": np.ones(16, np.float32)} if scaled else {}
    checkpoint = replace(random_checkpoint(), scales=scales, quantization={"bits": bits})
    assert choose(checkpoint, "auto") == picked
    assert [choose(checkpoint, each) for each in ("fp32", "bf16")] == ["fp32", "bf16"]


def test_an_impossible_precision_is_one_line() -> None:
    with pytest.raises(CheckpointError, match="toy has no int8 scales: run `audio-gen quantize toy`"):
        Model(random_checkpoint(), precision="int8")
    with pytest.raises(SettingError, match=r"precision must be auto, fp32, bf16, int8; got fp8"):
        Model(random_checkpoint(), precision="fp8")


@pytest.mark.parametrize(
    "steps",
    [
        np.array(["x"] * 16).view(np.uint8)[:16],
        np.ones(15, np.float32),
        np.ones((16, 1), np.float32),
        np.zeros(16, np.float32),
        np.full(16, -1.0, np.float32),
        np.full(16, np.nan, np.float32),
        np.full(16, np.inf, np.float32),
        np.full(16, 1e-42, np.float32),
        None,
        "surplus",
    ],
)
def test_hostile_scales_are_one_line(quantised: Quantization, model: Path, steps: Any) -> None:
    scales: dict[str, Any] = dict(quantised.checkpoint.scales)
    name = "tail.input" if isinstance(steps, str) else "tiers.0.layers.0.input"
    scales[name] = np.ones(16, np.float32) if isinstance(steps, str) else steps
    scales = {each: value for each, value in scales.items() if value is not None}
    save_checkpoint(model, replace(quantised.checkpoint, scales=scales))
    with pytest.raises(CheckpointError) as caught:
        audio_gen.load(model)
    assert "\n" not in str(caught.value) and str(model) in str(caught.value) and name in str(caught.value)


def with_header(file: Path, change: Any) -> None:
    """Rewrite the checkpoint's own header with `change` applied to it."""
    data = file.read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    outer = json.loads(data[8 : 8 + size])
    inner = json.loads(outer["__metadata__"]["audio_gen"])
    change(inner)
    outer["__metadata__"]["audio_gen"] = json.dumps(inner)
    text = json.dumps(outer).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + size :])


@pytest.mark.parametrize(
    "change",
    [
        lambda header: header.pop("quantization"),
        lambda header: header.update(quantization=3),
        lambda header: header["quantization"].update(bits=7),
        lambda header: header["quantization"].update(bits={"int8": "few"}),
        lambda header: header["quantization"].update(bits={"int8": float("nan")}),
        lambda header: header["quantization"].update(scales_hash="0" * 32),
        lambda header: header["quantization"].pop("scales_hash"),
    ],
)
def test_a_damaged_record_is_one_line(model: Path, change: Any) -> None:
    with_header(model, change)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(model)
    assert "\n" not in str(caught.value) and str(model) in str(caught.value)


def test_data_that_cannot_be_divided_is_one_line(run: Path, tmp_path: Path) -> None:
    checkpoint = load_checkpoint(run / "model.safetensors")
    recipe = toy_recipe(run / "recordings", data={"valid_where": {}, "valid_fraction": 0.0})
    toy_store(recipe, tmp_path / "store")
    with pytest.raises(DataError, match="no held-out clips"):
        quantize(checkpoint, tmp_path / "store")
    with pytest.raises(DataError, match="single recording"):
        quantize(checkpoint, run / "recordings" / "low_0.wav")
    with pytest.raises(AudioGenError, match="no such"):
        quantize(checkpoint, tmp_path / "nothing")


# The command line


def test_quantize_writes_in_place_and_reports(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "store").symlink_to(run / "store")
    (folder / "model.safetensors").write_bytes((run / "model.safetensors").read_bytes())
    called = call("quantize", folder, "--json")
    assert called.code == 0, called.errors
    report, found = json.loads(called.text), load_checkpoint(folder / "model.safetensors")
    assert report["hash"] == found.hash and report["scales_hash"] == found.scales_hash
    assert {name: round(bits, 5) for name, bits in report["bits"].items()} == found.bits
    assert report["auto"] == audio_gen.load(folder).precision
    assert sorted(path.name for path in folder.iterdir()) == ["model.safetensors", "store"]
    card = call("info", folder)
    for name, bits in found.bits.items():
        assert f"{name} {bits:.4f}" in card.text
    assert f"{report['auto']} unless told otherwise" in card.text
    assert json.loads(call("info", folder, "--json").text)["precision"] == report["auto"]


def test_quantize_on_a_folder_of_recordings(run: Path, tmp_path: Path) -> None:
    output = tmp_path / "new.safetensors"
    before = (run / "model.safetensors").read_bytes()
    called = call("quantize", run, run / "recordings", "-o", output)
    assert called.code == 0, called.errors
    for word in ("fp32", "bf16", "int8", "<- auto", "every fourth recording of recordings"):
        assert word in called.text
    assert load_checkpoint(output).scales and (run / "model.safetensors").read_bytes() == before
    fails(call("quantize", run, run / "recordings", "-o", output), 1, "--force")
    assert call("quantize", run, run / "store", "-o", output, "--force", "-q").errors == ""


def test_quantize_refuses_in_one_line(run: Path, model: Path) -> None:
    fails(call("quantize", model), 2, "give DATA")
    fails(call("quantize", "drums", run), 2, "-o FILE")
    fails(call("quantize", run, run, "-o", "."), 1, "is a folder")
    fails(call("quantize", "nothing", run), 1, "nothing")
    fails(call("quantize", run, "nothing"), 1, "nothing")
    write_tensors(Path("other.safetensors"), {"a": np.ones(3, np.float32)}, {})
    fails(call("quantize", "other.safetensors", run), 1, "other.safetensors")


def test_a_file_goes_on_in_the_precision_it_was_begun_in(run: Path, model: Path) -> None:
    def play(output: str, seconds: float, *more: object) -> Called:
        return call("generate", model, "-o", output, "--seconds", seconds, "--seed", 4, *more)

    for precision in PRECISIONS:
        assert f", {precision})" in play("whole.wav", 0.3, "--precision", precision, "--force").errors
        assert play("part.wav", 0.1, "--precision", precision, "--force").code == 0
        told = json.loads(read_tags("part.wav")["comment"])["precision"]
        assert told.split(" ")[0] == precision
        other = PRECISIONS[PRECISIONS.index(precision) - 1]
        fails(play("part.wav", 0.3, "--resume", "--precision", other), 1, f"precision {told}", other)
        assert f", {precision})" in play("part.wav", 0.3, "--resume").errors
        assert Path("part.wav").read_bytes()[-500:] == Path("whole.wav").read_bytes()[-500:]
        assert np.array_equal(soundfile.read("part.wav")[0], soundfile.read("whole.wav")[0])


def test_files_of_other_scales_are_not_continued(quantised: Quantization, model: Path) -> None:
    call("generate", model, "-o", "a.wav", "--seconds", 0.1, "--precision", "int8")
    scales = {name: steps * np.float32(1.5) for name, steps in quantised.checkpoint.scales.items()}
    save_checkpoint(model, replace(quantised.checkpoint, scales=scales))
    fails(call("generate", model, "-o", "a.wav", "--seconds", 0.2, "--resume"), 1, "precision int8")


def test_precisions_that_a_model_cannot_play_in(run: Path, model: Path) -> None:
    wanted = ("-o", "a.wav", "--precision", "int8")
    fails(call("generate", run, *wanted), 1, "toy has no int8 scales: run `audio-gen quantize toy`")
    fails(call("generate", model, *wanted, "--engine", "reference"), 2, "full precision")
    assert call("generate", model, "-o", "a.wav", "--precision", "fp8").code == 2
    assert not Path("a.wav").exists()
