"""Laws of mixtures: a pure label is what it always was, and what changes over time does so at its moment, however a
stream is cut."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import test_sketch
from command_line import call, write_model
from engine_cases import ISAS, NETWORKS, Case, coins_of, draw, numpy_draw
from hypothesis import given
from hypothesis import strategies as st
from networks import network_settings, random_tensors
from reference_network import reference_logits
from toys import RATE, toy_recipe, toy_store, toy_vocoder, write_tones

from audio_gen.audio import read, read_tags
from audio_gen.batch import run_batch
from audio_gen.batch.jobs import expand
from audio_gen.checkpoint import Checkpoint
from audio_gen.codec import Codec
from audio_gen.errors import ControlError
from audio_gen.mixtures import Mixture, parse_mixture, settle_labels
from audio_gen.pages.listening import write_page
from audio_gen.pages.manifest import read_manifest
from audio_gen.pages.rows import group_clips
from audio_gen.recipe import build_recipe
from audio_gen.sampler import load
from audio_gen.sampler.model import Model
from audio_gen.sampler.parts import parts_of
from audio_gen.sampler.take import Take
from audio_gen.shape import NetworkShape

LABELLED = [name for name, settings in NETWORKS.items() if settings["labels"]]


class Mixed(Case):
    """A case whose streams are asked for other mixtures at sample 0 and at each of some odd moments."""

    moments = (0, 1, 19, 64, 101)

    def __init__(self, name, precision="fp32"):
        super().__init__(name, precision)
        self.rows = self.engine.shape.label_rows
        generator = np.random.default_rng(11)
        parts = [generator.dirichlet(np.ones(rows), (len(self.moments), 3)) for rows in self.rows]
        self.shares = np.concatenate(parts, axis=-1)  # (moments, streams, rows)

    def pure(self):
        """Shares (streams, rows) that say what `labels` say."""
        return np.concatenate([np.eye(rows)[self.labels[:, at]] for at, rows in enumerate(self.rows)], axis=1)

    def calls(self, time, chunk):
        """(first sample, last one plus 1, which shares are new, or None) of each call."""
        cuts = sorted({*range(0, time, chunk), *(at for at in self.moments if at < time), time})
        for first, last in pairwise(cuts):
            yield first, last, self.moments.index(first) if first in self.moments else None

    def started(self, engine, rows):
        return engine.start(np.zeros_like(self.labels[rows]))

    def logits(self, engine=None, chunk=None, rows=slice(None)):
        engine, parts = engine or self.engine, []
        curves = None if self.curves is None else self.curves[rows]
        state = self.started(engine, rows)
        for first, last, new in self.calls(self.time, chunk or self.time):
            if new is not None:
                engine.ask(state, self.shares[new, rows])
            parts.append(engine.logits(state, self.tokens[rows, first:last], curves))
        return np.concatenate(parts, axis=1)

    def sample(self, coins, engine=None, chunk=None, rows=slice(None), setting=None):
        engine, parts = engine or self.engine, []
        curves = None if self.curves is None else self.curves[rows]
        state = self.started(engine, rows)
        for first, last, new in self.calls(coins.shape[1], chunk or coins.shape[1]):
            if new is not None:
                engine.ask(state, self.shares[new, rows])
            parts.append(engine.sample(state, coins[rows, first:last], setting or draw(), curves))
        return np.concatenate(parts, axis=1)

    def reference(self, row, tokens=None):
        tokens = self.tokens[row] if tokens is None else tokens
        at = np.searchsorted(self.moments, np.arange(len(tokens)), side="right") - 1
        curves = None if self.curves is None else self.curves[row]
        return reference_logits(self.settings, self.tensors, tokens, self.shares[at, row], curves)


@pytest.fixture(params=LABELLED, scope="module")
def case(request):
    return Mixed(request.param)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
@pytest.mark.parametrize("name", LABELLED)
def test_a_share_of_one_is_the_label(name, precision):
    case = Mixed(name, precision)
    plain, asked = case.engine.start(case.labels), case.started(case.engine, slice(None))
    case.engine.ask(asked, case.pure())
    assert np.array_equal(asked.condition, plain.condition)
    tokens = case.tokens[:, :70]
    assert np.array_equal(
        case.engine.logits(asked, tokens, case.curves), case.engine.logits(plain, tokens, case.curves)
    )


def test_logits_of_mixtures_are_those_of_the_equations(case):
    logits = case.logits()
    for row in range(3):
        assert np.abs(logits[row] - case.reference(row)).max() < 5e-5
    coins = coins_of(5, 3, 130)
    tokens = case.sample(coins)
    for row in range(3):
        of = case.reference(row, tokens[row])
        assert np.array_equal(tokens[row], [numpy_draw(of[t], coins[row, t], draw()) for t in range(len(of))])


def test_cuts_company_and_instructions_leave_the_bits_of_mixtures(case):
    coins = coins_of(2, 3, 130)
    whole, drawn = case.logits(), case.sample(coins)
    for chunk in (1, 7):
        assert np.array_equal(case.logits(chunk=chunk), whole)
        assert np.array_equal(case.sample(coins, chunk=chunk), drawn)
    for engine in (case.compiled(threads=2), *(case.compiled(isa=isa) for isa in ISAS)):
        assert np.array_equal(case.logits(engine), whole)
        assert np.array_equal(case.sample(coins, engine), drawn)
    for row in range(3):
        rows = slice(row, row + 1)
        assert np.array_equal(case.logits(rows=rows)[0], whole[row])
        assert np.array_equal(case.sample(coins, rows=rows)[0], drawn[row])


def test_the_torch_network_hears_the_same_mixtures():
    torch = pytest.importorskip("torch")
    from audio_gen.network import Network
    from audio_gen.sampler.reference import ReferenceEngine

    case = Mixed("three-tiers-k3")
    network = Network(case.engine.shape)
    network.load_state_dict({name: torch.as_tensor(tensor) for name, tensor in case.tensors.items()})
    reference = ReferenceEngine(network)
    assert np.abs(case.logits() - case.logits(reference)).max() < 5e-5
    plain, asked = reference.start(case.labels), case.started(reference, slice(None))
    reference.ask(asked, case.pure())
    tokens = case.tokens[:, :70]
    assert np.array_equal(
        reference.logits(asked, tokens, case.curves), reference.logits(plain, tokens, case.curves)
    )


def test_a_copied_state_keeps_what_it_is_asked_for(case):
    state = case.started(case.engine, slice(None))
    tokens, curves = case.tokens[:, :50], case.curves
    case.engine.ask(state, case.shares[0])
    case.engine.prime(state, tokens[:, :20], curves)
    case.engine.ask(state, case.shares[1])
    twin = state.copy()
    assert np.array_equal(case.engine.logits(state, tokens, curves), case.engine.logits(twin, tokens, curves))


def test_impossible_shares_are_refused(case):
    state = case.started(case.engine, slice(None))
    with pytest.raises(ControlError, match="shares must be finite"):
        case.engine.ask(state, case.shares[0, :, 1:])
    with pytest.raises(ControlError, match="shares must be finite"):
        case.engine.ask(state, np.full_like(case.shares[0], np.nan))


VALUES = ["fire", "rain", "waves", "a+b", "hat:open"]


@pytest.mark.parametrize(
    ("asked", "moments"),
    [
        ("rain", [(0.0, {"rain": 1.0})]),
        ("a+b", [(0.0, {"a+b": 1.0})]),  # what is a value is no grammar
        ("hat:open:2+rain", [(0.0, {"hat:open": 2.0, "rain": 1.0})]),
        (" rain : 0.7 + waves:.3", [(0.0, {"rain": 0.7, "waves": 0.3})]),
        ("rain@0, waves:3+fire @ 20.5", [(0.0, {"rain": 1.0}), (20.5, {"waves": 3.0, "fire": 1.0})]),
        ({"rain": 0.7, "waves": 3}, [(0.0, {"rain": 0.7, "waves": 3.0})]),
        ([(1, "rain"), (2, {"fire": 1})], [(1.0, {"rain": 1.0}), (2.0, {"fire": 1.0})]),
        (Mixture((0.0,), ({"rain": 2.0},)), [(0.0, {"rain": 1.0})]),
    ],
)
def test_what_is_written_is_what_is_asked_for(asked, moments):
    mixture = parse_mixture("texture", asked, VALUES)
    assert [*zip(mixture.seconds, mixture.blends, strict=True)] == moments


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ("rian:0.5+waves", "unknown value 'rian' of the label 'texture'; did you mean 'rain'"),
        ("rian", "did you mean 'rain'"),
        ("hat:opn", "did you mean 'hat:open'"),
        ("rain+", "unknown value ''"),
        ("rain:0+waves", "label 'texture': the weight of 'rain' must be a number above 0, got 0"),
        ("rain:-1", "must be a number above 0, got -1"),
        ("rain:nan+waves:1", "must be a number above 0, got nan"),
        ("rain:inf", "must be a number above 0, got inf"),
        ("rain:much", "must be a number above 0, got 'much'"),
        ({"rain": 0.0}, "must be a number above 0, got 0"),
        ({}, "needs a value|a value at each"),
        ([], "needs a moment"),
        ("rain:1+rain:2", "'rain' is given twice"),
        ("rain@0,waves@0", "moments must ascend, all be finite, got 0 s after 0 s"),
        ("rain@1,waves@nan", "moments must ascend"),
        ("rain@0,waves", "'waves' needs a moment in seconds, such as waves@20"),
        ("rain@0,waves@late", "'waves@late' needs a moment"),
        ("rain@0,wafes@1", "did you mean 'waves'"),
        (7, "must be a value"),
        ([(0, "rain", 1)], "must be a value"),
        ("nowhere.csv", "nowhere.csv: cannot be read as a mixture"),
    ],
)
def test_what_cannot_be_asked_for_is_one_line(asked, words):
    with pytest.raises(ControlError, match=words) as raised:
        parse_mixture("texture", asked, VALUES)
    assert "\n" not in str(raised.value)


def test_schedules_come_from_files_and_are_settled_without_them(tmp_path):
    path = tmp_path / "fade.csv"
    path.write_text("seconds,texture\n0,rain\n\n20.50,rain:0.50+waves:.5\n")
    settled = settle_labels({"texture": str(path)}, {"texture": VALUES})
    assert settled == {"texture": "rain@0,rain:0.5+waves:0.5@20.5"}
    assert settle_labels(settled, {"texture": VALUES}) == settled
    wrong = [
        ("5,rain:0", "the weight of 'rain' must be a number above 0, got 0"),
        ("5,rain,fire", "line 2: must be seconds,value"),
        ("-1,fire", "line 2: seconds must ascend"),
        ("3,rian", "did you mean 'rain'"),
    ]
    for row, words in wrong:
        path.write_text(f"0,rain\n{row}\n")
        with pytest.raises(ControlError, match=words):
            settle_labels({"texture": str(path)}, {"texture": VALUES})
    path.write_text('0,"rain, far"\n1,rain\n')
    with pytest.raises(ControlError, match="in Python alone"):
        settle_labels({"texture": str(path)}, {"texture": ["rain", "rain, far"]})


@given(
    st.lists(st.dictionaries(st.sampled_from(VALUES[:3]), st.floats(1e-6, 1e6), min_size=1), min_size=1),
    st.floats(0.0, 1e3),
)
def test_mixtures_come_back_from_their_text_and_are_shares(blends, second):
    mixture = Mixture(tuple(7.3 * place for place in range(len(blends))), tuple(blends))
    again = parse_mixture("texture", str(mixture), VALUES)
    shares = mixture.shares(second, VALUES)
    assert shares[0] == 0.0 and (shares >= 0.0).all() and shares.sum() == pytest.approx(1.0)
    assert np.array_equal(again.shares(second, VALUES), shares)


def test_lines_are_straight_and_ends_are_held():
    mixture = parse_mixture("texture", "rain@1,waves@3", ["rain", "waves"])
    found = [mixture.shares(second, ["rain", "waves"]).tolist() for second in (-5.0, 1.0, 1.5, 3.0, 99.0)]
    assert found == [[0, 1, 0], [0, 1, 0], [0, 0.75, 0.25], [0, 0, 1], [0, 0, 1]]
    constant = parse_mixture("texture", "rain@0,rain@9", ["rain", "waves"])
    assert all(constant.shares(second, ["rain", "waves"])[1] == 1.0 for second in np.linspace(0, 9, 77))


def labelled() -> Checkpoint:
    """A model that is told labels alone, with frames that no tier's pooling divides."""
    settings = network_settings(
        [3, 3], [16, 16], [4], labels={"tone": ["high", "low"], "size": ["s"]}, hop=50
    )
    shape = NetworkShape.from_dict(settings)
    return Checkpoint(shape, Codec(), RATE, random_tensors(shape, 4), card={"name": "labelled"})


