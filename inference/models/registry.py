"""Finds fusion families: every module of this package that exposes a `FAMILY` constant is one, and those named."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable
from functools import cache

import inference.models
from inference.models.base import Family

PREFIX = "fusion_"
"""What a family's name may have before the name of its module."""


@cache
def families(modules: tuple[str, ...] = ()) -> dict[str, Family]:
    """Family by name (`model_type`), from all modules of `inference.models` and from `modules`, importable names.

    Raises:
        ValueError: two modules claim the same name, or one of `modules` cannot be imported or has no family.
    """
    return _exposed((*_own(), *modules), modules)


@cache
def find(name: str, modules: tuple[str, ...] = ()) -> Family:
    """One of `families(modules)`; those of other modules, seconds to import, are left alone where that will do.

    Raises:
        KeyError: there is none of that name.
        ValueError: as `families`; of the modules of this package, for those that names of families lead to.
    """
    named = {each.removeprefix(PREFIX) for each in (name, *_exposed(modules, modules))}
    found = _exposed((*(each for each in _own() if each.rpartition(".")[2] in named), *modules), modules)
    return found[name] if name in found else families(modules)[name]


def _own() -> list[str]:
    return sorted(f"inference.models.{info.name}" for info in pkgutil.iter_modules(inference.models.__path__))


def _exposed(names: Iterable[str], modules: tuple[str, ...]) -> dict[str, Family]:
    """The families of modules; of `modules`, each must have one."""
    found: dict[str, Family] = {}
    for name in names:
        try:
            family = getattr(importlib.import_module(name), "FAMILY", None)
        except ImportError as error:
            raise ValueError(f"the family module {name!r} cannot be imported: {error}") from error
        if not isinstance(family, Family):
            if name in modules:
                raise ValueError(f"the family module {name!r} has no FAMILY of type Family")
            continue
        if family.name in found:
            raise ValueError(f"two modules define the family {family.name!r}")
        found[family.name] = family
    return found
