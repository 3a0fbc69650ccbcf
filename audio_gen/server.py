"""Models over HTTP: a WAV that begins at once, and grows as it is made.

    GET  /models                                    what can be asked for, as JSON
    GET  /models/drums                              a model's card
    GET  /models/drums/play?label=drum=kick&seed=7  audio/wav
    POST /models/drums/play                         the same, as JSON: see `Wish`

Every WAV carries the settings that made it. What cannot be played is {"error": "..."}, in one line. Nothing that a
client writes names a file here.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

from fastapi import Body, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.types import Receive, Scope, Send

from audio_gen import __version__
from audio_gen.audio.outputs import SamplePipe
from audio_gen.errors import AudioGenError, SettingError
from audio_gen.fades import parse_fade
from audio_gen.mixtures import label_mixtures, parse_mixture
from audio_gen.notes import Notes
from audio_gen.player_curves import CurveValue, curve_of
from audio_gen.sampler.model import CHUNK_SECONDS, Model
from audio_gen.sampler.parts import Part, samples_of, turned
from audio_gen.sampler.take import Take
from audio_gen.sampler.voices import Voices

MEDIA = {"wav": "audio/wav", "raw": "application/octet-stream"}
RETRY_SECONDS = 1
SENT = "sent"
"""In place of a file's name, where what is followed came with the wish."""

Moments = list[tuple[float, Any]]


class Wish(BaseModel):
    """What a client asks for. Settings that are left out are the model's own."""

    model_config = ConfigDict(extra="forbid")

    labels: dict[str, str | dict[str, float] | Moments] = {}
    """As `Model.stream` has them: "kick", {"kick": 0.7, "snare": 0.3}, [[0, "rain"], [20, "waves"]]."""
    curves: dict[str, float | str | list[tuple[float, float | str]]] = {}
    """110, "a2", [[0, "a2"], [1.5, 110]]."""
    notes: list[tuple[float, float, int, int]] | None = None
    """(start, end, key, velocity), for a model that plays notes."""
    seconds: float = Field(2.0, gt=0.0, allow_inf_nan=False)
    seed: int = Field(0, ge=0, lt=2**63)
    stream: int = Field(0, ge=0, lt=2**63)
    temperature: float | str | list[tuple[float, float]] | None = None
    """0.9, or over time "0.7@0,1.2@20" or [[0, 0.7], [20, 1.2]]."""
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    sketch_temperature: float | None = None
    guidance: float | None = None
    doubt: float | None = None
    format: Literal["wav", "raw"] = "wav"


def create_app(models: Sequence[Model], *, voices: int = 2, most_seconds: float = 600.0) -> FastAPI:
    """An ASGI application that plays `models`, by their names, `voices` at a time, each for at most `most_seconds`."""
    known = {model.name: model for model in models}
    app = FastAPI(title="audio_gen", version=__version__, docs_url=None, redoc_url=None)
    free = asyncio.Semaphore(voices)

    @app.exception_handler(AudioGenError)
    async def refuse(request: Request, error: AudioGenError) -> JSONResponse:
        return _error(400, str(error))

    @app.exception_handler(RequestValidationError)
    @app.exception_handler(ValidationError)
    async def mistaken(request: Request, error: RequestValidationError | ValidationError) -> JSONResponse:
        problem = error.errors()[0]
        places = [str(part) for part in problem["loc"]]
        where = ".".join(places[1:] if places[:1] in (["query"], ["body"], ["path"]) else places)
        return _error(400, f"{where}: {problem['msg']}" if where else str(problem["msg"]))

    @app.get("/models")
    def what_there_is() -> list[dict[str, Any]]:
        return [_about(model) for model in known.values()]

    @app.get("/models/{name}", response_model=None)
    def card(name: str) -> dict[str, Any] | JSONResponse:
        return _about(known[name]) | {"card": known[name].card} if name in known else _unknown(name, known)

    @app.get("/models/{name}/play", response_model=None)
    async def play(
        name: str,
        label: Annotated[list[str], Query()] = [],  # noqa: B006 - FastAPI copies it
        curve: Annotated[list[str], Query()] = [],  # noqa: B006
        seconds: float = 2.0,
        seed: int = 0,
        stream: int = 0,
        temperature: str | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        sketch_temperature: float | None = None,
        guidance: float | None = None,
        doubt: float | None = None,
        format: Literal["wav", "raw"] = "wav",
    ) -> JSONResponse | StreamingResponse:
        wish = Wish(
            labels={**_pairs(label, "label")}, curves={**_pairs(curve, "curve")}, seconds=seconds, seed=seed,
            stream=stream, temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p,
            sketch_temperature=sketch_temperature, guidance=guidance, doubt=doubt, format=format,
        )  # fmt: skip
        return await answer(name, wish)

    @app.post("/models/{name}/play", response_model=None)
    async def play_wish(name: str, wish: Annotated[Wish, Body()]) -> JSONResponse | StreamingResponse:
        return await answer(name, wish)

    async def answer(name: str, wish: Wish) -> JSONResponse | StreamingResponse:
        if name not in known:
            return _unknown(name, known)
        if not 0.0 < wish.seconds <= most_seconds:
            raise SettingError(f"seconds must be above 0 and at most {most_seconds:g}, got {wish.seconds:g}")
        if free.locked():
            busy = _error(503, f"{voices} clips are being made, which is as many as there may be; try again")
            busy.headers["Retry-After"] = str(RETRY_SECONDS)
            return busy
        await free.acquire()
        try:
            pieces = await run_in_threadpool(_pieces, known[name], wish)
        except BaseException:
            free.release()
            raise
        return _Answer(pieces, MEDIA[wish.format], free)

    return app


