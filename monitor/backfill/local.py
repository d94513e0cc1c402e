"""The processes of this machine."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any

from monitor.backfill.base import Engine, Size, Work
from monitor.errors import EngineError


def run(work: Work, shared: Any, parts: Sequence[Any], size: Size) -> Iterator[Any]:
    """See Run. One process is this one."""
    if size.address is not None:
        raise EngineError("the engine local is this machine: it takes no address")
    if size.processes == 1:
        for part in parts:
            yield work(shared, part)
        return
    # spawned: a fork would copy the database's connections and its threads' locks
    with ProcessPoolExecutor(size.processes, multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(partial(work, shared), parts)


ENGINE = Engine("local", run)
