"""The API keeps what its OpenAPI document promises, whatever is asked: no 500, no undeclared answer, no wrong shape."""

from __future__ import annotations

import os
from typing import Any
from unittest import mock

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import positive_data_acceptance
from sqlalchemy import Engine

from monitor.api.app import create_app
from monitor.domain.access import Scope
from tests.support import seed, tokens

# More, by CONTRACT_EXAMPLES, where somebody looks harder.
EXAMPLES = int(os.environ.get("CONTRACT_EXAMPLES", "3"))
TOKEN = "a token with every scope"


def test_no_endpoint_breaks_its_contract(engine: Engine) -> None:
    access = tokens.of({"tester": (TOKEN, " ".join(Scope))}, open_reads=False)
    app = create_app(engine, model=seed.MODEL, clock=seed.FixedClock(), access=access, **seed.TIMING)
    schema = schemathesis.openapi.from_asgi("/v1/openapi.json", app)
    operations = [found.ok() for found in schema.get_all_operations() if isinstance(found, Ok)]
    assert len(operations) > 40
    broken: list[str] = []
    for operation in operations:
        try:
            _held(operation)
        except Exception as error:  # noqa: BLE001  # every endpoint is tried, and all that broke is told
            broken.append(f"{operation.method.upper()} {operation.path}: {error}")
    if broken:
        pytest.fail("\n\n".join(broken))


def _held(operation: Any) -> None:
    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        phases=(Phase.explicit, Phase.generate),
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy())
    def check(case: Any) -> None:
        # without a gateway requests and labels end at 502, which is what the document says of that
        excluded = [not_a_server_error] if case.path in ("/v1/predict", "/v1/labels") else []
        excluded.append(positive_data_acceptance)  # a document cannot say that a period ends after it starts
        case.call_and_validate(headers=tokens.bearer(TOKEN), excluded_checks=excluded)

    # its count of connections does not know the pools of urllib3-future, which grafana-client brings; here are none
    with mock.patch("schemathesis.transport.requests._count_opened_connections", return_value=0):
        check()
