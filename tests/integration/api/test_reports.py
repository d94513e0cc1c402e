"""Reports by the API: listed, one of them, and its files as they are kept."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import Engine

from monitor.api.access import Access
from monitor.domain.cadence import Cadence, due
from monitor.storage import reports as storage
from tests.integration.api.served import client_of, get
from tests.support import seed

FILES = {"summary.html": "<p>“whole”</p>".encode(), "summary.md": b"# whole", "evidently.html": b"<script></script>"}


def keep(engine: Engine, cadence: Cadence, *, done: bool = True) -> list[int]:
    """A report of each of the newest periods."""
    ids = []
    for window in due(cadence, seed.NOW, timedelta(0)):
        with engine.begin() as connection:
            mine = storage.claim(connection, seed.MODEL, cadence, window, now=seed.NOW)
            assert mine is not None
            if done:
                storage.keep(connection, mine, FILES, headline="quiet", error=None, now=seed.NOW)
            else:
                storage.fail(connection, mine, error="MemoryError", now=seed.NOW)
            ids.append(mine.report_id)
    return ids


def test_reports_are_listed_newest_first_and_read_whole(empty: Engine) -> None:
    daily, (weekly,) = keep(empty, Cadence.DAILY), keep(empty, Cadence.WEEKLY, done=False)
    client = client_of(empty)
    first = get(client, "/v1/reports?limit=5")
    rest = get(client, f"/v1/reports?limit=5&cursor={first['next_cursor']}")
    assert [each["report_id"] for each in first["items"] + rest["items"]] == [weekly, *reversed(daily)]
    assert rest["next_cursor"] is None
    page = client.get("/reports", headers={"Accept": "text/html"}).text
    assert page.count("<tr>") == 1 + len(daily) + 1, "a head and a row for each"
    assert f'<a href="/reports/{daily[-1]}/summary.html">Sun 1 Mar 2026</a>' in page
    assert '<th scope="row">23 Feb – 1 Mar 2026</th>' in page, "without a summary there is nothing to open"
    assert "not made: MemoryError" in page
    failed = get(client, f"/v1/reports/{weekly}")
    assert (failed["state"], failed["error"], failed["files"]) == ("failed", "MemoryError", [])
    assert get(client, "/v1/reports?cadence=weekly")["items"] == [failed]
    (newest,) = get(client, "/v1/reports?cadence=daily&limit=1")["items"]
    assert {each["name"]: each["size"] for each in newest["files"]} == {name: len(FILES[name]) for name in FILES}
    for name, body in FILES.items():
        for encoding in ("gzip", "identity"):
            path = f"/reports/{newest['report_id']}/{name}"
            response = client.get(path, headers={"Accept-Encoding": encoding})
            assert response.content == body
            assert response.headers.get("content-encoding") == ("gzip" if encoding == "gzip" else None)
            policy = response.headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert ("sandbox" in policy) is ("script-src" in policy) is (name == "evidently.html")
            assert response.headers["x-content-type-options"] == "nosniff"


def test_reports_of_another_model_are_not_shown_and_reading_takes_the_scope(empty: Engine) -> None:
    (window,) = due(Cadence.WEEKLY, seed.NOW, timedelta(0))
    with empty.begin() as connection:
        other = storage.claim(connection, "another", Cadence.WEEKLY, window, now=seed.NOW)
        assert other is not None
        storage.keep(connection, other, FILES, headline="quiet", error=None, now=seed.NOW)
    client = client_of(empty)
    paths = (f"/v1/reports/{other.report_id}", f"/reports/{other.report_id}/summary.md")
    assert get(client, "/v1/reports")["items"] == []
    assert "No report yet." in client.get("/reports").text
    assert [client.get(path).status_code for path in paths] == [404, 404]
    closed = client_of(empty, Access(open_reads=False))
    assert {closed.get(path).status_code for path in ("/v1/reports", "/reports", *paths)} <= {401, 403}
