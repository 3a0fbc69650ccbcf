"""What all tables of a recipe have in common."""

from pydantic import BaseModel

from audio_gen.table import STRICT


class Settings(BaseModel):
    """Base of every table."""

    model_config = STRICT
