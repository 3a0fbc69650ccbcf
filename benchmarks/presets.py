"""The table of presets: what each costs, how far it hears, how fast it plays, and what it learns in so many minutes.

    taskset -c 1 python -m benchmarks.presets --measure                    # speeds, into benchmarks/presets.json
    python -m benchmarks.variants benchmarks/variants/presets.toml         # trainings, into presets.json beside it
    python -m benchmarks.presets                                           # writes benchmarks/PRESETS.md
    python -m benchmarks.presets --check                                   # exit code 1 if it is not current

What was measured of a preset that has changed since does not count. The same data give the same bytes.
"""

import argparse
import datetime
import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from audio_gen.engine import limits
from audio_gen.engine.pack import weight_count
from audio_gen.errors import AudioGenError, DataError, OutputError
from audio_gen.presets import PRESETS, preset_shape
from audio_gen.settings import PREDICTORS
from audio_gen.shape import NetworkShape
from benchmarks.results import update_table
from benchmarks.speed import RATE
from benchmarks.variants import Study, made_on

HERE = Path(__file__).parent
SAVED = HERE / "presets.json"
STUDY = HERE / "variants" / "presets.toml"
PAGE = HERE / "PRESETS.md"
MARKERS = ("<!-- presets:begin -->", "<!-- presets:end -->")
UNMEASURED, UNTRAINED = "not measured yet", "not trained yet"
ROUNDS, SECONDS = 9, 0.2


def shapes() -> dict[str, NetworkShape]:
    """Of every preset: raw samples in 256 levels, with the predictors that a recipe has by default."""
    return {name: preset_shape(name, predictors=PREDICTORS) for name in PRESETS}


def measure(rounds: int = ROUNDS, seconds: float = SECONDS) -> dict[str, Any]:
    """Samples per second of every preset with random weights, a single stream, in each precision, as plain JSON.

    Medians over rounds that visit all of them by turns, `seconds` of processor time at each visit.
    """
    from benchmarks.engine import Row, engine_row
    from benchmarks.networks import compiled, random_tensors

    found, isa = shapes(), ""
    rows: list[Row] = []
    for name, shape in found.items():
        tensors = random_tensors(shape)
        for precision in limits.BITS:
            engine = compiled(shape, tensors, precision)
            rows.append(engine_row(name, precision, engine, 1))
            isa = engine.isa
    for _ in range(2 + rounds):  # the first two find how many samples fit the time
        for row in rows:
            row.measure(seconds)
    speeds: dict[str, dict[str, float]] = {name: {} for name in found}
    for row in rows:
        speeds[row.network][row.kind] = round(statistics.median(row.speeds[2:]), 1)
    return {
        "version": 1,
        "hardware": limits.hardware(),
        "isa": isa,
        "date": datetime.date.today().isoformat(),
        "presets": {
            name: {"shape": found[name].to_dict(), "samples_per_second": speed}
            for name, speed in speeds.items()
        },
    }


def save(measured: Mapping[str, Any], path: Path) -> None:
    """Keep the speeds. Raises OutputError."""
    try:
        path.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror}") from None


def read_saved(path: Path) -> dict[str, Any]:
    """The speeds that `--measure` has saved, and where they are from; none where there is no file. Raises DataError."""
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
        if saved["version"] != 1:
            raise ValueError(f"version {saved['version']}")
        return {"presets": saved["presets"], "where": f"{saved['hardware']}, {saved['isa']}, {saved['date']}"}
    except FileNotFoundError:
        return {"presets": {}, "where": UNMEASURED}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path}: no saved speeds ({error!r}); run python -m benchmarks.presets --measure"
        ) from None


def read_study(path: Path) -> tuple[Study, list[dict[str, Any]]]:
    """The study of the presets, and those of its trainings that are done. Raises DataError."""
    try:
        study = Study.load(path)
        return study, study.saved()
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{path}: cannot be read as a study, or its results: {error!r}") from None


def text(saved: Mapping[str, Any], study: Study, rows: Sequence[Mapping[str, Any]]) -> str:
    """Markdown: where the speeds are from, the table, and the curves if there are any."""
    heads = ["preset", "parameters", "MAC per sample", "hears, ms"]
    heads += [f"× real time, {precision}" for precision in limits.BITS]
    heads += [f"bits, {minutes:g} minutes" for minutes in study.minutes]
    rules = ["---", *["---:"] * (len(heads) - 1), "---"]
    lines = [f"Speeds: {saved['where']}.", "", _line([*heads, "trained on"]), _line(rules)]
    for name, shape in shapes().items():
        ours = [row for row in rows if row["variant"] == name and _is_of(row, shape)]
        lines.append(
            _line([*_sizes(name, shape), *_speeds(saved["presets"].get(name), shape), *_bits(study, ours)])
        )
    if rows:
        picture = f"{study.path.parent.name}/{study.path.stem}.svg"
        lines += ["", f"![bits per sample over minutes and over samples]({picture})"]
    return "\n".join(lines)


def _sizes(name: str, shape: NetworkShape) -> list[str]:
    hears = 1000 * shape.receptive_field / RATE
    return [name, f"{weight_count(shape):,}", f"{shape.macs_per_sample:,.0f}", f"{hears:,.0f}"]


def _speeds(measured: Mapping[str, Any] | None, shape: NetworkShape) -> list[str]:
    if measured is None or measured["shape"] != shape.to_dict():
        return [UNMEASURED] * len(limits.BITS)
    return [f"{measured['samples_per_second'][precision] / RATE:.1f}" for precision in limits.BITS]


def _is_of(row: Mapping[str, Any], shape: NetworkShape) -> bool:
    """Whether a training was one of this network: a preset may have changed since."""
    return row["parameters"] == weight_count(shape) and row["macs_per_sample"] == round(shape.macs_per_sample)


def _bits(study: Study, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Means over seeds for each of the study's minutes, and where and when."""
    cells = []
    for minutes in study.minutes:
        bits = [row["valid"] for row in rows if row["budget_minutes"] == minutes]
        cells.append(f"{statistics.fmean(bits):.3f}" if bits else UNTRAINED)
    where = dict.fromkeys(made_on(row) for row in rows)
    return [*cells, "; ".join(where) or "–"]


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; gives its exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.presets", description="The table of presets.")
    parser.add_argument("--measure", action="store_true", help="measure the speeds first, about two minutes")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"of --measure (default {ROUNDS})")
    parser.add_argument("--saved", type=Path, default=SAVED, help="where the speeds are kept")
    parser.add_argument("--study", type=Path, default=STUDY, help="the study, its results beside it")
    parser.add_argument("--page", type=Path, default=PAGE, help="the file with the markers")
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if it is not current")
    given = parser.parse_args(arguments)
    try:
        if given.measure:
            save(measure(given.rounds), given.saved)
        new = text(read_saved(given.saved), *read_study(given.study))
        return update_table(
            given.page, new, "python -m benchmarks.presets", check=given.check, markers=MARKERS
        )
    except AudioGenError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
