"""Charts as HTML and SVG: bars, lines, histograms, matrices. Colours come from the style sheet.

What belongs to the model has the class "ours", what is real "real", and what is known beside them "scale".
"""

import base64
import math
from collections.abc import Sequence
from html import escape

from audio_gen.evaluation.blocks import Bars, Block, Histogram, Lines, Matrix, Sounds, Table

WIDTH, HEIGHT = 560, 220
LEFT, RIGHT, TOP, BOTTOM = 52, 10, 10, 36
"""Margins around the box that is drawn into."""


def block_html(block: Block) -> str:
    """A figure with its caption."""
    if isinstance(block, Table):
        drawn = _table(block)
    elif isinstance(block, Bars):
        drawn = _bars(block)
    elif isinstance(block, Lines):
        drawn = _lines(block)
    elif isinstance(block, Histogram):
        drawn = _histogram(block)
    elif isinstance(block, Matrix):
        drawn = _matrix(block)
    else:
        drawn = _sounds(block)
    return f"<figure>\n<figcaption>{escape(block.caption)}</figcaption>\n{drawn}\n</figure>"


def _table(table: Table) -> str:
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in table.columns)
    rows = "\n".join(
        f'<tr><th scope="row">{escape(row[0])}</th>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in row[1:])
        + "</tr>"
        for row in table.rows
    )
    return f'<div class="scroll"><table class="figures"><tr>{head}</tr>\n{rows}\n</table></div>'


def _bars(block: Bars) -> str:
    most = max(max((bar.value for bar in block.bars), default=0.0), 1e-9)
    rows = "\n".join(
        f'<tr class="{bar.kind}"><th scope="row">{escape(bar.name)}</th>'
        f'<td><i style="width: {max(0.0, 80.0 * bar.value / most):.1f}%"></i>{escape(bar.text)}</td></tr>'
        for bar in block.bars
    )
    return f'<div class="bits"><table>\n{rows}\n</table></div>'


class _Box:
    """Axes from data to picture."""

    def __init__(self, x: Sequence[float], y: Sequence[float]) -> None:
        self.x, self.y = _range(x), _range(y)

    def across(self, value: float) -> float:
        low, high = self.x
        return LEFT + (WIDTH - LEFT - RIGHT) * (value - low) / (high - low)

    def up(self, value: float) -> float:
        low, high = self.y
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - low) / (high - low)

    def frame(self, x_axis: str, y_axis: str) -> str:
        """Ticks, their lines and names."""
        parts = []
        for value in _ticks(*self.x):
            at = self.across(value)
            parts.append(f'<text x="{at:.1f}" y="{HEIGHT - BOTTOM + 14}" class="mid">{_short(value)}</text>')
        for value in _ticks(*self.y):
            at = self.up(value)
            parts.append(f'<path class="grid" d="M{LEFT} {at:.1f}H{WIDTH - RIGHT}"/>')
            parts.append(f'<text x="{LEFT - 6}" y="{at + 4:.1f}" class="end">{_short(value)}</text>')
        parts.append(f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 5}" class="end">{escape(x_axis)}</text>')
        parts.append(f'<text x="2" y="{HEIGHT - 5}">{escape(y_axis)}</text>')
        return "\n".join(parts)


def _svg(content: str, name: str) -> str:
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(name)}">\n'
        f"{content}\n</svg>"
    )


def _key(names: Sequence[tuple[str, str]]) -> str:
    items = "".join(f'<span class="{kind}"><i></i>{escape(name)}</span>' for name, kind in names)
    return f'<p class="names">{items}</p>'


def _lines(block: Lines) -> str:
    every = [value for each in block.series for value in each.y] + list(block.band or ())
    box = _Box([value for each in block.series for value in each.x], every)
    parts = [box.frame(block.x_axis, f"{block.y_axis} ↑")]
    names: list[tuple[str, str]] = []
    if block.band is not None:
        high, low = box.up(block.band[1]), box.up(block.band[0])
        parts.append(
            f'<rect class="band" x="{LEFT}" y="{high:.1f}" width="{WIDTH - LEFT - RIGHT}" '
            f'height="{max(1.0, low - high):.1f}"/>'
        )
        names.append((block.band_name, "band"))
    for number, each in enumerate(block.series):
        points = " ".join(f"{box.across(x):.1f} {box.up(y):.1f}" for x, y in zip(each.x, each.y, strict=True))
        dash = f" dash-{number % 4}" if each.kind == "scale" else ""
        parts.append(f'<path class="line {each.kind}{dash}" d="M{points}"/>')
        names.append((each.name, each.kind + dash))
    return _svg("\n".join(parts), block.caption) + _key(names)


def _histogram(block: Histogram) -> str:
    most = max([share for _, _, shares in block.series for share in shares] + [1e-9])
    box = _Box(block.edges, (0.0, 100.0 * most))
    parts = [box.frame(block.x_axis, "% ↑")]
    for _, kind, shares in block.series:
        steps = [f"M{box.across(block.edges[0]):.1f} {box.up(0.0):.1f}"]
        for share, stop in zip(shares, block.edges[1:], strict=True):
            steps.append(f"V{box.up(100.0 * share):.1f}H{box.across(stop):.1f}")
        parts.append(f'<path class="area {kind}" d="{"".join(steps)}V{box.up(0.0):.1f}Z"/>')
    names: list[tuple[str, str]] = [(name, kind) for name, kind, _ in block.series]
    if block.mark is not None:
        at = box.across(block.mark)
        parts.append(f'<path class="mark-line" d="M{at:.1f} {TOP}V{HEIGHT - BOTTOM}"/>')
        names.append((f"{block.mark_name}: right of the line", "mark-line"))
    return _svg("\n".join(parts), block.caption) + _key(names)


def _matrix(block: Matrix) -> str:
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in block.columns)
    rows = []
    for name, values in zip(block.rows, block.values, strict=True):
        cells = "".join(
            f'<td style="--share: {100.0 * share:.0f}%">{f"{100.0 * share:.0f}" if share else ""}</td>'
            for share in values
        )
        rows.append(f'<tr><th scope="row">{escape(name)}</th>{cells}</tr>')
    table = "\n".join(rows)
    return f'<div class="scroll"><table class="matrix"><tr><th></th>{head}</tr>\n{table}\n</table></div>'


def _sounds(block: Sounds) -> str:
    rows = []
    for name, sounds in block.rows:
        cells = "".join(
            f'<td class="{each.kind}">{escape(each.name)}<audio controls preload="none" '
            f'src="data:audio/wav;base64,{base64.b64encode(each.wav).decode("ascii")}"></audio></td>'
            for each in sounds
        )
        rows.append(f'<tr><th scope="row">{escape(name)}</th>{cells}</tr>')
    return f'<table class="sounds">{"".join(rows)}</table>'


def _range(values: Sequence[float]) -> tuple[float, float]:
    """Lowest and highest, never the same; the values themselves where there are none."""
    known = [value for value in values if math.isfinite(value)] or [0.0]
    low, high = min(known), max(known)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _ticks(low: float, high: float) -> list[float]:
    """About five round numbers from `low` to `high`.

    >>> _ticks(0.0, 1.0), _ticks(-61.0, -20.0)
    ([0.0, 0.2, 0.4, 0.6, 0.8, 1.0], [-60.0, -50.0, -40.0, -30.0, -20.0])
    """
    rough = (high - low) / 5.0
    unit: float = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough * 0.999)
    first = math.ceil(low / step - 1e-6)
    return [round(number * step, 10) for number in range(first, math.floor(high / step + 1e-6) + 1)]


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100.0 else f"{value:g}"
