"""Rules about the sound itself: copies, clipping, silence, offset, level, and mixed formats."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from statistics import median

from audio_gen.codec import Codec
from audio_gen.data.doctor.endings import fades_into_dither
from audio_gen.data.doctor.findings import Advice, Findings, count, files_of
from audio_gen.data.doctor.levels import LevelField
from audio_gen.data.doctor.measure import FileFacts


def duplicates(findings: Findings) -> Iterator[Advice]:
    groups: defaultdict[str, list[FileFacts]] = defaultdict(list)
    for f in findings.usable:
        if f.digest:
            groups[f.digest].append(f)
    doubled = [group for group in groups.values() if len(group) > 1]
    if doubled:
        extra = sum(len(group) - 1 for group in doubled)
        yield Advice(
            "duplicate",
            "warning",
            f"{count(extra)} repeat another one sample for sample: remove the copies, or the held-out part "
            "is learned by heart.",
            tuple(f.name for group in doubled for f in group),
        )


def clipped(findings: Findings) -> Iterator[Advice]:
    full = 0.99  # a peak up here with a flat top is no accident; lower down it takes a few
    chosen = [f for f in findings.usable if f.flat_tops >= (1 if f.peak >= full else 3) or f.full_scale >= 5]
    if chosen:
        yield Advice(
            "clipped",
            "warning",
            f"{count(len(chosen))}{findings.which(chosen)} clipped: the tops of the wave are cut flat, and "
            "the model would learn that crackle. Record again with less gain, or list them under "
            "data.exclude.",
            files_of(chosen),
        )


def silent(findings: Findings) -> Iterator[Advice]:
    silent = [f for f in findings.usable if f.peak < 0.001]
    if silent:
        yield Advice(
            "silent",
            "error",
            f"{count(len(silent))} silent (peak under -60 dBFS): list them under data.exclude.",
            files_of(silent),
        )
    mostly = [
        f
        for f in findings.usable
        if f.peak >= 0.001 and f.silent_share > 0.8 and f.seconds > 0.2 and not fades_into_dither(f)
    ]
    if mostly:
        yield Advice(
            "mostly-silent",
            "warning",
            f"{count(len(mostly))} silent for more than four fifths of the time: trim them, or the model "
            "learns mostly silence.",
            files_of(mostly),
        )


def offset(findings: Findings) -> Iterator[Advice]:
    chosen = [f for f in findings.usable if f.peak >= 0.001 and abs(f.offset) > max(0.001, 0.05 * f.peak)]
    if chosen:
        worst = max(abs(f.offset) / f.peak for f in chosen)
        yield Advice(
            "dc-offset",
            "warning",
            f"{count(len(chosen))}{findings.which(chosen)} with a DC offset (up to {worst:.0%} of the "
            "peak): the wave does not rest at zero, and silence will be a wrong level. Remove it with a "
            "high-pass filter at 20 Hz.",
            files_of(chosen),
        )


def levels(findings: Findings) -> Iterator[Advice]:
    sounding = sorted((f for f in findings.usable if f.peak >= 0.001), key=lambda f: -f.peak)
    if not sounding:
        return
    outlier = len(sounding) >= 10 and sounding[0].peak > 1.8 * sounding[1].peak
    if outlier:
        yield Advice(
            "loud-outlier",
            "warning",
            f"1 file peaks at {sounding[0].peak:.2f}, {sounding[0].peak / sounding[1].peak:.1f} times the "
            "next: one gain for the set would leave all others quiet. Listen for a knock, and list it "
            "under data.exclude.",
            (sounding[0].name,),
        )
    dynamics = [field for field in findings.levels if field.follows]
    for field in dynamics[:1]:
        yield Advice(
            "dynamics",
            "hint",
            f"The level follows {{{field.name}}} ({field.ratio:.0f} times from softest to loudest): these "
            "are the "
            f'dynamics of the playing. Keep data.gain = "dataset" and make {field.name} a label.',
        )
    by_field = next((field for field in findings.levels if field.share >= 0.4 and field.ratio >= 4), None)
    if by_field is not None and not dynamics:
        low = min(by_field.peaks.values())
        codes = _codes(0.9 * low / sounding[0].peak)
        listed = ", ".join(
            f"{value} {peak:.2f}" for value, peak in sorted(by_field.peaks.items(), key=lambda i: i[1])[:8]
        )
        yield Advice(
            "levels-by-field",
            "warning",
            f"Levels differ {by_field.ratio:.0f} times by {{{by_field.name}}} (median peaks: {listed}): "
            f"with one gain for all, the quietest would use {codes} of 256 codes and hiss. {_remedy(by_field)}",
        )
    rest = sounding[1:] if outlier else sounding
    if rest[0].peak < 0.5 and not (by_field and not dynamics):
        yield Advice(
            "quiet",
            "warning",
            f"The whole set is quiet (loudest peak {rest[0].peak:.2f}, median "
            f"{median(f.peak for f in rest):.2f}, so "
            f'{_codes(median(f.peak for f in rest))} of 256 codes): data.gain = "dataset" lifts it by one '
            f"gain for all "
            "and keeps the dynamics" + (", once the loud file is excluded." if outlier else "."),
        )
    over = [f for f in findings.usable if f.peak > 1.001]
    if over:
        yield Advice(
            "over-full-scale",
            "hint",
            f'{count(len(over))} with samples beyond full scale: any data.gain but "none" brings them down.',
            files_of(over),
        )


def _remedy(field: LevelField) -> str:
    """A gain per value; stray loud takes, which would hold the others down, with one of their own."""
    stray = field.stray
    if stray is None:
        return f'Use data.gain = "{{{field.name}}}".'
    return (
        f'Use data.gain = "{{{field.name}}}" with data.gain_share = 0.9: one take of {stray} peaks at '
        f"{field.loudest[stray]:.2f} and would keep its others quiet."
    )


def _codes(peak: float) -> int:
    """How many of the 256 mu-law codes a wave of this peak reaches."""
    low, high = Codec(256).encode([-min(peak, 1.0), min(peak, 1.0)]).tolist()
    return int(high - low)


def formats(findings: Findings) -> Iterator[Advice]:
    rates = Counter(f.sample_rate for f in findings.usable)
    if len(rates) > 1:
        usual = rates.most_common(1)[0][0]
        odd = [f for f in findings.usable if f.sample_rate != usual]
        low = min(rates)
        yield Advice(
            "mixed-rates",
            "warning",
            f"Sample rates differ ({', '.join(f'{rate} Hz: {n}' for rate, n in sorted(rates.items()))}): "
            f"all become data.sample_rate. Files at {low} Hz hold nothing above {low // 2} Hz and will "
            "sound dull beside the rest.",
            files_of(odd),
        )
    channels = Counter(f.channels for f in findings.usable)
    many = [f for f in findings.usable if f.channels > 1]
    if many:
        mixed = len(channels) > 1
        yield Advice(
            "mixed-channels" if mixed else "channels",
            "warning" if mixed else "hint",
            f"{count(len(many))} with {' or '.join(str(n) for n in sorted(channels) if n > 1)} channels: "
            "they are mixed to mono; export mono yourself if the mix is not what you want.",
            files_of(many),
        )
    coarse = [f for f in findings.usable if f.eight_bits]
    if coarse:
        yield Advice(
            "eight-bit",
            "hint",
            f"{count(len(coarse))}{findings.which(coarse)} hold only 8-bit sound: their hiss will be "
            "learned too.",
            files_of(coarse),
        )
    hum = Counter(f.hum_hz for f in findings.usable if f.hum_hz)
    for hertz, number in hum.most_common(1):
        chosen = [f for f in findings.usable if f.hum_hz == hertz]
        if number >= 3 and number >= 0.5 * sum(f.seconds >= 0.5 for f in findings.usable):
            yield Advice(
                "hum",
                "hint",
                f"{count(number)} with mains hum at {hertz} Hz where they are quietest: filter it out, or "
                "the model will hum.",
                files_of(chosen),
            )
