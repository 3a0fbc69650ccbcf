"""Over HTTP as from the command line: the same samples, the same errors in one line, and no files of the server's."""

import asyncio
import io
import json

import numpy as np
import pytest
import soundfile
from command_line import LABELS, RATE, call, write_model
from fastapi.testclient import TestClient
from networks import network_settings, random_tensors
from starlette.requests import ClientDisconnect

from audio_gen.audio import read_tags
from audio_gen.checkpoint import Checkpoint
from audio_gen.codec import Codec
from audio_gen.notes import CHANNELS, Notes
from audio_gen.sampler import load
from audio_gen.sampler.model import Model
from audio_gen.sampler.take import Take
from audio_gen.server import create_app
from audio_gen.shape import NetworkShape

SCOPE = {
    "type": "http", "method": "GET", "path": "/models/labels/play", "raw_path": b"/models/labels/play", "headers": [],
    "http_version": "1.1", "asgi": {"version": "3.0", "spec_version": "2.4"}, "scheme": "http", "server": ("x", 1),
    "client": ("x", 1), "root_path": "",
}  # fmt: skip
"""A request as a server hands it on."""


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, Model]:
    folder = tmp_path_factory.mktemp("models")
    paths = {
        "labels": write_model(folder / "labels.safetensors", levels=512, pre_emphasis=0.85),
        "pitch": write_model(folder / "pitch.safetensors", curves=("pitch",), curve_channels=3),
    }
    loaded = {name: load(path) for name, path in paths.items()}
    for name, model in loaded.items():
        model.name = name
    return loaded


def pianist() -> Checkpoint:
    """A model that plays notes."""
    shape = NetworkShape.from_dict(network_settings([3, 3], [16, 16], [4], curve_channels=CHANNELS, hop=64))
    return Checkpoint(shape, Codec(), RATE, random_tensors(shape, 4), ("notes",), card={"name": "pianist"})


@pytest.fixture
def client(models):
    return TestClient(create_app([*models.values()], voices=1, most_seconds=2.0))


def sound(answer):
    assert answer.status_code == 200, answer.text
    waveform, rate = soundfile.read(io.BytesIO(answer.content), dtype="float32")
    assert rate == RATE
    return waveform


def rounded(waveform, bits):
    full = 2 ** (bits - 1)
    return np.rint(waveform * full).clip(-full, full - 1).astype(np.float32) / full


def test_a_clip_is_what_the_model_plays(client, models):
    model = models["labels"]
    answer = client.get(
        "/models/labels/play?label=drum=hat@0,kick@0.2&seed=7&seconds=0.5&temperature=0.7@0,1.1@0.4&top_k=9"
    )
    assert answer.headers["content-type"] == "audio/wav"
    settings = {"labels": {"drum": "hat@0,kick@0.2"}, "temperature": "0.7@0,1.1@0.4", "top_k": 9, "seed": 7}
    ours = model.generate(0.5, **settings)
    assert np.array_equal(sound(answer), rounded(ours, model.codec.pcm_bits))
    wish = {"labels": {"drum": [[0, "hat"], [0.2, "kick"]]}, "temperature": [[0, 0.7], [0.4, 1.1]], "seed": 7}
    posted = client.post("/models/labels/play", json=wish | {"top_k": 9, "seconds": 0.5})
    assert posted.content == answer.content
    raw = client.post("/models/labels/play", json=wish | {"top_k": 9, "seconds": 0.5, "format": "raw"})
    assert len(raw.content) == 3 * len(ours) and answer.content.endswith(
        raw.content + b"\0" * (len(raw.content) % 2)
    )


def test_curves_of_numbers_and_notes(client, models):
    for query, curve in [("pitch=a2", "a2"), ("pitch=110", 110.0)]:
        clip = sound(client.get(f"/models/pitch/play?curve={query}&seconds=0.2"))
        assert np.array_equal(clip, rounded(models["pitch"].generate(0.2, curves={"pitch": curve}), 16))
    over_time = {"curves": {"pitch": [[0, "a2"], [0.1, 220]]}, "seconds": 0.2}
    clip = sound(client.post("/models/pitch/play", json=over_time))
    ours = models["pitch"].generate(0.2, curves={"pitch": [(0.0, "a2"), (0.1, 220.0)]})
    assert np.array_equal(clip, rounded(ours, 16))


