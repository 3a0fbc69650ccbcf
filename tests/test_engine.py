"""The laws of the compiled engine: the network's equations, the draw, the same bits however it is called."""

import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from networks import network_settings, random_tensors
from reference_network import reference_logits

from audio_gen.engine import Engine
from audio_gen.engine.binding import library_path, load_library, usable_isas
from audio_gen.errors import ControlError, EngineError, SettingError

LABELS = {"drum": ["kick", "snare"], "velocity": ["soft", "loud", "louder"]}
NETWORKS = {
    "classic": network_settings([9], [32], skip_channels=48, dilation_cycle=4),
    "classic-k3": network_settings(
        [6], [24], kernel_size=3, dilation_cycle=3, skip_channels=9, labels=LABELS
    ),
    "one-tier-no-skip": network_settings([7], [40], levels=1024, dilation_cycle=5, kernel_size=4),
    "two-tiers": network_settings([3, 4], [20, 36], [3], labels=LABELS, curve_channels=3, hop=6),
    "two-tiers-skip": network_settings([4, 3], [16, 48], [4], skip_channels=33, curve_channels=2, hop=20),
    "three-tiers": network_settings([2, 3, 3], [16, 40, 72], [4, 2], levels=512, labels=LABELS),
    "three-tiers-k3": network_settings(
        [2, 3, 2], [24, 16, 130], [2, 3], kernel_size=3, dilation_cycle=2, skip_channels=100,
        head_channels=50, labels=LABELS, curve_channels=5, hop=12,
    ),
    "four-tiers": network_settings([1, 1, 2, 2], [8, 12, 16, 20], [2, 4, 3], curve_channels=1, hop=24),
}  # fmt: skip
ISAS = usable_isas(load_library(library_path()))


def draw(temperature=1.0, top_k=0, top_p=1.0, min_p=0.0):
    return SimpleNamespace(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)


def coins_of(seed, streams, time):
    return (np.random.default_rng(seed).integers(0, 1 << 24, (streams, time)) / float(1 << 24)).astype(
        np.float32
    )


class Case:
    """A random network with tokens, labels and curves for three streams, and the reference's logits."""

    def __init__(self, name):
        self.settings = NETWORKS[name]
        self.tensors = random_tensors(self.settings, seed=len(name))
        self.engine = self.compiled()
        generator = np.random.default_rng(3)
        self.time = 2 * self.engine.receptive_field + 37
        self.tokens = generator.integers(0, self.settings["levels"], (3, self.time)).astype(np.uint16)
        values = [len(values) for values in self.settings["labels"].values()]
        self.labels = np.array(
            [[generator.integers(0, most + 1) for most in values] for _ in range(3)], int
        ).reshape(3, -1)
        self.curves = None
        if channels := self.settings["curve_channels"]:  # too few: the last frame must be held
            frames = self.time // self.settings["hop"] - 1
            self.curves = generator.standard_normal((3, frames, channels)).astype(np.float32)

    def compiled(self, **options):
        return Engine(self.settings, self.tensors, **options)

    def reference(self, row, tokens=None):
        curves = None if self.curves is None else self.curves[row]
        tokens = self.tokens[row] if tokens is None else tokens
        return reference_logits(self.settings, self.tensors, tokens, self.labels[row], curves)

    def logits(self, engine=None, chunk=None, rows=slice(None)):
        engine, tokens = engine or self.engine, self.tokens[rows]
        curves = None if self.curves is None else self.curves[rows]
        state = engine.start(self.labels[rows])
        chunk = chunk or self.time
        parts = [
            engine.logits(state, tokens[:, at : at + chunk], curves) for at in range(0, self.time, chunk)
        ]
        return np.concatenate(parts, axis=1)

    def sample(self, coins, engine=None, chunk=None, rows=slice(None), setting=None):
        engine, coins = engine or self.engine, coins[rows]
        curves = None if self.curves is None else self.curves[rows]
        state = engine.start(self.labels[rows])
        chunk = chunk or coins.shape[1]
        cuts = range(0, coins.shape[1], chunk)
        drawn = [engine.sample(state, coins[:, at : at + chunk], setting or draw(), curves) for at in cuts]
        return np.concatenate(drawn, axis=1)


@pytest.fixture(params=NETWORKS, ids=NETWORKS, scope="module")
def case(request):
    return Case(request.param)


