"""Laws of the build: which compiler is taken, and that one is asked for where there is none."""

import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from audio_gen.engine import build
from audio_gen.engine.binding import library_path, load_library, usable_isas

ROOT = Path(__file__).parents[1]


def backend():
    pytest.importorskip("setuptools")
    spec = importlib.util.spec_from_file_location(
        "engine_backend", ROOT / "build_backend" / "engine_backend.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_compiler_is_required_only_where_there_is_none(monkeypatch, tmp_path):
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "ziglang" else real(name))
    assert build.find_compiler() is None
    with pytest.raises(build.BuildError, match=r"no C compiler: install .* ziglang"):
        build.build(tmp_path / "none.so")
    assert backend()._compiler() == ["ziglang>=0.13"]
    cc = tmp_path / "cc"
    cc.write_text("#!/bin/sh\n")
    cc.chmod(0o755)
    assert build.find_compiler() == ["cc"] and backend()._compiler() == []
    monkeypatch.setenv("CC", "some-compiler -m64")
    assert build.find_compiler() == ["some-compiler", "-m64"]


OLD = """#!/bin/sh
for argument; do
    case $argument in -mavx512*|-mavxvnni|*dotprod) echo "what is $argument?" >&2; exit 1;; esac
done
exec {compiler} "$@"
"""


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script in place of a compiler")
def test_a_compiler_that_is_too_old_leaves_out_what_it_does_not_know(tmp_path):
    old = tmp_path / "cc"
    old.write_text(OLD.format(compiler=shlex.join(build.find_compiler())))
    old.chmod(0o755)
    known = load_library(build.build(tmp_path / "old.so", compiler=[str(old)], flags=["-O1"]))
    all_of_it = load_library(library_path())
    assert usable_isas(known) == [isa for isa in usable_isas(all_of_it) if isa in ("avx2", "baseline")]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="an empty PATH, as POSIX has it")
def test_it_installs_where_there_is_no_compiler(tmp_path):
    """In a fresh environment, with the compiler that PyPI has. Needs the network."""
    home, source = tmp_path / "fresh", tmp_path / "source"
    ignored = shutil.ignore_patterns(".git", "*.so", "tests", "samples", "*.egg-info", "build")
    shutil.copytree(ROOT, source, ignore=ignored)
    venv.create(home, with_pip=True)
    python = home / "bin" / "python"
    command = [python, "-m", "pip", "install", "-q", "--no-deps", source]
    others = {name: value for name, value in os.environ.items() if name not in ("CC", "PYTHONPATH")}
    done = subprocess.run(command, env=others | {"PATH": ""}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (library,) = home.glob("lib/python*/site-packages/audio_gen/engine/*audio_gen_engine*")
    assert b"clang" in library.read_bytes() or b"zig" in library.read_bytes()
