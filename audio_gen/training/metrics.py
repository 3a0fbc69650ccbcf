"""Metrics of a training: JSON lines, and the same as a picture."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audio_gen.errors import MissingExtraError, OutputError
from audio_gen.evaluation.baselines import Baseline

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """What the system refuses in the block is an OutputError about `path`."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from None


class Metrics:
    """metrics.jsonl, cut to `size` bytes: what a killed training wrote after its last checkpoint is redone."""

    def __init__(self, path: Path, size: int, *, board: Path | None = None, step: int = 0) -> None:
        """`board`: folder for TensorBoard, told to forget what it saw after `step`. Raises MissingExtraError."""
        self.path = path
        self._board = None if board is None else _open_board(board, step)
        with writing(path), path.open("ab") as file:
            self.size = file.truncate(min(size, path.stat().st_size))

    def append(self, row: dict[str, Any]) -> None:
        """Add one line."""
        with writing(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        self.size = self.path.stat().st_size
        if self._board is not None:
            for name, value in row.items():
                if isinstance(value, int | float) and name != "step":
                    self._board.add_scalar(name, value, row["step"])
            self._board.flush()

    def rows(self) -> list[dict[str, Any]]:
        """All lines, oldest first."""
        return [json.loads(line) for line in self.path.read_text(encoding="utf-8").splitlines()]

    def draw(self, path: Path, title: str, baselines: list[Baseline]) -> None:
        """A PNG of bits per sample over minutes, with the baselines as lines."""
        from matplotlib.figure import Figure

        rows = self.rows()
        figure = Figure(figsize=(7, 4.2), layout="constrained")
        axes = figure.add_subplot()
        minutes = [row["seconds"] / 60 for row in rows]
        for key, label in (("train", "training audio"), ("valid", "held-out audio")):
            if any(row[key] is not None for row in rows):
                axes.plot(minutes, [row[key] for row in rows], marker=".", label=label)
        for baseline in baselines:
            axes.axhline(baseline.bits_per_sample, color="grey", linewidth=0.8, linestyle=":")
            axes.annotate(
                baseline.name,
                (0, baseline.bits_per_sample),
                (3, 2),
                textcoords="offset points",
                color="grey",
                fontsize=8,
            )
        axes.set(xlabel="minutes of training", ylabel="bits per sample", title=title, ylim=(0, None))
        axes.legend()
        part = path.with_name(path.name + ".part")
        with writing(path):
            figure.savefig(part, format="png", dpi=120)
            part.replace(path)


def _open_board(folder: Path, step: int) -> "SummaryWriter":
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ModuleNotFoundError:
        raise MissingExtraError(
            "--tensorboard needs tensorboard, which is not installed; run: pip install 'audio-gen[tensorboard]'"
        ) from None
    return SummaryWriter(folder, purge_step=step)