class _Answer(StreamingResponse):
    """Bytes made in a thread, piece after piece as they are sent; then, or when the client is gone, however early, its
    voice is free."""

    def __init__(self, pieces: Iterator[bytes], media_type: str, free: asyncio.Semaphore) -> None:
        super().__init__(pieces, media_type=media_type)
        self.free = free

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.free.release()


def _pieces(model: Model, wish: Wish) -> Iterator[bytes]:
    """The bytes of a take, checked at once and made as they are asked for. Raises AudioGenError."""
    asked = {name: _harmless(value) for name, value in wish.labels.items()}
    label_mixtures(asked, model.labels)  # refuses what is unknown
    labels = {name: parse_mixture(name, value, model.labels[name]) for name, value in asked.items()}
    temperature = None if wish.temperature is None else parse_fade(_harmless(wish.temperature), "temperature")
    others = (wish.top_k, wish.top_p, wish.min_p, wish.sketch_temperature, wish.guidance, wish.doubt)
    draw, fade = turned(model.draw, temperature, *others)
    curves, given = _curves(wish)
    samples = samples_of(wish.seconds, model.sample_rate)
    parts = [Part(labels, wish.seed, wish.stream, draw, samples, fade=fade)]
    voices = model.start(parts, curves or None)
    written = {name: str(mixture) for name, mixture in labels.items()}
    take = Take(
        model.name, model.checkpoint.hash, wish.seconds, written, wish.seed, wish.stream, draw, given, model.arithmetic,
        fade=str(fade or ""),
    )  # fmt: skip
    return _encoded(model, voices, take, int(samples), raw=wish.format == "raw")


def _encoded(model: Model, voices: Voices, take: Take, samples: int, raw: bool) -> Iterator[bytes]:
    sink = _Collected()
    pipe = SamplePipe(sink, model.sample_rate, model.codec.pcm_bits, take.tags(__version__), raw, samples)
    while voices.playing:
        for _, waveform in voices.advance(round(CHUNK_SECONDS * model.sample_rate)):
            pipe.write(waveform.clip(-1.0, 1.0))
        yield sink.emptied()
    pipe.close()
    yield sink.emptied()


class _Collected:
    """A sink that holds what it is given until it is asked for it."""

    def __init__(self) -> None:
        self.data = bytearray()

    def put(self, position: int, data: bytes) -> None:
        self.data += data

    def close(self) -> None:
        pass

    def emptied(self) -> bytes:
        data, self.data = bytes(self.data), bytearray()
        return data


def _pairs(texts: Sequence[str], what: str) -> dict[str, str]:
    """{"drum": "kick"} from ["drum=kick"]. Raises SettingError."""
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name or not value:
            raise SettingError(f"{what} {text!r} must be NAME=VALUE, such as label=drum=kick")
        if name in found:
            raise SettingError(f"{what} {name} is given twice")
        found[name] = value
    return found


def _harmless(asked: Any) -> Any:
    """Refuses a text that would be read as the name of a file."""
    if isinstance(asked, str) and asked.lower().endswith(".csv"):
        raise SettingError(f"{asked!r}: files are not read for clients; send what it says")
    return asked


def _curves(wish: Wish) -> tuple[dict[str, CurveValue], dict[str, str]]:
    """What is to be followed, none of which is the name of a file; and what identifies it in a `Take`."""
    if "notes" in wish.curves:
        raise SettingError("notes are sent as notes, not as a curve")
    curves: dict[str, CurveValue] = {}
    given = {}
    for name, value in wish.curves.items():
        if isinstance(value, list):
            curves[name], given[name] = value, f"{SENT} {curve_of(name, value).digest}"
        else:
            curves[name], given[name] = [(0.0, value)], str(value)
    if wish.notes is not None:
        notes = Notes(tuple(wish.notes))
        curves["notes"], given["notes"] = notes, f"{SENT} {notes.digest}"
    return curves, given


def _about(model: Model) -> dict[str, Any]:
    card = model.card
    return {
        "name": model.name,
        "description": card.get("description", ""),
        "licence": card.get("licence", ""),
        "labels": model.labels,
        "curves": model.told,
        "composes": model.composer is not None,
        "sample_rate": model.sample_rate,
        "precision": model.precision,
    }


def _unknown(name: str, known: Mapping[str, Model]) -> JSONResponse:
    return _error(404, f"no model {name!r}; there are: {', '.join(known)}")


def _error(status: int, text: str) -> JSONResponse:
    return JSONResponse({"error": " ".join(text.splitlines())}, status)
