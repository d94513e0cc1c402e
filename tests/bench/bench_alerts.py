"""Quiet days through the whole monitor: how many alerts people hear of when nothing is wrong, and what they cost.

Summaries of an in-control stream (500 requests an hour; one in 300 without text, one in 50 slow, one in 20 in
disagreement) are written to a real PostgreSQL, and the monitor judges them at its default settings: windows of an hour
ended every five minutes, fixed thresholds, the sequential monitor from its seventh day on, objectives, and the pipeline
to the person. Slots are of five minutes and objectives are judged as often, which changes no count. Nobody labels:
what labels say is not judged. The promise is that of the sequential monitor, at most 1 false page and 4 false tickets
in 30 days, over everything that is heard.

`BENCH_DAYS` (30) and `BENCH_SEED` (0) say how long and which draws; a day takes about a minute of one core.
The second part is one evaluation of 10,000 findings of which none, one in a hundred or all are the second breach.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import chi2
from sqlalchemy import Connection, Engine, insert

from demo import servers
from migrations.connect import connect
from migrations.schema.summaries import summaries
from migrations.schema.totals import LATENCY_EDGES_MS, histogram
from monitor import wiring
from monitor.domain.finding import Finding, Verdict
from monitor.domain.signals import PAGE, TICKET
from monitor.domain.window import Window
from monitor.settings import MonitorSettings
from monitor.storage import findings
from monitor.tasks.alerting import Judged
from monitor.tasks.maintenance import Maintenance
from monitor.tasks.notify import Notify, RetryPolicy
from monitor.telemetry import Metrics
from tests.support.monitored import NORMAL, Inbox, Stage, StoryClock, parts
from tests.support.on_call import OnCall

DAYS = float(os.environ.get("BENCH_DAYS", "30"))
SEED = int(os.environ.get("BENCH_SEED", "0"))
PER_HOUR = 500
HOP = timedelta(minutes=5)
START = datetime(2026, 3, 1, tzinfo=UTC)
PROMISED = {PAGE: 1.0, TICKET: 4.0}
FINDINGS = 10_000
BREACHED = {"none breaches": 0.0, "one in a hundred breaches": 0.01, "all breach": 1.0}


def run() -> dict[str, Any]:
    """Both parts."""
    with tempfile.TemporaryDirectory(prefix="fusionwatch-") as folder, servers.postgres(Path(folder)) as server:
        urls = [server.create(name) for name in ("quiet", "many")]
        for url in urls:
            servers.migrate(url)
        quiet, many = (connect(url, application="bench") for url in urls)
        found = {
            "in_control": in_control(quiet, urls[0]),
            f"evaluation_of_{FINDINGS}_findings": evaluation(many),
        }
        for engine in (quiet, many):
            engine.dispose()
    return found


def in_control(engine: Engine, url: str) -> dict[str, Any]:
    """What a person hears in so many quiet days."""
    began = time.process_time()
    clock = StoryClock(START)
    stage, rng = Stage(engine, clock), np.random.default_rng(SEED)
    stage.register("v1")
    given = MonitorSettings.model_validate({"database_url": url, "slot_seconds": int(HOP.total_seconds())})
    metrics, inbox = Metrics(), Inbox()
    detect = wiring.detect(given, engine, metrics, clock)
    slos = wiring.slos(given, engine, metrics, clock)
    notify = Notify(engine, {"log": inbox}, RetryPolicy(), metrics, clock)
    maintenance = Maintenance(engine, metrics, clock)
    hops, of_a_day = round(DAYS * timedelta(days=1) / HOP), round(timedelta(days=1) / HOP)
    for number in range(hops):
        if number % of_a_day == 0:
            maintenance.run()
            line = f"day {1 + number // of_a_day} of {DAYS:g}: {len(inbox.messages)} messages so far"
            print(line, file=sys.stderr, flush=True)
        rows = int(rng.poisson(PER_HOUR * (HOP / timedelta(hours=1))))
        with engine.begin() as connection:
            write(connection, START + number * HOP, rows, rng, number * 10 * PER_HOUR)
        clock.at = START + (number + 1) * HOP + timedelta(seconds=given.grace_seconds)
        for task in (detect, slos, notify):
            task.run()
    told = [each for each in inbox.messages if each["state"] == "firing" and each["alertname"] != "AlertFlapping"]
    return {
        "days": DAYS,
        "seed": SEED,
        "windows_judged": hops,
        **{severity: heard([one for one in told if one["severity"] == severity], severity) for severity in PROMISED},
        "cpu_seconds_of_the_monitor": round(time.process_time() - began),
    }


def heard(messages: Sequence[Any], severity: str) -> dict[str, Any]:
    """Messages of one severity, in 30 days, with an exact 95% interval of a Poisson rate."""
    n, periods = len(messages), DAYS / 30
    low = float(chi2.ppf(0.025, 2 * n)) / 2 if n else 0.0
    high = float(chi2.ppf(0.975, 2 * n + 2)) / 2
    return {
        "heard": n,
        "in_30_days": round(n / periods, 2),
        "interval": [round(low / periods, 2), round(high / periods, 2)],
        "promised_at_most": PROMISED[severity],
        "by_alert": dict(Counter(f"{one['alertname']} {one['modality']}" for one in messages)),
    }


def write(connection: Connection, start: datetime, rows: int, rng: np.random.Generator, offset: int) -> None:
    """A slot of in-control traffic as a worker leaves it."""
    without, slow, disagreeing = (int(rng.binomial(rows, share)) for share in (1 / 300, 1 / 50, 1 / 20))
    totals = {
        "latency.fuse": histogram([80.0] * slow + [8.0] * (rows - slow), LATENCY_EDGES_MS),
        "latency.total": histogram([400.0] * slow + [90.0] * (rows - slow), LATENCY_EDGES_MS),
        "agreement": [disagreeing, rows - disagreeing],
    }
    for modality, (counts, bins) in parts(rows, rng, NORMAL).items():
        missing = {"present": rows - without, "missing": without}
        connection.execute(
            insert(summaries).values(
                slot_start=start,
                model_version="v1",
                modality=modality,
                topic="fusion.requests",
                partition=0,
                first_offset=offset,
                slot_seconds=int(HOP.total_seconds()),
                worker_id="w",
                encoder_fingerprint="e1",
                counts=missing if modality == "text" else {**counts, "rows": rows} if modality == "fused" else counts,
                bins=bins,
                totals=totals if modality == "fused" else {},
                updated_at=start + HOP,
            )
        )


def evaluation(engine: Engine) -> dict[str, Any]:
    """Seconds of the evaluation in which so many findings move their alerts, and how many of them that is."""
    found = {}
    for number, (name, share) in enumerate(BREACHED.items()):
        on_call = OnCall(Stage(engine, StoryClock(START + timedelta(days=number))))
        for window in range(2):
            end = on_call.clock.now() + window * HOP
            judged = many(end, share, number)
            with engine.begin() as connection:
                ids = findings.store(connection, "fusion", judged)
                work = [Judged(*each) for each in zip(ids, judged, strict=True)]
                wall, cpu = time.perf_counter(), time.process_time()
                written = on_call.alerting.apply(connection, work, end, end)
                wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        found[name] = {"seconds": round(wall, 3), "cpu_seconds": round(cpu, 3), "notifications": len(written)}
    return found


def many(end: datetime, share: float, number: int) -> list[Finding]:
    """Findings of as many modalities, the first of which breach."""
    return [
        Finding(
            detector="embedding_mmd",
            modality=f"m{number}-{place:05}",
            window=Window(end - timedelta(hours=1), end),
            verdict=Verdict.DRIFT if place < share * FINDINGS else Verdict.OK,
            value=0.2,
            p_value=0.001,
            effect=0.2,
            interval=(0.1, 0.3),
            threshold=0.1,
            n_reference=1600,
            n_current=PER_HOUR,
            baseline_id=None,
            model_version="v1",
            explanation="It moved: brightness fell by 1.9 standard deviations.",
        )
        for place in range(FINDINGS)
    ]
