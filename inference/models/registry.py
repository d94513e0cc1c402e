"""Finds fusion families: every module of this package that exposes a `FAMILY` constant is one."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

import inference.models
from inference.models.base import Family


@cache
def families() -> dict[str, Family]:
    """Family by name (`model_type`), from all modules of `inference.models`.

    Raises:
        ValueError: two modules claim the same name.
    """
    found: dict[str, Family] = {}
    for info in sorted(pkgutil.iter_modules(inference.models.__path__), key=lambda m: m.name):
        family = getattr(importlib.import_module(f"inference.models.{info.name}"), "FAMILY", None)
        if not isinstance(family, Family):
            continue
        if family.name in found:
            raise ValueError(f"two modules of inference.models define the family {family.name!r}")
        found[family.name] = family
    return found
