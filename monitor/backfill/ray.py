"""Ray: a cluster at an address, or one that is started on this machine and ends with the run."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from typing import Any

from monitor.backfill.base import Engine, Size, Work
from monitor.errors import EngineError


def run(work: Work, shared: Any, parts: Sequence[Any], size: Size) -> Iterator[Any]:
    """See Run. A cluster must see the archive's folder under the same path, and have this program installed."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # read when it is imported; else it reports to its makers
    try:
        import ray
        from ray.exceptions import RayTaskError
    except ImportError as error:
        raise EngineError(f"the engine ray is not installed ({error}): install fusionwatch[ray]") from None
    where: dict[str, Any] = {"num_cpus": size.processes} if size.address is None else {"address": size.address}
    try:
        ray.init(**where, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, OSError) as error:
        raise EngineError(f"Ray cannot be reached at {size.address or 'this machine'}: {error}") from None
    try:
        common, task = ray.put(shared), ray.remote(work)
        for pending in [task.remote(common, part) for part in parts]:
            try:
                yield ray.get(pending)
            except RayTaskError as error:
                raise error.cause from None
    finally:
        ray.shutdown()


ENGINE = Engine("ray", run)
