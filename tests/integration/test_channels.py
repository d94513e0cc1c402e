"""What every channel keeps to, against HTTP servers that answer well, late, badly or not at all."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from monitor.channels._http import LONGEST_WAIT, Poster
from monitor.channels.base import Channel, Delivery, Options, Outcome, attempt, kinds
from monitor.channels.webhook import signature
from tests.support.http_stub import BUSY, LOST, SLOW, Stub, answering
from tests.support.monitored import StoryClock

SECRET = "0123456789secret0123456789secret"
NOTHING = "http://127.0.0.1:9"  # the port `discard`, at which nothing listens here
# The options of each kind, given the address of its service.
SETUPS: dict[str, Callable[[str], dict[str, Any]]] = {
    "alertmanager": lambda url: {"url": url, "username": "ann", "password": SECRET},
    "apprise": lambda url: {"url": url.replace("http://", f"json://ann:{SECRET}@")},
    "log": lambda _: {},
    "opsgenie": lambda url: {"url": url, "api_key": SECRET},
    "pagerduty": lambda url: {"url": url, "routing_key": SECRET},
    "slack": lambda url: {"url": f"{url}/{SECRET}"},
    "webhook": lambda url: {"url": f"{url}?token={SECRET}", "secret": SECRET},
}
OVER_HTTP = sorted(set(SETUPS) - {"log", "apprise"})
LATER, FINAL = Outcome.RETRY, Outcome.REFUSE
# What services answer, and what that means to every one of them.
ANSWERS = {202: Outcome.SENT, 400: FINAL, 422: FINAL, 404: FINAL, 401: LATER, 403: LATER, BUSY: LATER, 500: LATER}
ANSWERS |= {503: LATER, LOST: LATER, SLOW: LATER, 301: FINAL, 200: Outcome.SENT}


def message(**changes: Any) -> dict[str, Any]:
    return {
        "schema_version": 1,
        "alert_id": 17,
        "fingerprint": "f" * 64,
        "alertname": "EmbeddingDrift",
        "severity": "ticket",
        "state": "firing",
        "model": "fusion",
        "modality": "image",
        "since": "2026-03-01T12:00:00+00:00",
        "resolved_at": None,
        "summary": "Image inputs have drifted: größer, 測試, 🚨 <b>&amp;</b> @channel",
        "value": 0.18654,
        "interval": [0.1785, 0.1945],
        "threshold": 0.06,
        "p_value": 0.001,
        "moved": [{"statistic": "mean_brightness", "effect": -1.9}, {"statistic": "noise", "effect": 1.4}],
        "model_version": "v7",
        "dashboard": "https://status.test/",
        "runbook": "https://status.test/runbooks/embedding-drift.md",
        "inhibited_by": None,
        "grouped": [],
        **changes,
    }


OVER = {"state": "resolved", "resolved_at": "2026-03-01T13:00:00+00:00", "summary": "resolved: Image inputs …"}


def options(name: str, address: str, **more: Any) -> Options:
    return kinds()[name].options.model_validate(SETUPS[name](address) | more)


def built(name: str, address: str, **more: Any) -> Channel:
    return kinds()[name].build(options(name, address, **more))


def sent(name: str, *told: dict[str, Any]) -> list[tuple[str, Any]]:
    """What the service got of these messages: path and JSON."""
    with answering(202) as stub:
        channel = built(name, stub.url)
        assert [channel.send(each, "key").outcome for each in told] == [Outcome.SENT] * len(told)
        channel.close()
    return list(zip(stub.paths, (json.loads(body) for _, body in stub.requests), strict=True))


def identity(name: str, stub: Stub, number: int) -> object:
    """What tells the service that two requests are of one message."""
    headers, body = stub.requests[number]
    given = json.loads(body)
    by_kind: dict[str, Callable[[], object]] = {
        "alertmanager": lambda: [given[0]["labels"], given[0]["startsAt"]],
        "opsgenie": lambda: given["alias"],
        "pagerduty": lambda: given["dedup_key"],
        "slack": lambda: given,  # Slack and most of what Apprise reaches know no key: the text is the same
        "apprise": lambda: given,
        "webhook": lambda: headers["Idempotency-Key"],
    }
    return by_kind[name]()


def test_every_channel_is_put_through_this() -> None:
    assert set(SETUPS) == set(kinds())


@pytest.mark.parametrize("name", OVER_HTTP)
def test_each_answer_means_sent_later_or_never(name: str) -> None:
    with answering(*ANSWERS) as stub:
        patient, hasty = built(name, stub.url, timeout_seconds=20), built(name, stub.url, timeout_seconds=0.2)
        found = {status: (hasty if status == SLOW else patient).send(message(), "key") for status in ANSWERS}
        patient.close()
        hasty.close()
    assert {status: each.outcome for status, each in found.items()} == ANSWERS
    assert found[BUSY].retry_after == timedelta(seconds=7)
    assert found[SLOW].reason == "timeout: ReadTimeout"
    assert found[LOST].reason == "connection: RemoteProtocolError"
    assert found[401].reason == "answered 401: the receiver refuses the credentials"
    assert found[400].reason == "answered 400"


def test_apprise_says_sent_or_later() -> None:
    for status, outcome in {200: Outcome.SENT, 400: LATER, 401: LATER, 503: LATER, LOST: LATER, SLOW: LATER}.items():
        with answering(status) as stub:
            channel = built("apprise", stub.url, timeout_seconds=0.2 if status == SLOW else 20)
            assert channel.send(message(), "key").outcome is outcome, status


@pytest.mark.parametrize("name", sorted(set(SETUPS) - {"log"}))
def test_a_service_that_is_not_there_is_tried_later(name: str) -> None:
    channel = built(name, NOTHING)
    delivery = channel.send(message(), "key")
    channel.close()
    assert delivery.outcome is LATER
    assert delivery.reason in ("connection: ConnectError", "not sent")


@pytest.mark.parametrize("name", sorted(set(SETUPS) - {"log"}))
def test_what_was_accepted_and_not_answered_is_sent_again_as_the_same(name: str) -> None:
    with answering(LOST, 202) as stub:
        channel = built(name, stub.url)
        assert channel.send(message(), "key").outcome is LATER
        assert channel.send(message(), "key").outcome is Outcome.SENT
        channel.close()
    assert identity(name, stub, 0) == identity(name, stub, 1)


@pytest.mark.parametrize("name", sorted(SETUPS))
def test_no_secret_is_in_logs_errors_or_representations(name: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with answering(202, 400, 401, 503, LOST) as stub:
        chosen = options(name, stub.url)
        channel = kinds()[name].build(chosen)
        said = [attempt(channel, "ops", message(), "key") for _ in range(5)]
        channel.close()
    broken = built(name, NOTHING)
    said.append(attempt(broken, "ops", {"summary": SECRET, "at": object()}, "key"))  # a bug of ours
    shown = [caplog.text, repr(chosen), str(chosen.model_dump()), chosen.model_dump_json(), repr(channel), str(said)]
    assert [SECRET in text for text in shown] == [False] * len(shown)
    error = "TypeError" if name == "webhook" else "KeyError"
    assert said[-1] == Delivery(LATER, f"channel error: {error}")
    assert f"channel of receiver ops failed: {error} in" in caplog.text


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("webhook", {"url": f"ftp://{SECRET}"}, "begins with http:// or https://"),
        ("slack", {"url": SECRET}, "begins with http:// or https://"),
        ("opsgenie", {"api_key": f"{SECRET}\n"}, "printable ASCII characters without spaces"),
        ("opsgenie", {"api_key": ""}, "printable ASCII characters without spaces"),
        ("pagerduty", {"routing_key": f"{SECRET}0"}, "at most 32 items"),
        ("apprise", {"url": f"nothing://{SECRET}"}, "no address that Apprise knows"),
        ("alertmanager", {"password": None}, "username and password go together"),
        ("alertmanager", {"token": SECRET}, "either username and password or token"),
        ("alertmanager", {"resolve_seconds": 60}, "greater than or equal to 240"),
        ("webhook", {"timeout_seconds": 31}, "less than or equal to 30"),
    ],
)
def test_wrong_options_are_refused_with_what_is_allowed(name: str, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        options(name, NOTHING, **changes)
    words = "; ".join(each["msg"] for each in caught.value.errors())  # what settings show of it
    assert said in words
    assert SECRET not in words


def test_how_long_a_service_wants_to_be_left_alone_is_bounded() -> None:
    clock = StoryClock(datetime(2026, 3, 1, 12, tzinfo=UTC))
    poster = Poster(1, clock)
    waits = {
        "7": timedelta(seconds=7),
        "9" * 30: LONGEST_WAIT,
        "Sun, 01 Mar 2026 12:00:30 GMT": timedelta(seconds=30),
        "Sun, 01 Mar 2026 11:00:00 GMT": timedelta(0),
        "Fri, 31 Dec 2049 11:00:00 GMT": LONGEST_WAIT,
        "soon": None,
        "-3": None,
    }
    assert {given: poster._retry_after(given) for given in waits} == waits
    poster.close()


def test_alertmanager_gets_labels_that_stay_and_times_that_say_whether_it_is_over() -> None:
    (path, [fires]), (_, [over]) = sent("alertmanager", message(), message(**OVER))
    assert path == "/hook/api/v2/alerts"
    assert fires["labels"] == over["labels"]
    assert fires["labels"] == {
        "service": "fusionwatch",
        "alertname": "EmbeddingDrift",
        "severity": "ticket",
        "model": "fusion",
        "modality": "image",
    }
    assert fires["startsAt"] == "2026-03-01T12:00:00+00:00"
    ahead = datetime.fromisoformat(fires["endsAt"]) - datetime.now(UTC)
    assert timedelta(minutes=10) < ahead <= timedelta(minutes=15)
    assert over["endsAt"] == "2026-03-01T13:00:00+00:00"
    assert fires["annotations"]["value"] == "0.1865 (0.1785 to 0.1945)"
    assert fires["annotations"]["moved_most"] == "mean brightness, noise"
    assert fires["annotations"]["summary"] == message()["summary"]


def test_pagerduty_resolves_the_incident_that_it_triggered() -> None:
    (_, fires), (_, over), (_, later) = sent("pagerduty", message(), message(**OVER), message(alert_id=18))
    assert (fires["event_action"], over["event_action"]) == ("trigger", "resolve")
    assert fires["dedup_key"] == over["dedup_key"] != later["dedup_key"]
    assert fires["routing_key"] == SECRET
    assert fires["payload"]["severity"] == "warning"
    assert fires["payload"]["summary"] == message()["summary"]
    assert {each["text"] for each in fires["links"]} == {"status page", "runbook"}


def test_opsgenie_closes_the_alert_that_it_created() -> None:
    (created, fires), (closed, over) = sent("opsgenie", message(severity="page"), message(**OVER))
    assert created == "/hook/v2/alerts"
    assert closed == f"/hook/v2/alerts/{fires['alias']}/close?identifierType=alias"
    assert fires["priority"] == "P1"
    assert over["note"] == OVER["summary"]


def test_slack_mentions_nobody_and_links_to_the_runbook() -> None:
    [(_, told)] = sent("slack", message(runbook="dashboards/runbooks/embedding-drift.md"))
    header, summary, fields, context = told["blocks"]
    assert header["text"]["text"] == ":warning: [ticket] EmbeddingDrift(image) of fusion"
    assert summary["text"]["text"].endswith("&lt;b&gt;&amp;amp;&lt;/b&gt; @channel")
    assert "*threshold*\n0.06" in [each["text"] for each in fields["fields"]]
    assert [each["text"] for each in context["elements"]] == [
        "<https://status.test/|status page>",
        "runbook dashboards/runbooks/embedding-drift.md",
    ]


def test_a_message_of_a_group_names_every_alert_where_it_is_read_by_people() -> None:
    grouped = [{"modality": "text", "summary": "Text inputs have drifted"}]
    for name in ("slack", "apprise"):
        [(_, told)] = sent(name, message(grouped=grouped))
        assert "text: Text inputs have drifted" in json.dumps(told)


HUGE = message(
    alertname="A" * 600,
    modality="🚨" * 400,
    fingerprint="f" * 600,
    summary="<&🚨>" * 20_000,
    model_version="v" * 30_000,
    inhibited_by="x" * 30_000,
    moved=[{"statistic": "s" * 30_000}],
    grouped=[{"modality": "🚨", "summary": "🚨<&" * 200} for _ in range(500)],
)


def test_nothing_is_longer_than_its_service_takes() -> None:
    """Limits as the services' documents give them, counted in UTF-16 code units, the largest count in use."""

    def units(text: str) -> int:
        return len(text.encode("utf-16-le")) // 2

    [(_, event)] = sent("pagerduty", HUGE)
    assert len(event["dedup_key"]) <= 255
    assert 1000 < units(event["payload"]["summary"]) <= 1024
    assert len(json.dumps(event)) <= 512_000
    [(_, alert)] = sent("opsgenie", HUGE)
    limits = {"message": 130, "alias": 512, "description": 15_000, "entity": 512, "source": 100}
    assert {name: units(alert[name]) <= limit for name, limit in limits.items()} == dict.fromkeys(limits, True)
    assert max(map(units, alert["tags"])) <= 50
    assert sum(units(name) + units(value) for name, value in alert["details"].items()) <= 8000
    [(_, told)] = sent("slack", HUGE)
    header, summary, fields, also, _ = told["blocks"]
    assert units(header["text"]["text"]) <= 150
    assert max(units(summary["text"]["text"]), units(also["text"]["text"])) <= 3000
    assert max(units(each["text"]) for each in fields["fields"]) <= 2000
    assert len(fields["fields"]) <= 10
    assert units(told["text"]) <= 4000


def test_what_is_no_number_in_json_is_sent_as_none() -> None:
    [(_, got)] = sent("webhook", message(value=float("nan"), interval=[float("-inf"), 1.5]))
    assert (got["value"], got["interval"]) == (None, [None, 1.5])


def test_the_webhook_signs_the_time_of_each_try() -> None:
    with answering(202) as stub:
        channel = built("webhook", stub.url)
        channel.send(message(), "key")
        channel.close()
    [(headers, body)] = stub.requests
    stamp = headers["X-Fusionwatch-Timestamp"]
    assert abs(int(stamp) - datetime.now(UTC).timestamp()) < 60
    assert headers["X-Fusionwatch-Signature"] == signature(SECRET.encode(), stamp, "key", body)