def test_logits_are_those_of_the_equations(case):
    logits = case.logits()
    for row in range(3):
        assert np.abs(logits[row] - case.reference(row)).max() < 5e-5


def test_logits_are_those_of_the_torch_network():
    torch = pytest.importorskip("torch")
    from audio_gen.network import Network

    case = Case("three-tiers-k3")
    network = Network(case.engine.shape).double()
    network.load_state_dict({name: torch.as_tensor(tensor) for name, tensor in case.tensors.items()})
    inputs = np.concatenate([np.full((3, 1), case.engine.silence), case.tokens[:, :-1]], 1).astype(np.int64)
    with torch.no_grad():
        logits, _ = network(
            torch.as_tensor(inputs), None, torch.as_tensor(case.labels), torch.as_tensor(case.curves).double()
        )
    assert np.abs(case.logits() - logits.numpy()).max() < 5e-5


@pytest.mark.parametrize("isa", ISAS)
def test_every_instruction_set_gives_the_same_bits(case, isa):
    engine, coins = case.compiled(isa=isa), coins_of(1, 3, 150)
    assert engine.isa == isa
    assert np.array_equal(case.logits(engine), case.logits())
    assert np.array_equal(case.sample(coins, engine), case.sample(coins))


@pytest.mark.parametrize("chunk", [1, 7, 160])
def test_chunks_leave_the_bits(case, chunk):
    coins = coins_of(2, 3, 170)
    assert np.array_equal(case.logits(chunk=chunk), case.logits())
    assert np.array_equal(case.sample(coins, chunk=chunk), case.sample(coins))


def test_other_streams_leave_the_bits(case):
    coins, threaded = coins_of(3, 3, 100), case.compiled(threads=2)
    whole, drawn = case.logits(), case.sample(coins)
    assert np.array_equal(case.logits(threaded), whole)
    assert np.array_equal(case.sample(coins, threaded), drawn)
    for row in range(3):
        assert np.array_equal(case.logits(rows=slice(row, row + 1))[0], whole[row])
        assert np.array_equal(case.sample(coins, rows=slice(row, row + 1))[0], drawn[row])


def test_drawing_hears_what_priming_hears(case):
    """Sampled tokens, fed again as known ones, leave the same logits after them as sampling left."""
    coins, curves = coins_of(4, 3, 90), case.curves
    sampled, primed = case.engine.start(case.labels), case.engine.start(case.labels)
    tokens = case.engine.sample(sampled, coins, draw(), curves)
    case.engine.prime(primed, tokens, curves)
    again = case.engine.logits(sampled, case.tokens[:, :50], curves)
    assert np.array_equal(again, case.engine.logits(primed, case.tokens[:, :50], curves))


def test_free_running_tokens_are_the_reference_draws(case):
    """Each token is what its coin draws from float64 logits of the tokens before it; thousands of draws."""
    coins = coins_of(5, 3, 400)
    tokens = case.sample(coins)
    for row in range(3):
        logits = case.reference(row, tokens[row])
        expected = [numpy_draw(logits[t], coins[row, t], draw()) for t in range(len(logits))]
        assert np.array_equal(tokens[row], expected)


@pytest.mark.parametrize("distance", [0, 1, 2, 3, 5, 11])
def test_a_stream_resumes_from_its_last_receptive_field(case, distance):
    engine, curves = case.engine, case.curves
    position = case.time - 20 - distance
    begin = position - engine.receptive_field
    whole = engine.start(case.labels)
    engine.prime(whole, case.tokens[:, :position], curves)
    before = case.tokens[:, begin - 1] if begin else None
    resumed = engine.start(case.labels, position=begin, last=before)
    engine.prime(resumed, case.tokens[:, begin:position], curves)
    coins = coins_of(6, 3, 40)
    assert np.array_equal(
        engine.sample(resumed, coins, draw(), curves), engine.sample(whole, coins, draw(), curves)
    )
    assert np.array_equal(
        engine.logits(resumed, case.tokens[:, :9], curves), engine.logits(whole, case.tokens[:, :9], curves)
    )


