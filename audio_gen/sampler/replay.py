"""Made again: a file's own words say how it was made, and whether it still is."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path

import numpy as np

from audio_gen.audio import probe, read_blocks, read_tags
from audio_gen.errors import CheckpointError, OutputError, SettingError
from audio_gen.sampler.library import load
from audio_gen.sampler.model import Model
from audio_gen.sampler.render import Progress, render
from audio_gen.sampler.steering import hear, steer
from audio_gen.sampler.take import Take
from audio_gen.sampler.voices import Curves

BITS = {"PCM_16": 16, "PCM_24": 24, "FLOAT": 32}
_OF_A_FILE = re.compile(r"(?P<file>.+) (?P<digest>[0-9a-f]{16})")


@dataclass(frozen=True)
class Replay:
    """A file, and what makes it again."""

    path: Path
    take: Take
    model: Model
    samples: int
    bits: int
    """Of each sample in the file."""

    @classmethod
    def of(cls, path: Path, model: str | None = None) -> "Replay":
        """`model`: where it is now, unless it is a bundled one. Raises AudioFileError, OutputError (a file that does
        not say how it was made), CheckpointError (another model, or none)."""
        take = Take.from_tags(read_tags(path), str(path))
        info = probe(path)
        if info.subtype not in BITS:
            raise OutputError(
                f"{path}: was converted to {info.subtype} since it was made; nothing can equal it"
            )
        try:
            loaded = load(model or take.model, precision=take.precision.partition(" ")[0])
        except CheckpointError as error:
            if model is not None:
                raise
            raise CheckpointError(f"{error}; {path} was made by it: say where it is with --model") from None
        if loaded.checkpoint.hash != take.model_hash:
            raise CheckpointError(
                f"{path}: was made by another {take.model} ({take.model_hash[:12]}, not "
                f"{loaded.checkpoint.hash[:12]}); say where that is with --model"
            )
        if loaded.arithmetic != take.precision:
            raise CheckpointError(
                f"{path}: was made in {take.precision}, and {loaded.name} now plays in {loaded.arithmetic}: it has "
                "been quantised anew"
            )
        return cls(path, replace(take, seconds=info.seconds), loaded, info.frames, BITS[info.subtype])

    def make(
        self,
        output: Path,
        *,
        curves: Sequence[str] = (),
        prompt: str | None = None,
        gain: float | None = None,
        force: bool = False,
        progress: Progress | None = None,
    ) -> int | None:
        """Make it again, as `output`; returns the first sample that differs, or None.

        `curves` ("pitch=tune.csv"), `prompt` and `gain` (decibels) are what the file was made from and does not hold.
        Raises SettingError if they are missing or others, and what `render` raises.
        """
        if output.exists() and output.samefile(self.path):
            raise OutputError(
                f"{output}: is the file itself, with nothing left to compare; give another one with -o"
            )
        take = self.take
        frames = self._steered(curves)
        heard = None
        if take.prompt:
            name = take.prompt.rpartition(" ")[0]
            if prompt is None:
                raise SettingError(f"{self.path}: goes on from {name}; say where that is with --prompt")
            heard, found = hear(self.model, prompt, gain)
            if found.rpartition(" ")[2] != take.prompt.rpartition(" ")[2]:
                raise SettingError(
                    f"{self.path}: went on from {take.prompt}, now {found}; another part of it, or another --gain?"
                )
        elif prompt is not None:
            raise SettingError(f"{self.path}: goes on from nothing; leave --prompt out")
        render(
            self.model, [take], [output], curves=frames, prompt=heard, bits=self.bits, force=force, progress=progress
        )  # fmt: skip
        return _first_difference(self.path, output)

    def _steered(self, curves: Sequence[str]) -> Curves | None:
        """Frames of the curves that the take followed."""
        named = {text.partition("=")[0].strip(): text for text in curves}
        texts = []
        for name, said in self.take.curves.items():
            of_a_file = _OF_A_FILE.fullmatch(said)
            if name == "mel":
                raise SettingError(
                    f"{self.path}: follows the spectrum of {of_a_file['file'] if of_a_file else said}; "
                    f"make it again with audio-gen vocode, and --model {self.take.model}"
                )
            if of_a_file and name not in named and not Path(of_a_file["file"]).is_file():
                raise SettingError(
                    f"{self.path}: follows {of_a_file['file']}; say where that is with --curve {name}=FILE"
                )
            texts.append(named.pop(name, f"{name}={of_a_file['file'] if of_a_file else said}"))
        if named:
            raise SettingError(f"{self.path}: follows no {' and '.join(named)}; leave --curve out")
        frames, given = steer(self.model, texts, self.take.seconds)
        for name, now in given.items():
            said = self.take.curves[name]
            if now.rpartition(" ")[2] != said.rpartition(" ")[2]:
                raise SettingError(f"{self.path}: followed {name} {said}, now {now}")
        return frames


def _first_difference(path: Path, other: Path) -> int | None:
    """The first sample in which two files differ, or None."""
    position, nothing = 0, np.zeros(0, np.float32)
    blocks = (read_blocks(each, allow_truncated=True) for each in (path, other))
    for one, again in zip_longest(*blocks, fillvalue=nothing):
        shared = min(len(one), len(again))
        if differing := np.flatnonzero(one[:shared] != again[:shared]).tolist():
            return position + int(differing[0])
        if len(one) != len(again):
            return position + shared
        position += shared
    return None
