"""The README's table of results, from the cards of trained models.

    python -m benchmarks.results                   # bundled models, the zoo's and what was saved, into README.md
    python -m benchmarks.results a.safetensors     # these instead
    python -m benchmarks.results --save runs/drums # keep the card of a run: benchmarks/results/drums.json
    python -m benchmarks.results --check           # exit code 1 if the table is not current

The same cards give the same bytes.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from audio_gen.checkpoint import SUFFIX, load_checkpoint
from audio_gen.errors import AudioGenError, DataError, OutputError
from audio_gen.sampler.library import PRETRAINED
from audio_gen.sampler.precision import choose

ROOT = Path(__file__).parents[1]
SAVED = Path(__file__).parent / "results"
ZOO = ROOT / "zoo" / "audio_gen_zoo"
BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"
KEPT = (
    "name", "data", "licence", "parameters", "baselines", "steps", "minutes", "samples", "bits_per_sample",
    "bits_of_sketch", "speed", "precision", "hardware", "threads", "date", "version", "store",
)  # fmt: skip
BASELINES = ("uniform", "unigram", "best table", "linear prediction")
ABSENT = "–"

Card = Mapping[str, Any]


def read_card(path: Path) -> dict[str, Any]:
    """The card of a checkpoint, of a run's last checkpoint, or a saved one (.json). Raises AudioGenError."""
    if path.suffix == ".json":
        try:
            card = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: cannot be read as a card ({error}); save it again") from None
    else:
        checkpoint = load_checkpoint(path / f"model{SUFFIX}" if path.is_dir() else path)
        card = dict(checkpoint.card) | {
            "parameters": checkpoint.parameters,
            "precision": choose(checkpoint, "auto"),
        }
    if not isinstance(card, dict) or not isinstance(card.get("name"), str):
        raise DataError(f"{path}: its card has no name; train it with a recipe that has one")
    return card


def default_cards(places: Sequence[Path] = (PRETRAINED, ZOO), saved: Path = SAVED) -> list[dict[str, Any]]:
    """Bundled models, and saved results of other names."""
    cards = [read_card(path) for place in places for path in sorted(place.glob(f"*{SUFFIX}"))]
    names = {card["name"] for card in cards}
    others = [read_card(path) for path in sorted(saved.glob("*.json"))]
    return cards + [card for card in others if card["name"] not in names]


def save(run: Path, folder: Path = SAVED) -> Path:
    """Keep what the card of a run or a checkpoint says of its results; gives the file."""
    card = read_card(run)
    path = folder / f"{card['name']}.json"
    kept = {key: card[key] for key in KEPT if key in card} | {"held_out": held_out(card)}
    text = json.dumps(kept, indent=1, ensure_ascii=False)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror}") from None
    return path


def table(cards: Sequence[Card]) -> str:
    """Markdown: one row per card, sorted by name; bits per sample of the model and of every baseline."""
    scores = [_baselines(card) for card in cards]
    columns = [*BASELINES, *sorted({name for each in scores for name in each} - set(BASELINES))]
    heads = ["model", "data", "held out", "minutes", "trained on", "parameters", "**bits per sample**"]
    rules = ["---"] * 3 + ["---:", "---"] + ["---:"] * (3 + len(columns)) + ["---"]
    lines = [_row([*heads, *columns, "× real time", "date"]), _row(rules)]
    order = sorted(range(len(cards)), key=lambda place: (cards[place]["name"], str(cards[place].get("date"))))
    for card, baselines in ((cards[place], scores[place]) for place in order):
        bits = _number(card.get("bits_per_sample"), ".2f")
        if bits != ABSENT and "bits_of_sketch" in card:  # the samples' given the curves, and the curves' own
            bits = _number(card["bits_per_sample"] + card["bits_of_sketch"], ".2f")
        cells = [
            str(card["name"]),
            str(card.get("data") or ABSENT),
            held_out(card),
            _number(card.get("minutes"), ".0f"),
            str(card.get("hardware") or ABSENT),
            _number(card.get("parameters"), ",d"),
            bits if bits == ABSENT else f"**{bits}**",
            *(baselines.get(name, ABSENT) for name in columns),
            _speed(card),
            str(card.get("date") or ABSENT),
        ]
        lines.append(_row(cells))
    return "\n".join(lines)


def _speed(card: Card) -> str:
    """Times real time in the precision that the model plays in unless told otherwise."""
    precision = card.get("precision")
    figure = _number(dict(card.get("speed") or {}).get(precision), ".1f")
    return figure if figure == ABSENT else f"{figure} ({precision})"


def held_out(card: Card) -> str:
    """How the held-out audio was chosen, in a few words."""
    if "held_out" in card:
        return str(card["held_out"])
    data = card.get("recipe", {}).get("data", {})
    share = f"{float(data.get('valid_fraction', 0.0)):.0%}"
    if data.get("valid_where"):
        fields = sorted(data["valid_where"].items())
        words = "; ".join(f"{field} {', '.join(values)}" for field, values in fields)
    elif data.get("split") == "time":
        words = f"last {share} of each file"
    elif data:
        words = f"{share} of the {'groups ' + data['group'] if data.get('group') else 'files'}"
    else:
        return ABSENT
    return words if card.get("scored", "").startswith("all") else f"{words} (a part)"


def _baselines(card: Card) -> dict[str, str]:
    """Bits of each baseline under the name of its column."""
    found = {}
    for name, bits in dict(card.get("baselines") or {}).items():
        order, _, kind = str(name).partition(" ")
        figure = _number(bits, ".2f")
        if kind == "table":
            found["best table"] = f"{figure} ({order})"
        else:
            found["linear prediction" if name.startswith("linear prediction") else name] = figure
    return found


def _number(value: Any, form: str) -> str:
    return format(value, form) if isinstance(value, int | float) and not isinstance(value, bool) else ABSENT


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"


def with_table(text: str, new: str, where: str = "README.md", markers: tuple[str, str] = (BEGIN, END)) -> str:
    """`text` with what stands between the markers replaced. Raises DataError unless each is there once."""
    begin, end = markers
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise DataError(f"{where}: needs the lines {begin} and {end}, once each and in this order")
    before, _, rest = text.partition(begin)
    return f"{before}{begin}\n{new}\n{end}{rest.partition(end)[2]}"


def update_table(
    page: Path, new: str, remedy: str, *, check: bool = False, markers: tuple[str, str] = (BEGIN, END)
) -> int:
    """Put a table between its markers; with `check`, only say whether it is there. Gives an exit code."""
    try:
        old = page.read_text(encoding="utf-8")
        changed = with_table(old, new, str(page), markers)
        if not check:
            page.write_text(changed, encoding="utf-8")
        elif changed != old:
            print(f"{page}: out of date; run {remedy}", file=sys.stderr)
            return 1
    except OSError as error:
        raise OutputError(f"{page}: {error.strerror}; give a file that can be written") from None
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; gives its exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.results", description="The table of results.")
    parser.add_argument("models", nargs="*", type=Path, metavar="MODEL", help="checkpoint, run or saved card")
    parser.add_argument("--save", type=Path, metavar="RUN", help="keep the card of this run; needs no MODEL")
    parser.add_argument("--readme", type=Path, default=ROOT / "README.md", help="the file with the markers")
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if it is not current")
    given = parser.parse_args(arguments)
    try:
        if given.save is not None:
            print(save(given.save))
            return 0
        cards = [read_card(path) for path in given.models] or default_cards()
        return update_table(given.readme, table(cards), "python -m benchmarks.results", check=given.check)
    except AudioGenError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