def test_the_receptive_field_is_no_longer_than_needed():
    """At the worst phase, a stream with another token just inside the receptive field sounds different."""
    case = Case("three-tiers")
    field, period = case.engine.receptive_field, 8
    differs = []
    for position in range(field + 1, field + 1 + period):
        logits = []
        for begin in (0, position - field + 1):  # the prediction's inputs then begin at `begin` + 1 - 1
            last = None if begin == 0 else (case.tokens[:, begin - 1] + 1) % 512
            state = case.engine.start(case.labels, position=begin, last=last)
            case.engine.prime(state, case.tokens[:, begin:position])
            logits.append(case.engine.logits(state, case.tokens[:, :1]))
        differs.append(not np.array_equal(*logits))
    assert any(differs)


def test_a_copied_state_goes_on_alone():
    case = Case("three-tiers-k3")
    state = case.engine.start(case.labels)
    case.engine.prime(state, case.tokens[:, :30], case.curves)
    twin, coins = state.copy(), coins_of(7, 3, 60)
    first = case.engine.sample(state, coins, draw(), case.curves)
    assert np.array_equal(case.engine.sample(twin, coins, draw(), case.curves), first)
    assert state.position == twin.position == 90


def test_more_streams_than_one_block_holds():
    case = Case("two-tiers")
    streams = 70
    labels = np.zeros((streams, 2), int)
    labels[:, 1] = np.arange(streams) % 4
    curves = np.random.default_rng(8).standard_normal((streams, 9, 3)).astype(np.float32)
    coins = coins_of(8, streams, 50)
    drawn = case.engine.sample(case.engine.start(labels), coins, draw(), curves)
    for row in (0, 63, 64, 69):
        rows = slice(row, row + 1)
        state = case.engine.start(labels[rows])
        assert np.array_equal(case.engine.sample(state, coins[rows], draw(), curves[rows])[0], drawn[row])


# ---- The draw ----


def numpy_draw(logits, coin, setting):
    """The definition, in float64."""
    logits = logits.astype(np.float64)
    if setting.temperature == 0:
        return int(np.argmax(logits))
    w = np.exp((logits - logits.max()) / setting.temperature)
    order = np.argsort(-w, kind="stable")
    if setting.top_k:
        order = order[: setting.top_k]
    order = order[w[order] >= setting.min_p]
    if setting.top_p < 1:
        held = np.cumsum(w[order])
        order = order[: np.argmax(held >= setting.top_p * held[-1]) + 1]
    kept = np.sort(order)
    above = np.cumsum(w[kept]) > coin * w[kept].sum()
    return int(kept[np.argmax(above)] if above.any() else kept[-1])


@pytest.mark.parametrize(
    "setting",
    [
        draw(), draw(temperature=0.0), draw(temperature=0.7), draw(temperature=3.0), draw(temperature=0.01),
        draw(top_k=1), draw(top_k=5), draw(top_k=9999), draw(top_p=0.9), draw(top_p=0.05), draw(min_p=0.1),
        draw(min_p=1.0), draw(0.8, 20, 0.9, 0.02), draw(1.5, 100, 0.5, 0.001),
    ],
    ids=lambda s: f"t{s.temperature}-k{s.top_k}-p{s.top_p}-m{s.min_p}",
)  # fmt: skip
@pytest.mark.parametrize("levels", [256, 1024])
def test_draws_are_those_of_the_definition(setting, levels):
    settings = network_settings([1], [8], levels=levels)
    generator = np.random.default_rng(9)
    for isa in ISAS:
        engine = Engine(settings, random_tensors(settings, 0), isa=isa)
        for spread in (0.1, 2.0, 12.0):
            for coin in coins_of(9, 1, 40)[0]:
                logits = (spread * generator.standard_normal(levels)).astype(np.float32)
                assert engine.draw(logits, coin, setting) == numpy_draw(logits, coin, setting)


def test_ties_go_to_the_lower_token():
    settings = network_settings([1], [8])
    engine = Engine(settings, random_tensors(settings, 0))
    logits = np.zeros(256, np.float32)
    logits[[40, 7, 200]] = 5.0
    assert engine.draw(logits, 0.5, draw(temperature=0.0)) == 7
    assert {engine.draw(logits, coin, draw(top_k=2)) for coin in np.linspace(0, 0.999, 50)} == {7, 40}
    assert {engine.draw(logits, coin, draw(top_p=0.3, top_k=3)) for coin in np.linspace(0, 0.999, 50)} == {7}
    assert [engine.draw(np.zeros(256, np.float32), coin, draw()) for coin in (0.0, 0.5, 1 - 2**-24)] == [
        0,
        128,
        255,
    ]


