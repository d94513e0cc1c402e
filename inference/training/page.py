"""The evaluation report as one HTML page that needs nothing else: no script, no font, no picture from anywhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

WIDTH, HEIGHT = 640, 180
"""Of a curve, in the units of its drawing."""


def page(report: Mapping[str, Any]) -> str:
    """The page of what `inference.training.train` reports."""
    looks = report["training"]["looks"]
    steps = [look["step"] for look in looks]
    curves = [
        {"name": name, "points": points(steps, [look[key] for look in looks], _highest(looks)), "css": css}
        for name, key, css in (
            ("training, every term", "loss", "one"),
            ("validation, the fused answer", "validation_loss", "two"),
        )
    ]
    return _template().render(report=report, curves=curves, highest=_highest(looks), width=WIDTH, height=HEIGHT)


def points(steps: Sequence[int], values: Sequence[float], highest: float) -> str:
    """A curve's corners, as SVG takes them: steps from 0 along the width, values from 0 up the height."""
    last = max(steps, default=1)
    corners = (
        (WIDTH * step / last, HEIGHT * (1 - min(value, highest) / highest))
        for step, value in zip(steps, values, strict=True)
    )
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in corners)


def percent(share: float | None) -> str:
    """A share as people read it; a dash where there is none."""
    return "–" if share is None else f"{100 * share:.1f}%"


def interval(bounds: Sequence[float] | None) -> str:
    """Two shares as an interval."""
    return "" if bounds is None else f"{percent(bounds[0])} to {percent(bounds[1])}"


def _highest(looks: Sequence[Mapping[str, float]]) -> float:
    return max([1e-9, *(max(look["loss"], look["validation_loss"]) for look in looks)])


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("inference.training"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters |= {"percent": percent, "interval": interval}
    return environment.get_template("report.html")
