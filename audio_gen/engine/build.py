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
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

SOURCES = Path(__file__).resolve().parent
SUFFIXES = {"darwin": ".dylib", "win32": ".dll"}

FLAGS = ["-std=c11", "-O3", "-ffp-contract=off", "-fno-math-errno", "-fvisibility=hidden", "-Wall", "-Wextra"]
_AVX512 = [*(f"-mavx512{part}" for part in ("f", "bw", "cd", "dq", "vl")), "-mprefer-vector-width=512"]
_AVX2 = ["-mavx2", "-mfma"]
X86_FLAGS = {
    "avx512bf16": [*_AVX512, "-mavx512bf16"],
    "avx512vnni": [*_AVX512, "-mavx512vnni"],
    "avx512": _AVX512,
    "avxvnni": [*_AVX2, "-mavxvnni"],
    "avx2": _AVX2,
}
ARM_FLAGS = {"dotprod": ["-march=armv8.2-a+dotprod"]}
ZIG_ARM_FLAGS = {"dotprod": ["-mcpu=generic+dotprod"]}  # which knows no -march
WEIGHT_BITS = {"fp32": 32, "bf16": 16, "int8": 8}
# Other precisions gain nothing from these.
_ONLY_FOR = {"avx512bf16": "bf16", "avx512vnni": "int8", "avxvnni": "int8", "dotprod": "int8"}


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


def instruction_sets(machine: str, compiler: list[str]) -> dict[str, list[str]]:
    """Those of `machine` beside its baseline that the compiler knows, best first, and how it is told of each."""
    sets: dict[str, list[str]] = {}
    if machine.lower() in ("x86_64", "amd64"):
        sets = X86_FLAGS
    elif machine.lower() in ("aarch64", "arm64"):
        sets = ZIG_ARM_FLAGS if "ziglang" in compiler else ARM_FLAGS
    with tempfile.TemporaryDirectory() as folder:
        return {isa: flags for isa, flags in sets.items() if _knows(compiler, flags, Path(folder))}


def _knows(compiler: list[str], flags: list[str], folder: Path) -> bool:
    """Does it compile nothing with them? One that compiles nothing at all fails at the baseline, and says why."""
    empty = folder / "empty.c"
    empty.write_text("extern int nothing;\n")
    try:
        _run([*compiler, *flags, "-c", str(empty), "-o", str(empty.with_suffix(".o"))])
    except BuildError:
        return False
    return True


def kernels(sets: dict[str, list[str]]) -> dict[str, list[str]]:
    """The compilations of engine.c for instruction `sets` and the baseline: name and flags of each."""
    return {
        f"{precision}_{isa}": [*flags, f"-DENGINE_NAME={precision}_{isa}", f"-DWEIGHT_BITS={bits}"]
        for isa, flags in {**sets, "baseline": []}.items()
        for precision, bits in WEIGHT_BITS.items()
        if _ONLY_FOR.get(isa, precision) == precision
    }


def defines(sets: dict[str, list[str]]) -> list[str]:
    """What tells library.c and limits.c of them."""
    return [f"-DWITH_{isa.upper()}" for isa in sets]


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
    command = [*compiler, *FLAGS, *([] if system == "win32" else ["-fPIC"]), *(flags or [])]
    sets = instruction_sets(machine or platform.machine(), command)
    with tempfile.TemporaryDirectory() as folder:
        objects = _objects(command, sets, folder)
        library = Path(folder) / library_name(system)
        once = [str(SOURCES / name) for name in ("library.c", "limits.c")]
        _run([*command, *defines(sets), "-shared", *once, *objects, "-o", str(library)])
        _install(library, destination)
    return destination


BROWSER_VERBS = ("room", "voices", "rewind", "ask", "turn", "next")
"""What browser.c exports."""


def build_browser(destination: Path | None = None) -> Path:
    """The engine for browsers, a WebAssembly module: compiled to `destination` (default: beside the sources), unless it
    is there and newer than they are. Needs the package ziglang, whatever other compilers there are. Raises BuildError.
    """
    destination = destination or SOURCES / "browser.wasm"
    newest = max(source.stat().st_mtime for source in SOURCES.glob("*.[ch]"))
    if destination.exists() and destination.stat().st_mtime > newest:
        return destination
    if not importlib.util.find_spec("ziglang"):
        raise BuildError("needs the package ziglang; run: pip install ziglang")
    compiler = [sys.executable, "-m", "ziglang", "cc", "-target", "wasm32-wasi", *FLAGS, "-msimd128"]
    exports = [f"-Wl,--export=audio_gen_{verb}" for verb in BROWSER_VERBS]
    linking = ["-mexec-model=reactor", "-Wl,--strip-all", *exports]
    with tempfile.TemporaryDirectory() as folder:
        objects = _objects(compiler, {}, folder)
        once = [str(SOURCES / name) for name in ("library.c", "browser.c")]
        module = Path(folder) / destination.name
        _run([*compiler, *linking, *once, *objects, "-o", str(module)])
        _install(module, destination)
    return destination


def _objects(compiler: list[str], sets: dict[str, list[str]], folder: str) -> list[str]:
    """The compilations of engine.c for instruction `sets`, in `folder`."""
    source = str(SOURCES / "engine.c")
    objects: list[str] = []
    commands: list[list[str]] = []
    for name, chosen in kernels(sets).items():
        objects.append(str(Path(folder) / f"{name}.o"))
        commands.append([*compiler, *chosen, "-c", source, "-o", objects[-1]])
    with ThreadPoolExecutor(os.cpu_count()) as at_once:
        list(at_once.map(_run, commands))
    return objects


def _install(built: Path, destination: Path) -> None:
    """Put it in place at once: a running process keeps the library it has loaded."""
    partial = destination.with_name(destination.name + ".part")
    try:
        shutil.copyfile(built, partial)
        partial.replace(destination)
    except OSError as error:
        raise BuildError(f"{destination}: cannot be written: {error.strerror}") from None


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
