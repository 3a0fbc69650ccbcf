"""The errors a user can cause. Each message is one line: what, where, and what to do.

Anything else that is raised is a defect of this program, and shows its traceback.
"""


class AudioGenError(Exception):
    """Root of every error that is the caller's to mend."""


class AudioFileError(AudioGenError):
    """An audio file cannot be read, or holds what no codec can use."""


class DataError(AudioGenError):
    """A folder of recordings or a token store cannot be used."""


class RecipeError(AudioGenError):
    """A recipe has an unknown key, a wrong type or an impossible value."""


class CheckpointError(AudioGenError):
    """A checkpoint is damaged, of an unknown version, or not a checkpoint at all."""


class ControlError(AudioGenError):
    """A label or a curve is unknown to the model, or out of its range."""


class SettingError(AudioGenError):
    """A setting of a call (temperature, seconds, ...) is out of its range."""


class OutputError(AudioGenError):
    """An output exists already, or cannot be written."""


class EngineError(AudioGenError):
    """The compiled engine is missing, for another machine, or refuses the weights."""


class MissingExtraError(AudioGenError):
    """A verb needs packages that the plain install leaves out."""
