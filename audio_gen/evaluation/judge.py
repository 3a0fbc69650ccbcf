"""The whole evaluation of a model: what is asked for and applies, in one report.

    report = judge(audio_gen.load("drums"), Path("runs/drums"), Settings())
    print(report.to_text())

Likelihood and calibration are of recordings. For the rest the model generates clips, one beside each held-out
recording in turn, with its labels, which are then held against the held-out and the training recordings; and, where
it follows curves, copies of held-out recordings, each held against its original.
"""

from pathlib import Path
from typing import Any

from audio_gen.data.prepare import Progress
from audio_gen.evaluation.likelihood import score
from audio_gen.evaluation.listening import Listening
from audio_gen.evaluation.material import Material, open_material
from audio_gen.evaluation.report import (
    CALIBRATION,
    COMPOSITION,
    DISTRIBUTION,
    FIDELITY,
    INTONATION,
    LIKELIHOOD,
    LONG_RUNS,
    NOVELTY,
    RECOGNISABILITY,
    TRANSCRIPTION,
    Report,
)
from audio_gen.evaluation.score import Evaluation
from audio_gen.evaluation.settings import Settings
from audio_gen.sampler.model import Model


def judge(model: Model, data: Path, settings: Settings, progress: Progress | None = None) -> Report:
    """Evaluate `model` on `data` (as `likelihood.evaluate` takes it). Raises AudioGenError."""
    tell = progress or (lambda done, total, text: None)
    with open_material(model, Path(data), settings.split, progress) as material:
        found: dict[str, Any] = {}
        if {LIKELIHOOD, CALIBRATION} & set(settings.parts):
            scored = _score(model, material, str(data), settings, progress)
            found["calibration"] = scored.calibration
            found["likelihood"] = scored if LIKELIHOOD in settings.parts else None
        listening = Listening(model, material, settings, tell)
        left_out: dict[str, str] = {}
        for part, hear in (
            (RECOGNISABILITY, listening.judge_labels),
            (DISTRIBUTION, listening.judge_distance),
            (NOVELTY, listening.judge_novelty),
            (LONG_RUNS, listening.judge_long_runs),
            (FIDELITY, listening.judge_fidelity),
            (INTONATION, listening.judge_intonation),
            (TRANSCRIPTION, listening.judge_transcription),
            (COMPOSITION, listening.judge_composition),
        ):
            if part not in settings.parts:
                continue
            why = listening.obstacle(part)
            if why is None:
                found[part.replace("-", "_")] = hear()
            else:
                left_out[part] = why
        if "made" in vars(listening):
            found["generated"] = listening.facts()
        return Report(
            model.name, model.checkpoint.hash, str(data), model.sample_rate, settings.to_dict(),
            left_out=left_out, **found,
        )  # fmt: skip


def _score(
    model: Model, material: Material, data: str, settings: Settings, progress: Progress | None
) -> Evaluation:
    return score(
        model,
        material,
        data,
        max_seconds=settings.max_seconds,
        baselines=settings.baselines and LIKELIHOOD in settings.parts,
        calibrate=CALIBRATION in settings.parts,
        threads=settings.threads,
        progress=progress,
    )
