"""What a page says of its model, as HTML."""

from html import escape

from audio_gen.pages.manifest import Facts


def facts_html(facts: Facts) -> str:
    """The facts that are known as a list of terms, and the loss beside its baselines as bars."""
    terms = [(name, text, len(text) > 40) for name, text in _terms(facts) if text]
    items = "\n".join(
        f'<div class="wide"><dt>{name}</dt><dd>{escape(text)}</dd></div>' if wide else
        f"<div><dt>{name}</dt><dd>{escape(text)}</dd></div>"
        for name, text, wide in terms
    )  # fmt: skip
    listed = f'<dl class="facts">\n{items}\n</dl>' if items else ""
    return "\n".join(part for part in (listed, _bits(facts)) if part)


def _terms(facts: Facts) -> list[tuple[str, str]]:
    """Name and value of every fact, "" where it is not known."""
    rate, field, levels = facts.sample_rate, facts.receptive_field, facts.levels
    trained = [
        f"{facts.steps:,} steps" if facts.steps is not None else "",
        f"{facts.minutes:,.0f} minutes" if facts.minutes is not None else "",
    ]
    span = f" ({_duration(field / rate)})" if field is not None and rate else ""
    return [
        ("Model", facts.model or ""),
        ("Parameters", f"{facts.parameters:,}" if facts.parameters is not None else ""),
        ("Receptive field", f"{field:,} samples{span}" if field is not None else ""),
        ("Sample rate", f"{rate:,} Hz" if rate else ""),
        ("Levels", f"{levels:,} (mu-law)" if levels is not None else ""),
        ("Bits per sample", f"{facts.bits_per_sample:.3f}" if facts.bits_per_sample is not None else ""),
        ("Training", " in ".join(part for part in trained if part)),
        ("Hardware", facts.hardware or ""),
        ("Recordings", facts.data or ""),
        ("Licence", facts.licence or ""),
        ("Credit", facts.credit or ""),
        ("Date", facts.date or ""),
        ("audio-gen", facts.version or ""),
        ("Model hash", (facts.hash or "")[:16]),
        ("Precision", facts.precision or ""),
    ]


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 1.0 else f"{1000.0 * seconds:.0f} ms"


def _bits(facts: Facts) -> str:
    """Bars from 0 to the worst number, best last; "" when there is nothing to compare."""
    if facts.bits_per_sample is None or not facts.baselines:
        return ""
    numbers = [(name, bits, "") for name, bits in facts.baselines.items()]
    numbers.append((facts.model or "this model", facts.bits_per_sample, ' class="ours"'))
    worst = max(max(bits for _, bits, _ in numbers), 1e-9)
    rows = "\n".join(
        f'<tr{kind}><th scope="row">{escape(name)}</th>'
        f'<td><i style="width: {max(0.0, 85.0 * bits / worst):.1f}%"></i>{bits:.2f}</td></tr>'
        for name, bits, kind in sorted(numbers, key=lambda number: -number[1])
    )
    return (
        '<div class="bits"><table>\n'
        "<caption>Bits per sample on held-out recordings; fewer is better</caption>\n"
        f"{rows}\n</table></div>"
    )
