"""What can be measured in one recording, block by block: levels, ends, clipping, offset, hum.

Levels are in dBFS (0 is a full-scale square wave), over frames of 10 ms. Memory does not grow with length.
"""

from dataclasses import dataclass
from hashlib import blake2b
from math import log10
from pathlib import Path

import numpy as np
import numpy.typing as npt

from audio_gen.audio import AudioProblemError, probe, read_blocks
from audio_gen.errors import AudioFileError

Waveform = npt.NDArray[np.float32]  # (time,), mono

FRAME_SECONDS = 0.01
BLOCK_SECONDS = 10.0
QUIET_DB = -60.0
"""A frame below this is close to inaudible."""
DITHER_DB = -80.0
"""A frame below this holds dither or converter noise."""
_FLOOR_DB = -120
_OVERLAP = 64  # samples of the block before, in which a flat top may have begun
_HUM_FRAMES = 50  # 0.5 s: 2 Hz resolution
_HUM_DB = 20.0  # how far a mains line must stand above its neighbours


@dataclass(frozen=True, slots=True)
class FileFacts:
    """One recording, measured as mono. A `fault` other than "" means it cannot be used, and `reason` says "
    "why."""

    name: str
    """Path relative to the examined folder, with forward slashes."""
    fault: str = ""
    reason: str = ""
    format: str = ""
    subtype: str = ""
    sample_rate: int = 0
    channels: int = 0
    frames: int = 0
    seconds: float = 0.0
    peak: float = 0.0
    offset: float = 0.0
    """Mean of all samples."""
    rms_db: float = _FLOOR_DB
    loud_db: float = _FLOOR_DB
    """Level of the loudest frame, dBFS."""
    floor_db: float = _FLOOR_DB
    """Level that 95 in 100 frames exceed, frames of digital silence apart, dBFS."""
    start_db: float = _FLOOR_DB
    """Level of the first 10 ms, dBFS."""
    end_db: float = _FLOOR_DB
    """Level of the last 10 ms, dBFS."""
    zeros_before: float = 0.0
    """Digital silence at the start, s."""
    zeros_after: float = 0.0
    """Digital silence at the end, s."""
    tail_seconds: float = 0.0
    """Time at the end below DITHER_DB, digital silence included, s."""
    tail_db: float = _FLOOR_DB
    """Level of that time, its digital silence apart, dBFS."""
    quiet_share: float = 0.0
    """Share of frames below QUIET_DB."""
    silent_share: float = 0.0
    """Share of frames below DITHER_DB."""
    flat_tops: int = 0
    """Runs of at least 3 samples held at the recording's own extreme, with a steep way up or down."""
    full_scale: int = 0
    """Samples at full scale, if the recording reaches it."""
    eight_bits: bool = False
    """Every sample stands on the grid of 8-bit audio, though the file may have room for more."""
    hum_hz: int = 0
    """50 or 60 if that line of the mains stands out where the recording is quietest, else 0."""
    digest: str = ""
    """Hash of the decoded samples and their rate."""


def measure(path: Path, name: str) -> FileFacts:
    """Read the recording at `path` once and measure it; never raises for what is wrong with the file."""
    try:
        info = probe(path)
        meter = _Meter(info.sample_rate, 2.0 / 256 if info.subtype in ("PCM_U8", "PCM_S8") else 2.0 / 65536)
        for block in read_blocks(path, block_seconds=BLOCK_SECONDS, allow_truncated=info.truncated):
            meter.add(block)
    except AudioProblemError as problem:
        return FileFacts(name, fault=problem.kind, reason=problem.reason)
    except AudioFileError as error:
        return FileFacts(name, fault="unreadable", reason=str(error).removeprefix(f"{path}: "))
    except OSError as error:
        return FileFacts(name, fault="unreadable", reason=str(error.strerror or error))
    fault, reason = "", ""
    if info.truncated:
        fault = "truncated"
        reason = (
            f"{info.frames / info.sample_rate:.2f} s are there, its header promises "
            f"{info.claimed_frames / info.sample_rate:.2f} s"
        )
    elif meter.samples == 1:
        fault, reason = "one-sample", "one sample long"
    return meter.facts(name, fault, reason, info.format, info.subtype, info.channels)


