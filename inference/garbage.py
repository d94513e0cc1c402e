"""Python's garbage collector, kept away from what a program has loaded.

A full collection looks at every object while all threads wait: in a worker that has loaded its libraries 80 to 150 ms
each time, every few seconds under load.
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
