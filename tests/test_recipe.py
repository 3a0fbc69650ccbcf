"""Laws of recipes: what is written is what counts, and every mistake is one line that says where and what to do."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from audio_gen.errors import RecipeError
from audio_gen.recipe import build_recipe, load_recipe
from audio_gen.settings import Recipe

MINIMAL = '[data]\nsource = "recordings"\n'


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def write(text: str, name: str = "toy.toml") -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


def refusal(path: Path, *overrides: str) -> str:
    """The message of the error that a recipe raises: one line, with the recipe's name."""
    with pytest.raises(RecipeError) as caught:
        load_recipe(path, overrides)
    message = str(caught.value)
    assert "\n" not in message and len(message) > 10
    return message


def test_defaults_fill_what_is_not_said(write: Any) -> None:
    recipe = load_recipe(write(MINIMAL))
    assert recipe.name == "toy" and recipe.data.sample_rate == 16_000 and recipe.codec.levels == 256
    assert recipe.train.minutes == 60.0 and recipe.train.steps is None


def test_a_resolved_recipe_builds_the_same_recipe(write: Any) -> None:
    text = (
        MINIMAL
        + """
        valid_where = { index = ["0"] }
        [controls.labels.drum]
        from = "{a}"
        values = { kick = ["ks"] }
        [train]
        steps = 3
        [[generate]]
        name = "one"
        labels = { drum = "*", velocity = ["1", "2"] }
        temperature = [0.8, 1]
    """
    )
    for recipe in (load_recipe(write(MINIMAL)), load_recipe(write(text))):
        assert build_recipe(recipe.to_dict()) == recipe
        assert build_recipe(recipe.to_dict()).to_dict() == recipe.to_dict()


