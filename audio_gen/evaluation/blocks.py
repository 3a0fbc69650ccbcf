"""What a report is made of, whatever shows it: sentences, tables, bars, lines, histograms and matrices.

A part of the evaluation describes its findings once, in these; the text and the page are two ways to read them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal["ours", "real", "scale"]
"""What a figure belongs to: the model, real recordings, or something known beside them."""
WIDEST_MATRIX = 16  # columns that a text has room for
SHOWN_ROWS = 30  # of a table, in a text


@dataclass(frozen=True)
class Table:
    """Cells of text under column names; the first column names the row."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Bar:
    """One figure, and how it is written."""

    name: str
    value: float
    text: str
    kind: Kind = "scale"


@dataclass(frozen=True)
class Bars:
    """Figures of one unit, beside one another."""

    caption: str
    bars: tuple[Bar, ...]


@dataclass(frozen=True)
class Series:
    """Points of one line."""

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    kind: Kind = "scale"


@dataclass(frozen=True)
class Lines:
    """Several lines on one pair of axes."""

    caption: str
    x_axis: str
    y_axis: str
    series: tuple[Series, ...]
    band: tuple[float, float] | None = None
    """A range of y to hold the lines against."""
    band_name: str = ""


@dataclass(frozen=True)
class Histogram:
    """Shares of several sets in the same bins."""

    caption: str
    x_axis: str
    edges: tuple[float, ...]
    series: tuple[tuple[str, Kind, tuple[float, ...]], ...]
    """(name, kind, share of the set in each bin)"""
    mark: float | None = None
    """A place on the axis worth a line."""
    mark_name: str = ""


@dataclass(frozen=True)
class Matrix:
    """Shares (rows, columns): of what each row stands for, how much went to each column."""

    caption: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    values: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Sound:
    """A short clip to listen to: 16-bit WAV."""

    name: str
    wav: bytes
    kind: Kind


@dataclass(frozen=True)
class Sounds:
    """Rows of clips to compare by ear."""

    caption: str
    rows: tuple[tuple[str, tuple[Sound, ...]], ...]
    """(what is said of the row, its clips)"""


Block = Table | Bars | Lines | Histogram | Matrix | Sounds


@dataclass(frozen=True)
class Section:
    """One part of the evaluation."""

    title: str
    sentences: tuple[str, ...]
    """What was found, then what a reader of the figures must know."""
    blocks: tuple[Block, ...] = ()


def section_lines(section: Section) -> Iterator[str]:
    """A section as text: its sentences, and those of its blocks that text can show."""
    yield section.title
    yield from section.sentences
    for block in section.blocks:
        lines = list(_block_lines(block))
        if lines:
            yield ""
            yield block.caption
            yield from lines


def _block_lines(block: Block) -> Iterator[str]:
    if isinstance(block, Table):
        yield from columns([block.columns, *block.rows[:SHOWN_ROWS]])
        if len(block.rows) > SHOWN_ROWS:
            yield f"  and {len(block.rows) - SHOWN_ROWS} more"
    elif isinstance(block, Bars):
        yield from columns([(bar.name, bar.text) for bar in block.bars])
    elif isinstance(block, Matrix) and len(block.columns) <= WIDEST_MATRIX:
        rows = [
            (name, *(f"{100 * share:.0f}" if share else "." for share in values))
            for name, values in zip(block.rows, block.values, strict=True)
        ]
        yield from columns([("", *(name[:9] for name in block.columns)), *rows])


def columns(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Rows of cells in aligned columns: the first to the left, the others to the right.

    >>> list(columns([("kick", "1.25"), ("hat", "10.5")]))
    ['  kick  1.25', '  hat   10.5']
    """
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    for row in rows:
        first, *others = row
        cells = [f"{first:<{widths[0]}}"]
        cells += [f"{cell:>{width}}" for cell, width in zip(others, widths[1:], strict=True)]
        yield ("  " + "  ".join(cells)).rstrip()


def percent(share: float) -> str:
    """A share for people.

    >>> percent(0.9834), percent(0.0)
    ('98.3 %', '0.0 %')
    """
    return f"{100.0 * share:.1f} %"
