"""The listening page: one static HTML file that shows, draws and plays every clip of a run.

Each row starts with held-out recordings through the model's own codec, and goes on with everything that was
generated for those labels, in order. Nothing is chosen, nothing is normalised.
"""

import base64
import math
import shutil
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Literal
from urllib.parse import quote

import numpy as np

from audio_gen.audio import probe, read
from audio_gen.errors import DataError, OutputError, SettingError
from audio_gen.pages.facts import facts_html
from audio_gen.pages.images import Axes, Waveform, colour_stops, outline, spectrogram
from audio_gen.pages.manifest import Clip, Manifest, read_manifest
from audio_gen.pages.rows import Drawn, contents_html, group_clips, table_html

PIXELS_PER_SECOND = 160
SHORTEST, WIDEST = 160, 1080
"""The longest clip is that many CSS pixels a second, within these bounds, and sets the scale of all."""
LOUDNESS_SECONDS = 0.4
LOUDER_DB = 0.1
"""A generated clip counts as louder than the loudest real one from this difference on."""
_MEDIA = {".flac": "audio/flac", ".mp3": "audio/mpeg", ".ogg": "audio/ogg"}


def write_page(
    run: Path,
    *,
    audio: Literal["link", "embed"] = "link",
    output: Path | None = None,
    only: Path | None = None,
) -> Path:
    """Write `index.html` from `run/clips/clips.json` into `output` (`run/page` if None) and return its path.

    "link": the page plays the files of `run/clips`; with an `output` elsewhere they are copied to
    `output/clips`. "embed": the one file holds all audio, as the files' own bytes. `only`: a list of the generated
    clips to show, one file a line, as a page saves it. An existing page is replaced. Raises DataError (manifest,
    clips or list missing or damaged), AudioFileError (an unreadable clip), OutputError (no page can be written
    there), SettingError (no output for a page of some clips).
    """
    if audio not in ("link", "embed"):
        raise SettingError(f'audio must be "link" or "embed", got {audio!r}')
    manifest = read_manifest(run)
    made = len(manifest.clips)
    if only is not None:
        if output is None:
            raise SettingError(f"{only}: the page of all clips stays; say where that of some goes, with -o")
        manifest = manifest.model_copy(update={"clips": _listed(manifest.clips, only)})
    folder = run / "page" if output is None else output
    away = folder.resolve() != (run / "page").resolve()
    page = folder / "index.html"
    if audio == "link":
        base = "clips/" if away else "../clips/"
        urls = {clip.file: quote(base + clip.file) for clip in manifest.everything}
    else:
        urls = {}
    html = _page_html(manifest, run / "clips", urls, made)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if audio == "link" and away:
            for clip in manifest.everything:
                _copy(run / "clips" / clip.file, folder / "clips" / clip.file)
        part = page.with_name("index.html.part")
        part.write_text(html, encoding="utf-8", newline="\n")
        part.replace(page)
    except OSError as error:
        raise OutputError(f"{page}: the page cannot be written: {error.strerror or error}") from None
    return page


def _page_html(manifest: Manifest, folder: Path, urls: Mapping[str, str], made: int) -> str:
    """The whole page, of so many clips `made`. Clips without a URL are embedded."""
    everything = manifest.everything
    infos = [probe(folder / clip.file) for clip in everything]
    longest = max((info.seconds for info in infos), default=1.0)
    rate = max((info.sample_rate for info in infos), default=manifest.facts.sample_rate or 16_000)
    width = round(min(max(longest * PIXELS_PER_SECOND, SHORTEST), WIDEST))
    # Half as many pixels again as the page shows, for dense screens.
    axes = Axes(longest, rate / 2, columns=round(width * 1.5))
    drawn = {
        clip.file: _draw(folder / clip.file, info.sample_rate, axes, urls.get(clip.file))
        for clip, info in zip(everything, infos, strict=True)
    }
    level, loud_db = _level_rule(
        [drawn[clip.file].level_db for clip in manifest.real],
        [drawn[clip.file].level_db for clip in manifest.clips],
    )
    sets = group_clips(manifest)
    tables = [table_html(i, name, groups, drawn, loud_db) for i, (name, groups) in enumerate(sets.items(), 1)]
    return Template(_asset("listening.html")).substitute(
        _key(axes, width),
        title=escape(manifest.title or manifest.facts.model or "Listening page"),
        text=f"<p>{escape(manifest.text)}</p>\n" if manifest.text else "",
        count=_count(len(manifest.clips), made, len(manifest.real)),
        level=level,
        facts=facts_html(manifest.facts),
        contents=contents_html(sets),
        tables="\n".join(tables),
        css=_asset("listening.css"),
        script=_asset("listening.js"),
        keeping=_asset("keeping.js"),
    )


