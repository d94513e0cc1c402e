"""What every store of raw inputs is: it reads an object by its name.

A store is one module of this package that exposes a `STORE` constant; `open_store` finds them by an address's scheme.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Protocol

import inference.stores

FOLDER = "file"  # the scheme of an address that has none
MAX_OBJECT_BYTES = 100_000_000


class StoreError(ValueError):
    """A store, or one of its objects, cannot be read; the text names what and why, without secrets."""


@dataclass(frozen=True, slots=True)
class Access:
    """How stores that take it are reached: `endpoint` and `region` of the service, and the key that signs."""

    endpoint: str | None = None
    region: str = "us-east-1"
    key_id: str = ""
    secret: str = ""
    token: str | None = None
    timeout_seconds: float = 20.0

    def __repr__(self) -> str:
        return f"Access({self.endpoint}, {self.region}, {self.key_id})"


class Store(Protocol):
    """A store. It may be read by several threads at once."""

    @property
    def where(self) -> str:
        """Its address, as it is told to people."""
        ...

    def read(self, name: str) -> bytes | None:
        """An object's bytes; None where there is none of that name. Raises StoreError where that cannot be told."""
        ...


@dataclass(frozen=True, slots=True)
class StoreKind:
    """The constant `STORE` of each module. `build` takes an address without its scheme."""

    scheme: str
    build: Callable[[str, Access], Store]


@cache
def kinds() -> Mapping[str, StoreKind]:
    """Every kind of store by its scheme."""
    modules = (
        importlib.import_module(f"{inference.stores.__name__}.{info.name}")
        for info in pkgutil.iter_modules(inference.stores.__path__)
    )
    found = [module.STORE for module in modules if hasattr(module, "STORE")]
    return {kind.scheme: kind for kind in found}


def open_store(address: str, access: Access | None = None) -> Store:
    """The store at an address: a folder's path, or a scheme, `://` and what that kind of store takes.

    Raises StoreError where the scheme is unknown or the address cannot be one.
    """
    scheme, separator, rest = address.partition("://")
    kind = kinds().get(scheme if separator else FOLDER)
    if kind is None:
        allowed = ", ".join(f"{name}://" for name in sorted(kinds()))
        raise StoreError(f"{address}: expected the path of a folder or one of {allowed}")
    return kind.build(rest if separator else address, access or Access())