class _Meter:
    """Running measures of one recording; `add` takes its blocks in order."""

    def __init__(self, sample_rate: int, step: float) -> None:
        self.rate, self.step = sample_rate, step
        self.frame = max(1, round(sample_rate * FRAME_SECONDS))
        self.samples = 0
        self.hash = blake2b(str(sample_rate).encode(), digest_size=16)
        self.peak, self.sum, self.power = 0.0, 0.0, 0.0
        self.first_sound, self.last_sound = -1, -1  # sample indices
        self.start_db, self.loud = float(_FLOOR_DB), 0.0
        self.rest: Waveform = np.empty(0, np.float32)  # less than a frame
        self.last: Waveform = np.empty(0, np.float32)  # the last frame's worth
        self.levels = np.zeros(-_FLOOR_DB + 1, np.int64)  # frames by dBFS, from _FLOOR_DB up in steps of 1
        self.zero_frames, self.frames = 0, 0
        self.tail_frames, self.tail_sounding, self.tail_power = 0, 0, 0.0
        self.tops = (_FlatTops(), _FlatTops())
        self.eight_bits = True
        self.quietest: Waveform = np.empty(0, np.float32)
        self.quietest_power = np.inf

    def add(self, block: Waveform) -> None:
        self.hash.update(np.ascontiguousarray(block, "<f4").tobytes())
        self.peak = max(self.peak, float(np.abs(block).max()))
        self.sum += float(block.sum(dtype=np.float64))
        self.power += float(np.dot(block.astype(np.float64), block))
        sounding = np.flatnonzero(block)
        if len(sounding):
            if self.first_sound < 0:
                self.first_sound = self.samples + int(sounding[0])
            self.last_sound = self.samples + int(sounding[-1])
        if self.eight_bits:
            self.eight_bits = bool(np.all(np.rint(block * 128) == block * 128))
        if self.samples == 0:
            self.start_db = _db(float(np.mean(np.square(block[: self.frame], dtype=np.float64))))
        self.samples += len(block)
        self.last = np.concatenate([self.last, block[-self.frame :]])[-self.frame :]
        self.tops[0].add(block)
        self.tops[1].add(-block)
        self._add_frames(np.concatenate([self.rest, block]))

    def _add_frames(self, samples: Waveform) -> None:
        count = len(samples) // self.frame
        framed = samples[: count * self.frame].reshape(count, self.frame)
        self.rest = samples[count * self.frame :].copy()
        if not count:
            return
        powers = np.square(framed, dtype=np.float64).mean(axis=1)  # (frames,)
        decibels = 10 * np.log10(np.maximum(powers, 1e-12))
        zero = powers == 0
        bins = np.clip(np.floor(decibels[~zero]).astype(np.int64) - _FLOOR_DB, 0, -_FLOOR_DB)
        self.levels += np.bincount(bins, minlength=len(self.levels))
        self.zero_frames += int(zero.sum())
        self.frames += count
        self.loud = max(self.loud, float(powers.max()))
        audible = np.flatnonzero(decibels >= DITHER_DB)
        if len(audible):
            self.tail_frames, self.tail_sounding, self.tail_power = 0, 0, 0.0
        after = slice(int(audible[-1]) + 1 if len(audible) else 0, count)
        self.tail_frames += len(powers[after])
        self.tail_sounding += int((~zero[after]).sum())
        self.tail_power += float(powers[after].sum())
        self._keep_quietest(samples, powers)

    def _keep_quietest(self, samples: Waveform, powers: npt.NDArray[np.float64]) -> None:
        windows = len(powers) // _HUM_FRAMES
        for window in range(windows):
            part = powers[window * _HUM_FRAMES : (window + 1) * _HUM_FRAMES]
            if part.min() > 0 and part.sum() < self.quietest_power:
                self.quietest_power = float(part.sum())
                first, size = window * _HUM_FRAMES * self.frame, _HUM_FRAMES * self.frame
                self.quietest = samples[first : first + size].copy()

    def facts(self, name: str, fault: str, reason: str, kind: str, subtype: str, channels: int) -> FileFacts:
        for tops in self.tops:
            tops.add(np.full(1, -np.inf, np.float32))  # ends a run at the very end
        silent = self.last_sound < 0
        last_power = float(np.mean(np.square(self.last, dtype=np.float64)))
        return FileFacts(
            name=name,
            fault=fault,
            reason=reason,
            format=kind,
            subtype=subtype,
            sample_rate=self.rate,
            channels=channels,
            frames=self.samples,
            seconds=self.samples / self.rate,
            peak=self.peak,
            offset=self.sum / self.samples,
            rms_db=_db(self.power / self.samples),
            loud_db=_db(max(self.loud, last_power)),
            floor_db=self._floor(),
            start_db=self.start_db,
            end_db=_db(last_power),
            zeros_before=(self.samples if silent else self.first_sound) / self.rate,
            zeros_after=(self.samples if silent else self.samples - 1 - self.last_sound) / self.rate,
            tail_seconds=self.tail_frames * self.frame / self.rate,
            tail_db=_db(self.tail_power / max(1, self.tail_sounding)),
            quiet_share=self._share_below(QUIET_DB),
            silent_share=self._share_below(DITHER_DB),
            full_scale=sum(tops.full_scale() for tops in self.tops),
            flat_tops=sum(tops.count(self._step()) for tops in self.tops),
            eight_bits=self.eight_bits and not silent and self.samples > self.frame,
            hum_hz=_hum(self.quietest, self.rate),
            digest="" if silent or self.samples == 1 else self.hash.hexdigest(),
        )

    def _step(self) -> float:
        return max(self.step, 2.0 / 256) if self.eight_bits else self.step

    def _share_below(self, decibels: float) -> float:
        below = self.zero_frames + int(self.levels[: int(decibels) - _FLOOR_DB].sum())
        return below / self.frames if self.frames else 0.0

    def _floor(self) -> float:
        sounding = int(self.levels.sum())
        if not sounding:
            return float(_FLOOR_DB)
        return float(_FLOOR_DB + int(np.searchsorted(np.cumsum(self.levels), 0.05 * sounding)))


