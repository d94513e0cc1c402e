"""The worker's speed, each figure beside its ceiling measured in the same run: `make bench-worker`.

The broker is Apache Kafka, or with `FUSIONWATCH_BENCH_BROKER=embedded` that of the tests.
Parts (all by default): `pass_through`, `efficiency`, `contribution`, `latency`, `quiet`, `memory`;
`FUSIONWATCH_BENCH_PARTS` picks some, with commas. Figures are for this machine; client, broker and database share its
cores with the worker.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from demo.examples import example_stream
from inference.collate import collate
from inference.cores import available
from inference.models.card import load_card
from inference.models.checkpoint import load_checkpoint
from inference.predictor import Predictor
from inference.settings import WorkerSettings
from tests.bench import bare_loop, checkpoints, device_family, pacing
from tests.bench.rig import Rig, broker_kind, member, pictures, rig
from tests.bench.turns import Bare, Turns, in_turns
from tests.support.worker import WorkerProcess

ROUNDS = 3
TINY = Path("demo/checkpoint")
HALF = 0.5
SHARES = (0.1, 0.25, HALF, 0.75)
IN_TURNS = (WorkerProcess.module, bare_loop.__name__, bare_loop.__name__, WorkerProcess.module)
QUIET_SECONDS = 8.0
BATCH_WAIT_MS = WorkerSettings.model_fields["batch_wait_ms"].default


def run() -> dict[str, Any]:
    """Every part, in one rig."""
    wanted = os.environ.get("FUSIONWATCH_BENCH_PARTS", ",".join(PARTS)).split(",")
    if unknown := sorted(set(wanted) - PARTS.keys()):
        raise SystemExit(f"unknown parts {unknown}; there are {sorted(PARTS)}")
    results: dict[str, Any] = {"cores": len(os.sched_getaffinity(0))}
    results["broker"] = broker = broker_kind()
    with rig(broker) as servers:
        for name in wanted:
            _tell(f"measuring {name} ...")
            results[name] = PARTS[name](servers)
    _table(results)
    return results


def pass_through(servers: Rig) -> dict[str, Any]:
    """20 kB requests through everything but a model: digests, log rows, summaries, answers, offsets; decoding off."""
    folder = checkpoints.pass_through(servers.folder / "pass_through")
    images, count = pictures(32, 224), 40_000
    settings = {"BATCH_SIZE": "256", "WRITE_ROWS": "2000", "WRITE_INTERVAL_MS": "500", "DECODE_THREADS": "1"}
    found: dict[str, list[Any]] = {"poll": [], "one": [], "two": []}
    for number in range(ROUNDS):
        for processes, key in ((1, "one"), (2, "two")):
            worker = servers.prepare(f"pass_{key}_{number}", folder, **settings)
            servers.backlog(worker.topics["requests"], count, images)
            found["poll"].append(servers.poll_rate(worker.topics["requests"], count))
            found[key].append(servers.drain_rate(worker, count, processes))
            servers.forget(worker)
            _tell(f"round {number + 1}: poll loop {found['poll'][-1]:,.0f}/s, {key} {found[key][-1]}")
    return {
        "poll_loop_per_second": statistics.median(found["poll"]),
        "one_process": _medians([asdict(rate) for rate in found["one"]]),
        "two_processes": _medians([asdict(rate) for rate in found["two"]]),
        "message_bytes": statistics.mean(map(len, images)),
        "rounds": {"poll": found["poll"], **{key: [rate.per_second for rate in found[key]] for key in ("one", "two")}},
    }


def efficiency(servers: Rig) -> dict[str, Any]:
    """Worker requests/s over the requests/s of bare forward passes on inputs that are ready: same model and batch."""
    short, long = Turns(16, worker_seconds=2.0, bare_seconds=2.0), Turns(5, worker_seconds=20.0, bare_seconds=6.0)
    results = {"tiny": _efficiency(servers, "tiny", TINY, 64, 32, short)}
    if available() > 1:
        results["tiny_core_of_its_own"] = _efficiency(servers, "own", TINY, 64, 32, short, MODEL_CORES="1")
    large = checkpoints.vit_bert(servers.folder / "vit_bert")
    results["vit_b_16_bert_base"] = _efficiency(servers, "vit", large, 224, 8, long)
    return results


def _efficiency(
    servers: Rig, name: str, folder: Path, side: int, batch: int, turns: Turns, **settings: str
) -> dict[str, Any]:
    images = pictures(16, side)
    worker = servers.prepare(f"eff_{name}", folder, BATCH_SIZE=str(batch), TORCH_THREADS="1", **settings)
    found = in_turns(servers, worker, Bare(folder, images, batch), images, turns)
    servers.forget(worker)
    _tell(f"{name}: {found}")
    return found


def contribution(_rig: Rig) -> dict[str, Any]:
    """What measuring contributions adds to a pass of the demo's model: to one of the sample, and to all at 0.05."""
    torch.set_num_threads(1)
    card, cpu = load_card(TINY), torch.device("cpu")
    rows = [card.prepare({"image": each.image, "text": each.caption}) for each in islice(example_stream(1), 32)]
    ready = collate(rows, card.blanks)
    shares = (0.0, 0.05, 1.0)
    predictors = [Predictor(load_checkpoint(TINY, cpu, ()), cpu, contribution_share=share) for share in shares]
    taken: list[list[float]] = [[] for _ in shares]
    for _ in range(400):  # in turns: what else the machine does falls on all alike
        for predictor, spent in zip(predictors, taken, strict=True):
            began = time.perf_counter()
            predictor.run(ready)
            spent.append(1000 * (time.perf_counter() - began))
    never, sometimes, always = taken
    return {
        "batch": len(rows),
        "torch_threads": 1,
        "pass_ms": statistics.median(never),
        "added_to_a_sampled_pass": statistics.median(always) / statistics.median(never) - 1,
        "added_on_average_at_0.05": sum(sometimes) / sum(never) - 1,
    }


