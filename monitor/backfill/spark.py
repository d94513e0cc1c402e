"""Spark, on Java 17 or later: a cluster whose master is at an address, or one here that ends with the run."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from monitor.backfill.base import Engine, Size, Work
from monitor.errors import EngineError

QUIET = {"spark.ui.enabled": "false", "spark.ui.showConsoleProgress": "false", "spark.log.level": "ERROR"}
HERE = {"spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1"}


def run(work: Work, shared: Any, parts: Sequence[Any], size: Size) -> Iterator[Any]:
    """See Run. A cluster must see the archive's folder under the same path, and have this program installed."""
    try:
        from py4j.protocol import Py4JError
        from pyspark import SparkConf, SparkContext
        from pyspark.errors import PySparkException
    except ImportError as error:
        raise EngineError(f"the engine spark is not installed ({error}): install fusionwatch[spark]") from None
    logging.getLogger("py4j").setLevel(logging.WARNING)  # else it tells of every connection that it closes
    where = size.address or f"local[{size.processes}]"
    if size.address is None:
        os.environ["PYSPARK_PYTHON"] = sys.executable  # by default whatever `python3` names
    options = QUIET | (HERE if size.address is None else {})
    conf = SparkConf().setMaster(where).setAppName("fusionwatch backfill").setAll(list(options.items()))
    try:
        context = SparkContext(conf=conf)
    except (PySparkException, Py4JError, OSError) as error:
        raise EngineError(f"Spark cannot be started at {where}: {_first(error)}") from None
    common = context.broadcast(shared)

    def one(part: Any) -> Any:
        """A job of one task: Spark gives back a job's results all together, and these are wanted as they come."""
        try:
            done, found = (
                context.parallelize([part], 1).map(lambda each: _attempt(work, common.value, each)).collect()[0]
            )
        except Py4JError as error:
            raise EngineError(f"Spark cannot run this at {where}: {_first(error)}") from None
        if not done:
            raise found
        return found

    try:
        with ThreadPoolExecutor(context.defaultParallelism) as jobs:  # as many as the cluster has cores
            yield from jobs.map(one, parts)
    finally:
        context.stop()


def _attempt(work: Work, shared: Any, part: Any) -> tuple[bool, Any]:
    """What the work gives, or what it raises: of an exception Spark itself tells the text alone."""
    try:
        return True, work(shared, part)
    except Exception as error:  # noqa: BLE001  # raised again where the result is read
        return False, error


def _first(error: Exception) -> str:
    """What went wrong without Java's stack."""
    return " ".join(line.strip() for line in str(error).splitlines()[:2])


ENGINE = Engine("spark", run)
