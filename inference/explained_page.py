"""An explanation as one HTML page that needs nothing else: no script, no font, no picture from anywhere."""

from __future__ import annotations

import base64
import io
from functools import cache
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from numpy.typing import NDArray
from PIL import Image

from inference.explained import Explanation, Floats

SIDE = 1024
"""Pixels of a picture's longer side, at most."""


def page(told: Explanation, picture: NDArray[np.uint8] | None, text: str | None) -> str:
    """The page; `picture` (height, width, 3) uint8 RGB and `text` are those of the request."""
    shown = None
    if picture is not None:
        image = Image.fromarray(picture)
        image.thumbnail((SIDE, SIDE))
        shown = {"uri": _uri(image), "width": image.width, "height": image.height}
    look, maps = told.look, list[dict[str, Any]]()
    if look is not None:
        highest = float(look.weights.max())
        maps = [
            {"token": look.tokens[number], "tiles": tiles(look.weights[:, number], look.columns, highest)}
            for number in look.strongest()
        ]
    return _template().render(
        told=told,
        picture=shown,
        text=text,
        decided=[] if look is None else tiles(look.decided - look.decided.min(), look.columns),
        tokens=[] if look is None else list(zip(look.tokens, look.by_token.tolist(), strict=True)),
        maps=maps,
    )


def tiles(values: Floats, columns: int, highest: float | None = None) -> list[dict[str, Any]]:
    """Each patch's place, as shares of the picture, and how strongly it is tinted, by default up to the highest."""
    side, highest = 1 / columns, max(1e-9, float(values.max()) if highest is None else highest)
    return [
        {
            "x": number % columns * side,
            "y": number // columns * side,
            "side": side,
            "tint": round(0.75 * float(value) / highest, 3),
            "value": float(value),
        }
        for number, value in enumerate(values)
    ]


def _uri(image: Image.Image) -> str:
    data = io.BytesIO()
    image.save(data, "png")
    return f"data:image/png;base64,{base64.b64encode(data.getvalue()).decode()}"


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("inference"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template("explained.html")