def latency(servers: Rig) -> dict[str, Any]:
    """What is added to the model's own time, and what a request costs, from idle to saturation.

    At half of saturation a bare loop around the same model takes turns with the worker.

    `device`: a model of 10 ms a batch that takes no CPU, as on hardware of its own. `tiny`: a model that computes on
    the very cores that sender, reader, broker and database use too.
    """
    device = device_family.save(servers.folder / "device", milliseconds=10.0)
    return {
        "batch_wait_ms": BATCH_WAIT_MS,
        "device": _latency(servers, "device", device, 12_000, FAMILY_MODULES=device_family.__name__),
        "tiny": _latency(servers, "tiny", TINY, 12_000),
    }


def _latency(servers: Rig, name: str, folder: Path, count: int, **settings: str) -> dict[str, Any]:
    images = pictures(16, 64)
    probe = servers.prepare(f"latency_{name}_probe", folder, TORCH_THREADS="1", **settings)
    servers.backlog(probe.topics["requests"], count, images)
    full = servers.drain_rate(probe, count)
    servers.forget(probe)

    def paced(part: str, rate: float, module: str = WorkerProcess.module) -> dict[str, Any]:
        worker = servers.prepare(f"latency_{name}_{part}", folder, TORCH_THREADS="1", **settings)
        found = pacing.paced(servers, replace(worker, module=module), images, rate, seconds=14)
        servers.forget(worker)
        _tell(f"{name} {part}: {found}")
        return found

    rounds, bare, over = [], [], []
    for number in range(ROUNDS):  # a machine's own speed changes within minutes: shares are of what it does now
        # sender and reader need these cores too: what is saturated is all of them together
        sustained = paced(f"{number}_all", full.per_second)["answered_per_second"]
        half = [paced(f"{number}_half_{turn}", sustained * HALF, module) for turn, module in enumerate(IN_TURNS)]
        worker, loop, loop_again, worker_again = half
        bare += [loop, loop_again]
        over += [
            served["total_p95_ms"] - alone["total_p95_ms"]
            for served, alone in ((worker, loop), (worker_again, loop_again))
        ]
        loads = {share: paced(f"{number}_{share * 100:.0f}", sustained * share) for share in SHARES if share != HALF}
        loads[HALF] = _medians([worker, worker_again])
        rounds.append((sustained, loads))
    return {
        "over_bare_loop_p95_ms": statistics.median(over),
        "over_bare_loop_p95_ms_turns": over,
        "bare_loop": _medians(bare),
        "saturated_per_second": statistics.median(sustained for sustained, _ in rounds),
        "saturated_without_clients_per_second": full.per_second,
        "worker_cpu_us_saturated": full.worker_cpu_us,
        "by_share_of_saturation": {str(share): _medians([loads[share] for _, loads in rounds]) for share in SHARES},
        "rounds": [{str(share): load for share, load in loads.items()} for _, loads in rounds],
    }


