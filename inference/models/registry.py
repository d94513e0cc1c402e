"""Finds fusion families: every module of this package that exposes a `FAMILY` constant is one, and those named."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

import inference.models
from inference.models.base import Family


@cache
def families(modules: tuple[str, ...] = ()) -> dict[str, Family]:
    """Family by name (`model_type`), from all modules of `inference.models` and from `modules`, importable names.

    Raises:
        ValueError: two modules claim the same name, or one of `modules` cannot be imported or has no family.
    """
    own = [f"inference.models.{info.name}" for info in pkgutil.iter_modules(inference.models.__path__)]
    found: dict[str, Family] = {}
    for name in (*sorted(own), *modules):
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
