"""Compiles the engine as a step of the build; everything else is in pyproject.toml."""

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import ClassVar

from setuptools import Command, Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build import build

ENGINE = "audio_gen/engine"


def engine_build() -> ModuleType:
    """audio_gen/engine/build.py by its path: the package's own requirements are not installed yet."""
    spec = importlib.util.spec_from_file_location("engine_build", Path(__file__).parent / ENGINE / "build.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class BuildEngine(Command):
    """Put the shared library into the wheel, or beside the sources for an editable install."""

    description = "compile the sampler"
    user_options: ClassVar[list[tuple[str, None, str]]] = [
        (
            "triple=",
            None,
            "compile with ziglang for this platform, not with the system's compiler for this one",
        ),
        ("machine=", None, "the platform's, as platform.machine() has it"),
        ("system=", None, "the platform's, as sys.platform has it"),
    ]

    def initialize_options(self) -> None:
        self.build_lib = None
        self.editable_mode = False
        self.triple = self.machine = self.system = None

    def finalize_options(self) -> None:
        self.set_undefined_options("build", ("build_lib", "build_lib"))

    def _library(self) -> Path:
        root = Path(__file__).parent if self.editable_mode else Path(self.build_lib)
        return root / ENGINE / engine_build().library_name(self.system or sys.platform)

    def run(self) -> None:
        library = self._library()
        library.parent.mkdir(parents=True, exist_ok=True)
        module = engine_build()
        try:
            module.build(library, compiler=self._compiler(), machine=self.machine, system=self.system)
        except module.BuildError as error:
            raise SystemExit(f"cannot compile the engine: {error}") from None

    def _compiler(self) -> list[str] | None:
        """None: whatever this system has."""
        zig = [sys.executable, "-m", "ziglang", "cc", "-target"]
        return [*zig, self.triple, "-mcpu=baseline"] if self.triple else None

    def get_outputs(self) -> list[str]:
        return [] if self.editable_mode else [str(self._library())]

    def get_output_mapping(self) -> dict[str, str]:
        return {}

    def get_source_files(self) -> list[str]:
        return [os.fspath(path) for path in Path(ENGINE).glob("*.[ch]")]


class BuildWithEngine(build):
    sub_commands: ClassVar = [*build.sub_commands, ("build_engine", None)]


class PlatformWheel(bdist_wheel):
    """One wheel per platform serves every Python 3: nothing in the library links to Python."""

    def get_tag(self) -> tuple[str, str, str]:
        return "py3", "none", super().get_tag()[2]


class PlatformDistribution(Distribution):
    def has_ext_modules(self) -> bool:
        return True


setup(
    distclass=PlatformDistribution,
    cmdclass={"build": BuildWithEngine, "build_engine": BuildEngine, "bdist_wheel": PlatformWheel},
)
