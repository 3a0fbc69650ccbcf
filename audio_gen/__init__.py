"""Autoregressive audio generation from raw waveforms.

```python
model = audio_gen.load("drums")
clip = model.generate(seconds=1.0, labels={"drum": "kick"}, seed=7)  # float32 (time,)
```
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from audio_gen.errors import AudioGenError

if TYPE_CHECKING:
    from audio_gen.codec import Codec
    from audio_gen.notes import Notes
    from audio_gen.sampler import Draw, Model, bundled, load

__version__ = "0.1.0"
__all__ = ["AudioGenError", "Codec", "Draw", "Model", "Notes", "__version__", "bundled", "load"]

_HOMES = {
    "Codec": "audio_gen.codec",
    "Draw": "audio_gen.sampler",
    "Model": "audio_gen.sampler",
    "Notes": "audio_gen.notes",
    "bundled": "audio_gen.sampler",
    "load": "audio_gen.sampler",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is asked for, so that `--help` answers at once."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
