"""More models, in a package of their own: found by name once it is installed, by every verb."""

import shutil
import sys
import tomllib
from pathlib import Path

import pytest
from command_line import call

import audio_gen
from audio_gen.errors import CheckpointError
from audio_gen.sampler.library import PRETRAINED, ZOO, bundled_files, find

ROOT = Path(__file__).parents[1]


@pytest.fixture
def zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As installed, with one model that the package has not, and one that it has."""
    folder = tmp_path / ZOO
    shutil.copytree(ROOT / "zoo" / ZOO, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    for name in ("kit", "digits"):
        shutil.copy(PRETRAINED / "drums.safetensors", folder / f"{name}.safetensors")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.delitem(sys.modules, ZOO, raising=False)
    return folder


def test_its_models_are_found_by_name(zoo: Path, tmp_path: Path) -> None:
    assert audio_gen.bundled().count("kit") == 1 and find("kit") == zoo / "kit.safetensors"
    assert find("digits") == PRETRAINED / "digits.safetensors", "the package's own come first"
    assert "\nkit: " in call("models").text
    made = call("generate", "kit", "--seconds", 0.05, "-o", tmp_path / "hit.wav", "-q")
    assert made.code == 0, made.errors


def test_without_it_only_its_models_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("audio_gen.sampler.library.find_spec", lambda name: None)
    assert set(bundled_files()) == {path.stem for path in PRETRAINED.iterdir()}
    with pytest.raises(CheckpointError, match="neither a bundled model"):
        find("kit")


def test_the_package_holds_the_models() -> None:
    project = tomllib.loads((ROOT / "zoo" / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["tool"]["setuptools"]["packages"] == [ZOO]
    assert project["tool"]["setuptools"]["package-data"] == {ZOO: ["*.safetensors"]}