def test_relative_paths_start_at_the_recipe(
    write: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")
    path = write('[data]\nsource = "../sounds"\nlabels_csv = "labels.csv"\n')
    data = load_recipe(path).data
    assert data.source == str(tmp_path.parent / "sounds") and data.labels_csv == str(tmp_path / "labels.csv")
    absolute = str(tmp_path / "elsewhere")
    assert load_recipe(path, [f"data.source={absolute}"]).data.source == absolute
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load_recipe(path, ["data.source=~/in"]).data.source == str(tmp_path / "in")


def test_settings_never_change(write: Any) -> None:
    recipe = load_recipe(write(MINIMAL))
    for table, key in ((recipe, "name"), (recipe.train, "steps"), (recipe.network, "layers")):
        with pytest.raises(ValidationError, match="frozen"):
            setattr(table, key, 1)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[train]\nminuts = 3", "unknown key train.minuts; did you mean minutes?"),
        ("[trian]\nsteps = 3", "unknown key trian; did you mean train?"),
        ("[network]\nqqq = 3", "unknown key network.qqq; known here: preset, layers, channels"),
        ("[controls.labels.drum]\nform = 'x'", "unknown key controls.labels.drum.form; did you mean from?"),
        ("[[generate]]\nname = 'a'\nsecond = 2", "unknown key generate.0.second; did you mean seconds?"),
        ("[train]\nsteps = 'ten'", "train.steps"),
        ("[train]\nsteps = 1.5", "train.steps"),
        ("[train]\nsteps = true", "train.steps"),
        ("[train]\nsteps = 0", "train.steps: should be greater than or equal to 1, got 0"),
        ("[train]\nwarmup = 0.1", "train: needs steps or minutes"),
        ("[train]\nsteps = 5\nlearning_rate = -1", "train.learning_rate"),
        ("[train]\nsteps = 5\nlearning_rate = nan", "train.learning_rate"),
        ("[train]\nsteps = 5\nlearning_rate = inf", "train.learning_rate"),
        ("[train]\nsteps = 5\nseed = 99999999999999999999", "train.seed"),
        ("[train]\nsteps = 2020-01-01", "train.steps: dates and times are no settings; put text in quotes"),
        ("[train]\nsteps = 5\nprecision = 'fp16'", "train.precision: should be 'auto', 'bf16' or 'fp32'"),
        ("[train]\nsteps = 5\ncrop = 1000", "train.crop (1000) must be a multiple of the slowest tier's 64 samples"),
        ("train = 3", "train"),
        ("[codec]\nlevels = 300", "codec.levels: should be 256, 512 or 1024, got 300"),
        ("[codec]\npre_emphasis = 1.0", "codec.pre_emphasis"),
        ("[network]\nlayers = []\nchannels = []\npool = []", "network: layers (0)"),
        ("[network]\nlayers = [3, 3]\nchannels = [8]\npool = []", "must describe the same tiers"),
        ("[network]\nlayers = [3, 3]\nchannels = [8, 8]\npool = []", "must describe the same tiers"),
        ("[network]\nlayers = [0]\nchannels = [8]\npool = []", "layers must be from 1 to 200"),
        ("[network]\nlayers = [3]\nchannels = [-8]\npool = []", "channels must be from 1 to 4096"),
        ("[network]\nlayers = [3, 3]\nchannels = [8, 8]\npool = [1]", "pool must be from 2 to 256"),
        ("[network]\nlayers = 3", "network.layers"),
        ("[network]\nkernel_size = 1", "network.kernel_size"),
        ("[network]\npredictors = []\nanchor = true", "network.anchor needs a predictor to lie at"),
        ("[controls]\ncurves = ['mood']", "controls.curves.0"),
        ("[controls]\ncurves = ['mel']\nhop = 100", "controls.hop (100) must be a multiple of the slowest tier's 64"),
        ("[controls]\ncurves = ['mel']\nhop = 320", "train.crop (4096) must be a multiple of controls.hop (320)"),
        ("[controls.labels.'a.b']\nfrom = '{x}'", "controls.labels: 'a.b' is no name for a label"),
        ("[controls.labels.drum]\nvalues = {}", "controls.labels.drum.from is missing"),
        ("[[generate]]\nname = 'a'\n[[generate]]\nname = 'a'", "[[generate]] names must differ, got a, a"),
        ("[[generate]]\nname = 'a'\ntemperature = 'hot'", "generate.0.temperature"),
        ("[generate]\nname = 'a'", "generate"),
        ("name = 'a b'", "name"),
        ("name = '../x'", "name"),
        ("[page]\nneighbours = 1\nneighbours = 2", "not valid TOML"),
        ("\"two\\nlines\" = 1", "unknown key"),
    ],
)  # fmt: skip
def test_every_mistake_is_one_line(write: Any, text: str, said: str) -> None:
    top = text if text.startswith(("name", "train =", '"two')) else ""
    path = write(f"{top}\n{MINIMAL}\n{'' if top else text}\n")
    message = refusal(path)
    assert said in message and str(path) in message


def test_several_mistakes_are_told_together(write: Any) -> None:
    message = refusal(write(MINIMAL + "[codec]\nlevel = 1\n[train]\nsteps = 'x'\n"))
    assert "codec.level" in message and "train.steps" in message


def test_data_needs_a_source_that_is_a_template_where_it_should_be(write: Any) -> None:
    assert "data is missing" in refusal(write(""))
    assert "data.source is missing" in refusal(write("[data]\n"))
    assert "data.pattern" in refusal(write(MINIMAL + "pattern = '{open'\n"))
    assert "data.valid_fraction" in refusal(write(MINIMAL + "valid_fraction = 1.0\n"))


def test_what_is_no_recipe_is_one_line(write: Any, tmp_path: Path) -> None:
    assert "no such recipe" in refusal(tmp_path / "absent.toml")
    assert "not valid TOML" in refusal(write("[data\n"))
    assert "cannot be read" in refusal(tmp_path)
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    assert "cannot be read" in refusal(tmp_path / "binary.toml")


