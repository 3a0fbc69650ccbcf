"""Bad days of the engine: each gets one line that says what, where and what to do."""

import re

import numpy as np
import pytest
from engine_cases import ISAS, LABELS, Case, coins_of, draw
from networks import network_settings, random_tensors

from audio_gen.engine import Engine
from audio_gen.engine.binding import load_library
from audio_gen.errors import ControlError, EngineError, SettingError


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


def test_hostile_scales_are_refused():
    case = Case("two-tiers", "int8")
    name = "tiers.1.layers.2.gated"
    good = case.scales[name]
    for steps, words in [
        (np.where(np.arange(len(good)) == 3, np.nan, good), "from 1e-30"),
        (good * 0, "from 1e-30"),
        (-good, "from 1e-30"),
        (good * np.float32(np.inf), "from 1e-30"),
        (good * np.float32(1e-37), "from 1e-30"),
        (good[1:], "(36,)"),
        (good[:, None], "(36,)"),
        (good.astype(int), "float32"),
        (good.astype(object), "float32"),
    ]:
        with pytest.raises(EngineError, match=re.escape(words)) as caught:
            Engine(case.settings, case.tensors, precision="int8", scales=case.scales | {name: steps})
        assert name in str(caught.value) and "\n" not in str(caught.value)
    without = {other: steps for other, steps in case.scales.items() if other != name}
    for scales, words in [(without, "missing"), (None, "missing"), (case.scales | {"x": good}, "no part")]:
        with pytest.raises(EngineError, match=words):
            Engine(case.settings, case.tensors, precision="int8", scales=scales)
    with pytest.raises(SettingError, match="precision"):
        Engine(case.settings, case.tensors, precision="int4")


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
