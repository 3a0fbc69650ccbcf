"""From findings to plain advice: what is wrong, with which files, what to do, what to expect.

A rule reads the `Findings` and yields `Advice`. Its thresholds stand in it.
"""

from collections import Counter
from collections.abc import Callable, Iterator

from audio_gen.data.doctor import endings, proposal, sound
from audio_gen.data.doctor.findings import (
    PIECE_SECONDS,
    SHORT_SECONDS,
    Advice,
    Findings,
    Severity,
    count,
    files_of,
)

Rule = Callable[[Findings], Iterator[Advice]]
_ORDER: dict[Severity, int] = {"error": 0, "warning": 1, "hint": 2}

_FAULTS = {
    "missing": "cannot be found any more",
    "empty-file": "hold no bytes at all: copy them again or remove them",
    "no-samples": "have a header but no samples: remove them",
    "not-audio": "are not audio, whatever their names say: remove or convert them",
    "needs-decoder": "need ffmpeg to be read: install it, or convert them to WAV or FLAC",
    "lying-header": "have a header that contradicts itself: export them again",
    "truncated": "end before their header says, so the rest is lost: copy them again",
    "not-finite": "hold NaN or infinity: export them again",
    "unreadable": "cannot be read: check permissions and disk",
    "one-sample": "are a single sample long: remove them",
}


def advise(findings: Findings) -> tuple[Advice, ...]:
    """All advice, errors first, then in the order of the rules."""
    found = list(_faults(findings))
    if findings.usable:
        for rule in _RULES:
            found.extend(rule(findings))
    return tuple(sorted(found, key=lambda advice: _ORDER[advice.severity]))


def _faults(findings: Findings) -> Iterator[Advice]:
    for code, words in _FAULTS.items():
        if chosen := [f for f in findings.files if f.fault == code]:
            yield Advice(code, "error", f"{count(len(chosen))} {words}.", files_of(chosen))
    if not findings.usable:
        yield Advice(
            "nothing-usable", "error", "None of the files can be used: there is nothing to train on."
        )


def _lengths(findings: Findings) -> Iterator[Advice]:
    typical = findings.typical_seconds
    tiny = [f for f in findings.usable if f.seconds < 0.05]
    if tiny:
        yield Advice(
            "very-short",
            "warning",
            f"{count(len(tiny))} shorter than 50 ms: clicks, not sounds. Remove them.",
            files_of(tiny),
        )
    long = [f for f in findings.usable if f.seconds > max(10 * typical, 0.25 * findings.seconds)]
    if long and len(findings.usable) >= 5:
        yield Advice(
            "long-file",
            "warning",
            f"{count(len(long))} far longer than the others ({max(f.seconds for f in long):.0f} s; the "
            f"median is {typical:.1f} s): it fills much of the training. Cut it up, or exclude it.",
            files_of(long),
        )
    minutes = findings.seconds / 60
    if minutes < 1:
        yield Advice(
            "too-little",
            "warning",
            f"{findings.seconds:.0f} s in total: the model will learn it by heart within minutes. Expect "
            "copies and stutters; gather at least 5 minutes.",
        )
    elif typical >= PIECE_SECONDS and minutes < 60:
        yield Advice(
            "expect",
            "hint",
            f"{minutes:.0f} min of long recordings in total: expect texture and timbre, not melody or form.",
        )
    elif typical < SHORT_SECONDS and minutes < 90:
        yield Advice(
            "expect",
            "hint",
            f"{minutes:.0f} min of short clips: expect new takes of the same kinds of sound, and a little "
            "hiss.",
        )
    rate = Counter(f.sample_rate for f in findings.usable).most_common(1)[0][0]
    if rate > 24_000:
        yield Advice(
            "high-rate",
            "hint",
            f"Most files have {rate} Hz: data.sample_rate = 16000 trains and generates {rate / 16_000:.1f} "
            "times faster and hears further back; choose more for cymbals and air.",
        )


_RULES: tuple[Rule, ...] = (
    sound.duplicates,
    sound.clipped,
    sound.silent,
    sound.offset,
    sound.levels,
    endings.cut_or_tight,
    endings.edges_of_silence,
    sound.formats,
    _lengths,
    proposal.held_together,
    proposal.by_length,
    proposal.labels,
)
