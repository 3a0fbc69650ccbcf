"""Laws of checkpoints: they come back as they were saved, whole or not at all, and damage is one clear line."""

import dataclasses
import errno
import json
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from networks import network_settings, random_tensors

from audio_gen.checkpoint import VERSION, Checkpoint, load_checkpoint, save_checkpoint, write_tensors
from audio_gen.codec import Codec
from audio_gen.errors import AudioGenError, CheckpointError, EngineError, OutputError
from audio_gen.sampler import Model, load
from audio_gen.shape import NetworkShape

LABELS = {"drum": ["kick", "snare"], "Größe": ["klein"]}


def checkpoint(**changes: Any) -> Checkpoint:
    shape = NetworkShape.from_dict(network_settings([2, 2], [4, 4], [2], labels=LABELS, head_channels=4))
    tensors = {name: tensor.astype(np.float16) for name, tensor in random_tensors(shape, 1).items()}
    card = {"name": "toy", "licence": "CC0 1.0", "bits_per_sample": 2.5}
    plain = Checkpoint(shape, Codec(), 8000, tensors, (), {"mode": "none"}, 0.1, card)
    return dataclasses.replace(plain, **changes)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    save_checkpoint(tmp_path / "toy.safetensors", checkpoint())
    return tmp_path / "toy.safetensors"


def header_of(data: bytes) -> tuple[dict[str, Any], bytes]:
    (size,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + size]), data[8 + size :]


def with_header(file: Path, change: Any) -> None:
    """Rewrite the checkpoint's own header with `change` applied to it."""
    outer, tensors = header_of(file.read_bytes())
    inner = json.loads(outer["__metadata__"]["audio_gen"])
    changed = change(inner)
    outer["__metadata__"]["audio_gen"] = json.dumps(inner if changed is None else changed)
    text = json.dumps(outer).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + tensors)


def refusal(path: Path) -> str:
    """The one line that both ways of opening a checkpoint answer with."""
    messages = []
    for opening in (load_checkpoint, load):
        with pytest.raises(CheckpointError) as caught:
            opening(path)
        messages.append(str(caught.value))
    assert messages[0] == messages[1] and "\n" not in messages[0] and str(path) in messages[0]
    return messages[0]


def test_it_comes_back_as_it_was_saved(file: Path) -> None:
    saved, loaded = checkpoint(), load_checkpoint(file)
    for field in dataclasses.fields(Checkpoint):
        if field.name != "tensors":
            assert getattr(loaded, field.name) == getattr(saved, field.name)
    assert loaded.tensors.keys() == saved.tensors.keys()
    for name, tensor in saved.tensors.items():
        assert loaded.tensors[name].dtype == tensor.dtype and np.array_equal(loaded.tensors[name], tensor)
    assert loaded.hash == saved.hash and loaded.parameters == saved.parameters
    assert load(file).generate(0.01).shape == (80,)


def test_equal_checkpoints_are_equal_bytes(file: Path, tmp_path: Path) -> None:
    same = checkpoint()
    shuffled = dict(reversed(list(same.tensors.items())))
    save_checkpoint(tmp_path / "again.safetensors", dataclasses.replace(same, tensors=shuffled))
    save_checkpoint(tmp_path / "loaded.safetensors", load_checkpoint(file))
    for name in ("again", "loaded"):
        assert (tmp_path / f"{name}.safetensors").read_bytes() == file.read_bytes()


def test_the_hash_is_of_the_sound_alone() -> None:
    ours = checkpoint()
    assert checkpoint(card={"other": 1}, gain={}, end_seconds=3.0).hash == ours.hash
    weights = dict(ours.tensors)
    name = next(iter(weights))
    weights[name] = weights[name].copy()
    weights[name].flat[0] += np.float16(0.01)
    different = [
        checkpoint(tensors=weights),
        checkpoint(sample_rate=8001),
        checkpoint(codec=Codec(256, 0.5)),
        checkpoint(shape=dataclasses.replace(ours.shape, dilation_cycle=3)),
        checkpoint(tensors={name: tensor.astype(np.float32) for name, tensor in ours.tensors.items()}),
    ]
    assert len({ours.hash, *(other.hash for other in different)}) == 1 + len(different)


def test_truncated_anywhere_is_one_line(file: Path) -> None:
    whole = file.read_bytes()
    for length in [*range(0, 40), *range(40, len(whole), 97), len(whole) - 1]:
        file.write_bytes(whole[:length])
        refusal(file)
    file.write_bytes(whole + b"more")
    refusal(file)


def test_a_flipped_byte_never_changes_the_sound_unnoticed(file: Path) -> None:
    whole, ours = file.read_bytes(), checkpoint().hash
    _, tensors = header_of(whole)
    header = len(whole) - len(tensors)
    for place in [*range(0, header, 11), *range(header, len(whole), 37)]:
        for flip in (0x01, 0x80):
            damaged = bytearray(whole)
            damaged[place] ^= flip
            file.write_bytes(damaged)
            try:
                found = load_checkpoint(file).hash
                assert place < header and found == ours
            except AudioGenError as error:
                assert "\n" not in str(error) and str(file) in str(error)


