"""Promises, objectives and the page that shows them, on a real database."""

from __future__ import annotations

from collections import Counter

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, select

from migrations.schema.monitoring import alerts
from migrations.schema.summaries import summaries
from monitor import wiring
from monitor.settings import MonitorSettings
from monitor.telemetry import Metrics
from tests.integration.api.served import get, raw
from tests.support import seed


def test_the_promise_stands_beside_what_fired(client: TestClient, engine: Engine) -> None:
    page, ticket = get(client, "/v1/promises")
    fired = [row.severity for row in raw(engine, alerts) if row.firing_since is not None]
    assert (page["severity"], page["allowed"], page["fired"]) == ("page", 1.0, fired.count("page"))
    assert (page["calibrated"], page["taken"], page["needed"]) == (0, 41, 168)
    assert (ticket["severity"], ticket["allowed"], ticket["fired"]) == ("ticket", 4.0, fired.count("ticket"))
    assert (ticket["calibrated"], ticket["series"], ticket["evidence"]) == (9, 9, 31.7)
    shown = " ".join(client.get("/alerts").text.split())
    assert "Calibrating: 41 of 168 windows; fixed thresholds serve meanwhile." in shown
    assert "Promised of gradual change: at most 4 false in 30 days." in shown


def test_the_pages_show_the_seed_and_load_nothing_from_elsewhere(client: TestClient) -> None:
    first, retraining = client.get("/"), client.get("/retraining")
    assert "Image inputs have drifted away from the baseline since 12:13." in first.text
    assert "Gate: ECE 0.110 against 0.094, limit 0.050" in retraining.text
    assert "trained on 960 labelled and 411 original rows; 4 left out; data 5d1f2d0c6c1f" in retraining.text
    assert "Training, step 260 of 400, loss 0.214, about 3 min left" in retraining.text
    for page in (first, retraining):
        assert "http://" not in page.text.replace("http://www.w3.org/", "")
        assert "https://" not in page.text
        assert "script-src 'self'" in page.headers["content-security-policy"]
        assert page.headers["cache-control"] == "no-store"


def test_objectives_are_shown_as_they_were_judged(client: TestClient, engine: Engine) -> None:
    judged_by_the_monitor(engine)
    found = get(client, "/v1/slos")
    by_name = {each["slo"]: each for each in found["objectives"]}
    image = by_name["image_availability"]
    assert (image["firing"], image["verdict"]) == ("page", "drift"), "image was away for five minutes of the hour"
    assert found["objectives"][0]["firing"] == "page", "what pages comes first"
    with engine.connect() as connection:
        statuses = Counter[str]()
        lately = (summaries.c.modality == "image") & (summaries.c.slot_start >= seed.at("11:30:10"))
        for counts in connection.scalars(select(summaries.c.counts).where(lately)):
            statuses.update(counts)
    (hour,) = (each for each in image["windows"] if each["window"] == "1h")
    assert (hour["good"], hour["valid"]) == (statuses["present"], statuses.total())
    assert hour["burn_rate"] == pytest.approx((1 - hour["good"] / hour["valid"]) / 0.01)
    assert image["budget_left"] < -7, "eight times what thirty days allow is gone"
    assert by_name["fusion_latency"]["verdict"] == "no_data", "no totals, no verdict"
    (trend,) = found["trends"]
    assert (trend["name"], trend["target"], trend["verdict"]) == ("calibration", 0.05, "drift")
    page = client.get("/").text
    assert "Image availability burns its 30-day budget" in page
    assert "overdrawn by" in page


def judged_by_the_monitor(engine: Engine) -> None:
    """One run of the monitor's own task, at the time that the seeded hour ends."""
    url = engine.url.render_as_string(hide_password=False)
    settings = MonitorSettings.model_validate({"database_url": url, "model": seed.MODEL, **seed.TIMING})
    wiring.slos(settings, engine, Metrics(), seed.FixedClock()).run()
