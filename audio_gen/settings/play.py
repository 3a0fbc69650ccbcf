"""[play], [page] and [card]: how a model is played, shown and credited."""

from pydantic import Field

from audio_gen.settings.table import Settings


class PageSettings(Settings):
    """[page]: the listening page."""

    title: str = ""
    text: str = ""
    neighbours: int = Field(2, ge=0)
    """Held-out real clips shown beside each row, through the same codec. A copy has its original beside it."""


class PlaySettings(Settings):
    """[play]: how the model is played where nobody says otherwise, as `audio_gen.sampler.draw.Draw` has it. Part of
    its card."""

    temperature: float | None = Field(None, ge=0.0, le=10.0)
    top_k: int | None = Field(None, ge=0)
    top_p: float | None = Field(None, gt=0.0, le=1.0)
    min_p: float | None = Field(None, ge=0.0, le=1.0)
    sketch_temperature: float | None = Field(None, ge=0.0, le=10.0)
    guidance: float | None = Field(None, ge=0.0, le=10.0)
    doubt: float | None = Field(None, ge=0.0, le=3.0)


class CardSettings(Settings):
    """[card]: what the model's card says of its origin."""

    description: str = ""
    data: str = ""
    licence: str = ""
    credit: str = ""