def test_a_file_from_the_server_is_made_again(client, models, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "a.wav"
    path.write_bytes(client.get("/models/labels/play?label=drum=kick&seconds=0.3").content)
    assert Take.from_tags(read_tags(path), "a.wav").labels == {"drum": "kick"}
    model = write_model(tmp_path / "labels.safetensors", levels=512, pre_emphasis=0.85)
    assert "the same" in call("replay", path, "--model", model).errors


def test_what_there_is(client):
    first, second = client.get("/models").json()
    assert first["name"] == "labels" and first["labels"] == {
        name: [*values] for name, values in LABELS.items()
    }
    assert second["curves"] == ["pitch"]
    assert client.get("/models/labels").json()["card"]["licence"] == "CC0 1.0"


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/models/drum/play", 404, "no model 'drum'; there are: labels, pitch"),
        ("/models/drum", 404, "no model 'drum'"),
        ("/models/labels/play?label=drum=gong", 400, "unknown value 'gong'"),
        ("/models/labels/play?label=dum=kick", 400, "unknown label 'dum'"),
        ("/models/labels/play?label=drum=kick&label=drum=hat", 400, "label drum is given twice"),
        ("/models/labels/play?label=kick", 400, "must be NAME=VALUE"),
        ("/models/labels/play?label=drum=FILE.csv", 400, "files are not read for clients"),
        ("/models/labels/play?temperature=FILE.csv", 400, "files are not read for clients"),
        ("/models/labels/play?temperature=11", 400, "temperature must be from 0 to 10"),
        ("/models/labels/play?seconds=3", 400, "seconds must be above 0 and at most 2, got 3"),
        ("/models/labels/play?seconds=nan", 400, "seconds: "),
        ("/models/labels/play?seconds=long", 400, "seconds: "),
        ("/models/labels/play?seed=-1", 400, "seed: "),
        ("/models/labels/play?format=mp3", 400, "format: "),
        ("/models/pitch/play", 400, "pitch"),
        ("/models/pitch/play?curve=pitch=FILE", 400, "curve 'pitch': must be a number"),
        ("/models/pitch/play?curve=pitch=nan", 400, "curve 'pitch': "),
        ("/models/pitch/play?curve=notes=FILE", 400, "notes are sent as notes"),
    ],
)
def test_mistakes_are_one_line(client, tmp_path, path, status, words):
    (tmp_path / "secret.csv").write_text("0,220\n")
    answer = client.get(path.replace("FILE", str(tmp_path / "secret")))
    assert answer.status_code == status and list(answer.json()) == ["error"]
    assert words in answer.json()["error"] and "\n" not in answer.json()["error"]


@pytest.mark.parametrize("wish", [{"labels": 3}, {"notes": [[0, 1]]}, {"secons": 1}, {"seconds": "inf"}, []])
def test_wishes_that_are_none_are_one_line(client, wish):
    answer = client.post("/models/labels/play", json=wish)
    assert answer.status_code == 400 and "\n" not in answer.json()["error"]
    broken = client.post("/models/labels/play", content=json.dumps(wish)[:-1])
    assert broken.status_code == 400 and list(broken.json()) == ["error"]


def test_a_voice_is_free_again_after_every_end(client, models):
    for _ in range(3):  # of one voice
        assert client.get("/models/labels/play?label=drum=gong").status_code == 400
        assert client.get("/models/labels/play?seconds=0.05").status_code == 200

    app, gone = create_app([models["labels"]], voices=1, most_seconds=2.0), []

    async def leave(after: int) -> None:
        """A client that is gone after so many messages, the first of which is the answer's head."""

        async def receive():
            await asyncio.sleep(60)

        async def send(message):
            if len(gone) == after:
                raise OSError("gone")
            gone.append(message["type"])

        with pytest.raises((OSError, ClientDisconnect)):
            await app(SCOPE | {"query_string": b"seconds=2"}, receive, send)

    for after in (0, 1, 2):
        gone.clear()
        asyncio.run(leave(after))
        assert len(gone) == after
    assert TestClient(app).get("/models/labels/play?seconds=0.05").status_code == 200


def test_who_comes_too_many_is_asked_to_wait(models):
    app = create_app([models["labels"]], voices=1)
    answers = []

    async def ask(query: bytes, started: asyncio.Event, go_on: asyncio.Event) -> None:
        async def receive():
            await asyncio.sleep(60)

        async def send(message):
            if message["type"] == "http.response.start":
                answers.append((message["status"], dict(message["headers"])))
                started.set()
                await go_on.wait()

        await app(SCOPE | {"query_string": query}, receive, send)

    async def both() -> None:
        first, second, go_on = asyncio.Event(), asyncio.Event(), asyncio.Event()
        one = asyncio.create_task(ask(b"seconds=0.1", first, go_on))
        await first.wait()
        other = asyncio.create_task(ask(b"seconds=0.1", second, go_on))
        await second.wait()
        go_on.set()
        await asyncio.gather(one, other)

    asyncio.run(both())
    assert [status for status, _ in answers] == [200, 503] and answers[1][1][b"retry-after"] == b"1"


def test_what_was_sent_is_named_by_its_digest(client, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    wish = {"curves": {"pitch": [[0, "a2"], [0.1, 220]]}, "seconds": 0.2}
    path = tmp_path / "a.wav"
    path.write_bytes(client.post("/models/pitch/play", json=wish).content)
    model = write_model(tmp_path / "pitch.safetensors", curves=("pitch",), curve_channels=3)
    called = call("replay", path, "--model", model)
    assert called.code == 2 and "follows sent; say where that is with --curve pitch=FILE" in called.errors
    (tmp_path / "tune.csv").write_text("0,a2\n0.1,220\n")
    assert "the same" in call("replay", path, "--model", model, "--curve", "pitch=tune.csv").errors


def test_notes_are_followed_and_told_of():
    app = create_app([Model(pianist())])
    wish = {"notes": [[0.0, 0.2, 60, 80]], "seconds": 0.2}
    answer = TestClient(app).post("/models/pianist/play", json=wish)
    ours = Model(pianist()).generate(0.2, curves={"notes": Notes(((0.0, 0.2, 60, 80),))})
    assert np.array_equal(sound(answer), rounded(ours, 16))
    assert f"sent {Notes(((0.0, 0.2, 60, 80),)).digest}".encode() in answer.content


def test_wrong_settings_of_the_server_are_one_line(tmp_path):
    toy = write_model(tmp_path / "toy.safetensors")
    for arguments, words in [
        (("--most-seconds", 0), "--most-seconds must be above 0"),
        ((toy, toy), "two of the models have one name"),
        (("nothing",), "neither a bundled model"),
        ((toy, "--host", "256.0.0.1"), "256.0.0.1:8000: cannot be listened at"),
    ]:
        called = call("serve", *arguments)
        assert called.code in (1, 2) and words in called.errors and called.errors.count("\n") == 1
