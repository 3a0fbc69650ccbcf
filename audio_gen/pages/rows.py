"""Which clip stands where on the page, and the HTML of its cell."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import PurePosixPath

from audio_gen.data.store import evenly
from audio_gen.mixtures import ingredients
from audio_gen.pages.manifest import Clip, Manifest, RealClip

BORROWED = 4
"""Real clips shown beside labels that none of them has exactly, as beside "no label"."""
OTHERS = "Other held-out recordings"


@dataclass(frozen=True)
class Drawn:
    """What a cell shows of its clip, beside what the manifest says."""

    seconds: float
    level_db: float
    """RMS of its loudest 0.4 s, in dB of full scale; -inf for silence."""
    picture: str
    """Spectrogram, as a data URL."""
    columns: int
    """Width of the outline's box."""
    outline: str
    source: str
    """URL for the player."""
    link: str
    """URL for the download; "#" if only the player holds the audio."""


@dataclass
class Group:
    """One combination of labels in one set: real clips, then generated ones by their settings.

    Or one recording of a set of copies: itself, then its copies.
    """

    labels: dict[str, str]
    source: str | None = None
    real: list[RealClip] = field(default_factory=list)
    generated: dict[str, list[Clip]] = field(default_factory=dict)


def group_clips(manifest: Manifest) -> dict[str, list[Group]]:
    """Groups of each set, in the manifest's order. Real clips that no set shows end in a set of their own."""
    sets: dict[str, dict[object, Group]] = {}
    for clip in manifest.clips:
        groups = sets.setdefault(clip.set, {})
        key = (clip.source, *sorted(clip.labels.items()))
        group = groups.setdefault(key, Group(clip.labels, clip.source))
        group.generated.setdefault(settings_text(clip), []).append(clip)
    shown: set[str] = set()
    for groups in sets.values():
        for group in groups.values():
            if group.source is None:
                group.real = _neighbours(group.labels, manifest.real)
            else:
                group.real = [clip for clip in manifest.real if clip.source == group.source]
            shown.update(clip.file for clip in group.real)
    result = {name: list(groups.values()) for name, groups in sets.items()}
    others: dict[tuple[tuple[str, str], ...], Group] = {}
    for real in manifest.real:
        if real.file not in shown:
            others.setdefault(tuple(sorted(real.labels.items())), Group(real.labels)).real.append(real)
    if others:
        result[OTHERS] = [*result.get(OTHERS, []), *others.values()]
    return result


def _neighbours(labels: dict[str, str], real: Sequence[RealClip]) -> list[RealClip]:
    """Real clips of exactly these labels, or else a few, evenly spaced, that have them among others or, where labels
    are mixtures, what they are made of."""
    exact = [clip for clip in real if clip.labels == labels]
    if exact:
        return exact
    wider = [
        clip
        for clip in real
        if all(
            name in clip.labels and ingredients(text, {clip.labels[name]}) for name, text in labels.items()
        )
    ]
    count = min(BORROWED, len(wider))
    return evenly(wider, count)


def settings_text(clip: Clip) -> str:
    """The settings of the draw that matter: temperature, and those that cut the distribution."""
    parts = [f"{name} {value}" for name, value in clip.curves.items()] + [
        f"temperature {clip.fade or clip.temperature}"
    ]
    parts += ["composed"] if clip.composed else []
    parts += [f"top-k {clip.top_k}"] if clip.top_k > 0 else []
    parts += [f"top-p {clip.top_p:g}"] if clip.top_p < 1.0 else []
    parts += [f"min-p {clip.min_p:g}"] if clip.min_p > 0.0 else []
    parts += [f"doubt {clip.doubt:g}"] if clip.doubt > 0.0 else []
    if clip.sketch_temperature is not None and clip.guidance is not None:
        parts += [f"sketch at {clip.sketch_temperature:g}, guidance {clip.guidance:g}"]
    return ", ".join(parts)


def labels_text(labels: Mapping[str, str]) -> str:
    """The values alone: "kick", "seven, jackson"."""
    return ", ".join(labels.values()) or "no label"


def group_text(group: Group) -> str:
    """What a group is called among the others of its set."""
    return labels_text(group.labels) if group.source is None else PurePosixPath(group.source).stem