def test_a_newer_version_asks_for_a_newer_program(file: Path) -> None:
    with_header(file, lambda header: header.update(version=VERSION + 1))
    assert "upgrade" in refusal(file)


@pytest.mark.parametrize(
    "change",
    [
        lambda header: header.pop("network"),
        lambda header: header.pop("hash"),
        lambda header: header.pop("version"),
        lambda header: header.update(version="one"),
        lambda header: header.update(network=3),
        lambda header: header["network"].update(layers=[2]),
        lambda header: header["network"].update(layers="22"),
        lambda header: header["network"].update(pool=[2.5]),
        lambda header: header["network"].update(skip_channels="many"),
        lambda header: header["network"].update(labels=["drum"]),
        lambda header: header["network"].update(surprise=1),
        lambda header: header["network"].update(head_channels=10**9),
        lambda header: header["network"].update(levels=512),
        lambda header: header["codec"].update(levels=300),
        lambda header: header["codec"].update(law="A"),
        lambda header: header.update(codec=None),
        lambda header: header.update(sample_rate=0),
        lambda header: header.update(sample_rate=1e400),
        lambda header: header.update(end_seconds="long"),
        lambda header: header.update(card=7),
        lambda header: header.update(curves=None),
        lambda header: header.update(hash="0" * 32),
        lambda header: [1],
    ],
)
def test_a_damaged_header_is_one_line(file: Path, change: Any) -> None:
    def apply(header: dict[str, Any]) -> Any:
        changed = change(header)
        return changed if changed == [1] else None

    with_header(file, apply)
    refusal(file)


def test_other_files_are_one_line(tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    write_tensors(other, {"a": np.ones(3, np.float32)}, {})
    assert "not one of audio_gen's" in refusal(other)
    for content in (
        b"",
        b"hello\nworld\n",
        b"{}",
        b"RIFF" + bytes(100),
        bytes(100),
        b"\x80\x04pickle",
        b"\xff" * 64,
    ):
        other.write_bytes(content)
        assert "not a checkpoint" in refusal(other)
    assert "no such checkpoint" in refusal(tmp_path / "absent.safetensors")
    folder = tmp_path / "folder.safetensors"
    folder.mkdir()
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_checkpoint(folder)


def test_weights_that_are_no_numbers_are_one_line(tmp_path: Path) -> None:
    for value in (np.nan, np.inf):
        tensors = {name: tensor.copy() for name, tensor in checkpoint().tensors.items()}
        tensors["head.hidden.bias"][1] = value
        save_checkpoint(tmp_path / "nan.safetensors", checkpoint(tensors=tensors))
        assert "head.hidden.bias" in refusal(tmp_path / "nan.safetensors")


@pytest.mark.parametrize("engine", ["compiled", "reference"])
@pytest.mark.parametrize("problem", ["missing", "surplus", "shape", "type"])
def test_weights_that_do_not_fit_are_one_line_from_both_engines(
    tmp_path: Path, problem: str, engine: Any
) -> None:
    tensors = dict(checkpoint().tensors)
    if problem == "missing":
        del tensors["head.hidden.bias"]
    elif problem == "surplus":
        tensors["tail.hidden.bias"] = tensors["head.hidden.bias"]
    elif problem == "shape":
        tensors["head.hidden.bias"] = np.zeros(5, np.float16)
    else:
        tensors["head.hidden.bias"] = np.zeros(4, np.int32)  # type: ignore[assignment]
    wrong = checkpoint(tensors=tensors)
    save_checkpoint(tmp_path / "wrong.safetensors", wrong)
    with pytest.raises(EngineError, match=r"hidden\.bias") as caught:
        Model(wrong, engine=engine)
    with pytest.raises(CheckpointError, match=r"hidden\.bias") as loading:
        load(tmp_path / "wrong.safetensors", engine=engine)
    assert "\n" not in str(caught.value) + str(loading.value)
    assert str(tmp_path / "wrong.safetensors") in str(loading.value)


@pytest.mark.parametrize("failing", ["open", "fsync", "replace"])
def test_it_is_written_whole_or_not_at_all(file: Path, monkeypatch: pytest.MonkeyPatch, failing: str) -> None:
    before = file.read_bytes()

    def full(*_: Any, **__: Any) -> Any:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os if failing == "fsync" else Path, failing, full)
    for path in (file, file.with_name("new.safetensors")):
        with pytest.raises(OutputError, match="No space left") as caught:
            save_checkpoint(path, checkpoint(sample_rate=1))
        assert "\n" not in str(caught.value) and str(path) in str(caught.value)
    monkeypatch.undo()
    assert file.read_bytes() == before and list(file.parent.iterdir()) == [file]


def test_a_folder_in_its_place_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").mkdir()
    (tmp_path / "text").write_text("")
    for path in (tmp_path / "model.safetensors", tmp_path / "text/model.safetensors"):
        with pytest.raises(OutputError):
            save_checkpoint(path, checkpoint())
    assert not list(tmp_path.glob("*.part"))