def quiet(servers: Rig) -> dict[str, Any]:
    """What a worker without traffic and its broker take of a core, and what is added to a request now and then."""
    worker = servers.prepare("idle", TINY, TORCH_THREADS="1")
    with member(worker, 0) as running:
        time.sleep(pacing.WARM_SECONDS)
        before = servers.cpu([running])
        time.sleep(QUIET_SECONDS)
        spent = [late - early for early, late in zip(before, servers.cpu([running]), strict=True)]
    servers.forget(worker)
    worker = servers.prepare("quiet", TINY, TORCH_THREADS="1")
    found = pacing.paced(servers, worker, pictures(16, 64), rate=5, seconds=20)
    servers.forget(worker)
    names = ("worker_cores", "database_cores", "broker_cores")
    return {**{name: value / QUIET_SECONDS for name, value in zip(names, spent, strict=True)}, "five_a_second": found}


def memory(servers: Rig) -> dict[str, Any]:
    """Ten times more traffic than the model can take, for minutes: what the worker's memory does."""
    large = checkpoints.vit_bert(servers.folder / "vit_bert_memory")
    seconds = float(os.environ.get("FUSIONWATCH_BENCH_MEMORY_SECONDS", "300"))
    limit = 32_000_000
    worker = servers.prepare(
        "memory", large, TORCH_THREADS="1", BATCH_SIZE="8", MAX_INFLIGHT_BYTES=str(limit), DECODE_THREADS="1"
    )
    return pacing.overloaded(servers, worker, pictures(16, 224), seconds, factor=10, limit=limit)


PARTS: dict[str, Callable[[Rig], dict[str, Any]]] = {
    "pass_through": pass_through,
    "efficiency": efficiency,
    "contribution": contribution,
    "latency": latency,
    "quiet": quiet,
    "memory": memory,
}


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _medians(rows: list[dict[str, float]]) -> dict[str, float]:
    return {key: statistics.median(row[key] for row in rows) for key in rows[0]}


def _table(results: dict[str, Any]) -> None:
    table = Table("figure", "measured", "ceiling or bound", title="the worker on this machine")
    for name, figure, bound in _figures(results):
        table.add_row(name, figure, bound)
    Console(stderr=True).print(table)


def _figures(results: dict[str, Any]) -> list[tuple[str, str, str]]:
    rows = []
    if found := results.get("pass_through"):
        ceiling = f"bare poll loop {found['poll_loop_per_second']:,.0f}/s"
        for key, name in (("one_process", "one process"), ("two_processes", "two processes")):
            rows.append((f"pass-through, {name}", f"{found[key]['per_second']:,.0f} requests/s", ceiling))
    for name, found in results.get("efficiency", {}).items():
        ceiling = f"bare forward {found['bare_per_second']:,.1f}/s"
        rows.append((f"pipeline efficiency, {name}", f"{found['efficiency']:.3f}", ceiling))
    if found := results.get("contribution"):
        added = f"{found['added_to_a_sampled_pass']:+.1%}, {found['added_on_average_at_0.05']:+.1%} on average at 0.05"
        rows.append(("contributions of a batch", added, f"forward pass {found['pass_ms']:.1f} ms"))
    for name in ("device", "tiny"):
        if found := results.get("latency", {}).get(name):
            for share, load in found["by_share_of_saturation"].items():
                rows.append((f"added latency p95, {name} at {float(share):.0%} load", *_added(load)))
            rows.append((f"latency p95, {name} at half load", *_beside_bare(found)))
    if found := results.get("quiet"):
        rows.append(("a quiet worker", f"{found['worker_cores']:.3f} cores", f"its broker {found['broker_cores']:.3f}"))
        rows.append(("added latency p95, tiny at 5 requests/s", *_added(found["five_a_second"])))
    if found := results.get("memory"):
        rows.append(("memory at overload", f"{found['peak_mb']:,.0f} MB", f"bound {found['bound_mb']:,.0f} MB"))
    return rows


def _added(load: dict[str, float]) -> tuple[str, str]:
    bound = f"{BATCH_WAIT_MS + 10:.0f} ms: batch wait and 10; {load['worker_cpu_us']:,.0f} us CPU a request"
    return f"{load['added_p95_ms']:.1f} ms with its broker, {load['inside_p95_ms']:.1f} in the worker", bound


def _beside_bare(found: dict[str, Any]) -> tuple[str, str]:
    worker, bare = found["by_share_of_saturation"][str(HALF)], found["bare_loop"]
    figure = f"{worker['total_p95_ms']:.0f} ms, {found['over_bare_loop_p95_ms']:+.1f} in turns"
    return figure, f"bare loop {bare['total_p95_ms']:.0f} ms"
