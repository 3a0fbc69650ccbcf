"""Rules about how recordings start and stop."""

from collections.abc import Iterator
from statistics import median

from audio_gen.data.doctor.findings import PIECE_SECONDS, SHORT_SECONDS, Advice, Findings, count, files_of
from audio_gen.data.doctor.measure import DITHER_DB, FileFacts


def fades_into_dither(f: FileFacts) -> bool:
    return f.tail_seconds >= 0.1 and -110 < f.tail_db <= DITHER_DB and f.zeros_after < 0.05


def edges_of_silence(findings: Findings) -> Iterator[Advice]:
    sounding = [f for f in findings.usable if f.peak >= 0.001]
    before = [f for f in sounding if f.zeros_before >= 0.05]
    if before:
        yield Advice(
            "silence-before",
            "hint",
            f"{count(len(before))} with digital silence at the start "
            f"({median(f.zeros_before for f in before):.2f} s in the middle): generated audio will start as "
            "late.",
            files_of(before),
        )
    after = [f for f in sounding if f.zeros_after >= 0.05]
    if after:
        yield Advice(
            "silence-after",
            "hint",
            f"{count(len(after))} with tails that reach digital silence "
            f"({median(f.zeros_after for f in after):.2f} s in the middle): they know how to end, so "
            "data.end_seconds can stay 0.",
            files_of(after),
        )
    tails = [f for f in sounding if fades_into_dither(f)]
    if tails:
        level = median(f.tail_db for f in tails)
        share = sum(f.tail_seconds for f in tails) / sum(f.seconds for f in tails)
        yield Advice(
            "dither-tail",
            "hint",
            f"{count(len(tails))} with tails that fade into dither near {level:.0f} dBFS ({share:.0%} of "
            "their time is below -80): nobody hears it, yet it makes the average bits per sample look "
            "better than the model is. Trim it if training time is short.",
            files_of(tails),
        )


def cut_or_tight(findings: Findings) -> Iterator[Advice]:
    """Clips that stop before their sound does. Cut off: unlike all the others of the folder."""
    # An offset, which has advice of its own, makes the ends look loud.
    sounding = [
        f for f in findings.usable if f.peak >= 0.001 and f.seconds >= 0.05 and abs(f.offset) <= 0.05 * f.peak
    ]
    if not sounding:
        return
    usual_start = median(f.start_db - f.loud_db for f in sounding)
    usual_end = median(f.end_db - f.loud_db for f in sounding)
    cut = [
        f
        for f in sounding
        if (usual_start < -25 and f.start_db - f.loud_db > -10)
        or (usual_end < -32 and f.end_db - f.loud_db > -18)
    ]
    endless = [f for f in sounding if f.end_db > f.rms_db - 9 and f.seconds >= 1.0]
    endless_names = set(files_of(endless)) if len(endless) >= 0.05 * len(sounding) else set()
    cut = [f for f in cut if f.name not in endless_names]
    if endless_names:
        long = findings.typical_seconds >= PIECE_SECONDS
        yield Advice(
            "no-ending",
            "hint" if long else "warning",
            f"{count(len(endless))}{findings.which(endless)} at full level to the last sample: loops and "
            "cut recordings have no ending, and a model of them never stops. "
            + (
                "Right for textures; ask for as many seconds as you want."
                if long
                else "List them under data.exclude, or make that folder a label and cut what you generate."
            ),
            files_of(endless),
        )
    if cut:
        yield Advice(
            "cut-off",
            "warning",
            f"{count(len(cut))} cut off in the middle of the sound, unlike the others: listen to them, and "
            "list them under data.exclude if something is missing.",
            files_of(cut),
        )
    taken = endless_names | set(files_of(cut))
    tight = [
        f
        for f in sounding
        if f.end_db - f.loud_db > -32 and f.end_db > DITHER_DB + 10 and f.name not in taken
    ]
    if tight and len(tight) >= 0.25 * len(sounding) and findings.typical_seconds < SHORT_SECONDS:
        share = f"{len(tight) / len(findings.usable):.0%} of the clips"
        yield Advice(
            "tight",
            "warning",
            f"{share} are trimmed tight (median length {findings.typical_seconds:.2f} s; they end while "
            "still sounding): data.end_seconds = 0.25 gives them room to end, or the model never learns to "
            "stop.",
            files_of(tight),
        )
