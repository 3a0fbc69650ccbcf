"""Compile the engine: `python -m audio_gen.engine.build`. Needs only a C compiler, or the package ziglang.

Used by the installation (setup.py), which loads this file by its path: it imports only the standard library.
"""

import importlib.util
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

SOURCES = Path(__file__).resolve().parent
SUFFIXES = {"darwin": ".dylib", "win32": ".dll"}

FLAGS = ["-std=c11", "-O3", "-ffp-contract=off", "-fno-math-errno", "-fvisibility=hidden", "-Wall", "-Wextra"]
ISA_FLAGS = {
    "avx512": [
        "-mavx512f",
        "-mavx512bw",
        "-mavx512cd",
        "-mavx512dq",
        "-mavx512vl",
        "-mprefer-vector-width=512",
    ],
    "avx2": ["-mavx2"],
    "baseline": [],
}


class BuildError(Exception):
    """No compiler, or the compiler failed."""


def library_name(system: str = sys.platform) -> str:
    """File name of the shared library on `system`."""
    return "libaudio_gen_engine" + SUFFIXES.get(system, ".so")


def find_compiler() -> list[str] | None:
    """The command that compiles C: $CC, cc, gcc, clang, or the package ziglang's; None if there is none."""
    if os.environ.get("CC"):
        return shlex.split(os.environ["CC"])
    for name in ("cc", "gcc", "clang"):
        if shutil.which(name):
            return [name]
    if importlib.util.find_spec("ziglang"):
        return [sys.executable, "-m", "ziglang", "cc", "-mcpu=baseline"]  # its default is this very machine
    return None


def isas(machine: str) -> list[str]:
    """Instruction sets that the library for `machine` is compiled for."""
    return list(ISA_FLAGS) if machine.lower() in ("x86_64", "amd64") else ["baseline"]


def build(
    destination: Path | None = None,
    *,
    compiler: list[str] | None = None,
    machine: str | None = None,
    system: str | None = None,
    flags: list[str] | None = None,
) -> Path:
    """Compile to `destination` (default: beside the sources) and return its path. Raises BuildError.

    `machine` and `system` (as platform.machine() and sys.platform name them) describe the target when
    `compiler` is a cross-compiler; `flags` are added, after ours.
    """
    compiler = compiler or find_compiler()
    if compiler is None:
        raise BuildError("no C compiler: install gcc or clang, or `pip install ziglang`")
    system = system or sys.platform
    destination = destination or SOURCES / library_name(system)
    common = [*FLAGS, *([] if system == "win32" else ["-fPIC"]), *(flags or [])]
    with tempfile.TemporaryDirectory() as folder:
        objects = []
        for isa in isas(machine or platform.machine()):
            target = Path(folder) / f"{isa}.o"
            source = [*ISA_FLAGS[isa], f"-DENGINE_NAME={isa}", "-c", str(SOURCES / "engine.c")]
            _run([*compiler, *common, *source, "-o", str(target)])
            objects.append(str(target))
        library = Path(folder) / library_name(system)
        _run([*compiler, *common, "-shared", str(SOURCES / "library.c"), *objects, "-o", str(library)])
        partial = destination.with_name(destination.name + ".part")
        shutil.copyfile(library, partial)
        partial.replace(destination)  # a running process keeps the library it has loaded
    return destination


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise BuildError(f"{command[0]}: {error}") from None
    if done.returncode:
        raise BuildError(f"{shlex.join(command)}\n{done.stderr}")


if __name__ == "__main__":
    try:
        sys.stdout.write(f"{build()}\n")
    except BuildError as error:
        sys.exit(f"cannot compile the engine: {error}")