def table_html(
    number: int, name: str, groups: Sequence[Group], drawn: Mapping[str, Drawn], loud_db: float
) -> str:
    """One set as a table: a body per combination of labels, in it a row per kind of clip.

    Generated clips above `loud_db` are marked as louder than any real one.
    """
    count = sum(len(clips) for group in groups for clips in group.generated.values())
    what = f"{count} generated clip{'s' * (count != 1)}" if count else "real, through the codec"
    bodies = []
    for place, group in enumerate(groups, 1):
        rows = [_name_row(group)]
        if group.real:
            cells = [_real_cell(clip, drawn[clip.file]) for clip in group.real]
            rows.append(_row("real", "real, through the codec", cells))
        for settings, clips in group.generated.items():
            cells = [_generated_cell(clip, drawn[clip.file], loud_db) for clip in clips]
            how = "generated" + (f" {_from(clips[0], 'its')}" if group.source else "")
            rows.append(_row("generated", f"{how}, {settings}", cells))
        bodies.append(f'<tbody id="set-{number}-{place}" role="rowgroup">\n' + "\n".join(rows) + "\n</tbody>")
    return (
        f'<table class="clips" id="set-{number}" role="table">\n<caption><h2>{escape(name)}</h2>'
        f'<span class="small">{what}</span></caption>\n' + "\n".join(bodies) + "\n</table>"
    )


def contents_html(sets: Mapping[str, Sequence[Group]]) -> str:
    """Links to every set and combination of labels; "" when there is only one."""
    if sum(len(groups) for groups in sets.values()) < 2:
        return ""
    items = []
    for number, (name, groups) in enumerate(sets.items(), 1):
        links = "".join(
            f'<a href="#set-{number}-{place}">{escape(group_text(group))}</a>'
            for place, group in enumerate(groups, 1)
        )
        items.append(f'<li><b><a href="#set-{number}">{escape(name)}</a></b> {links}</li>')
    return '<nav aria-label="Contents"><ul>\n' + "\n".join(items) + "\n</ul></nav>"


def _name_row(group: Group) -> str:
    named = {} if group.source is None else {"recording": group_text(group)}
    names = "".join(
        f"<span><small>{escape(name)}</small>{escape(value)}</span>"
        for name, value in (*named.items(), *group.labels.items())
    )
    return (
        '<tr class="name" role="row"><th scope="rowgroup" role="rowheader">'
        f"{names or '<span>no label</span>'}</th></tr>"
    )


def _from(clip: Clip, whose: str) -> str:
    """What a clip was made from, of a recording."""
    before, after = (f"{whose} ", "") if whose == "its" else ("", f" {whose}")
    if clip.prompt_seconds is None:
        return f"from {before or 'the '}curves{after}"
    return f"from {before or 'the '}first {clip.prompt_seconds:g} s{after}"


def _row(kind: str, header: str, cells: Sequence[str]) -> str:
    return (
        f'<tr class="{kind}" role="row"><th scope="row" role="rowheader">{escape(header)}</th>\n'
        + "\n".join(cells)
        + "\n</tr>"
    )


def _real_cell(clip: RealClip, drawn: Drawn) -> str:
    what = labels_text(clip.labels) if clip.labels else clip.source
    spoken = f"Real {what}, through the codec, {drawn.seconds:.2f} seconds"
    source = escape(clip.source)
    notes = f'{drawn.seconds:.2f} s<span class="file" title="{source}">{source}</span>'
    return _cell(clip.file, drawn, spoken, "", notes)


def _generated_cell(clip: Clip, drawn: Drawn, loud_db: float) -> str:
    what = _from(clip, f"of {clip.source}") if clip.source else labels_text(clip.labels)
    spoken = (
        f"Generated {what}, seed {clip.seed}, stream {clip.stream}, "
        f"{settings_text(clip)}, {drawn.seconds:.2f} seconds"
    )
    short = settings_text(clip).replace("temperature ", "t ").replace(", ", " · ")
    notes = f"<b>seed {clip.seed} · stream {clip.stream}</b><br>{short} · {drawn.seconds:.2f} s"
    if clip.clipped:
        notes += f"<br>{clip.clipped:,} sample{'s' * (clip.clipped != 1)} clipped"
    if drawn.level_db > loud_db:
        notes += '<br><span class="mark">louder than any real clip</span>'
        spoken += ", louder than any real clip"
    data = f' data-file="{escape(clip.file)}" data-seed="{clip.seed}" data-stream="{clip.stream}"'
    return _cell(clip.file, drawn, spoken, data, notes)


def _cell(file: str, drawn: Drawn, spoken: str, data: str, notes: str) -> str:
    name, spoken = escape(file.rpartition("/")[2]), escape(spoken)
    return f"""<td role="cell" style="--seconds: {drawn.seconds:.4f}">
<div class="cell" role="group" tabindex="0" aria-label="{spoken}" data-seconds="{drawn.seconds:.4f}"{data}>
<div class="picture"><svg viewBox="0 0 {drawn.columns} 200" preserveAspectRatio="none" aria-hidden="true">
<path d="{drawn.outline}"/></svg><img src="{drawn.picture}" alt="Spectrogram of {name}">
<i class="guides"></i><i class="cursor"></i></div>
<audio controls controlslist="nodownload noplaybackrate" preload="none" aria-label="Player: {spoken}"
src="{escape(drawn.source)}"></audio>
<p>{notes}<a class="file" download="{name}" href="{escape(drawn.link)}" title="download {name}">{name}</a></p>
</div></td>"""
