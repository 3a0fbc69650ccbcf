"""What names and lengths say about labels and about a fair split, and a recipe's tables ready to paste."""

import glob
import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from statistics import median

from audio_gen.controls import FOLDER
from audio_gen.data.doctor.findings import PIECE_SECONDS, Advice, Findings, count
from audio_gen.data.doctor.measure import FileFacts
from audio_gen.data.doctor.names import NameField

_MOST_LISTED = 20  # files written out in data.exclude

_EXCLUDED = ("silent", "loud-outlier", "clipped", "cut-off", "very-short")


def label_names(findings: Findings) -> list[NameField]:
    """The fields that the player could choose by."""
    fields = findings.names.of_role("label", "velocity")
    if two_microphones(findings):
        fields = [field for field in fields if field.name != FOLDER]
    if not fields and one_file_a_class(findings):
        fields = findings.names.of_role("unique")[:1]
    return fields


def two_microphones(findings: Findings) -> list[tuple[FileFacts, ...]]:
    """Files of one name and one length in different folders: the same moment through several microphones."""
    groups = _same_names(findings)
    alike = sum(map(_same_lengths, groups))
    return groups if alike >= 0.8 * len(groups) and 2 * sum(map(len, groups)) >= len(findings.usable) else []


def _same_names(findings: Findings) -> list[tuple[FileFacts, ...]]:
    by_stem: defaultdict[str, list[FileFacts]] = defaultdict(list)
    for f in findings.usable:
        by_stem[f.name.rpartition("/")[2].rpartition(".")[0]].append(f)
    return [tuple(group) for group in by_stem.values() if len(group) > 1]


def _same_lengths(group: Sequence[FileFacts]) -> bool:
    return max(f.seconds for f in group) - min(f.seconds for f in group) < 0.002


def one_file_a_class(findings: Findings) -> bool:
    """A few long recordings, each under a word of its own."""
    field = next(iter(findings.names.of_role("unique")), None)
    return (
        field is not None
        and 1 < len(findings.usable) <= 24
        and not findings.names.of_role("label")
        and findings.typical_seconds >= SHORTEST_CLASS_SECONDS
        and not any(character.isdigit() for value in field.counts for character in value)
    )


SHORTEST_CLASS_SECONDS = 5.0


def held_together(findings: Findings) -> Iterator[Advice]:
    """What must stay on one side of the split."""
    template = group_template(findings)
    if pairs := two_microphones(findings):
        folders = sorted({f.name.rpartition("/")[0] or "." for group in pairs for f in group})
        yield Advice(
            "two-microphones",
            "warning",
            f"{len(pairs)} names stand in several folders ({', '.join(folders[:4])}) with equal lengths: "
            "the same moment through several microphones. Split by moment, never by folder: data.group = "
            f"{json.dumps(template)}.",
            tuple(f.name for group in pairs for f in group),
        )
    else:
        shared = _same_names(findings)
        numbered = all(g[0].name.rpartition("/")[2].rpartition(".")[0].isdigit() for g in shared)
        if shared and not numbered and sum(map(len, shared)) >= 0.1 * len(findings.usable):
            folders = sorted({f.name.rpartition("/")[0] or "." for group in shared for f in group})
            yield Advice(
                "same-names",
                "warning",
                f"{len(shared)} names stand in several folders ({', '.join(folders[:4])}) with different "
                "lengths: perhaps versions of one take. Keep them on one side of the split: data.group = "
                f"{json.dumps(template)}.",
                tuple(f.name for group in shared for f in group),
            )
    for field in _repeated(findings):
        twice = {value for value, number in field.counts.items() if number > 1}
        files = tuple(
            f.name
            for f, values in zip(findings.files, findings.names.values, strict=True)
            if values is not None and values.get(field.name) in twice
        )
        yield Advice(
            "recorded-twice",
            "warning",
            f"{len(twice)} of {len(field.counts)} values of {{{field.name}}} were recorded more than once: "
            f"hold all takes of one out together, data.group = {json.dumps(template)}.",
            files,
        )


def _repeated(findings: Findings) -> list[NameField]:
    """Fields of many values some of which come again, told apart by a time or a count."""
    return [
        field for field in findings.names.of_role("id") if findings.names.of_role("time", "index", "unique")
    ]


def group_template(findings: Findings) -> str:
    """`data.group` for a fair split; "" if each file may stand alone."""
    if repeated := _repeated(findings):
        return "_".join(f"{{{field.name}}}" for field in repeated)
    shared = _same_names(findings)
    numbered = all(g[0].name.rpartition("/")[2].rpartition(".")[0].isdigit() for g in shared)
    if two_microphones(findings) or (shared and not numbered and 10 * len(shared) >= len(findings.usable)):
        return "_".join(
            f"{{{f.name}}}" for f in findings.names.fields if f.name != FOLDER and f.role != "constant"
        )
    return ""


def by_length(findings: Findings) -> Iterator[Advice]:
    """Few long recordings: how to hold some out."""
    if one_file_a_class(findings):
        yield Advice(
            "one-file-a-class",
            "warning",
            f"{len(findings.usable)} recordings, each under a name of its own: if the name is what you want "
            "to ask for, "
            'hold out the end of each, data.split = "time", with data.gap_seconds longer than the model '
            "remembers (5). If they are pieces of music, split by file.",
        )
    elif findings.typical_seconds >= PIECE_SECONDS and len(findings.usable) >= 10:
        yield Advice(
            "long-pieces",
            "hint",
            f"{len(findings.usable)} long pieces (median {findings.typical_seconds:.0f} s): hold out whole "
            "pieces, "
            'data.split = "file", since parts of one piece repeat each other.',
        )
    elif len(findings.usable) < 10:
        yield Advice(
            "few-files",
            "warning",
            f"Only {count(len(findings.usable))}: whole ones can hardly be held out, so use data.split = "
            f'"time" with '
            "data.gap_seconds = 5.",
        )


