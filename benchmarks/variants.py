"""Which settings learn most in the same time: `python -m benchmarks.variants benchmarks/variants/predictors.toml`.

A file of variants names recipes, a budget, seeds, and per variant the settings it overrides:

    recipes = ["recipes/digits-samples.toml"]
    sources = ["digits"]                 # recordings of each recipe, below the folder given by --data
    budget = ["train.minutes=10"]        # for every training: by minutes, or by steps
    seeds = [0, 1]

    [variants]
    none = ["network.predictors=[]"]
    two = ["network.predictors=[16,32]"]

`minutes = [10, 60]` beside the budget trains everything once for each of them; what goes with one of them stands in a
table `[lengths]`: `60 = ["train.learning_rate=8e-4"]`. `train.validate_every` in the budget
gives the curves more points; the time that validations take is none of the training's.

Every (recipe, minutes, seed, variant) is one `audio-gen train` in a process of its own, one after another, variants
innermost, so that a machine which slows down slows all of them. What is trained already is not trained again, and what
was interrupted goes on. `--only VARIANT` and `--minutes N` do a part of it; what the file of results has of the others
stays there, unless their settings have changed since. The results go beside the file, as FILE.json, as a table in
FILE.md and as curves in FILE.svg: bits per sample on all held-out audio, their spread over seeds, samples per second,
and multiply-accumulates per generated sample.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from audio_gen.checkpoint import load_checkpoint
from benchmarks.curves import draw_curves, read_curve

COLUMNS = (
    "recipe",
    "variant",
    "seeds",
    "bits per sample",
    "spread",
    "minutes",
    "samples seen",
    "samples/s",
    "MAC",
)
UNSEEN = ("train.preview_seconds=0", "train.validate_every=1000000")
"""Nobody listens, and one validation is enough where the budget does not say otherwise."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Trial:
    """One training of a study."""

    recipe: str
    """The recipe's file."""
    source: str
    """Its recordings."""
    minutes: float | None
    """None: the budget says how long."""
    seed: int
    variant: str
    settings: tuple[str, ...]
    """All that it overrides, but for the recordings' folder."""

    @property
    def name(self) -> str:
        """Of its run folder."""
        length = "" if self.minutes is None else f"-{self.minutes:g}min"
        return f"{self.variant}{length}-{self.seed}"

    @property
    def facts(self) -> Row:
        """What tells its row from the others, and from those of other settings."""
        return {
            "recipe": Path(self.recipe).stem,
            "variant": self.variant,
            "seed": self.seed,
            "budget_minutes": self.minutes,
            "settings": list(self.settings),
        }


@dataclass(frozen=True)
class Study:
    """One file of variants. Raises KeyError, ValueError or OSError where it is no such file."""

    path: Path
    recipes: list[tuple[str, str]]
    """Recipe and its recordings."""
    budget: list[str]
    minutes: list[float]
    """Empty: the budget says how long."""
    seeds: list[int]
    variants: dict[str, list[str]]
    lengths: dict[str, list[str]] = field(default_factory=dict)
    """What goes with some of the minutes."""

    @classmethod
    def load(cls, path: Path) -> "Study":
        plain = tomllib.loads(path.read_text(encoding="utf-8"))
        recipes = list(zip(plain["recipes"], plain["sources"], strict=True))
        minutes = plain.get("minutes", [])
        return cls(
            path,
            recipes,
            plain["budget"],
            minutes,
            plain["seeds"],
            plain["variants"],
            plain.get("lengths", {}),
        )

    def trials(self) -> Iterator[Trial]:
        """Every training, in their order."""
        for recipe, source in self.recipes:
            for minutes in self.minutes or [None]:
                for seed in self.seeds:
                    for variant, own in self.variants.items():
                        length = [] if minutes is None else [f"train.minutes={minutes:g}"]
                        length += [] if minutes is None else self.lengths.get(f"{minutes:g}", [])
                        settings = (*self.budget, *length, f"train.seed={seed}", *own)
                        yield Trial(recipe, source, minutes, seed, variant, settings)

    def saved(self) -> list[Row]:
        """Rows of former runs whose settings are still those of this study, in its order."""
        path = self.path.with_suffix(".json")
        rows: list[Row] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
        return self.sort(rows)

    def sort(self, rows: Sequence[Row]) -> list[Row]:
        """Those of this study's trials, the last one of each, in the order of the trials."""
        ours: list[Row] = []
        for trial in self.trials():
            ours += [row for row in rows if trial.facts.items() <= row.items()][-1:]
        return ours

    def write(self, rows: list[Row]) -> None:
        """The results, beside the study."""
        lines = ",\n".join(map(json.dumps, rows))
        self.path.with_suffix(".json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")
        draw_curves(rows, self.path.with_suffix(".svg"))
        self.path.with_suffix(".md").write_text(table(self, rows), encoding="utf-8")


