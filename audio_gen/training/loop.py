"""The training loop: from a token store to checkpoints, with metrics, previews, and exact resumption.

run/
  recipe.json            the resolved recipe
  resume.safetensors     everything needed to go on exactly where it stopped
  model.safetensors      the averaged weights after the last validation
  best.safetensors       ... and after the best one
  metrics.jsonl          one line per validation
  curves.png             the same, drawn
  previews/step-000500/  a clip per value of the first label
"""

import copy
import hashlib
import json
import math
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from audio_gen.checkpoint import Checkpoint, save_checkpoint
from audio_gen.data.batches import Readers
from audio_gen.data.store import Store
from audio_gen.errors import AudioGenError, DataError, EngineError, OutputError, RecipeError, SettingError
from audio_gen.evaluation.baselines import Baseline
from audio_gen.interrupts import uninterrupted
from audio_gen.network import Network
from audio_gen.settings import Recipe
from audio_gen.shape import NetworkShape
from audio_gen.training import allocator, publish
from audio_gen.training import state as saved
from audio_gen.training.metrics import Metrics, writing
from audio_gen.training.optimisers import make_optimisers
from audio_gen.training.state import Progress, TrainingState
from audio_gen.training.step import deafen, learning_rate, take_step
from audio_gen.training.validation import choose_clips, validate

CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}
PATIENCE = 20
"""Steps in a row that may be skipped before the training goes back to its last checkpoint."""
SETBACKS = 4


@dataclass(frozen=True)
class Report:
    """What the loop tells whoever watches it."""

    step: int
    done: float
    """Share of the run, 0 to 1."""
    seconds_left: float | None
    samples: int
    samples_per_second: float
    loss: float
    """Running mean, bits per sample, on training audio."""
    valid: float | None = None
    """Bits per sample on held-out audio, when it was just measured."""
    message: str = ""
    """Something the user should know: a setback, skipped steps."""


Watcher = Callable[[Report], None]


