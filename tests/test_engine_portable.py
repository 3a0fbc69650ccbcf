"""The same bits from other compilers and for other machines, and nothing for the sanitizers to find.

Heavy: they compile the engine anew. `pytest -m slow tests/test_engine_portable.py`
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from engine_cases import ISAS, NETWORKS, Case, coins_of

from audio_gen.curves import surround
from audio_gen.engine.binding import c_shape, load_library, usable_isas
from audio_gen.engine.build import (
    FLAGS,
    SOURCES,
    X86_FLAGS,
    build,
    defines,
    find_compiler,
    instruction_sets,
    kernels,
)
from audio_gen.engine.pack import PRECISIONS, pack

pytestmark = pytest.mark.slow
TESTS = Path(__file__).parent
STEPS = 150


def zig(*arguments):
    """The command of the compiler that comes from PyPI."""
    pytest.importorskip("ziglang")
    return [sys.executable, "-m", "ziglang", "cc", *arguments]


def test_another_compiler_gives_the_same_bits(tmp_path, monkeypatch):
    library = build(tmp_path / "zig.so", compiler=zig("-mcpu=baseline"))
    monkeypatch.setattr("audio_gen.engine.engine.library_path", lambda: library)
    assert usable_isas(load_library(library)) == ISAS
    others = [Case(name, precision) for name in NETWORKS for precision in PRECISIONS]
    monkeypatch.undo()
    coins = coins_of(11, 3, 200)
    for other in others:
        case = Case(other.name, other.precision)
        assert np.array_equal(other.logits(), case.logits())
        assert np.array_equal(other.sample(coins), case.sample(coins))


def replay(case, command, folder, isa):
    """Tokens and logits that a program made of engine_replay.c draws for the case's three streams, with `isa`."""
    shape, state = case.engine.shape, case.engine.start(case.labels)
    frames = 0 if case.curves is None else case.curves.shape[1]
    precision = np.int32(list(PRECISIONS).index(case.precision))
    weights = pack(shape, case.tensors, case.precision, case.scales)
    parts = [precision, np.int32(3), np.int64(STEPS), np.int64(frames), weights]
    parts += [state.condition] if shape.conditioned else []
    parts += [surround(case.curves, shape.offsets)] if frames else []
    parts += [coins_of(1, 3, STEPS)]
    given, made = folder / "given", folder / "made"
    given.write_bytes(bytes(c_shape(shape)) + b"".join(part.tobytes() for part in parts))
    done = subprocess.run([*command, str(given), str(made)], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == isa
    made = made.read_bytes()
    split = 3 * STEPS * 2
    tokens = np.frombuffer(made[:split], np.uint16).reshape(3, STEPS)
    return tokens, np.frombuffer(made[split:], np.float32).reshape(3, STEPS, shape.levels)


def check_replay(command, folder, isa="baseline"):
    for name in NETWORKS:
        for precision in PRECISIONS:
            case = Case(name, precision)
            engine = case.compiled(isa="baseline")
            tokens, logits = replay(case, command, folder, isa)
            assert np.array_equal(tokens, case.sample(coins_of(1, 3, STEPS), engine))
            assert np.array_equal(logits, engine.logits(engine.start(case.labels), tokens, case.curves))


def compile_replay(program, *target, machine="another"):
    compiler = [*zig(*target), *FLAGS, f"-I{SOURCES}"]
    sets = instruction_sets(machine, compiler)
    sources = [*defines(sets), str(SOURCES / "library.c"), str(TESTS / "engine_replay.c")]
    for name, flags in kernels(sets).items():
        sources.append(str(program.with_name(f"{name}.o")))
        subprocess.run([*compiler, *flags, "-c", str(SOURCES / "engine.c"), "-o", sources[-1]], check=True)
    subprocess.run([*compiler, *sources, "-o", str(program)], check=True)


def test_arm_gives_the_same_bits(tmp_path):
    """64-bit Arm, under user-mode emulation; processors with its dot products and without."""
    if not shutil.which("qemu-aarch64"):
        pytest.skip("needs qemu-aarch64 (Debian: qemu-user)")
    target = ("-target", "aarch64-linux-musl", "-mcpu=generic", "-static")
    compile_replay(tmp_path / "replay", *target, machine="aarch64")
    for cpu, isa in (("cortex-a72", "baseline"), ("max", "dotprod")):
        check_replay(["qemu-aarch64", "-cpu", cpu, str(tmp_path / "replay")], tmp_path, isa)


AVX_VNNI = """
#include <immintrin.h>
#include <stdint.h>
static inline __m256i four_products(__m256i sum, __m256i unsigned_bytes, __m256i signed_bytes) {
    uint8_t a[32];
    int8_t b[32];
    int32_t y[8];
    _mm256_storeu_si256((__m256i *)a, unsigned_bytes);
    _mm256_storeu_si256((__m256i *)b, signed_bytes);
    _mm256_storeu_si256((__m256i *)y, sum);
    for (int i = 0; i < 32; i++) y[i / 4] += a[i] * b[i];
    return _mm256_loadu_si256((const __m256i *)y);
}
#define _mm256_dpbusd_avx_epi32 four_products
"""


@pytest.mark.skipif("avx2" not in ISAS, reason="needs a processor with AVX2")
def test_what_reads_dot_products_of_avx_gives_the_same_bits(tmp_path, monkeypatch):
    """All that this instruction set has of its own but the instruction itself, which is written out by hand."""
    (tmp_path / "instruction.h").write_text(AVX_VNNI)
    written_out = [*X86_FLAGS["avx2"], "-D__AVXVNNI__=1", "-include", str(tmp_path / "instruction.h")]
    sets = {"avxvnni": written_out, "avx2": X86_FLAGS["avx2"]}
    monkeypatch.setattr("audio_gen.engine.build.X86_FLAGS", sets)
    library = build(tmp_path / "written_out.so")
    monkeypatch.setattr("audio_gen.engine.engine.library_path", lambda: library)
    monkeypatch.setattr("audio_gen.engine.engine.choose_isa", lambda *_: (0, "avxvnni"))
    others = [Case(name, "int8") for name in NETWORKS]
    monkeypatch.undo()
    coins = coins_of(11, 3, 200)
    for other in others:
        case = Case(other.name, "int8")
        assert other.engine.isa == "avxvnni" and case.engine.isa in ISAS
        assert np.array_equal(other.logits(), case.logits())
        assert np.array_equal(other.sample(coins), case.sample(coins))


WASI = """
const { WASI } = require('wasi'), fs = require('fs');
const [program, folder, ...files] = process.argv.slice(2);
const wasi = new WASI({ version: 'preview1', args: ['replay', ...files], preopens: { [folder]: folder } });
const module_ = new WebAssembly.Module(fs.readFileSync(program));
process.exitCode = wasi.start(new WebAssembly.Instance(module_, wasi.getImportObject()));
"""


def test_web_assembly_gives_the_same_bits(tmp_path):
    """128-bit WebAssembly, under Node."""
    if not shutil.which("node"):
        pytest.skip("needs node")
    compile_replay(tmp_path / "replay.wasm", "-target", "wasm32-wasi", "-msimd128")
    (tmp_path / "run.js").write_text(WASI)
    script = ["node", "--no-warnings", str(tmp_path / "run.js"), str(tmp_path / "replay.wasm"), str(tmp_path)]
    check_replay(script, tmp_path)


def test_the_sanitizers_find_nothing(tmp_path):
    """The engine's other tests, on a library compiled with the address and undefined-behaviour checks."""
    checks = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g", "-O1"]
    library = build(tmp_path / "checked.so", flags=checks)
    where = [*find_compiler(), "-print-file-name=libasan.so"]
    runtime = subprocess.run(where, capture_output=True, text=True, check=True).stdout.strip()
    if not Path(runtime).is_absolute():
        pytest.skip("this compiler has no address sanitizer library")
    (tmp_path / "sanitized_engine.py").write_text(
        "import audio_gen.engine.engine as engine, audio_gen.engine.binding as binding, pathlib\n"
        f"engine.library_path = binding.library_path = lambda: pathlib.Path({str(library)!r})\n"
    )
    environment = os.environ | {
        "LD_PRELOAD": runtime,
        "ASAN_OPTIONS": "detect_leaks=0",
        "PYTHONPATH": os.pathsep.join([str(tmp_path), str(TESTS.parent)]),
    }
    names = ("test_engine.py", "test_engine_draw.py", "test_engine_errors.py", "test_engine_precisions.py")
    files = [str(TESTS / name) for name in names]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "sanitized_engine", "-x", "-k", "not torch", *files],
        env=environment, cwd=TESTS.parent, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
