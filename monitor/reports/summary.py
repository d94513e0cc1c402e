"""Our own page on a period: verdicts, incidents, objectives, retrains and what to do, as HTML and as Markdown.

It is made in the monitor itself, without Evidently: whatever else fails, there is a summary that says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from monitor.reports.advice import advice, headline, still_open, urgent
from monitor.reports.base import ReportKind
from monitor.reports.material import Material
from monitor.web import words

HTML, MARKDOWN = "summary.html", "summary.md"
SHOWN_INCIDENTS = 20
TITLES = {"daily": "Daily report", "weekly": "Weekly report", "asked": "Report"}


def render(material: Material) -> Mapping[str, str]:
    """Both forms of the page; neither loads anything."""
    shown = _shown(material)
    return {name: _templates(name.endswith(".html")).get_template(name).render(shown) for name in (HTML, MARKDOWN)}


def _shown(material: Material) -> dict[str, Any]:
    return {
        "m": material,
        "title": TITLES[material.cadence],
        "headline": headline(material),
        "advice": advice(material),
        "urgent": urgent(material),
        "incidents": material.incidents[:SHOWN_INCIDENTS],
        "more_incidents": len(material.incidents) - SHOWN_INCIDENTS,
        "open_ids": {each.alert_id for each in still_open(material)},
        "words": words,
    }


@cache
def _templates(html: bool) -> Environment:
    environment = Environment(
        loader=PackageLoader("monitor.reports"),
        autoescape=html,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "share": words.share,
        "count": words.count,
        "figure": words.figure,
        "modality": words.modality,
        "cell": cell,
        "lasted": lasted,
        "one_line": lambda text: " ".join(str(text).split()),
    }
    return environment


def cell(text: object) -> str:
    """Text for a cell of a Markdown table: one line, in which a bar or markup is no more than its character."""
    plain = " ".join(str(text).split())
    for sign in "\\`*_[]<>|":
        plain = plain.replace(sign, f"\\{sign}")
    return plain


def lasted(seconds: float) -> str:
    """`40 s`, `12 min`, `3 h 20 min`, `2 d 4 h`."""
    minutes = round(seconds / 60)
    if seconds < 120:
        return f"{seconds:.0f} s"
    if minutes < 120:
        return f"{minutes} min"
    hours, rest = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {rest} min" if rest else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if hours else f"{days} d"


REPORT = ReportKind("summary", render, isolated=False)
