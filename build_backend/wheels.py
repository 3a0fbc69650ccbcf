"""Wheels for every platform from one machine: `python -m build_backend.wheels -o dist`, in the project's folder.

Clang from PyPI (`pip install ziglang setuptools`) compiles the engine for each; nothing else of a wheel depends on
the platform, and nothing at all on the version of Python.
"""

import argparse
import importlib.util
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Platform:
    """What a wheel is for."""

    triple: str
    """As zig names it, with the oldest system that it runs on."""
    machine: str
    """As platform.machine() names it."""
    system: str
    """As sys.platform names it."""
    tag: str
    """As pip names it."""


PLATFORMS = {
    "linux-x86_64": Platform("x86_64-linux-gnu.2.17", "x86_64", "linux", "manylinux_2_17_x86_64"),
    "linux-arm64": Platform("aarch64-linux-gnu.2.17", "aarch64", "linux", "manylinux_2_17_aarch64"),
    "macos-x86_64": Platform("x86_64-macos.11.0", "x86_64", "darwin", "macosx_11_0_x86_64"),
    "macos-arm64": Platform("aarch64-macos.11.0", "arm64", "darwin", "macosx_11_0_arm64"),
    "windows-x86_64": Platform("x86_64-windows-gnu", "AMD64", "win32", "win_amd64"),
}


def build_wheel(platform: Platform, folder: Path) -> Path:
    """The wheel for `platform`, in `folder`. Raises CalledProcessError."""
    with tempfile.TemporaryDirectory() as work:
        engine = ["--triple", platform.triple, "--machine", platform.machine, "--system", platform.system]
        command = [
            *[sys.executable, "setup.py", "-q", "egg_info", "--egg-base", work],
            *["build", "--build-base", work, "build_engine", *engine],
            *["bdist_wheel", "--plat-name", platform.tag, "--dist-dir", f"{work}/dist", "--bdist-dir", f"{work}/files"],
        ]  # fmt: skip
        subprocess.run(command, cwd=ROOT, check=True)
        (made,) = Path(work, "dist").glob("*.whl")
        folder.mkdir(parents=True, exist_ok=True)
        return Path(shutil.move(made, folder / made.name))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m build_backend.wheels", description=__doc__)
    parser.add_argument("-o", "--output", type=Path, default=Path("dist"), help="folder for the wheels")
    parser.add_argument("--only", nargs="+", choices=PLATFORMS, default=list(PLATFORMS), metavar="PLATFORM")
    given = parser.parse_args()
    if importlib.util.find_spec("ziglang") is None:
        sys.exit("no compiler for other platforms: pip install ziglang")
    for name in given.only:
        try:
            print(build_wheel(PLATFORMS[name], given.output.resolve()), flush=True)
        except subprocess.CalledProcessError:
            sys.exit(f"{name}: cannot be built")  # setup.py has said why


if __name__ == "__main__":
    main()
