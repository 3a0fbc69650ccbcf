"""Curves of trainings, bits per sample over minutes and over samples: read from a run, and drawn of several."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Curve = dict[str, list[Any]]
"""`minutes` of training, `samples` learned from, `bits` per sample on held-out audio, and whether that was the `whole`
of it; one entry per validation, oldest first."""


def read_curve(run: Path) -> Curve:
    """What the metrics.jsonl of a run says. Raises OSError."""
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [row for row in map(json.loads, lines) if row["valid"] is not None]
    return {
        "minutes": [round(row["seconds"] / 60.0, 5) for row in rows],
        "samples": [row["samples"] for row in rows],
        "bits": [round(row["valid"], 4) for row in rows],
        "whole": [row["whole"] for row in rows],
    }


def draw_curves(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """An SVG of all rows that have a `curve`: a line of panels per recipe, a colour per variant.

    Lines are scores on a part of the held-out audio, dots those on the whole of it, which may be somewhat easier or
    harder. The first tenth of a training may leave the panel at the top, or the rest would all be one line. The same
    rows give the same bytes. Raises OSError.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    recipes = list(dict.fromkeys(row["recipe"] for row in rows))
    variants = list(dict.fromkeys(row["variant"] for row in rows))
    with rc_context({"svg.hashsalt": "audio_gen", "svg.fonttype": "none"}):
        figure = Figure(figsize=(9, 3.6 * len(recipes)), layout="constrained")
        panels = figure.subplots(len(recipes), 2, squeeze=False, sharey="row")
        for recipe, pair in zip(recipes, panels, strict=True):
            drawn = [row for row in rows if row["recipe"] == recipe and row.get("curve")]
            for row in drawn:
                for axes, over in zip(pair, ("minutes", "samples"), strict=True):
                    _draw(axes, row["curve"], over, f"C{variants.index(row['variant'])}", row["variant"])
            if settled := [bits for row in drawn for bits in _settled(row["curve"])]:
                margin = 0.05 * (max(settled) - min(settled)) or 0.1
                pair[0].set_ylim(min(settled) - margin, max(settled) + margin)
            pair[0].set(xlabel="minutes of training", ylabel="bits per sample", title=recipe, xscale="log")
            pair[0].xaxis.set_major_formatter("{x:g}")
            pair[1].set(xlabel="samples learned from", xscale="log")
            labels = {line.get_label(): line for line in pair[0].get_lines()}
            if labels:
                pair[0].legend(labels.values(), labels.keys())
        figure.savefig(path, format="svg", metadata={"Date": None})


def _settled(curve: Curve) -> list[float]:
    """Scores behind the first tenth of a training."""
    pairs = zip(curve["minutes"], curve["bits"], strict=True)
    return [bits for minutes, bits in pairs if minutes >= 0.1 * curve["minutes"][-1]]


def _draw(axes: Any, curve: Curve, over: str, colour: str, name: str) -> None:
    scores = list(zip(curve[over], curve["bits"], curve["whole"], strict=True))
    parts = [(place, bits) for place, bits, whole in scores if not whole]
    axes.plot(*zip(*parts, strict=True) if parts else ([], []), color=colour, linewidth=1, label=name)
    for place, bits, whole in scores:
        if whole:
            axes.plot([place], [bits], color=colour, marker="o", linestyle="", label=name)
