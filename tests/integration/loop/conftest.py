"""A monitored model on the test's own database."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from migrations.connect import connect
from tests.support.monitored import Stage, StoryClock


@pytest.fixture
def stage(database: str) -> Iterator[Stage]:
    engine = connect(database, application="test", pool_size=8)
    yield Stage(engine, StoryClock())
    engine.dispose()
