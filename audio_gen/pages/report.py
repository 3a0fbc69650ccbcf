"""The page of an evaluation: one static HTML file with its plots, self-contained."""

from html import escape
from importlib.resources import files
from string import Template

from audio_gen.evaluation.blocks import Section
from audio_gen.evaluation.report import Report
from audio_gen.pages.charts import block_html


def report_html(report: Report) -> str:
    """The whole page. Equal reports give equal pages."""
    sections = report.sections()
    left_out = "".join(
        f"<p><b>{escape(part.replace('-', ' '))}</b> is left out: {escape(why)}</p>\n"
        for part, why in report.left_out.items()
    )
    return Template(_asset("report.html")).substitute(
        title=escape(f"{report.model}: evaluation"),
        data=escape(f"{report.model} on {report.data}"),
        facts=escape(report.facts()),
        hash=escape(report.hash[:16]),
        rate=f"{report.sample_rate:,} Hz",
        contents="".join(
            f'<a href="#part-{number}">{escape(section.title)}</a>' for number, section in enumerate(sections)
        ),
        sections="\n".join(_section(number, section) for number, section in enumerate(sections)),
        left_out=f'<section class="left-out">\n{left_out}</section>' if left_out else "",
        css=_asset("listening.css") + _asset("report.css"),
    )


def _section(number: int, section: Section) -> str:
    said = "\n".join(f"<p>{escape(sentence)}</p>" for sentence in section.sentences)
    blocks = "\n".join(block_html(block) for block in section.blocks)
    return (
        f'<section class="part" id="part-{number}">\n<h2>{escape(section.title)}</h2>\n{said}\n'
        f'<div class="blocks">\n{blocks}\n</div>\n</section>'
    )


def _asset(name: str) -> str:
    return (files("audio_gen.pages") / name).read_text(encoding="utf-8")
