"""Laws of the live page: what it plays in a browser is what the model plays here, token for token."""

import base64
import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import test_sketch
from command_line import call, write_model
from networks import network_settings, random_tensors
from test_mixtures import labelled
from toys import RATE

from audio_gen.checkpoint import Checkpoint
from audio_gen.codec import Codec
from audio_gen.coins import coins
from audio_gen.engine.build import build_browser
from audio_gen.engine.pack import scale_shapes
from audio_gen.errors import ControlError, OutputError
from audio_gen.pages.live import write_live
from audio_gen.sampler.model import Model
from audio_gen.shape import NetworkShape

NODE = shutil.which("node")

# Plays the page at `argv[2]` as its worker would, and prints waveforms in base64.
PLAY = """
const fs = require("fs"), html = fs.readFileSync(process.argv[2], "utf8");
const part = (id) => html.match(new RegExp(`<script id="${id}"[^>]*>([^]*?)</script>`))[1];
eval(part("player") + "; Object.assign(globalThis, { Coins, Player, unpack })");
const bytes = (id) => new Uint8Array(Buffer.from(part(id), "base64")).buffer;
const model = unpack(part("header"), bytes("model"));
const player = new Player(new WebAssembly.Module(bytes("engine")), model);
const made = JSON.parse(process.argv[3]).map(({ pieces, asks = [], labels, ...take }) => {
  const shares = (asked) => Object.fromEntries(Object.entries(asked).map(
    ([name, value]) => [name, [0, ...model.labels[name].map((each) => Number(each === value))]]));
  player.begin({ ...model.draw, ...take, labels: shares(labels) });
  return pieces.map((count, place) => {
    if (asks[place]) player.ask(shares(asks[place]));
    return Buffer.from(player.next(count).buffer).toString("base64");
  });
});
const tosses = [[0, 0, 0], [7, 3, 1], [4294967295, 1, 0]].map(([seed, stream, lane]) => {
  const coins = new Coins(seed, stream, lane);
  return [...Array(11).keys()].map((at) => coins.at(3 * at));
});
console.log(JSON.stringify({ made, tosses }));
"""


