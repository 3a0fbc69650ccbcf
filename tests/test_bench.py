"""Laws of what bench tells of a machine."""

import json
from pathlib import Path

import pytest
from command_line import RATE, call, write_model

from audio_gen.checkpoint import load_checkpoint
from audio_gen.engine import limits
from audio_gen.sampler import speed
from audio_gen.shape import NetworkShape


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("audio_gen.cli.bench.SECONDS", 0.2)


def test_bench_measures_every_way(tmp_path: Path) -> None:
    toy = write_model(tmp_path / "toy.safetensors")
    done = call("bench", toy, "--json")
    assert done.code == 0, done.errors
    told = json.loads(done.text)
    assert told["hardware"] == limits.hardware()
    ways = {(one["precision"], one["streams"]) for one in told["speeds"]}
    assert ways == {(precision, streams) for precision in ("fp32", "bf16") for streams in (1, 8)}
    for one in told["speeds"]:
        assert one["samples_per_second"] > 0 and one["of_limit"] > 0 and one["instruction_set"]
        assert one["real_time"] == pytest.approx(one["samples_per_second"] / RATE)
    table = call("bench", toy)
    assert table.code == 0 and table.text.startswith(limits.hardware())
    assert sum(line.startswith("toy") for line in table.text.splitlines()) == len(told["speeds"])


def test_bench_keeps_the_speed_in_the_card_and_the_model_as_it_is(tmp_path: Path) -> None:
    toy = write_model(tmp_path / "toy.safetensors")
    before = load_checkpoint(toy)
    done = call("bench", toy, "--save")
    assert done.code == 0, done.errors
    after = load_checkpoint(toy)
    assert after.hash == before.hash and after.card["speed"]["fp32"] > 0 and after.card["speed"]["date"]
    assert after.card == before.card | {"speed": after.card["speed"]}
    told = call("info", toy).text
    assert f"fp32 {after.card['speed']['fp32']}, bf16 " in told and "times real time, one clip" in told
    for mistake in (["--save"], ["drums", "--save"]):
        done = call("bench", *mistake)
        assert done.code == 2 and "--save" in done.errors and done.errors.count("\n") == 1


def test_limits_grow_with_streams_and_narrower_weights() -> None:
    shape = NetworkShape(256, (4, 3), (64, 96), (4,))
    assert 0 < speed.most(shape, "fp32", 1) <= speed.most(shape, "fp32", 2)
    (fast, near), (slow, far) = limits.reading(shape, "int8")
    assert near < far and slow < far - near and fast == near
    assert [4 * part for part, _ in limits.reading(shape, "int8")] == [
        part for part, _ in limits.reading(shape, "fp32")
    ]
    assert limits.bytes_per_second(1 << 14, 1 << 22) > 0 and limits.macs_per_second("int8", 1000) > 0
