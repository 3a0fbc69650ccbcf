"""The tables of speed in SPEED.md, from what benchmarks.engine has saved.

    python -m benchmarks.engine --save benchmarks/speed.json
    python -m benchmarks.speed                     # writes the tables: of speed.json, speed-avx2.json, ...
    python -m benchmarks.speed --check             # exit code 1 if it is not current

The same data give the same bytes.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from audio_gen.errors import AudioGenError, DataError
from benchmarks.results import update_table

SAVED = [Path(__file__).with_name("speed.json"), *sorted(Path(__file__).parent.glob("speed-*.json"))]
PAGE = Path(__file__).with_name("SPEED.md")
MARKERS = ("<!-- speed:begin -->", "<!-- speed:end -->")
RATE = 16_000
"""Hertz, for times real time."""
TOGETHER = (8, 32)
"""Streams side by side, beside a single one."""
RULES = ["---", "---:", "---", *["---:"] * 11]
ABSENT = "–"


def read_saved(path: Path) -> dict[str, Any]:
    """What benchmarks.engine has saved. Raises DataError."""
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
        if saved["version"] != 1:
            raise ValueError(f"version {saved['version']}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path}: no saved benchmark ({error}); run python -m benchmarks.engine --save {path}"
        ) from None
    return dict(saved)


def text(saved: Mapping[str, Any]) -> str:
    """Markdown: where and when, the table, and how to read it."""
    how = " (quick)" if saved["quick"] else ""
    rows = {(row["network"], row["kind"], row["streams"]): row for row in saved["rows"]}
    heads = [
        "network",
        "MAC per sample",
        "precision",
        "samples/s",
        "× real time",
        "× modules",
        "× lean",
        "limit",
    ]
    for streams in TOGETHER:
        heads += [f"{streams} streams", "limit"]
    heads += ["error", "worst gap, ms"]
    lines = [f"{saved['hardware']}, {saved['isa']}, PyTorch {saved['torch']}, {saved['date']}{how}:", ""]
    lines += [_line(heads), _line(RULES[: len(heads)])]
    for name, network in saved["networks"].items():
        lines += [_network_row(name, network, kind, rows) for kind in network["errors"]]
    lines += ["", _legend(rows, saved["networks"])]
    return "\n".join(lines)


def _network_row(
    name: str, network: Mapping[str, Any], kind: str, rows: Mapping[Any, Mapping[str, Any]]
) -> str:
    error = network["errors"][kind]
    shown = f"{error['logits']:.0e} logit" if kind == "fp32" else f"{error['kl_bits']:.1e} bits"
    one = rows.get((name, kind, 1), {})
    cells = [name, f"{network['macs_per_sample']:,}", kind, _speed(one), ABSENT, ABSENT, ABSENT, _share(one)]
    if one:
        cells[4:7] = [
            f"{one['samples_per_second'] / RATE:.1f}",
            f"{one['over_modules']:.0f}",
            f"{one['over_lean']:.1f}",
        ]
    for streams in TOGETHER:
        row = rows.get((name, kind, streams), {})
        cells += [_speed(row), _share(row)]
    return _line([*cells, shown, f"{network['gaps'][kind]['worst_ms']:.3f}"])


def _legend(rows: Mapping[Any, Mapping[str, Any]], networks: Mapping[str, Any]) -> str:
    peers = "; ".join(
        f"{name} {rows[name, 'modules', 1]['samples_per_second']:,.0f} and "
        f"{rows[name, 'lean', 1]['samples_per_second']:,.0f}"
        for name in networks
        if (name, "modules", 1) in rows
    )
    return (
        f"One core. × real time at {RATE // 1000} kHz. × modules and × lean: over the same network stepped by eager "
        f"PyTorch, with a module per convolution and queues, and by the leanest step we could write ({peers} "
        "samples/s), in the same process. Limit: share of what reading the weights once per sample of all streams, or "
        "the multiply-accumulate units, allow at most (measured in the same run; a single stream may pass it, since "
        "part of its work is done for several samples at once). Error: against PyTorch in float64, the largest one of "
        "a logit or the bits per sample lost, with random weights. Worst gap: between two samples of a single stream."
    )


def _speed(row: Mapping[str, Any]) -> str:
    return f"{row['samples_per_second']:,.0f}" if row else ABSENT


def _share(row: Mapping[str, Any]) -> str:
    return f"{max(row['of_reading'], row['of_arithmetic']):.0%}" if row else ABSENT


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; gives its exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description="The tables of speed.")
    parser.add_argument("saved", nargs="*", type=Path, default=SAVED, help="what benchmarks.engine has saved")
    parser.add_argument("--page", type=Path, default=PAGE, help="the file with the markers")
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if it is not current")
    given = parser.parse_args(arguments)
    try:
        new = "\n\n".join(text(read_saved(path)) for path in given.saved)
        return update_table(given.page, new, "python -m benchmarks.speed", check=given.check, markers=MARKERS)
    except AudioGenError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