MODELS = {"labels": labelled, "sketch": test_sketch.random_checkpoint}
FADE = {"tone": [(0.05, "low"), (0.2, {"high": 3, "low": 1}), (0.31, "high")]}


@pytest.fixture(params=MODELS, scope="module")
def model(request):
    return Model(MODELS[request.param]())


def test_a_weight_of_one_is_the_label_alone(model):
    plain = model.generate(0.3, labels={"tone": "low"}, seed=3)
    for same in ({"low": 7}, "low:2", [(0, "low"), (0.1, {"low": 2}), (0.2, "low")], "low@0,low@0.2"):
        assert np.array_equal(model.generate(0.3, labels={"tone": same}, seed=3), plain)
    for other in ("low:2+high", [(0, "low"), (0.1, "high")]):
        assert not np.array_equal(model.generate(0.3, labels={"tone": other}, seed=3), plain)


def test_what_has_not_changed_yet_is_not_heard(model):
    plain, fading = model.generate(0.4, labels={"tone": "low"}), model.generate(0.4, labels=FADE)
    same = round((FADE["tone"][0][0]) * RATE) // model.checkpoint.shape.hop * model.checkpoint.shape.hop
    assert same > 0 and np.array_equal(fading[:same], plain[:same]) and not np.array_equal(fading, plain)


