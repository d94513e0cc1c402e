"""The API's lists on a real database: whole, in order, narrowed as asked."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine

from migrations.schema.monitoring import alerts, findings
from migrations.schema.prediction_log import dead_letters
from tests.integration.api.served import get, parsed, raw


@pytest.mark.parametrize(
    ("path", "key", "limit", "total"),
    [
        ("findings", "finding_id", 200, 119 * (9 + 2)),
        ("alerts", "alert_id", 2, 5),
        ("jobs", "job_id", 2, 3),
        ("baselines", "baseline_id", 1, 2),
    ],
)
def test_pages_follow_on_without_gap_or_overlap(
    client: TestClient, path: str, key: str, limit: int, total: int
) -> None:
    seen: list[int] = []
    cursor = None
    while True:
        page = get(client, f"/v1/{path}?limit={limit}" + (f"&cursor={cursor}" if cursor else ""))
        seen += [item[key] for item in page["items"]]
        if (cursor := page["next_cursor"]) is None:
            break
    assert seen == sorted(set(seen), reverse=True)
    assert len(seen) == total


def test_findings_are_narrowed_and_one_is_shown_whole(client: TestClient, engine: Engine) -> None:
    page = get(client, "/v1/findings?detector=embedding_mmd&modality=image&verdict=drift&limit=200")
    expected = [
        row.finding_id
        for row in raw(engine, findings)
        if (row.detector, row.modality, row.verdict) == ("embedding_mmd", "image", "drift")
    ]
    assert sorted(item["finding_id"] for item in page["items"]) == expected
    assert get(client, f"/v1/findings/{expected[0]}")["details"] == {}


@pytest.mark.parametrize(("state", "names"), [("open", 4), ("firing", 3), ("resolved", 1), ("any", 5)])
def test_alerts_by_state(client: TestClient, engine: Engine, state: str, names: int) -> None:
    assert len(get(client, f"/v1/alerts?state={state}")["items"]) == names
    assert len(raw(engine, alerts)) == 5


def test_dead_letters_by_reason(client: TestClient, engine: Engine) -> None:
    shown = get(client, "/v1/dead-letters?minutes=60")
    expected = Counter(row.error_code for row in raw(engine, dead_letters))
    assert [(each["error_code"], each["count"]) for each in shown["reasons"]] == expected.most_common()
    assert shown["total"] == expected.total()
    assert get(client, "/v1/dead-letters?minutes=1")["total"] == 0


def test_windows_are_the_findings_by_start_and_end(client: TestClient, engine: Engine) -> None:
    expected: dict[tuple[Any, Any], Counter[str]] = {}
    for row in raw(engine, findings):
        expected.setdefault((row.window_start, row.window_end), Counter())[row.verdict] += 1
    seen: list[tuple[Any, Any]] = []
    cursor = ""
    while True:
        page = get(client, f"/v1/windows?limit=50{cursor}")
        for each in page["items"]:
            window = parsed(each["window_start"]), parsed(each["window_end"])
            assert each["verdicts"] == expected[window]
            assert len(each["drifts"]) == expected[window]["drift"]
            seen.append(window)
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert seen == sorted(expected, reverse=True)


def test_a_job_is_shown_by_its_number(client: TestClient) -> None:
    (newest, *_) = get(client, "/v1/jobs")["items"]
    assert get(client, f"/v1/jobs/{newest['job_id']}") == newest
    assert newest["progress"]["step"] == 260
    assert client.get("/v1/jobs/99").status_code == 404