def test_each_stream_may_draw_in_its_own_way():
    case, coins = Case("classic"), coins_of(10, 3, 60)
    settings = [draw(), draw(temperature=0.0), draw(0.5, top_k=4)]
    drawn = case.sample(coins, setting=settings)
    for row, setting in enumerate(settings):
        assert np.array_equal(case.sample(coins, rows=slice(row, row + 1), setting=setting)[0], drawn[row])


# ---- Bad days ----


def test_damaged_weights_are_refused():
    settings = network_settings([2, 2], [8, 8], [2], labels=LABELS)
    whole = random_tensors(settings, 0)
    bad_values = whole["head.hidden.bias"].copy()
    bad_values[3] = np.nan
    for name, tensor, words in [
        ("tiers.1.up.weight", whole["tiers.1.up.weight"][1:], "(16, 8)"),
        ("head.hidden.bias", bad_values, "NaN"),
        ("embedding.weight", whole["embedding.weight"].astype(np.float64), "float32"),
        ("labels.drum.weight", whole["labels.drum.weight"].astype(object), "float32"),
        ("extra.weight", np.zeros(3, np.float32), "no part"),
    ]:
        with pytest.raises(EngineError, match=re.escape(words)) as caught:
            Engine(settings, whole | {name: tensor})
        assert name in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(EngineError, match=r"tiers\.0\.layers\.1\.condition\.weight is missing"):
        Engine(
            settings,
            {name: tensor for name, tensor in whole.items() if name != "tiers.0.layers.1.condition.weight"},
        )


@pytest.mark.parametrize(
    "change",
    [
        {"levels": 4096}, {"levels": 250}, {"channels": [9999, 8]}, {"layers": [2, 900]}, {"kernel_size": 9},
        {"dilation_cycle": 20, "layers": [30, 30]}, {"channels": [4096, 4096], "layers": [200, 200]},
        {"layers": [1] * 9, "channels": [8] * 9, "pool": [2] * 8}, {"pool": [700]},
    ],
    ids=str,
)  # fmt: skip
def test_absurd_sizes_are_refused_before_memory_is_taken(change):
    with pytest.raises(EngineError, match="too large"):
        Engine(network_settings([2, 2], [8, 8], [2]) | change, {})


def test_half_precision_weights_are_taken():
    settings = network_settings([3], [16])
    half = {name: tensor.astype(np.float16) for name, tensor in random_tensors(settings, 0).items()}
    full = {name: tensor.astype(np.float32) for name, tensor in half.items()}
    tokens = np.arange(40)[None]
    logits = [
        engine.logits(engine.start([[]]), tokens)
        for engine in (Engine(settings, half), Engine(settings, full))
    ]
    assert np.array_equal(*logits)


def test_wrong_calls_get_one_line():
    case = Case("two-tiers")
    engine, state = case.engine, case.engine.start(case.labels)
    calls = [
        (ControlError, "drum", lambda: engine.start([[3, 0]])),
        (ControlError, "velocity", lambda: engine.start([[0, -1]])),
        (ControlError, "labels", lambda: engine.start([[0]])),
        (ControlError, "labels", lambda: engine.start([[0.5, 0.5]])),
        (ControlError, "streams", lambda: engine.start(np.zeros((0, 2), int))),
        (SettingError, "position", lambda: engine.start(case.labels, position=-1)),
        (ControlError, "tokens", lambda: engine.start(case.labels, last=[0, 0, 256])),
        (ControlError, "tokens", lambda: engine.prime(state, np.full((3, 4), 256), case.curves)),
        (ControlError, "tokens", lambda: engine.prime(state, np.full((3, 4), -1), case.curves)),
        (ControlError, "tokens", lambda: engine.prime(state, np.zeros((2, 4), int), case.curves)),
        (ControlError, "tokens", lambda: engine.prime(state, np.zeros((3, 4)), case.curves)),
        (ControlError, "curves", lambda: engine.prime(state, case.tokens)),
        (ControlError, "curves", lambda: engine.prime(state, case.tokens, case.curves[:, :0])),
        (ControlError, "curves", lambda: engine.prime(state, case.tokens, case.curves[:, :, :2])),
        (ControlError, "curves", lambda: engine.prime(state, case.tokens, case.curves * np.nan)),
        (
            ControlError,
            "curves",
            lambda: Case("classic").engine.prime(Case("classic").engine.start([[]]), [[0]], case.curves),
        ),
        (
            SettingError,
            "coins",
            lambda: engine.sample(state, np.ones((3, 2), np.float32), draw(), case.curves),
        ),
        (SettingError, "coins", lambda: engine.sample(state, np.full((3, 2), np.nan), draw(), case.curves)),
        (SettingError, "coins", lambda: engine.sample(state, np.zeros((2, 2)), draw(), case.curves)),
        (
            SettingError,
            "temperature",
            lambda: engine.sample(state, np.zeros((3, 2)), draw(temperature=np.nan), case.curves),
        ),
        (SettingError, "top_p", lambda: engine.sample(state, np.zeros((3, 2)), draw(top_p=0.0), case.curves)),
        (
            SettingError,
            "one per stream",
            lambda: engine.sample(state, np.zeros((3, 2)), [draw()] * 2, case.curves),
        ),
        (SettingError, "threads", lambda: case.compiled(threads=0)),
        (EngineError, "instruction set", lambda: case.compiled(isa="mmx")),
    ]
    for error, words, call in calls:
        with pytest.raises(error, match=words) as caught:
            call()
        assert "\n" not in str(caught.value)
    assert state.position == 0


