"""The outbox against a real HTTP server that answers well, late, badly or not at all."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import insert

from migrations.schema.monitoring import alerts, notifications
from monitor.channels.base import Delivery
from monitor.channels.webhook import WebhookChannel, signature
from monitor.tasks.notify import Notify, RetryPolicy
from monitor.telemetry import Metrics
from tests.support.http_stub import BUSY, LOST, SLOW, Stub, answering
from tests.support.monitored import Inbox, Stage

SECRET = b"0123456789abcdef"
RETRY = RetryPolicy(first=timedelta(seconds=2), longest=timedelta(seconds=8), give_up=timedelta(hours=24))


def queue(stage: Stage, *rows: tuple[str, str, str]) -> int:
    """An alert with outbox rows (event, receiver, status); its id."""
    now = stage.clock.now()
    with stage.engine.begin() as connection:
        alert_id: int = connection.execute(
            insert(alerts)
            .values(
                fingerprint="f" * 64,
                alertname="PairingDrift",
                severity="ticket",
                modality="fused",
                state="resolved",
                pending_since=now,
                last_window_end=now,
                labels={"model": "fusion", "modality": "fused"},
                annotations={},
            )
            .returning(alerts.c.alert_id)
        ).scalar_one()
        for event, receiver, status in rows:
            payload = {
                "alertname": "PairingDrift",
                "severity": "ticket",
                "state": event,
                "modality": "fused",
                "fingerprint": "f" * 64,
                "summary": "…",
                "runbook": "…",
            }
            connection.execute(
                insert(notifications).values(
                    alert_id=alert_id,
                    event=event,
                    receiver=receiver,
                    status=status,
                    payload=payload,
                    next_attempt_at=now,
                    created_at=now,
                )
            )
    return alert_id


@contextmanager
def sender(stage: Stage, stub: Stub, inbox: Inbox) -> Iterator[Notify]:
    channel = WebhookChannel(stub.url, SECRET, 0.3, stage.clock)
    yield Notify(stage.engine, {"hook": channel, "log": inbox}, RETRY, Metrics(), stage.clock)
    channel.close()


def statuses(stage: Stage) -> list[tuple[str, str, str, int]]:
    return [(row.event, row.receiver, row.status, row.attempts) for row in stage.notifications()]


def test_a_message_is_signed_and_says_everything(stage: Stage) -> None:
    alert_id = queue(stage, ("firing", "hook", "due"))
    with answering(204) as stub, sender(stage, stub, Inbox()) as notify:
        notify.run()
        notify.run()
    [(headers, body)] = stub.requests
    stamp, key = headers["X-Fusionwatch-Timestamp"], headers["Idempotency-Key"]
    assert headers["X-Fusionwatch-Signature"] == signature(SECRET, stamp, key, body)
    assert int(headers["X-Fusionwatch-Timestamp"]) == int(stage.clock.now().timestamp())
    assert key == f"{'f' * 64}-firing-{alert_id}"
    assert json.loads(body)["alertname"] == "PairingDrift"
    assert statuses(stage) == [("firing", "hook", "sent", 1)]


@pytest.mark.parametrize(("trouble", "wait"), [(500, 2), (503, 2), (401, 2), (BUSY, 7), (SLOW, 2), (LOST, 2)])
def test_trouble_is_tried_again_later_with_the_same_key_and_holds_nobody_else(
    stage: Stage, trouble: int, wait: int
) -> None:
    queue(stage, ("firing", "hook", "due"), ("firing", "log", "due"))
    inbox = Inbox()
    with answering(trouble, 200) as stub, sender(stage, stub, inbox) as notify:
        notify.run()
        assert len(inbox.messages) == 1
        assert statuses(stage)[0] == ("firing", "hook", "due", 1)
        notify.run()
        assert len(stub.requests) == 1, "the next try waits for its time"
        stage.clock.advance(wait - 1)
        notify.run()
        assert len(stub.requests) == 1, "nor does it come early"
        stage.clock.advance(1)
        notify.run()
    assert statuses(stage)[0] == ("firing", "hook", "sent", 2)
    assert len({headers["Idempotency-Key"] for headers, _ in stub.requests}) == 1


def test_a_refusal_is_final_and_recorded_and_its_resolve_is_not_told(stage: Stage) -> None:
    queue(stage, ("firing", "hook", "due"), ("resolved", "hook", "due"))
    with answering(400) as stub, sender(stage, stub, Inbox()) as notify:
        notify.run()
        stage.clock.advance(3600)
        notify.run()
    assert len(stub.requests) == 1
    assert statuses(stage) == [("firing", "hook", "failed", 1), ("resolved", "hook", "suppressed", 0)]
    assert [row.reason for row in stage.notifications()] == ["refused: answered 400", "firing_not_told"]


def test_a_resolve_waits_for_its_firing_message(stage: Stage) -> None:
    queue(stage, ("firing", "hook", "due"), ("resolved", "hook", "due"))
    with answering(500, 200) as stub, sender(stage, stub, Inbox()) as notify:
        notify.run()
        assert len(stub.requests) == 1
        stage.clock.advance(2)
        notify.run()
    assert [json.loads(body)["state"] for _, body in stub.requests] == ["firing", "firing", "resolved"]


def test_tries_move_apart_up_to_a_cap_and_end_after_a_day(stage: Stage) -> None:
    queue(stage, ("firing", "hook", "due"))
    with answering(500) as stub, sender(stage, stub, Inbox()) as notify:
        waits = []
        for _ in range(5):
            notify.run()
            wait = (stage.notifications()[0].next_attempt_at - stage.clock.now()).total_seconds()
            waits.append(wait)
            stage.clock.advance(wait)
        assert waits == [2, 4, 8, 8, 8]
        stage.clock.advance(24 * 3600)
        notify.run()
        notify.run()
    assert len(stub.requests) == 6
    assert stage.notifications()[0].status == "failed"
    assert stage.notifications()[0].reason == "gave up: answered 500"


def test_a_server_that_is_not_there_is_tried_again(stage: Stage) -> None:
    queue(stage, ("firing", "hook", "due"))
    with answering(200) as stub:
        pass
    with sender(stage, stub, Inbox()) as notify:
        notify.run()
    assert statuses(stage) == [("firing", "hook", "due", 1)]
    assert stage.notifications()[0].reason == "due: connection: ConnectError"


def test_a_receiver_that_is_no_longer_configured_is_recorded(stage: Stage) -> None:
    queue(stage, ("firing", "gone", "due"))
    Notify(stage.engine, {}, RETRY, Metrics(), stage.clock).run()
    assert statuses(stage) == [("firing", "gone", "failed", 1)]


def test_two_senders_at_once_send_each_message_once(stage: Stage) -> None:
    """The second looks while the first is in the middle of sending."""
    queue(stage, ("firing", "log", "due"))
    outer, inner = Inbox(), Inbox()
    second = Notify(stage.engine, {"log": inner}, RETRY, Metrics(), stage.clock)

    class Meanwhile(Inbox):
        def send(self, message: Mapping[str, Any], dedup_key: str) -> Delivery:
            second.run()
            return outer.send(message, dedup_key)

    Notify(stage.engine, {"log": Meanwhile()}, RETRY, Metrics(), stage.clock).run()
    second.run()
    assert (len(outer.messages), len(inner.messages)) == (1, 0)
    assert statuses(stage) == [("firing", "log", "sent", 1)]


def test_a_channel_that_raises_is_tried_again(stage: Stage) -> None:
    queue(stage, ("firing", "log", "due"))

    class Broken(Inbox):
        def send(self, message: Mapping[str, Any], dedup_key: str) -> Delivery:
            raise RuntimeError(f"bug with {len(message)} keys and {dedup_key}")

    Notify(stage.engine, {"log": Broken()}, RETRY, Metrics(), stage.clock).run()
    assert statuses(stage) == [("firing", "log", "due", 1)]