def _count(shown: int, made: int, real: int) -> str:
    if shown == made:
        return f"<strong>Uncurated:</strong> every clip generated is shown. {made} generated, {real} real."
    return f"<strong>Chosen by ear:</strong> {shown} of {made} generated, beside {real} real ones."


def _listed(clips: Sequence[Clip], path: Path) -> list[Clip]:
    """Those of `clips` that a list names. Raises DataError."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise DataError(f"{path}: cannot be read as a list of clips: {why}") from None
    known = {clip.file: clip for clip in clips}
    wanted = {line.strip().replace("\\", "/").removeprefix("clips/"): None for line in lines if line.strip()}
    for name in wanted:
        if name not in known:
            raise DataError(
                f"{path}: names {name!r}, which is none of the generated clips; is it another run's list?"
            )
    if not wanted:
        raise DataError(f"{path}: names no clips")
    return [clip for clip in clips if clip.file in wanted]


def _draw(path: Path, sample_rate: int, axes: Axes, url: str | None) -> Drawn:
    waveform = read(path)
    seconds = len(waveform) / sample_rate
    columns = max(2, axes.columns_of(seconds) // 2)
    return Drawn(
        seconds=seconds,
        level_db=_loudest_db(waveform, sample_rate),
        picture=_data_url(spectrogram(waveform, sample_rate, axes), "image/png"),
        columns=columns,
        outline=outline(waveform, columns),
        source=url or _data_url(path.read_bytes(), _MEDIA.get(path.suffix.lower(), "audio/wav")),
        link=url or "#",
    )


def _loudest_db(waveform: Waveform, sample_rate: int) -> float:
    """RMS of the loudest stretch of 0.4 s of a waveform (time,), in dB of full scale; -inf for silence."""
    width = min(len(waveform), round(LOUDNESS_SECONDS * sample_rate))
    energy = np.concatenate([[0.0], np.cumsum(np.square(waveform, dtype=np.float64))])
    loudest = float(np.max(energy[width:] - energy[:-width])) / width
    return 10.0 * math.log10(loudest) if loudest > 1e-12 else -math.inf


def _level_rule(real: Iterable[float], generated: Iterable[float]) -> tuple[str, float]:
    """What the page says of loudness, and the level above which a generated clip is marked (dB)."""
    rule = "Nothing is normalised: each clip plays at the level it was made at."
    real, generated = list(real), list(generated)
    if not real:
        return f"{rule} There are no real clips here to compare levels with.", math.inf
    loudest = max(real)
    louder = [level for level in generated if level > loudest + LOUDER_DB]
    said = f"{loudest:.1f} dB of full scale in its loudest 0.4 s".replace("-", "\N{MINUS SIGN}")
    if not louder:
        return f"{rule} No generated clip is louder than the loudest real one ({said}).", loudest + LOUDER_DB
    most = f", by at most {max(louder) - loudest:.1f} dB" if loudest > -math.inf else ""
    verb = "is" if len(louder) == 1 else "are"
    return (
        f"<strong>Mind your ears:</strong> {len(louder)} of {len(generated)} generated clips {verb} louder "
        f"than the loudest real one ({said}){most}; each is marked. {rule}"
    ), loudest + LOUDER_DB


def _key(axes: Axes, width: int) -> dict[str, str]:
    """The scales of the pictures, in words and as CSS properties."""
    lines = ",".join(
        f"var(--guide) 0 {100.0 - 100.0 * axes.height_of(hz):.2f}%/100% 1px no-repeat" for hz in axes.ticks_hz
    )
    return {
        "scale": f"--longest: {axes.longest_seconds:.4f}; --tick: {axes.tick_seconds:g}; "
        f"--page-full: {width}px; --lines: {lines or 'none'}",
        "colours": ", ".join(colour_stops()),
        "floor_db": f"\N{MINUS SIGN}{-axes.floor_db:g}",
        "top_db": f"\N{MINUS SIGN}{-axes.top_db:g}",
        "lines": ", ".join(f"{hz:,}" for hz in axes.ticks_hz) + " Hz",
        "top": f"{axes.max_hz:,.0f} Hz",
        "tick": f"{axes.tick_seconds:g}",
    }


def _asset(name: str) -> str:
    return (files("audio_gen.pages") / name).read_text(encoding="utf-8")


def _data_url(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def _copy(source: Path, destination: Path) -> None:
    """Copy a clip, so that no reader ever meets half of it."""
    destination.parent.mkdir(parents=True, exist_ok=True)
    part = destination.with_name(destination.name + ".part")
    shutil.copyfile(source, part)
    part.replace(destination)
