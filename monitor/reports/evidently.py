"""Evidently's report: baseline beside period, column by column.

Evidently takes seconds and some hundred megabytes to import: this module imports it as it renders.
Source: https://docs.evidentlyai.com, of Evidently 0.7.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from monitor.reports.base import ReportKind
from monitor.reports.columns import POINTS
from monitor.reports.material import Material

FILE = "evidently.html"
# Distances that do not hang on the number of points, with Evidently's own thresholds of 0.1.
METHODS = {"category": "jensenshannon", "number": "wasserstein"}


class NothingToCompareError(ValueError):
    """Baseline and period share no column; the text says why."""


def render(material: Material) -> Mapping[str, str]:
    """One page that loads nothing. Raises NothingToCompareError where there is no column."""
    columns = material.compared.columns
    if not columns:
        why = "; ".join(material.compared.left_out) or "no rows"
        raise NothingToCompareError(f"baseline and period have nothing to compare: {why}")
    return {FILE: _titled(_compared(material), material)}


def _compared(material: Material) -> str:
    import pandas as pd
    from evidently import DataDefinition, Dataset, Report
    from evidently.metrics import DriftedColumnsCount, ValueDrift
    from evidently.presets import ValueStats

    columns = material.compared.columns
    definition = DataDefinition(
        numerical_columns=[each.name for each in columns if each.kind == "number"],
        categorical_columns=[each.name for each in columns if each.kind == "category"],
    )
    sides = [
        Dataset.from_pandas(pd.DataFrame({each.name: getattr(each, side) for each in columns}), definition)
        for side in ("current", "reference")
    ]
    metrics = [
        DriftedColumnsCount(
            columns=[each.name for each in columns], cat_method=METHODS["category"], num_method=METHODS["number"]
        )
    ]
    for each in columns:
        metrics += [ValueDrift(column=each.name, method=METHODS[each.kind]), ValueStats(column=each.name)]
    made: str = Report(metrics).run(*sides).get_html_str(as_iframe=False)
    return made


def _titled(page: str, material: Material) -> str:
    """The page with a title, and with what its figures mean, at its head."""
    period = f"{material.period.start:%Y-%m-%d %H:%M} to {material.period.end:%Y-%m-%d %H:%M} UTC"
    title = escape(f"{material.model}, {period}")
    rows = max(each.current_rows for each in material.compared.columns)
    notes = [
        f"“Reference” is {escape(material.baseline or 'the baseline')}; “current” is the period, from "
        f"{material.compared.slots:,} of its slots ({rows:,} requests) of version {escape(material.version or '')}.",
        f"Every column is drawn to {POINTS:,} points in no order, so row counts and plots over the index say nothing. "
        "Quality and embedding figures are means of groups of requests. “Drift” here is a distance above 0.1, without "
        "a test: alerts go by fusionwatch’s own verdicts, which the summary has.",
    ]
    if material.compared.left_out:
        notes.append(f"Left out: {escape('; '.join(material.compared.left_out))}.")
    head = (
        '<header style="font:14px/1.5 system-ui,sans-serif;max-width:72rem;margin:0 auto;padding:1.5rem 1.25rem 0">'
        f'<h1 style="font-size:1.3rem;margin:0 0 .4rem">{title}</h1>'
        + "".join(f'<p style="margin:.2rem 0;color:#55605c">{note}</p>' for note in notes)
        + "</header>"
    )
    titled = page.replace("<head>", f"<head><title>{title}</title>", 1)
    return titled.replace("<body>", f"<body>{head}", 1)


REPORT = ReportKind("evidently", render)
