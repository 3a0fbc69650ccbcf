"""Every command and Python example of the README and of docs/ runs as it stands there; links lead somewhere."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "benchmarks").glob("*.md")),
]
QUICK = [
    "--set", "train.minutes=1", "--set", "train.steps=2", "--set", "sketch.steps=2",
    "--set", "train.preview_seconds=0.0", "--set", "generate.0.seconds=0.05", "--set", "generate.0.clips=1",
    "--set", "generate.1.most_seconds=0.05",
]  # fmt: skip
"""What an hour of training becomes here."""


def blocks(language: str) -> list[str]:
    texts = [page.read_text(encoding="utf-8") for page in PAGES]
    return [block for text in texts for block in re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)]


def commands() -> list[str]:
    lines = [line.partition(" #")[0].strip() for block in blocks("sh") for line in block.splitlines()]
    parts = [part.strip() for line in lines for part in line.split("&&")]
    return list(dict.fromkeys(part for part in parts if part.startswith("audio-gen ")))


@pytest.fixture(scope="module")
def desk(tmp_path_factory) -> Path:
    """A folder as its reader has it: the recipes, and recordings named like those of the drums recipe."""
    folder = tmp_path_factory.mktemp("desk")
    (folder / "recipes").symlink_to(ROOT / "recipes")
    coins = np.random.default_rng(0)
    for number, name in enumerate(
        f"{a}_vl{v}_rr{r}" for a in ("ks", "sc", "hc") for v in (2, 5) for r in (1, 2, 3, 4)
    ):
        hit = coins.normal(size=3000) * np.exp(-np.arange(3000) / (300 + 100 * (number % 5))) * 0.2
        path = folder / "recordings" / "oh" / f"{name}.flac"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, hit, 16_000)
    soundfile.write(folder / "word.wav", hit, 16_000)
    (folder / "tune.csv").write_text("start,end,key,velocity\n0.1,0.4,60,80\n0.3,0.6,67,70\n")
    return folder


def test_the_readme_has_commands():
    assert len(commands()) >= 7


@pytest.mark.parametrize("command", commands())
def test_command(command: str, desk: Path):
    shown, _, target = command.partition(" > ")
    words = shlex.split(shown)[1:]
    if words[0] == "run":
        words += QUICK
    done = subprocess.run(
        [sys.executable, "-m", "audio_gen", *words], cwd=desk, capture_output=True, check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT / "zoo")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    if target:
        (desk / target).write_bytes(done.stdout)
        assert soundfile.info(desk / target).frames > 0
    else:
        assert done.stdout.strip()


@pytest.mark.parametrize("example", blocks("python"))
def test_python_example(example: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "path", [str(ROOT / "zoo"), *sys.path])
    exec(compile(example, "README.md", "exec"), {})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path):
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        name, _, anchor = target.partition("#")
        linked = page.parent / name if name else page
        assert linked.exists(), target
        if anchor:
            heads = re.findall(r"^#+ (.*)$", linked.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}, (
                target
            )


def test_ci_runs_the_two_commands_the_readme_gives():
    for marker in ("command:sound", "command:test"):
        assert README.count(f"<!-- {marker} -->\n```sh\n") == 1
        assert marker in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
