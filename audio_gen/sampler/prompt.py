"""What a stream goes on from: a recording in the model's own tokens, and the curves that it has."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import ArrayLike, NDArray

from audio_gen.checkpoint import Checkpoint
from audio_gen.codec import Waveform
from audio_gen.curves import Floats, Moments, channels_of, hold_curves, look_ahead
from audio_gen.errors import SettingError
from audio_gen.features import louder_by, measure
from audio_gen.notes import CHANNELS as KEYS
from audio_gen.notes import Notes


@dataclass(frozen=True)
class Prompt:
    """A recording as a model hears it. See `Prompt.of`."""

    waveform: Waveform
    """(time,), through the codec; with curves a whole number of their frames."""
    curves: Floats | None
    """(frames, channels) that it has; None for a model that follows none."""
    notes: Notes = Notes(())  # noqa: RUF009 - frozen
    """Those that are known, one by one: what a composer goes on from."""

    @classmethod
    def of(
        cls,
        checkpoint: Checkpoint,
        waveform: ArrayLike,
        *,
        decibels: float | None = None,
        notes: Notes | Callable[[Moments], Floats] | None = None,
    ) -> "Prompt":
        """Of a `waveform` (time,) at the model's sample rate, made louder by `decibels`; None brings its peak to that
        of the recordings the model learned from.

        Spectrum and pitch are measured through windows, so the last of them (32 ms of mel, say) is looked at and not
        heard: beyond the end there is no silence to go on with. `notes` are those that it plays, or give the piano roll
        (moments, keys) at moments (seconds); a model that follows notes hears of none without. Raises ControlError,
        SettingError.
        """
        louder = louder_by(checkpoint, waveform, decibels)
        curves, known = None, Notes(())
        if checkpoint.curves:
            hop, rate = checkpoint.shape.hop, checkpoint.sample_rate
            frames = max(0, len(louder) // hop - look_ahead(rate, checkpoint.curves, hop))
            skipped = len(louder) % hop

            def roll(moments: Moments) -> Floats:
                if notes is None:
                    return np.zeros((len(moments), KEYS), np.float32)
                at = moments + skipped / rate
                return notes.frames(at) if isinstance(notes, Notes) else notes(at)

            louder = louder[skipped:]
            curves = measure(checkpoint, louder, 0.0, notes=roll)[:frames]
            louder = louder[: frames * hop]
            if isinstance(notes, Notes):
                first = skipped / rate
                known = notes.between(first, first + len(louder) / rate)
        if not len(louder):
            raise SettingError("the prompt is too short to go on from; give a tenth of a second or more")
        return cls(checkpoint.codec.decode(checkpoint.codec.encode(louder)), curves, known)

    @property
    def digest(self) -> str:
        """Of all that is heard."""
        heard = blake2b(self.waveform.tobytes(), digest_size=8)
        heard.update(b"" if self.curves is None else self.curves.tobytes())
        return heard.hexdigest()

    def before(
        self, told: Floats, places: NDArray[np.bool_], names: Sequence[str], hop_seconds: float
    ) -> Floats:
        """Its own frames, of the channels `places` among its curves, and then those `told` (frames, channels), which
        begin where it ends. `names` are the curves that these channels are. A pitch that is told begins at the phase
        in which the prompt's own one ends."""
        assert self.curves is not None
        own = self.curves[:, places]
        if told.shape[1:] != own.shape[1:]:
            return told  # which is refused where it is checked
        if "pitch" in names:
            phase = channels_of("pitch", names, own.shape[1]).stop - 1
            due = hold_curves(own, len(own), len(own) + 1, names, hop_seconds)[0, phase]
            told = told.copy()
            told[:, phase] = (told[:, phase] + due - told[0, phase]) % 1.0
        return np.concatenate([own, told])