def play(page, *takes):
    """(waveforms of the takes, coins) of a page."""
    if NODE is None:
        pytest.skip("needs node")
    done = subprocess.run(
        [NODE, "-e", PLAY, "-", str(page), json.dumps(takes)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    waveforms = [
        np.concatenate([np.frombuffer(base64.b64decode(piece), np.float32) for piece in pieces])
        for pieces in found["made"]
    ]
    return waveforms, found["tosses"]


def bare() -> Checkpoint:
    """A model that is told nothing, with de-emphasis."""
    shape = NetworkShape.from_dict(
        network_settings([4], [16], [], levels=512, skip_channels=16, predictors=[16, 512])
    )
    return Checkpoint(shape, Codec(512, 0.85), RATE, random_tensors(shape, 5), card={"name": "bare"})


def quantised() -> Checkpoint:
    checkpoint = labelled()
    scales = {name: np.full(size, 0.02, np.float32) for name, size in scale_shapes(checkpoint.shape).items()}
    return replace(checkpoint, scales=scales)


MODELS = {
    "labels": (labelled, "fp32"),
    "bare": (bare, "fp32"),
    "bf16": (labelled, "bf16"),
    "int8": (quantised, "int8"),
    "sketch": (test_sketch.random_checkpoint, "fp32"),
    "deaf sketch": (test_sketch.deaf_checkpoint, "fp32"),
}


@pytest.fixture(scope="module")
def engine():
    return build_browser().read_bytes()


@pytest.mark.parametrize("name", MODELS)
def test_a_page_plays_what_the_model_plays(name, engine, tmp_path):
    make, precision = MODELS[name]
    model = Model(make(), precision=precision)
    write_live(model, tmp_path / "live.html", engine)
    asked = [{}, {"tone": "low"}] if model.labels else [{}, {}]
    takes = [
        {"labels": asked[0], "seed": 3, "pieces": [700]},
        {"labels": asked[1], "seed": 3, "stream": 2, "temperature": 0.6, "topK": 9, "pieces": [1, 200, 7, 492]},
        {"labels": asked[1], "seed": 4, "temperature": 0.9, "topP": 0.9, "minP": 0.01, "pieces": [3000]},
    ]  # fmt: skip
    found, _ = play(tmp_path / "live.html", *takes)
    for waveform, take in zip(found, takes, strict=True):
        names = {"topK": "top_k", "topP": "top_p", "minP": "min_p"}
        settings = {names.get(key, key): value for key, value in take.items() if key != "pieces"}
        ours = model.generate(sum(take["pieces"]) / RATE, **settings)
        assert np.array_equal(waveform, ours)


def test_a_page_follows_what_it_is_asked_for_meanwhile(engine, tmp_path):
    model = Model(labelled())
    write_live(model, tmp_path / "live.html", engine)
    hop = model.checkpoint.shape.hop
    pieces = [4 * hop, 6 * hop]
    take = {"labels": {"tone": "low"}, "seed": 3, "pieces": pieces, "asks": [None, {"tone": "high"}]}
    (found,), _ = play(tmp_path / "live.html", take)
    # From one to the other between two frames, whose middles are what counts.
    turn = [(0, "low"), (3.6 * hop / RATE, "low"), (4.4 * hop / RATE, "high")]
    assert np.array_equal(found, model.generate(10 * hop / RATE, labels={"tone": turn}, seed=3))


def test_coins_are_the_same_everywhere(engine, tmp_path):
    write_live(Model(labelled()), tmp_path / "live.html", engine)
    _, found = play(tmp_path / "live.html")
    for tossed, (seed, stream, lane) in zip(found, [(0, 0, 0), (7, 3, 1), (4294967295, 1, 0)], strict=True):
        assert tossed == coins(seed, stream, 0, 31, lane)[::3].tolist()


def test_the_engine_asks_nothing_of_its_host(engine):
    """It is WebAssembly with what browsers have had since 2023, and needs no imports; only what is used leaves it."""
    if NODE is None:
        pytest.skip("needs node")
    script = (
        "const m = new WebAssembly.Module(require('fs').readFileSync(0));"
        "console.log(WebAssembly.Module.imports(m).length, WebAssembly.Module.exports(m).map((e) => e.name).join(' '))"
    )
    done = subprocess.run([NODE, "-e", script], input=engine, capture_output=True, check=True)
    imports, *exports = done.stdout.decode().split()
    assert imports == "0" and len(exports) == 8 and len(engine) < 1_000_000


def test_what_is_in_a_card_stays_text(engine, tmp_path):
    card = {"name": "a</script><b>", "description": "<i>x</i> & $header", "credit": '"C"'}
    write_live(Model(replace(labelled(), card=card)), tmp_path / "live.html", engine)
    html = (tmp_path / "live.html").read_text()
    assert (
        "<i>x</i>" not in html and "</script><b>" not in html and "&lt;i&gt;x&lt;/i&gt; &amp; $header" in html
    )
    assert len(re.findall("</script>", html)) == 5 and "http" not in html


def test_the_command_line_writes_a_page_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    toy = write_model(tmp_path / "toy.safetensors")
    called = call("live", toy)
    assert called.code == 0, called.errors
    (page,) = Path().glob("*.html")
    assert called.text.strip() == str(page) == "toy-live.html"
    before = page.read_bytes()
    assert call("live", toy).code == 1 and page.read_bytes() == before
    assert call("live", toy, "--force", "-o", "new/page.html").code == 0
    assert Path("new/page.html").read_bytes() == before


def test_what_a_page_cannot_play_is_one_line(engine, tmp_path):
    shape = NetworkShape.from_dict(network_settings([3, 3], [16, 16], [4], curve_channels=3, hop=64))
    pitched = Checkpoint(shape, Codec(), RATE, random_tensors(shape, 4), ("pitch",), card={"name": "sings"})
    with pytest.raises(ControlError, match="sings: follows pitch, which a live page cannot give it"):
        write_live(Model(pitched), tmp_path / "live.html", engine)
    (tmp_path / "live.html").write_text("mine")
    with pytest.raises(OutputError, match="exists; use --force"):
        write_live(Model(labelled()), tmp_path / "live.html", engine)
    assert [path.name for path in tmp_path.iterdir()] == ["live.html"]
