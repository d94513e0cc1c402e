"""A model in service, on a database and a clock of the story's own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from migrations.connect import connect
from tests.support.monitored import Stage, StoryClock


@pytest.fixture
def stage(database: str) -> Iterator[Stage]:
    engine = connect(database, application="test", pool_size=8)
    made = Stage(engine, StoryClock())
    made.register("v1")
    yield made
    engine.dispose()