def labels(findings: Findings) -> Iterator[Advice]:
    names = findings.names
    unmatched = tuple(f.name for f, v in zip(findings.files, names.values, strict=True) if v is None)
    if unmatched:
        yield Advice(
            "unmatched",
            "warning",
            f"{count(len(unmatched), 'name')} of {len(names.values)} do not fit {json.dumps(names.pattern)}: "
            f"they would {'be left out' if group_template(findings) else 'have no labels'}. Rename them, or "
            "give their fields with data.labels_csv.",
            unmatched,
        )
    fields = label_names(findings)
    if fields:
        listed = "; ".join(f"{{{field.name}}} {_values(field)}" for field in fields)
        yield Advice("labels", "hint", f"The names hold labels to choose by: {listed}.")
    for field in fields:
        rare = [value for value, number in field.counts.items() if number < 5]
        if field.role == "label" and rare and findings.typical_seconds < PIECE_SECONDS:
            yield Advice(
                "rare-labels",
                "hint",
                f"{{{field.name}}} has {count(len(rare), 'value')} with fewer than 5 files "
                f"({', '.join(rare[:6])}): these will sound like copies. Gather them into others with "
                f"controls.labels.{field.name}.values.",
            )
    if not fields and not names.pattern and len(findings.usable) > 1:
        yield Advice(
            "no-labels",
            "hint",
            "The names tell no labels: one model of everything. To choose sounds, put each kind in a "
            "folder of its own, or list labels in a CSV (data.labels_csv).",
        )


def _values(field: NameField) -> str:
    shown = [
        f"{value} ({number})" if number > 1 else value for value, number in list(field.counts.items())[:6]
    ]
    return ", ".join(shown) + (f" ... {len(field.counts)} values" if len(field.counts) > 6 else "")


def recipe_tables(source: str, findings: Findings, advice: Sequence[Advice]) -> str:
    """TOML of [data] and [controls] that follows the advice. It loads as it stands, given a name."""
    return "\n".join([data_table(source, findings, advice), *label_tables(label_names(findings))])


def data_table(source: str, findings: Findings, advice: Sequence[Advice], *, pitch: str = "") -> str:
    """TOML of [data]. With `pitch`, the field that tells notes, whole pitches are held out."""
    codes = {a.code for a in advice}
    lines = ["[data]", f"source = {toml_text(source)}", f"sample_rate = {sample_rate(findings)}"]
    if findings.names.pattern:
        lines.append(f"pattern = {toml_text(findings.names.pattern)}")
    if exclude := _exclude(advice):
        lines += ["exclude = [", *(f"    {toml_text(glob.escape(name))}," for name in exclude), "]"]
    by = next((field for field in findings.levels if field.share >= 0.4 and field.ratio >= 4), None)
    levelled = by if "levels-by-field" in codes else None
    lines.append(f"gain = {toml_text(f'{{{levelled.name}}}' if levelled else 'dataset')}")
    if levelled and levelled.stray:
        lines.append("gain_share = 0.9")
    if codes & {"one-file-a-class", "few-files"}:
        lines += ['split = "time"', "gap_seconds = 5.0"]
    elif pitch:
        lines.append(f"group = {toml_text(f'{{{pitch}}}')}")
    elif group := group_template(findings):
        lines.append(f"group = {toml_text(group)}")
    elif held := _held_out(findings):
        lines.append(f"valid_where = {{ {held} }}")
    if "tight" in codes:
        lines.append("end_seconds = 0.25")
    return "\n".join(lines) + "\n"


def label_tables(fields: Sequence[NameField]) -> list[str]:
    """TOML of one [controls.labels.NAME] per field."""
    return [f'[controls.labels.{field.name}]\nfrom = "{{{field.name}}}"\n' for field in fields]


def sample_rate(findings: Findings) -> int:
    """That most files have, or one that is quick to learn."""
    rate = Counter(f.sample_rate for f in findings.usable).most_common(1)[0][0]
    return rate if rate <= 24_000 else 16_000


def _held_out(findings: Findings) -> str:
    """The lowest tenth of a count that all labels share, so that every label is held out alike."""
    counted = [f for f in findings.names.of_role("index") if len(f.counts) >= 10]
    if not counted:
        return ""
    field = counted[-1]
    typical = median(field.counts.values())
    even = [value for value, number in field.counts.items() if number >= 0.9 * typical]
    return f"{field.name} = [{', '.join(toml_text(v) for v in even[: max(1, len(even) // 10)])}]"


def _exclude(advice: Sequence[Advice]) -> list[str]:
    """Files named by advice to leave them out, while they are few."""
    found: list[str] = []
    for a in advice:
        if a.code in _EXCLUDED and len(a.files) <= _MOST_LISTED // 2:
            found.extend(name for name in a.files if name not in found)
    return found[:_MOST_LISTED]


def toml_text(text: str) -> str:
    """`text` as a TOML basic string; JSON's escapes are TOML's too, but for DEL."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007F")
