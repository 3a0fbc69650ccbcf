"""Which settings learn most in the same time: `python -m benchmarks.variants benchmarks/variants/predictors.toml`.

A file of variants names recipes, a budget, seeds, and per variant the settings it overrides:

    recipes = ["recipes/digits-samples.toml"]
    sources = ["digits"]                 # recordings of each recipe, below the folder given by --data
    budget = ["train.minutes=10"]        # for every training: by minutes, or by steps
    seeds = [0, 1]

    [variants]
    none = ["network.predictors=[]"]
    two = ["network.predictors=[16,32]"]

Every (recipe, seed, variant) is one `audio-gen train` in a process of its own, one after another, variants innermost,
so that a machine which slows down slows all of them. What is trained already is not trained again, and what was
interrupted goes on. The results go beside the file, as FILE.json and as a table in FILE.md: bits per sample on all
held-out audio, their spread over seeds, samples per second, and multiply-accumulates per generated sample.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audio_gen.checkpoint import load_checkpoint

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


@dataclass(frozen=True)
class Study:
    """One file of variants. Raises KeyError, OSError or tomllib.TOMLDecodeError where it is no such file."""

    path: Path
    recipes: list[tuple[str, str]]
    """Recipe and its recordings."""
    budget: list[str]
    seeds: list[int]
    variants: dict[str, list[str]]

    @classmethod
    def load(cls, path: Path) -> "Study":
        plain = tomllib.loads(path.read_text(encoding="utf-8"))
        recipes = list(zip(plain["recipes"], plain["sources"], strict=True))
        return cls(path, recipes, plain["budget"], plain["seeds"], plain["variants"])

    def trainings(self) -> Iterator[tuple[str, str, int, str]]:
        """Recipe, its recordings, seed and variant of each training, in their order."""
        for recipe, source in self.recipes:
            for seed in self.seeds:
                for variant in self.variants:
                    yield recipe, source, seed, variant


def train(
    study: Study, data: Path, runs: Path, recipe: str, source: str, seed: int, variant: str
) -> dict[str, Any]:
    """One training, or what is left of it; gives its row."""
    run = runs / study.path.stem / Path(recipe).stem / f"{variant}-{seed}"
    settings = [
        f'data.source="{data / source}"',
        *study.budget,
        f"train.seed={seed}",
        *study.variants[variant],
    ]
    command = [sys.executable, "-m", "audio_gen", "train", recipe, "--run", str(run), "--resume", "--quiet"]
    for setting in [*settings, "train.preview_seconds=0", "train.validate_every=1000000"]:
        command += ["--set", setting]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    last = json.loads((run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    checkpoint = load_checkpoint(run / "model.safetensors")
    return {
        "recipe": Path(recipe).stem,
        "variant": variant,
        "seed": seed,
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
    }


def table(study: Study, rows: list[dict[str, Any]]) -> str:
    """Markdown: one line per recipe and variant, means over seeds; the spread is from the lowest to the highest."""
    where = ", ".join(sorted({f"{row['hardware']}, {row['threads']} threads, {row['date']}" for row in rows}))
    lines = [
        f"{where}; {', '.join(study.budget)}.",
        "",
        f"| {' | '.join(COLUMNS)} |",
        "|---|---|" + "---:|" * 7,
    ]
    for recipe, _ in study.recipes:
        for variant in study.variants:
            found = [row for row in rows if row["recipe"] == Path(recipe).stem and row["variant"] == variant]
            if not found:
                continue
            valid = [row["valid"] for row in found]
            mean = {
                key: statistics.fmean(row[key] for row in found)
                for key in ("minutes", "samples", "samples_per_second", "macs_per_sample")
            }
            cells = [Path(recipe).stem, variant, len(found), f"{statistics.fmean(valid):.3f}"]
            cells += [f"{max(valid) - min(valid):.3f}" if len(valid) > 1 else "–", f"{mean['minutes']:.1f}"]
            cells += [f"{mean['samples']:,.0f}", f"{mean['samples_per_second']:,.0f}"]
            lines.append(f"| {' | '.join(map(str, [*cells, format(round(mean['macs_per_sample']), ',')]))} |")
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
    options = parser.parse_args()
    study = Study.load(options.study)
    rows = []
    for training in study.trainings():
        rows.append(train(study, options.data, options.runs, *training))
        print(
            f"{rows[-1]['recipe']} {rows[-1]['variant']} seed {rows[-1]['seed']}: {rows[-1]['valid']:.3f}",
            flush=True,
        )
        study.path.with_suffix(".json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
        study.path.with_suffix(".md").write_text(table(study, rows), encoding="utf-8")


if __name__ == "__main__":
    main()
