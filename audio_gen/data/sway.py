"""What a stream hears of itself, imitated: its loudness wanders, in each of three bands."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

EDGES = (400.0, 1600.0)
"""Hz between the bands."""
KNOT_SECONDS = 0.04
"""From one moment to the next at which loudness is drawn; between them it goes straight."""
WARM_UP = 512
"""Samples before those asked for, after which the filters have forgotten that they began."""

Floats = NDArray[np.float64]


def sway(waveform: Floats, sample_rate: int, first: int, strength: float, key: NDArray[np.uint64]) -> Floats:
    """`waveform` (time,), which begins at sample `first` of its clip, its loudness wandering by `strength` (standard
    deviation, decibels). How a clip is cut changes nothing but the first WARM_UP samples of each piece; `key` (two
    words) says which of all ways it wanders."""
    lowest = _below(EDGES[0], waveform, sample_rate)
    lower = _below(EDGES[1], waveform, sample_rate)
    bands = np.stack([lowest, lower - lowest, waveform - lower])
    every = max(1, round(KNOT_SECONDS * sample_rate))
    knots = np.arange(first // every, (first + len(waveform)) // every + 2)
    drawn = np.stack([_drawn(key, int(knot)) for knot in knots], axis=1)
    places = np.arange(first, first + len(waveform))
    decibels = np.stack([np.interp(places, knots * every, strength * row) for row in drawn])
    swayed: Floats = (bands * 10.0 ** (decibels / 20.0)).sum(axis=0)
    return swayed


def _below(edge: float, waveform: Floats, sample_rate: int) -> Floats:
    """What lies below an edge (Hz): one pole, so that the bands add up to the whole and none comes late."""
    pole = math.exp(-2.0 * math.pi * edge / sample_rate)
    below: Floats = lfilter([1.0 - pole], [1.0, -pole], waveform)
    return below


def _drawn(key: NDArray[np.uint64], knot: int) -> Floats:
    generator = np.random.Generator(np.random.Philox(key=key, counter=np.array([0, 0, 3, knot], np.uint64)))
    return generator.standard_normal(len(EDGES) + 1)