def test_chunks_company_and_engines_leave_a_fade(model):
    alone = model.generate(0.5, labels=FADE, seed=3)
    for chunk_seconds in (1 / RATE, 0.007, 5.0):
        chunks = model.stream(0.5, labels=FADE, seed=3, chunk_seconds=chunk_seconds)
        assert np.array_equal(np.concatenate([*chunks]), alone)
    company = {
        "labels": [{}, FADE, {"tone": [(0, "low"), (0.6, "high")]}, {"tone": "low"}],
        "stream": [4, 0, 7, 8],
    }
    for other in (Model(model.checkpoint, threads=2), Model(model.checkpoint, engine="reference")):
        clips = other.generate([0.1, 0.5, 0.4, 0.45], seed=3, **company)
        assert np.array_equal(clips[1], alone)
        assert np.array_equal(clips[3], model.generate(0.45, labels={"tone": "low"}, seed=3, stream=8))


@pytest.mark.parametrize("seconds", [0.03, 0.1, 0.256, 0.4])
def test_a_fade_goes_on_as_if_it_had_never_stopped(model, seconds):
    parts = parts_of(RATE, 0.6, FADE, 3)
    whole, position = model.generate(0.6, labels=FADE, seed=3), round(seconds * RATE)
    first = max(0, position - model.receptive_field - 1)
    voices = model.start(parts, None, whole[None, first:position], position)
    assert np.array_equal(voices.next(len(whole) - position)[0], whole[position:])


