"""Is it understood? Words that a recogniser hears, held against those that were said.

The recogniser is pocketsphinx with the US-English model that comes with it: offline, and worse than a listener, so its
word error rate says something only beside that of the recordings themselves.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from audio_gen.evaluation.spectra import Waveform

RATE = 16_000
"""Hertz, of the recogniser's model."""
TRANSCRIPT = ".txt"
LANGUAGE = "US English"


class Decoder(Protocol):
    """What is used of `pocketsphinx.Decoder`."""

    def get_cmn(self, update: bool) -> str: ...
    def set_cmn(self, mean: str) -> None: ...
    def start_utt(self) -> None: ...
    def process_raw(self, data: bytes, no_search: bool, full_utt: bool) -> Any: ...
    def end_utt(self) -> None: ...
    def hyp(self) -> Any: ...


class Recogniser:
    """Hears each recording as if it were the first."""

    def __init__(self, decoder: Decoder | None = None) -> None:
        """By default that of pocketsphinx, which must be installed."""
        if decoder is None:
            import pocketsphinx

            decoder = pocketsphinx.Decoder(loglevel="FATAL", samprate=RATE)
        self._decoder = decoder
        self._mean = decoder.get_cmn(False)

    def hear(self, waveform: Waveform, sample_rate: int) -> list[str]:
        """The words of a recording (time,) in [-1, 1]."""
        if sample_rate != RATE:
            import soxr

            waveform = np.asarray(soxr.resample(waveform, sample_rate, RATE), np.float32)
        if not len(waveform):
            return []
        data = np.round(32767.0 * np.clip(waveform, -1.0, 1.0)).astype("<i2").tobytes()
        # The decoder adapts its cepstral mean to what it has heard, for good; digital silence makes it NaN.
        self._decoder.set_cmn(self._mean)
        self._decoder.start_utt()
        self._decoder.process_raw(data, False, True)
        self._decoder.end_utt()
        found = self._decoder.hyp()
        return words(found.hypstr) if found is not None else []


def words(text: str) -> list[str]:
    """The words of a text, as they are compared.

    >>> words("It’s the danger-trail, Philip!")
    ["it's", 'the', 'danger', 'trail', 'philip']
    """
    plain = text.lower().replace("’", "'")
    return [word for word in (each.strip("'") for each in re.findall(r"[^\W_](?:[^\W_]|')*", plain)) if word]


def word_errors(said: Sequence[str], heard: Sequence[str]) -> int:
    """Words to replace, leave out and put in that make `heard` of `said`: Levenshtein's distance (1966).

    >>> word_errors(["the", "danger", "trail"], ["a", "danger", "trail", "of"])
    2
    """
    row = list(range(len(heard) + 1))
    for count, word in enumerate(said, 1):
        above, row = row, [count]
        for place, other in enumerate(heard):
            row.append(min(above[place] + (word != other), above[place + 1] + 1, row[place] + 1))
    return row[-1]


def transcript(recording: Path) -> list[str] | None:
    """The words said in a recording, from the text file beside it; None if there is none, or no word in it."""
    try:
        text = recording.with_suffix(TRANSCRIPT).read_text(encoding="utf-8-sig", errors="replace")
    except OSError:
        return None
    return words(text) or None