def test_overrides(write: Any) -> None:
    path = write(MINIMAL + "[[generate]]\nname = 'a'\n[[generate]]\nname = 'b'\n")
    recipe = load_recipe(
        path,
        [
            "train.steps=10",
            "generate.0.seconds=2",
            "generate.1.labels.drum=kick",
            "codec.levels = 512",
            "network.layers=[2]",
            "network.channels=[8]",
            "network.pool=[]",
            "data.gain={speaker}",
            'card.data="quoted, text"',
            "card.licence=CC0 1.0",
            "page.text=a = b",
            "controls.labels.drum.from={kind}",
            "name=other",
        ],
    )
    assert recipe.train.steps == 10 and recipe.train.minutes is None and recipe.name == "other"
    assert [table.seconds for table in recipe.generate] == [2.0, 1.0]
    assert recipe.generate[1].labels == {"drum": "kick"}
    assert recipe.codec.levels == 512 and recipe.network.layers == [2]
    assert (recipe.data.gain, recipe.card.data, recipe.card.licence) == (
        "{speaker}",
        "quoted, text",
        "CC0 1.0",
    )
    assert recipe.page.text == "a = b" and recipe.controls.labels["drum"].source == "{kind}"
    assert load_recipe(path, ["page.text=1\nneighbours = 7"]).page.text == "1\nneighbours = 7", (
        "one key, no more"
    )


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("train.steps", "--set train.steps: must be KEY=VALUE"),
        ("=3", "must be KEY=VALUE"),
        ("train.stepz=3", "unknown key train.stepz; did you mean steps?"),
        ("train.steps=ten", "train.steps"),
        ("train.steps=", "train.steps"),
        ("nowhere.steps=3", "unknown key nowhere"),
        ("data.source.x=3", "--set data.source.x=3: data.source is no table"),
        ("generate.7.seconds=2", "generate.7 is no table"),
        ("generate.seconds=2", "generate is no table"),
        ("generate.0=2", "generate is no table"),
        ("a..b=2", "unknown key"),
    ],
)
def test_wrong_overrides_are_one_line(write: Any, override: str, said: str) -> None:
    assert said in refusal(write(MINIMAL + "[[generate]]\nname = 'a'\n"), override)


def test_the_recipes_that_come_along_are_valid() -> None:
    recipes = sorted((Path(__file__).parents[1] / "recipes").glob("*.toml"))
    assert recipes
    for path in recipes:
        assert isinstance(load_recipe(path), Recipe)


def test_an_overriding_source_starts_at_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "recipes").mkdir()
    path = tmp_path / "recipes" / "a.toml"
    path.write_text('[data]\nsource = "sounds"\n[train]\nsteps = 1\n')
    monkeypatch.chdir(tmp_path)
    assert load_recipe(path).data.source == str(tmp_path / "recipes" / "sounds")
    assert load_recipe(path, ["data.source=sounds"]).data.source == str(tmp_path / "sounds")


def test_predictors_that_drift_are_left_out_where_there_is_an_envelope() -> None:
    def recipe(controls: dict[str, Any], network: dict[str, Any], codec: dict[str, Any]) -> Recipe:
        tables = {
            "name": "a",
            "data": {"source": "."},
            "controls": controls,
            "network": network,
            "codec": codec,
        }
        return build_recipe(tables)

    mel, loudness = {"curves": ["mel", "loudness"]}, {"curves": ["loudness", "mel"]}
    for controls, network, codec, envelope, predictors in [
        ({}, {}, {}, 0, (16, 32, 128)),
        (mel, {}, {}, 16, ()),
        (mel, {"envelope": 0}, {}, 0, (16, 32, 128)),
        (mel, {"envelope": 24, "predictors": [8]}, {}, 24, (8,)),
        (mel, {}, {"pre_emphasis": 0.85}, 0, (16, 32, 128)),
        (loudness, {}, {}, 0, (16, 32, 128)),
        ({}, {"predictors": []}, {}, 0, ()),
    ]:
        found = recipe(controls, network, codec)
        assert (found.envelope, found.predictors) == (envelope, predictors), (controls, network, codec)
