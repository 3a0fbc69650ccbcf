"""Options that several verbs share, spelled once."""

from collections.abc import Iterable
from enum import StrEnum
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from audio_gen.errors import MissingExtraError, SettingError

RecipePath = Annotated[
    Path, typer.Argument(metavar="RECIPE", help="Recipe, a TOML file.", show_default=False)
]
ModelName = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="Bundled model (see `audio-gen models`), checkpoint or run folder.",
        show_default=False,
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Override a recipe key, such as train.steps=10. Repeatable.",
        show_default=False,
    ),
]
RunFolder = Annotated[
    Path | None,
    typer.Option(
        "--run", metavar="FOLDER", help="Run folder.  [default: runs/RECIPE-NAME]", show_default=False
    ),
]
Force = Annotated[bool, typer.Option("--force", "-f", help="Overwrite what is there already.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, only errors.")]
Jobs = Annotated[int, typer.Option("--jobs", min=1, help="Processes that share the work.")]
Threads = Annotated[
    int | None,
    typer.Option("--threads", min=1, help="Processor threads.  [default: all]", show_default=False),
]
Device = Annotated[
    str, typer.Option("--device", help="cpu, cuda, mps, or auto: the fastest there is. Only cpu is tested.")
]


class PrecisionName(StrEnum):
    """How finely the engine computes."""

    AUTO = "auto"
    FP32 = "fp32"
    BF16 = "bf16"
    INT8 = "int8"


Precision = Annotated[
    PrecisionName,
    typer.Option(
        "--precision",
        help="Of the arithmetic: auto is the fastest that costs at most 0.01 bits per sample.",
    ),
]

Temperature = Annotated[
    float | None,
    typer.Option(
        help="0 to 10: below 1 calmer, above 1 wilder.  [default: the model's, or 1]", show_default=False
    ),
]
TemperatureOverTime = Annotated[
    str | None,
    typer.Option(
        metavar="NUMBER|NUMBER@SECONDS,...",
        help="0 to 10: below 1 calmer, above 1 wilder; or one that changes, by the second, 0.7@0,1.2@20 or FILE.csv of "
        "rows such as 20,1.2.  [default: the model's, or 1]",
        show_default=False,
    ),
]
TopK = Annotated[
    int | None,
    typer.Option(
        help="Draw from the k likeliest values only; 0: from all.  [default: the model's, or 0]",
        show_default=False,
    ),
]
TopP = Annotated[
    float | None,
    typer.Option(
        help="Draw from the likeliest values that hold this probability, 0 to 1.  [default: the model's, or 1]",
        show_default=False,
    ),
]
MinP = Annotated[
    float | None,
    typer.Option(
        help="Drop values below this share of the likeliest one, 0 to 1.  [default: the model's, or 0]",
        show_default=False,
    ),
]
SketchTemperature = Annotated[
    float | None,
    typer.Option(
        help="Of the sketch, in models that have one: below 1 calmer, above 1 wilder.  [default: the model's, or 0.8]",
        show_default=False,
    ),
]
Guidance = Annotated[
    float | None,
    typer.Option(
        help="How far a sketch is pushed towards the labels, 0 to 10.  [default: the model's, or 0.5]",
        show_default=False,
    ),
]


Doubt = Annotated[
    float | None,
    typer.Option(
        help="Of models that were told of noise: how much of it they take to be in what they have played, 0 to 3, the "
        "most that they learned being 1. The more, the more they follow what they are told.  [default: the model's, "
        "or 0]",
        show_default=False,
    ),
]


def parse_labels(given: Iterable[str]) -> dict[str, str]:
    """{"drum": "kick"} from ["drum=kick"]. Raises SettingError."""
    labels: dict[str, str] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name or not value:
            raise SettingError(f"--label {text}: must be NAME=VALUE, such as drum=kick")
        if name in labels:
            raise SettingError(f"--label {name} is given twice")
        labels[name] = value
    return labels


def need(*packages: str, verb: str, extra: str = "train") -> None:
    """Check that the optional packages of a verb are installed. Raises MissingExtraError."""
    for package in packages:
        try:
            import_module(package)
        except ModuleNotFoundError as error:
            if error.name != package:
                raise
            raise MissingExtraError(
                f"{verb} needs {package}, which is not installed; run: pip install 'audio-gen[{extra}]'"
            ) from None
