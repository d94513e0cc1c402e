"""Python's garbage collector, kept away from what a program has loaded.

A full collection looks at every object while all threads wait: of a worker under load, every few seconds at everything
that its libraries have loaded, longer than it takes to answer a batch.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def loaded() -> Iterator[None]:
    """Everything is loaded: collections look at what is made from here on alone, until the block ends."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
