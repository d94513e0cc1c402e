"""The model process fails, dies or hangs: every request is answered, or set aside if it is to blame."""

from __future__ import annotations

import signal
from pathlib import Path

import psutil
import pytest
from sqlalchemy import select

from migrations.schema.prediction_log import dead_letters
from tests.integration.faults.conftest import NewSubject
from tests.support import faulty_family
from tests.support.exactly_once import SECONDS, assert_exactly_once, metric, names, rows, send_all, wait_for_log
from tests.support.worker import in_process, read_all, request

# A process that must be started several times over, on a loaded machine.
PATIENCE = 4 * SECONDS
FAMILY = "tests.support.faulty_family"


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "faulty"
    faulty_family.save(folder)
    return folder


@pytest.mark.timeout(600)
def test_requests_that_the_model_cannot_run_are_set_aside_and_their_mates_answered(
    new_subject: NewSubject, faulty: Path
) -> None:
    """Out of memory leaves the process alive; the other kills it each time; the third keeps it silent."""
    settings = {"FAMILY_MODULES": FAMILY, "BATCH_SIZE": "2", "BATCH_WAIT_MS": "500", "MODEL_SECONDS": "4"}
    worker, engine = new_subject("culprits", CHECKPOINT=str(faulty), **settings)
    ids = names("mate", 15)
    culprits = [_saying(f"culprit-{word}", word) for word in ("oom", "die", "hang")]
    messages = [*ids[:2], culprits[0], *ids[2:7], culprits[1], *ids[7:12], culprits[2], *ids[12:]]
    with in_process(worker):
        send_all(worker, messages, partition=0)
        assert_exactly_once(engine, worker, ids, PATIENCE)
        letters = rows(engine, select(dead_letters.c.offset, dead_letters.c.error_code).order_by("offset"))
        assert [tuple(letter) for letter in letters] == [
            (messages.index(culprit), "model_failed") for culprit in culprits
        ]
        sent = read_all(worker.broker, worker.topics["dead_letters"], lambda found: len(found) >= 3, SECONDS)
        assert sorted(int(dict(each.headers)["origin-offset"]) for each in sent) == [offset for offset, _ in letters]
        assert metric(worker, 'fusion_retries_total{action="model batch"}') > 0
        assert metric(worker, 'fusion_retries_total{action="model process"}') > 1
        assert metric(worker, 'fusion_dlq_records_total{reason="model_failed"}') == len(culprits)


@pytest.mark.timeout(600)
def test_a_model_process_killed_in_mid_traffic_is_started_again_and_loses_no_request(
    new_subject: NewSubject, faulty: Path
) -> None:
    worker, engine = new_subject("orphaned", CHECKPOINT=str(faulty), FAMILY_MODULES=FAMILY, BATCH_SIZE="4")
    ids = names("survivor", 200)
    with in_process(worker) as program:
        send_all(worker, ids[:20])
        wait_for_log(engine, 20)
        send_all(worker, ids[20:])
        for child in psutil.Process().children():
            if "inference.model_child" in child.cmdline() and str(faulty) in child.cmdline():
                child.send_signal(signal.SIGKILL)
        assert_exactly_once(engine, worker, ids, PATIENCE)
        assert program.stop.requested is False


def _saying(request_id: str, word: str) -> dict[str, object]:
    message = request(request_id)
    message["modalities"]["text"] = {"data": f"a red {word}"}
    return message