def test_huge_weights_end_in_an_error_not_in_noise():
    settings = network_settings([3], [16], skip_channels=8)
    tensors = {name: tensor * np.float32(1e25) for name, tensor in random_tensors(settings, 0).items()}
    engine = Engine(settings, tensors)
    with pytest.raises(EngineError, match="not finite"):
        engine.sample(engine.start([[]]), coins_of(0, 1, 100), draw())


def test_a_missing_or_foreign_library_is_one_line(tmp_path):
    with pytest.raises(EngineError, match=r"not compiled; .*pip install"):
        load_library(tmp_path / "none.so")
    foreign = tmp_path / "foreign.so"
    foreign.write_bytes(b"MZ nothing")
    with pytest.raises(EngineError, match=r"not a library for this machine .*pip install") as caught:
        load_library(foreign)
    assert "\n" not in str(caught.value)


def test_the_environment_chooses_the_instruction_set(monkeypatch):
    case = Case("classic")
    monkeypatch.setenv("AUDIO_GEN_ISA", ISAS[-1])
    assert case.compiled().isa == ISAS[-1]
    monkeypatch.setenv("AUDIO_GEN_ISA", "none")
    with pytest.raises(EngineError, match="AUDIO_GEN_ISA"):
        case.compiled()


@pytest.mark.slow
def test_another_compiler_gives_the_same_bits(tmp_path, monkeypatch):
    pytest.importorskip("ziglang")
    from audio_gen.engine.build import build

    zig = [sys.executable, "-m", "ziglang", "cc", "-mcpu=baseline"]
    library = build(tmp_path / "zig.so", compiler=zig)
    monkeypatch.setattr("audio_gen.engine.engine.library_path", lambda: library)
    others = {name: Case(name) for name in NETWORKS}
    monkeypatch.undo()
    coins = coins_of(11, 3, 200)
    for name, other in others.items():
        case = Case(name)
        assert np.array_equal(other.logits(), case.logits())
        assert np.array_equal(other.sample(coins), case.sample(coins))


@pytest.mark.slow
def test_the_sanitizers_find_nothing(tmp_path):
    """The other tests of this file, on a library compiled with the address and undefined-behaviour checks."""
    from audio_gen.engine.build import build, find_compiler

    library = build(
        tmp_path / "checked.so",
        flags=["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g", "-O1"],
    )
    runtime = subprocess.run(
        [*find_compiler(), "-print-file-name=libasan.so"], capture_output=True, text=True, check=True
    )
    (tmp_path / "sanitized_engine.py").write_text(
        "import audio_gen.engine.engine as engine, audio_gen.engine.binding as binding, pathlib\n"
        f"engine.library_path = binding.library_path = lambda: pathlib.Path({str(library)!r})\n"
    )
    environment = os.environ | {
        "LD_PRELOAD": runtime.stdout.strip(),
        "ASAN_OPTIONS": "detect_leaks=0",
        "PYTHONPATH": os.pathsep.join([str(tmp_path), str(Path(__file__).parent.parent)]),
    }
    selection = ["not slow", "-k", "not torch", __file__]
    done = subprocess.run(
        [*f"{sys.executable} -m pytest -p sanitized_engine -x -m".split(), *selection],
        env=environment, cwd=Path(__file__).parent.parent, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