def test_bits_of_a_fade(model):
    curves = np.zeros((3, 8), np.float32) if model.checkpoint.curves else None
    clip = model.generate(0.5, labels=FADE, seed=3, curves=curves)
    tokens = model.codec.encode(clip)
    reference = Model(model.checkpoint, engine="reference")
    bits = model.bits(tokens, labels=FADE, curves=curves)
    assert np.abs(bits - reference.bits(tokens, labels=FADE, curves=curves)).max() < 1e-3
    assert bits.mean() != model.bits(tokens, labels={"tone": "low"}, curves=curves).mean()


@pytest.fixture
def toy(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return write_model(tmp_path / "toy.safetensors")


def test_the_command_line_mixes_and_files_tell_of_it(toy):
    Path("fade.csv").write_text("0,hat\n0.3,hat+kick:2\n")
    for text, settled in [
        ("hat:.5+kick:0.50", "hat:0.5+kick:0.5"),
        ("hat@0,kick@0.3", "hat@0,kick@0.3"),
        ("fade.csv", "hat@0,hat:1+kick:2@0.3"),
    ]:
        called = call("generate", toy, "--label", f"drum={text}", "--seconds", 0.4, "-o", "a.wav", "--force")
        assert called.code == 0, called.errors
        made = Take.from_tags(read_tags("a.wav"), "a.wav")
        assert made.labels == {"drum": settled}
        again = load(str(toy)).generate(0.4, labels=made.labels)
        assert np.array_equal(read("a.wav"), np.float32(np.rint(again * 2**15).clip(max=2**15 - 1) / 2**15))
    plain = call("generate", toy, "--label", "drum=kick", "--seconds", 0.4, "-o", "-")
    same = call("generate", toy, "--label", "drum=kick:3", "--seconds", 0.4, "-o", "-")
    assert plain.output == same.output


def test_a_fade_is_resumed_in_a_file(toy):
    fade = ("--label", "drum=hat@0.05,kick@0.6", "--label", "velocity=1+3", "--seed", 3)
    assert call("generate", toy, *fade, "--seconds", 0.7, "-o", "whole.wav").code == 0
    for seconds in (0.1, 0.33, 0.7):
        called = call("generate", toy, *fade, "--seconds", seconds, "-o", "a.wav", "--resume")
        assert called.code == 0, called.errors
    assert Path("a.wav").read_bytes() == Path("whole.wav").read_bytes()
    called = call(
        "generate", toy, *fade[2:], "--label", "drum=hat", "--seconds", 1, "-o", "a.wav", "--resume"
    )
    assert called.code == 1 and "labels drum=hat@0.05,kick@0.6, velocity=1:1+3:1, now" in called.errors


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("drum=hat:0.5+kik", "unknown value 'kik' of the label 'drum'; did you mean 'kick'"),
        ("drum=hat:-1", "the weight of 'hat' must be a number above 0"),
        ("drum=hat@1,kick@0", "moments must ascend"),
        ("drum=lost.csv", "lost.csv: cannot be read as a mixture"),
    ],
)
def test_wrong_mixtures_are_one_line(toy, text, words):
    called = call("generate", toy, "--label", text)
    assert called.code == 1 and words in called.errors and called.errors.count("\n") == 1
    assert not list(Path().glob("*.wav"))