class Training:
    """One training in one run folder.

    Raises RecipeError, DataError, CheckpointError, OutputError, SettingError.
    """

    def __init__(
        self,
        recipe: Recipe,
        store: Store,
        run: Path,
        *,
        device: str = "cpu",
        resume: bool = False,
        force: bool = False,
        tensorboard: bool = False,
        begin_from: Checkpoint | None = None,
        sketch: Checkpoint | None = None,
        composer: Checkpoint | None = None,
    ) -> None:
        """`resume` goes on with the training the run holds, if any; `force` lets it be replaced where it may not.
        A new one begins with the weights of `begin_from`, if given, whose network must be the recipe's; but the
        recipe may have more predictors, and an anchor.
        `sketch` and `composer` become parts of the model.

        `tensorboard` also writes the metrics to RUN/tensorboard.
        """
        self.recipe, self.store, self.run = recipe, store, run
        self.sketch, self.composer = sketch, composer
        self.settings = recipe.train
        if not store.clips("train"):
            raise DataError(f"{store.path}: no training clips")
        self.device = _device(device)
        self.autocast = _autocast(self.device, self.settings.precision)
        allocator.keep_memory()
        with torch.random.fork_rng(devices=[]):  # the initial weights' seed is nobody else's
            torch.manual_seed(self.settings.seed)
            network = Network(publish.shape_of(recipe, store), store.codec.ordered).to(self.device)
        if begin_from is not None:
            _check_same(network.shape, begin_from)
            publish.load_into(network, begin_from)
        if self.settings.deaf:
            deafen(network)
        self.state = TrainingState(
            network,
            make_optimisers(network, self.settings),
            [parameter.detach().clone() for parameter in network.parameters()],
            Readers(store, self.settings, network.shape.around),
            network.start(self.settings.batch_size),
            Progress(signature=_signature(recipe, store), began_from=begin_from.hash if begin_from else ""),
        )
        with writing(run):
            run.mkdir(parents=True, exist_ok=True)
        resume_file = run / saved.FILE
        if resume_file.exists() and not (force and not resume):
            if not resume:
                raise OutputError(
                    f"{run}: holds a training already; --resume continues it, --force starts afresh"
                )
            saved.load_state(resume_file, self.state)
        self.metrics = Metrics(
            run / "metrics.jsonl",
            self.progress.metrics_bytes,
            board=run / "tensorboard" if tensorboard else None,
            step=self.progress.step + 1,
        )
        self._averaged = copy.deepcopy(network)  # the weights as they are saved and played

    @property
    def autocast_enabled(self) -> bool:
        """Whether matrix multiplies run in bfloat16."""
        return bool(self.autocast._enabled)

    @property
    def progress(self) -> Progress:
        return self.state.progress

    @property
    def done(self) -> float:
        """Share of the run that is over, by steps or by minutes, whichever ends first; 1 with the last validation."""
        return self._share if self._share < 1.0 or self._finished else math.nextafter(1.0, 0.0)

    @property
    def _share(self) -> float:
        by_steps = self.progress.step / self.settings.steps if self.settings.steps else 0.0
        by_time = self.progress.seconds / (60.0 * self.settings.minutes) if self.settings.minutes else 0.0
        return min(1.0, max(by_steps, by_time))

    @property
    def _finished(self) -> bool:
        return self._share >= 1.0 and self.progress.final and self.progress.validated == self.progress.step

    @property
    def _due(self) -> bool:
        """Whether it is time to validate: after bad steps not before a good one, for it writes the way back."""
        every, progress = self.settings.validate_every, self.progress
        return progress.step // every > progress.validated // every and not progress.in_a_row

    def train(self, baselines: list[Baseline], watch: Watcher) -> None:
        """Run to the end. On KeyboardInterrupt everything is saved before it goes on its way."""
        if not self.progress.step:
            self.save()  # a place to go back to, and the end of an older training that was here
        try:
            while not self._finished:
                over = self._share >= 1.0
                if over or self._due:
                    self._validate(baselines, watch, final=over)
                else:
                    self._step(watch)
        except KeyboardInterrupt:
            self.save()
            raise

    def save(self) -> None:
        """Write the resume state."""
        saved.save_state(self.run / saved.FILE, self.state)

    def _step(self, watch: Watcher) -> None:
        """One step, taken or not; a setback if too many were not."""
        clock = CLOCKS[self.settings.clock]
        began, progress, skipped = clock(), self.progress, self.progress.skipped
        with uninterrupted():  # what Ctrl-C saves is the state between two steps
            rate = learning_rate(self.settings, self._share) * 0.5**progress.setbacks
            batch = self.state.readers.next(self._share)
            bits = take_step(self.state, batch, self.settings, rate, self.autocast)
            progress.step += 1
            progress.seconds += clock() - began
            progress.in_a_row = progress.in_a_row + 1 if progress.skipped > skipped else 0
        if not progress.in_a_row:
            watch(self._report())
            return
        watch(self._report(message=f"step {progress.step}: loss {bits:.2f} bits, step not taken"))
        if progress.in_a_row >= PATIENCE:
            self._set_back(watch)

    def _set_back(self, watch: Watcher) -> None:
        before, setbacks = self.progress, self.progress.setbacks + 1
        if setbacks > SETBACKS:
            raise AudioGenError(
                f"{self.run}: the loss diverges at step {self.progress.step}; lower train.learning_rate "
                f"(now {self.settings.rate:g}) and start afresh with --force"
            )
        saved.load_state(self.run / saved.FILE, self.state)
        progress = self.progress
        # Time and bad steps are spent, whatever they led to.
        progress.seconds, progress.skipped = before.seconds, before.skipped
        progress.setbacks, progress.in_a_row, progress.smooth_loss = setbacks, 0, None
        watch(
            self._report(
                message=f"training diverged; back to step {self.progress.step} at half the learning rate"
            )
        )

    def _validate(self, baselines: list[Baseline], watch: Watcher, final: bool = False) -> None:
        """Score held-out audio, publish the weights, also as the best so far if they are, preview them, save.

        Done again on resuming if it does not come to its end; nothing before that end counts.
        """
        progress = self.progress
        if not publish.are_publishable(self.state):
            self._set_back(watch)
            return
        checkpoint = publish.checkpoint_of(
            self.recipe, self.store, self.state, baselines, self.sketch, self.composer
        )
        publish.load_into(self._averaged, checkpoint)
        everything = choose_clips(self.store, None, self.recipe.data.end_seconds)
        part = choose_clips(self.store, self.settings.valid_seconds, self.recipe.data.end_seconds)
        chosen = everything if final else part
        bits = validate(self._averaged, self.store, chosen, self.autocast) if chosen else None
        # Which weights are the best is judged on the same clips every time.
        judged = bits if chosen == part else validate(self._averaged, self.store, part, self.autocast)
        report = self._report(valid=bits)
        checkpoint = publish.with_results(checkpoint, progress, bits, chosen == everything, self.device)
        if judged is not None and (progress.best is None or judged < progress.best):
            save_checkpoint(self.run / "best.safetensors", checkpoint)
            progress.best = judged
        self.metrics.append(
            {
                "step": progress.step,
                "seconds": round(progress.seconds, 3),
                "samples": progress.samples,
                "samples_per_second": round(report.samples_per_second, 1),
                "learning_rate": learning_rate(self.settings, self._share) * 0.5**progress.setbacks,
                "train": progress.smooth_loss,
                "valid": bits,
                "whole": chosen == everything,
                "skipped": progress.skipped,
                "setbacks": progress.setbacks,
            }
        )
        self.metrics.draw(self.run / "curves.png", self.recipe.name, baselines)
        save_checkpoint(self.run / "model.safetensors", checkpoint)
        self._preview(checkpoint, watch)
        progress.validated, progress.final, progress.metrics_bytes = progress.step, final, self.metrics.size
        self.save()
        watch(report)

    def _preview(self, checkpoint: Checkpoint, watch: Watcher) -> None:
        folder = self.run / "previews" / f"step-{self.progress.step:06}"
        try:
            publish.write_previews(folder, checkpoint, self.store, self.settings)
        except EngineError as error:  # no reason to stop learning
            watch(self._report(message=f"no previews: {error}"))

    def _report(self, valid: float | None = None, message: str = "") -> Report:
        progress, done = self.progress, self._share
        left = progress.seconds * (1.0 - done) / done if done else None
        speed = progress.samples / progress.seconds if progress.seconds else 0.0
        loss = math.nan if progress.smooth_loss is None else progress.smooth_loss
        return Report(progress.step, done, left, progress.samples, speed, loss, valid, message)


