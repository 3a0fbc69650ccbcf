"""A note tracker: which keys of a piano sound when, by the network of basic-pitch, run without that package's code.

Bittner et al. 2022, "A lightweight instrument-agnostic model for polyphonic note transcription and multipitch
estimation" (arXiv:2203.09893). The package asks for TensorFlow; the network it brings needs onnxruntime alone.
"""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import soxr
from numpy.typing import NDArray

from audio_gen.evaluation.packages import missing, remedy
from audio_gen.evaluation.spectra import Waveform

RATE = 22_050
HOP = 256
"""Samples of a frame."""
WINDOW = 172  # frames that the network hears at a time
MARGIN = 15  # frames at either end of a window, which lack what lies beyond
SAMPLES = WINDOW * HOP - 188  # of a window: two seconds less a frame
INPUT, NOTES = "serving_default_input_2:0", "StatefulPartitionedCall:1"
THRESHOLD = 0.3  # above which a key sounds, as basic-pitch has it
RUNTIME = "onnxruntime"
FILE = Path("saved_models/icassp_2022/nmp.onnx")


class Tracker:
    """Listens to waveforms. Needs onnxruntime and basic-pitch's file."""

    def __init__(self) -> None:
        import onnxruntime

        path = model_file()
        assert path is not None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def hear(self, waveform: Waveform, sample_rate: int) -> NDArray[np.bool_]:
        """(frames, 88): whether a key, from the lowest a of a piano on, sounds in each frame of HOP samples at RATE."""
        wave = soxr.resample(waveform.astype(np.float32), sample_rate, RATE)
        frames, step = -(-len(wave) // HOP), WINDOW - 2 * MARGIN
        count = max(1, -(-frames // step))
        padded = np.zeros(count * step * HOP + 2 * MARGIN * HOP, np.float32)
        padded[MARGIN * HOP : MARGIN * HOP + len(wave)] = wave
        found = []
        for window in range(count):
            part = padded[window * step * HOP :][:SAMPLES]
            (heard,) = self._session.run([NOTES], {INPUT: part[None, :, None]})
            found.append(heard[0, MARGIN : MARGIN + step] > THRESHOLD)
        return np.concatenate(found)[:frames]


def model_file() -> Path | None:
    """Where the installed basic-pitch keeps its network; None if it is not there. Nothing is imported."""
    try:
        package = find_spec("basic_pitch")
    except ValueError:  # barred
        return None
    if package is None or package.origin is None:
        return None
    path = Path(package.origin).parent / FILE
    return path if path.exists() else None


def obstacle() -> str | None:
    """Why there is no tracker here, in a sentence, or None if there is one."""
    if gone := missing([RUNTIME]):
        return remedy(gone)
    if model_file() is None:
        return "it needs the network of basic-pitch; run: pip install --no-deps basic-pitch"
    return None