def test_long_mixtures_have_short_names(toy):
    fade = ",".join(f"hat:{weight}+kick:1@{weight}" for weight in range(1, 90))
    called = call("generate", toy, "--label", f"drum={fade}", "--seconds", 0.05)
    assert called.code == 0, called.errors
    assert len(Path(called.text.strip()).name) < 100 and ":" not in called.text


def test_recipes_mix_and_pages_show_what_is_mixed(tmp_path):
    source = write_tones(tmp_path / "tones")
    table = {"name": "between", "clips": 1, "seconds": 0.1}
    wanted = ["low:0.50+high", "low@0,high@0.1"]

    def recipe_of(**more):
        return build_recipe(
            toy_recipe(source).to_dict() | {"page": {"neighbours": 1}, "generate": [table | more]}
        )

    recipe = recipe_of(labels={"tone": wanted})
    store = toy_store(recipe, tmp_path / "store")
    model = Model(toy_vocoder(store, follows=False))
    run_batch(recipe, model, store, tmp_path)
    assert run_batch(recipe, model, store, tmp_path).made == 0
    manifest = read_manifest(tmp_path)
    assert [clip.labels["tone"] for clip in manifest.clips] == ["low:0.5+high:1", "low@0,high@0.1"]
    assert [clip.file for clip in manifest.clips] == [
        "between/low_0.5+high_1-t1.0-000.wav", "between/low_0_high_0.1-t1.0-000.wav",
    ]  # fmt: skip
    assert {clip.labels["tone"] for clip in manifest.real} == {"low", "high"}
    (groups,) = group_clips(manifest).values()
    assert all({real.labels["tone"] for real in group.real} == {"low", "high"} for group in groups)
    assert "low:0.5+high:1" in write_page(tmp_path).read_text()
    jobs = expand(recipe_of(labels={"tone": "*"}, file="{tone}.wav").generate, model)
    assert [job.take.labels["tone"] for job in jobs] == ["high", "low"]
    with pytest.raises(ControlError, match=r"\[\[generate\]\] between: unknown value 'hihg'.*'high'"):
        expand(recipe_of(labels={"tone": "low+hihg"}).generate, model)