def _signature(recipe: Recipe, store: Store) -> str:
    """Digest of what a training state must agree with: data, network and how it learns (not for how long)."""
    train = recipe.train.model_dump(
        exclude={"steps", "minutes", "clock", "valid_seconds", "preview_seconds", "validate_every"}
    )
    facts: Any = [store.hash, recipe.network.model_dump(), recipe.codec.model_dump(), train]
    return hashlib.blake2b(json.dumps(facts, sort_keys=True).encode(), digest_size=16).hexdigest()


def _check_same(wanted: NetworkShape, model: Checkpoint) -> None:
    ours, theirs = wanted.to_dict(), model.shape.to_dict()
    if {*model.shape.predictors} <= {*wanted.predictors}:
        theirs["predictors"] = ours.get("predictors")
    if wanted.anchored and not model.shape.anchored:
        theirs["anchored"] = True
    differing = [key for key in {**ours, **theirs} if ours.get(key) != theirs.get(key)]
    if differing:
        raise RecipeError(
            f"{model.card.get('name', 'the model')} to begin from has another network: {', '.join(differing)} "
            "differ; give the recipe its [network], levels and labels"
        )


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        first = str(error).splitlines()[0]
        raise SettingError(f"--device {name}: not usable here ({first}); try --device cpu") from None
    return device


def _autocast(device: torch.device, precision: str) -> torch.autocast:
    """bfloat16 matrix multiplies where the hardware has them, or where the recipe insists."""
    if device.type == "cuda":
        fast: bool = torch.cuda.is_bf16_supported()
    elif device.type == "cpu":
        fast = multiplies_bf16()
    else:
        fast = False
    return torch.autocast(
        device.type, torch.bfloat16, enabled=precision == "bf16" or (precision == "auto" and fast)
    )


def multiplies_bf16() -> bool:
    """Whether the processor itself multiplies bfloat16. PyTorch also counts those as able that must convert every
    number first, where a step took about twice as long as in float32 (Ice Lake)."""
    if platform.machine().lower() in ("x86_64", "amd64"):
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
