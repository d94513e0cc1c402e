"""The API's figures on a real database equal those computed here from the raw rows."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, select, text

from migrations.schema.monitoring import findings
from migrations.schema.prediction_log import labels, prediction_log
from migrations.schema.summaries import summaries
from tests.integration.api.served import client_of, get, parsed, raw
from tests.support import seed


def test_overview_counts_the_newest_window(client: TestClient, engine: Engine) -> None:
    shown = get(client, "/v1/overview")
    start, end = seed.at("12:29:30"), seed.at("12:30")
    assert (parsed(shown["window"]["start"]), parsed(shown["window"]["end"])) == (start, end)
    counted: dict[str, Counter[str]] = {"image": Counter(), "text": Counter(), "fused": Counter()}
    for row in raw(engine, summaries):
        if start <= row.slot_start < end:
            counted[row.modality].update(row.counts)
    rows = counted["fused"].pop("rows")
    assert shown["traffic"]["routes"] == dict(counted["fused"])
    assert shown["traffic"]["requests"] == 120 == rows == counted["fused"].total()
    assert shown["traffic"]["degraded"] == 120 - counted["fused"]["fused"]
    for each in shown["modalities"]:
        by = counted[each["modality"]]
        assert each["counts"] == dict(by)
        assert each["share"] == pytest.approx(by["present"] / by.total())
        assert each["low"] < each["share"] <= each["high"]
    log = [row.total_ms for row in raw(engine, prediction_log) if start <= row.logged_at < end]
    assert shown["latency"]["sample"] == len(log) == 120
    assert shown["latency"]["p95_ms"] == pytest.approx(np.percentile(log, 95))


def test_overview_tells_champion_alerts_and_job(client: TestClient) -> None:
    shown = get(client, "/v1/overview")
    assert shown["champion"]["version"] == seed.VERSION
    assert shown["champion"]["baseline_facts"]["accuracy"] == 0.972
    order = [(each["state"], each["alertname"]) for each in shown["alerts"]]
    assert order == [("firing", "EmbeddingDrift")] * 2 + [
        ("firing", "CalibrationDrift"),
        ("pending", "PredictionDrift"),
    ]
    assert shown["alerts"][0]["detector"] == "embedding_mmd"
    assert shown["active_job"]["progress"]["step"] == 260
    assert shown["sentence"]["text"].startswith("Image inputs have drifted away from the baseline since 12:13.")
    assert len(shown["checks"]) == 9 + 2


def test_an_outage_is_the_first_thing_said(empty: Engine) -> None:
    seed.seed(empty, outage=True)
    shown = get(client_of(empty), "/v1/overview")
    assert shown["sentence"]["text"].startswith("Image feed is down since 12:27; answers go on from text.")
    image = shown["modalities"][0]
    assert (image["share"], image["verdict"], parsed(image["last_seen"])) == (0, "drift", seed.at("12:27"))


@pytest.mark.parametrize("minutes", [5, 60])
def test_series_are_the_findings(client: TestClient, engine: Engine, minutes: int) -> None:
    since = seed.NOW - timedelta(minutes=minutes)
    expected: dict[tuple[str, str], list[Any]] = {}
    for row in sorted(raw(engine, findings), key=lambda each: each.window_end):
        if since < row.window_end <= seed.NOW:
            expected.setdefault((row.detector, row.modality), []).append(row)
    shown = get(client, f"/v1/series?minutes={minutes}")
    assert {(each["detector"], each["modality"]) for each in shown} == set(expected)
    for each in shown:
        rows = expected[each["detector"], each["modality"]]
        assert [(parsed(p["at"]), p["value"], p["verdict"], p["threshold"]) for p in each["points"]] == [
            (row.window_end, row.value, row.verdict, row.threshold) for row in rows
        ]


def test_thinned_series_keep_every_kind_of_drift(client: TestClient, engine: Engine) -> None:
    with engine.begin() as connection:  # 1,600 windows, one of them drifting
        connection.execute(
            text(
                "INSERT INTO findings (model, model_version, detector, modality, window_start, window_end,"
                " verdict, value, n_reference, n_current, explanation, details)"
                " SELECT 'fusion', 'v', 'quality', 'image', t - interval '60 s', t,"
                " CASE WHEN i = 777 THEN 'drift' ELSE 'ok' END, i, 1, 1, '', '{}'"
                " FROM (SELECT i, :end - i * interval '2 s' AS t FROM generate_series(0, 1599) AS i) AS each"
            ),
            {"end": seed.at("12:30")},
        )
    (shown,) = get(client, "/v1/series?minutes=60&detector=quality&modality=image")
    assert len(shown["points"]) <= 361
    assert [point["value"] for point in shown["points"] if point["verdict"] == "drift"] == [777]
    times = [point["at"] for point in shown["points"]]
    assert times == sorted(times)


def test_traffic_adds_up_to_the_summaries(client: TestClient, engine: Engine) -> None:
    shown = get(client, "/v1/traffic?minutes=60")
    start = parsed(shown["points"][0]["at"])
    assert len(shown["points"]) <= 240
    total = Counter[str]()
    for point in shown["points"]:
        total.update(point["routes"])
        assert (parsed(point["at"]) - start).total_seconds() % shown["bucket_seconds"] == 0
    expected = Counter[str]()
    for row in raw(engine, summaries):
        if row.modality == "fused" and row.slot_start >= seed.at("11:30:10"):
            expected.update(row.counts)
    assert expected.pop("quarantined") == 1
    assert expected.pop("rows") == total.total()
    assert total == expected


def test_calibration_is_that_of_the_labelled_rows(client: TestClient, engine: Engine) -> None:
    log = {row.request_id: row for row in raw(engine, prediction_log)}
    joined = [
        (log[row.request_id].confidence, log[row.request_id].prediction == row.label) for row in raw(engine, labels)
    ]
    joined.sort()
    shown = get(client, "/v1/calibration")
    assert shown["labelled"] == len(joined) > 1000
    assert shown["accuracy"] == pytest.approx(np.mean([right for _, right in joined]))
    assert shown["mean_confidence"] == pytest.approx(np.mean([confidence for confidence, _ in joined]))
    assert shown["verdict"] == "drift"
    parts = np.array_split(np.array(joined), 10)
    assert [each["count"] for each in shown["bins"]] == [len(part) for part in parts]
    for each, part in zip(shown["bins"], parts, strict=True):
        assert each["confidence"] == pytest.approx(part[:, 0].mean())
        assert each["accuracy"] == pytest.approx(part[:, 1].mean(), abs=1 / len(part))  # ties may change bins
        assert each["accuracy_low"] < each["accuracy"] < each["accuracy_high"] or each["accuracy"] == 1
    plain = sum(len(part) * abs(part[:, 1].mean() - part[:, 0].mean()) for part in parts) / len(joined)
    assert 0.5 * plain < shown["ece"] <= plain + 0.005


def test_few_labels_are_insufficient(client: TestClient, engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM labels WHERE request_id NOT LIKE 'r-0-44%'"))
    shown = get(client, "/v1/calibration")
    assert 0 < shown["labelled"] < 500
    assert shown["verdict"] == "insufficient"


def test_a_window_judged_again_shows_what_it_says_now(client: TestClient, engine: Engine) -> None:
    before = get(client, "/v1/overview")["last_evaluated"]
    wanted = "/v1/series?minutes=60&detector=embedding_mmd&modality=image"
    (series,) = get(client, wanted)
    point = next(each for each in series["points"] if each["verdict"] == "drift")
    with engine.begin() as connection:
        row = connection.execute(select(findings).where(findings.c.finding_id == point["finding_id"])).mappings().one()
        again = {name: value for name, value in row.items() if name != "finding_id"}
        connection.execute(findings.insert().values({**again, "revision": 1, "verdict": "ok", "value": 0.01}))
    (series,) = get(client, wanted)
    now = next(each for each in series["points"] if each["at"] == point["at"])
    assert (now["verdict"], now["value"]) == ("ok", 0.01)
    assert get(client, "/v1/overview")["last_evaluated"] == before
