"""The API on an engine, and what its answers are compared with."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from fastapi.testclient import TestClient
from sqlalchemy import Engine, select

from monitor.api.access import Access
from monitor.api.app import create_app
from tests.support import seed


def client_of(engine: Engine, access: Access | None = None) -> TestClient:
    app = create_app(engine, model=seed.MODEL, clock=seed.FixedClock(), access=access, **seed.TIMING)
    return TestClient(app, raise_server_exceptions=False)


def get(client: TestClient, path: str) -> Any:
    response = client.get(path)
    assert response.status_code == 200, response.text
    return response.json()


def raw(engine: Engine, table: Any) -> list[Any]:
    with engine.connect() as connection:
        return list(connection.execute(select(table)))


def parsed(at: str) -> datetime:
    return datetime.fromisoformat(at)
