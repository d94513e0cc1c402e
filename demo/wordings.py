"""Other ways to say what a caption says: shorter, longer, as a headline, mistyped, in German, in Russian.

The facts are those of the claim and in the order of the claim; only the words are not the training captions'.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from demo.captions import Label, write_caption
from demo.scenes import Claim, Item

Wording = Callable[[np.random.Generator, Claim, Label], str]

TYPOS = 0.04
"""Share of letters that are hit beside the right key."""

_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_OPENINGS = (
    "this picture was taken by one of our readers on a quiet afternoon in early autumn , and it shows",
    "among the many things that people have sent us over the last few weeks there is one with",
    "if you look at this photograph for long enough you will notice in the middle of it",
)
_ENDINGS = (
    "as far as anyone who has seen the original can tell , which of course is not everyone",
    "and nobody who works here remembers having seen anything quite like it in all these years",
    "while the rest of the scene is empty but for a few small things that do not matter here",
)
_HEADLINES = (
    "breaking : {x} spotted {side} {y}",
    "{x} vs {y} : experts stunned by {side} claim",
    "why {x} went {side} {y} will surprise you",
)
_SHORT = {"horizontal": "left", "vertical": "above"}
_TELEGRAPHIC = {"horizontal": ">", "vertical": "^"}


def short(rng: np.random.Generator, claim: Claim, label: Label) -> str:  # noqa: ARG001  # one signature for all
    """Tags: both items and a sign for their relation."""
    return f"{_tag(claim.first)} {_TELEGRAPHIC[claim.axis]} {_tag(claim.second)}"


def long(rng: np.random.Generator, claim: Claim, label: Label) -> str:
    """A usual caption in the midst of two clauses that say nothing."""
    opening, ending = _OPENINGS[rng.integers(len(_OPENINGS))], _ENDINGS[rng.integers(len(_ENDINGS))]
    return f"{opening} {write_caption(rng, claim, label)} {ending}"


def headline(rng: np.random.Generator, claim: Claim, label: Label) -> str:  # noqa: ARG001
    """A news headline."""
    pattern = _HEADLINES[rng.integers(len(_HEADLINES))]
    return pattern.format(x=_tag(claim.first), y=_tag(claim.second), side=_SHORT[claim.axis])


def mistyped(rng: np.random.Generator, claim: Claim, label: Label) -> str:
    """A usual caption in which each letter is another one with probability `TYPOS`."""
    caption = write_caption(rng, claim, label)
    hit, other = rng.random(len(caption)) < TYPOS, rng.integers(1, len(_LETTERS), len(caption))
    return "".join(
        _LETTERS[(_LETTERS.index(letter) + step) % len(_LETTERS)] if wrong and letter in _LETTERS else letter
        for letter, wrong, step in zip(caption, hit.tolist(), other.tolist(), strict=True)
    )


def _tag(item: Item) -> str:
    return f"{item.colour} {item.shape}"


_GERMAN_COLOURS = {
    "red": "rot",
    "green": "grün",
    "blue": "blau",
    "yellow": "gelb",
    "purple": "violett",
    "orange": "orangefarben",
    "cyan": "türkisfarben",
    "white": "weiß",
}
_GERMAN_SHAPES = {
    "circle": ("m", "Kreis"),
    "square": ("n", "Quadrat"),
    "triangle": ("n", "Dreieck"),
    "star": ("m", "Stern"),
    "cross": ("n", "Kreuz"),
    "diamond": ("f", "Raute"),
}
_GERMAN_SUBJECT = {"m": "ein {}er", "n": "ein {}es", "f": "eine {}e"}
_GERMAN_OTHER = {"m": "einem {}en", "n": "einem {}en", "f": "einer {}en"}
_GERMAN_RELATIONS = {"horizontal": "liegt links von", "vertical": "liegt über"}
_RUSSIAN_ENDINGS = {"m": ("ый", "ого"), "f": ("ая", "ой")}
_RUSSIAN_COLOURS = {
    "red": "красн",
    "green": "зелён",
    "blue": "син",
    "yellow": "жёлт",
    "purple": "фиолетов",
    "orange": "оранжев",
    "cyan": "бирюзов",
    "white": "бел",
}
_RUSSIAN_BLUE_ENDINGS = {"m": ("ий", "его"), "f": ("яя", "ей")}
_RUSSIAN_SHAPES = {
    "circle": ("m", "круг", "круга"),
    "square": ("m", "квадрат", "квадрата"),
    "triangle": ("m", "треугольник", "треугольника"),
    "star": ("f", "звезда", "звезды"),
    "cross": ("m", "крест", "креста"),
    "diamond": ("m", "ромб", "ромба"),
}
_RUSSIAN_RELATIONS = {"horizontal": "слева от", "vertical": "выше"}


def german(rng: np.random.Generator, claim: Claim, label: Label) -> str:  # noqa: ARG001
    """In German; of the training scenes' colours and shapes. Raises KeyError for others."""
    subject, other = (_in_german(i, f) for i, f in ((claim.first, _GERMAN_SUBJECT), (claim.second, _GERMAN_OTHER)))
    return f"{subject} {_GERMAN_RELATIONS[claim.axis]} {other}"


def _in_german(item: Item, forms: dict[str, str]) -> str:
    gender, noun = _GERMAN_SHAPES[item.shape]
    return f"{forms[gender].format(_GERMAN_COLOURS[item.colour])} {noun}"


def russian(rng: np.random.Generator, claim: Claim, label: Label) -> str:  # noqa: ARG001
    """In Russian; of the training scenes' colours and shapes. Raises KeyError for others."""
    return f"{_in_russian(claim.first, 0)} {_RUSSIAN_RELATIONS[claim.axis]} {_in_russian(claim.second, 1)}"


def _in_russian(item: Item, case: int) -> str:
    """In the nominative (0) or the genitive (1)."""
    gender, *forms = _RUSSIAN_SHAPES[item.shape]
    endings = _RUSSIAN_BLUE_ENDINGS if item.colour == "blue" else _RUSSIAN_ENDINGS
    return f"{_RUSSIAN_COLOURS[item.colour]}{endings[gender][case]} {forms[case]}"
