"""Wheels for every platform from this machine. Heavy: `pytest -m slow tests/test_wheels.py`"""

import struct
import subprocess
import sys
import sysconfig
import venv
import wave
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ELF, PE = b"\x7fELF", b"MZ"
MACH_O = struct.pack("<I", 0xFEEDFACF)
LIBRARIES = {
    "manylinux_2_17_x86_64": ("libaudio_gen_engine.so", ELF, 18, 62),
    "manylinux_2_17_aarch64": ("libaudio_gen_engine.so", ELF, 18, 183),
    "macosx_11_0_x86_64": ("libaudio_gen_engine.dylib", MACH_O, 4, 0x01000007),
    "macosx_11_0_arm64": ("libaudio_gen_engine.dylib", MACH_O, 4, 0x0100000C),
    "win_amd64": ("libaudio_gen_engine.dll", PE, None, 0x8664),
}
"""Library in the wheel of a tag, how it begins, and the machine it is for: where the header says so, and what."""


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    pytest.importorskip("ziglang")
    folder = tmp_path_factory.mktemp("wheels")
    command = [sys.executable, "-m", "build_backend.wheels", "-o", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {path.stem.rpartition("-")[2]: path for path in map(Path, done.stdout.split())}


@pytest.mark.slow
def test_every_platform_gets_its_own_library(wheels: dict[str, Path]) -> None:
    assert wheels.keys() == LIBRARIES.keys()
    for tag, (name, magic, at, machine) in LIBRARIES.items():
        assert wheels[tag].name.endswith(f"-py3-none-{tag}.whl")
        with zipfile.ZipFile(wheels[tag]) as wheel:
            files = wheel.namelist()
            (library,) = (file for file in files if file.startswith("audio_gen/engine/libaudio_gen"))
            assert library == f"audio_gen/engine/{name}"
            assert "audio_gen/pretrained/drums.safetensors" in files and not any("tests" in f for f in files)
            data = wheel.read(library)
        assert data.startswith(magic)
        if at is None:  # the header of a PE file is where byte 60 says
            at = struct.unpack_from("<I", data, 60)[0] + 4
        assert int.from_bytes(data[at : at + (4 if magic == MACH_O else 2)], "little") == machine
        assert b"audio_gen_run" in data and b"audio_gen_read" in data


@pytest.mark.slow
@pytest.mark.skipif(sysconfig.get_platform() != "linux-x86_64", reason="runs the wheel of one platform")
def test_the_wheel_installs_and_plays(wheels: dict[str, Path], tmp_path: Path) -> None:
    """In a fresh environment that borrows nothing but what the package requires."""
    home = tmp_path / "fresh"
    venv.create(home, with_pip=True)
    (packages,) = home.glob("lib/python*/site-packages")
    (packages / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    wheel = str(wheels["manylinux_2_17_x86_64"])
    install = [home / "bin" / "pip", "install", "-q", "--no-deps", "--no-index", "--ignore-installed", wheel]
    subprocess.run(install, check=True, cwd=tmp_path)
    play = [home / "bin" / "audio-gen", "generate", "drums", "--seconds", "0.5", "-q", "-o", "a.wav"]
    subprocess.run(play, check=True, cwd=tmp_path)
    with wave.open(str(tmp_path / "a.wav")) as sound:
        assert sound.getnframes() == sound.getframerate() // 2
    where = [home / "bin" / "python", "-c", "import audio_gen; print(audio_gen.__file__)"]
    told = subprocess.run(where, check=True, cwd=tmp_path, capture_output=True, text=True)
    assert Path(told.stdout.strip()).is_relative_to(packages)
