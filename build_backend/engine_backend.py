"""setuptools' build backend, plus a C compiler from PyPI where the system has none."""

import importlib.util
from pathlib import Path
from typing import Any

from setuptools.build_meta import *  # noqa: F403
from setuptools.build_meta import get_requires_for_build_editable as _for_editable
from setuptools.build_meta import get_requires_for_build_wheel as _for_wheel


def _compiler() -> list[str]:
    path = Path(__file__).parents[1] / "audio_gen" / "engine" / "build.py"
    spec = importlib.util.spec_from_file_location("engine_build", path)
    module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
    spec.loader.exec_module(module)  # type: ignore[union-attr]
    return [] if module.find_compiler() else ["ziglang>=0.13"]


def get_requires_for_build_wheel(config_settings: Any = None) -> list[str]:
    return [*_for_wheel(config_settings), *_compiler()]


def get_requires_for_build_editable(config_settings: Any = None) -> list[str]:
    return [*_for_editable(config_settings), *_compiler()]