class _FlatTops:
    """Runs of samples held at the highest value so far. A crest of a smooth wave is rounded: its sides "
    "fall slowly."""

    def __init__(self) -> None:
        self.top = 0.0
        self.before: Waveform = np.empty(0, np.float32)
        self.runs: list[tuple[int, float]] = []  # length, fall on the steeper side; a new top begins anew

    def add(self, block: Waveform) -> None:
        samples = np.concatenate([self.before, block])
        old = len(self.before)
        top = float(samples.max())
        if top > self.top:
            self.top, self.runs = top, []
        self.before = samples[-_OVERLAP:].copy()
        if self.top <= 0:
            return
        held = np.flatnonzero(samples >= self.top)
        if not len(held) or len(self.runs) > 10_000:
            return
        cuts = np.flatnonzero(np.diff(held) > 1)
        firsts = held[np.concatenate([[0], cuts + 1])]
        lasts = held[np.concatenate([cuts, [len(held) - 1]])]
        for first, last in zip(firsts.tolist(), lasts.tolist(), strict=True):
            ended_here = old <= last + 1 < len(samples)
            if ended_here:
                sides = [self.top - float(samples[at]) for at in (first - 1, last + 1) if at >= 0]
                self.runs.append((last - first + 1, max(side for side in (*sides, 0.0) if side < np.inf)))

    def count(self, step: float) -> int:
        """Runs whose steeper side falls by more than a rounded crest of 3 samples can, in units of `step`.

        Such a crest is a parabola that falls by less than one step within 1.5 samples, so by under 3 at 2.5.
        """
        return sum(length >= 3 and drop > max(8 * step, 0.005 * self.top) for length, drop in self.runs)

    def full_scale(self) -> int:
        """Samples held there, if the top is full scale (of 16 bits, so also of more) with steep sides."""
        if self.top < 32766.5 / 32768:
            return 0
        return sum(length for length, drop in self.runs if drop > 0.005 * self.top)


def _hum(samples: Waveform, rate: int) -> int:
    """50 or 60 if a line there (Hz) stands clear of its neighbours in `samples` (time,), else 0."""
    if len(samples) < _HUM_FRAMES or rate < 400:
        return 0
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples)))) ** 2
    spacing = rate / len(samples)

    def power(low: float, high: float) -> npt.NDArray[np.float64]:
        return spectrum[round(low / spacing) : round(high / spacing) + 1]

    for mains in (50, 60):
        line = float(power(mains - 2, mains + 2).max())
        around = np.concatenate([power(mains - 18, mains - 7), power(mains + 7, mains + 18)])
        if line > float(np.median(around)) * 10 ** (_HUM_DB / 10) and line > float(around.max()) * 4:
            return mains
    return 0


def _db(power: float) -> float:
    return max(float(_FLOOR_DB), 10 * log10(power)) if power > 0 else float(_FLOOR_DB)