def train(trial: Trial, data: Path, run: Path) -> Row:
    """One training, or what is left of it; gives its row. Raises subprocess.CalledProcessError."""
    command = [sys.executable, "-m", "audio_gen", "train", trial.recipe]
    command += ["--run", str(run), "--resume", "--quiet"]
    for setting in [f'data.source="{data / trial.source}"', *UNSEEN, *trial.settings]:
        command += ["--set", setting]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            code = process.wait()
        except KeyboardInterrupt:
            process.wait()  # it saves what it has
            raise
    if code:
        raise subprocess.CalledProcessError(code, command)
    last = json.loads((run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    checkpoint = load_checkpoint(run / "model.safetensors")
    return trial.facts | {
        "valid": last["valid"],
        "train": last["train"],
        "minutes": last["seconds"] / 60.0,
        "steps": last["step"],
        "samples": last["samples"],
        "samples_per_second": last["samples_per_second"],
        "macs_per_sample": round(checkpoint.shape.macs_per_sample),
        "parameters": checkpoint.parameters,
        "hardware": checkpoint.card.get("hardware", platform.processor()),
        "threads": checkpoint.card.get("threads"),
        "date": checkpoint.card.get("date"),
        "baselines": checkpoint.card.get("baselines"),
        "curve": read_curve(run),
    }


def made_on(row: Mapping[str, Any]) -> str:
    """Where and when it was trained."""
    return f"{row['hardware']}, {row['threads']} thread{'s' if row['threads'] != 1 else ''}, {row['date']}"


def table(study: Study, rows: list[Row]) -> str:
    """Markdown: one line per recipe, minutes and variant, means over seeds; the spread is from the lowest to the
    highest. Below it the curves, if there are any."""
    where = ", ".join(sorted({made_on(row) for row in rows}))
    lines = [
        f"{where}; {', '.join(study.budget)}.",
        "",
        f"| {' | '.join(COLUMNS)} |",
        "|---|---|" + "---:|" * 7,
    ]
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["recipe"], row["budget_minutes"], row["variant"]), []).append(row)
    for (recipe, _, variant), found in groups.items():
        valid = [row["valid"] for row in found]
        mean = {
            key: statistics.fmean(row[key] for row in found)
            for key in ("minutes", "samples", "samples_per_second", "macs_per_sample")
        }
        cells = [recipe, variant, len(found), f"{statistics.fmean(valid):.3f}"]
        cells += [f"{max(valid) - min(valid):.3f}" if len(valid) > 1 else "–", f"{mean['minutes']:.1f}"]
        cells += [f"{mean['samples']:,.0f}", f"{mean['samples_per_second']:,.0f}"]
        lines.append(f"| {' | '.join(map(str, [*cells, format(round(mean['macs_per_sample']), ',')]))} |")
    lines += ["", f"![bits per sample over minutes and over samples]({study.path.stem}.svg)"]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Read the options and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("study", type=Path, help="file of variants")
    parser.add_argument(
        "--data", type=Path, default=Path("../data"), help="folder of all recordings (default ../data)"
    )
    parser.add_argument(
        "--runs", type=Path, default=Path("runs"), help="where trainings are kept (default runs)"
    )
    parser.add_argument("--only", nargs="+", metavar="VARIANT", help="these variants (default all)")
    parser.add_argument(
        "--minutes", nargs="+", type=float, metavar="N", help="these of the study's minutes (default all)"
    )
    options = parser.parse_args()
    try:
        study = Study.load(options.study)
        study.saved()
    except (OSError, KeyError, ValueError) as error:
        parser.error(f"{options.study}: cannot be read as a study, or its results: {error!r}")
    for given, known in ((options.only, study.variants), (options.minutes, study.minutes)):
        if unknown := [value for value in given or [] if value not in known]:
            parser.error(f"{options.study} has no {unknown[0]}; there is {', '.join(map(str, known))}")
    for trial in study.trials():
        if options.only and trial.variant not in options.only:
            continue
        if options.minutes and trial.minutes not in options.minutes:
            continue
        run = options.runs / study.path.stem / Path(trial.recipe).stem / trial.name
        try:
            row = train(trial, options.data, run)
        except subprocess.CalledProcessError as error:  # which has said why
            sys.exit(error.returncode)
        except KeyboardInterrupt:
            sys.exit(130)
        study.write(study.sort([*study.saved(), row]))  # read again: another process may train other variants
        print(f"{row['recipe']} {trial.name}: {row['valid']:.3f}", flush=True)


if __name__ == "__main__":
    main()
