"""The story of the closed loop: a good candidate and all that may go wrong on its way, a bad, a weaker and none."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from demo import servers, weaker
from demo.captions import LABELS
from demo.results import Results, Retrain, StepResult
from demo.retrain_stage import STEPS, Loop
from demo.stage import detect, resolve
from demo.traffic import new_camera
from inference import registry
from inference.baseline import Baseline

Step = Callable[[Loop, StepResult], None]

CHAMPION = "SELECT version FROM model_aliases WHERE alias = 'champion'"
HUNG_SECONDS = 30
CHAIN = ("finding", "alert", "decision", "job", "gate: passed", "shadow passed", "canary", "promoted", "resolved")


def drift(loop: Loop, result: StepResult) -> None:
    """A new camera: drift, labels that show the drop, and one job of two monitors."""
    stage = loop.stage
    stage.traffic.start()
    stage.hold(stage.pace.normal, "normal traffic")
    result.injected_at = stage.switch(new_camera(stage.seed + 5))
    stage.labeller.start(result.injected_at)
    detect(stage, result, "EmbeddingDrift", "image", stage.pace.at_most)
    loop.wait("labels come in; waiting for a job", lambda: loop.job() is not None)
    job = loop.job()
    result.expect(
        "labels that show the drop lead to a job", job is not None, f"job {job.job_id}" if job else loop.unmet()
    )
    stage.hold(stage.pace.hop, "would the second monitor queue another one?")
    jobs, asked = (
        loop.value("SELECT count(*) FROM jobs"),
        loop.value("SELECT count(*) FROM retrain_decisions WHERE retrain"),
    )
    result.expect("two monitors decide once and queue one job", (jobs, asked) == (1, 1), f"{jobs} jobs, {asked} yes")


def killed_trainer(loop: Loop, result: StepResult) -> None:
    """SIGKILL at half of the training; the same job goes on from its last save."""

    def step() -> int:
        job = loop.job()
        return 0 if job is None else int(job.progress.get("step", 0))

    half = loop.wait("training", lambda: step() >= STEPS // 2, loop.stage.pace.retrain)
    at = step()
    loop.trainer.kill()
    result.injected_at = datetime.now(UTC)
    result.expect("the trainer is killed in the middle of its training", half and at < STEPS, f"step {at} of {STEPS}")
    loop.stage.view.say(f"the trainer is killed with SIGKILL at step {at} of {STEPS}")
    loop.trainer.start()
    number = loop.value("SELECT max(job_id) FROM jobs")
    taken = "SELECT (progress ->> 'resumed_at')::int FROM jobs WHERE job_id = :job AND attempts = 2"
    loop.wait(
        "its lease of 60 s has to lapse first",
        lambda: loop.value(taken, job=number) is not None,
        loop.stage.pace.retrain,
    )
    resumed = loop.value(taken, job=number)
    result.expect("another attempt goes on where it was", resumed is not None and 0 < resumed <= at, f"step {resumed}")
    loop.wait("training goes on", lambda: loop.rollout() is not None or _over(loop), loop.stage.pace.retrain)
    spent = loop.value("SELECT compute_seconds FROM jobs WHERE job_id = :job", job=number)
    told = loop.value("SELECT (result #>> '{training,seconds}')::float FROM jobs WHERE job_id = :job", job=number)
    result.expect("both attempts count against the budget", (spent or 0) > (told or 0) > 0, f"{spent:.0f} s")


def _over(loop: Loop) -> bool:
    job = loop.job()
    return job is not None and job.finished_at is not None


def promotion(loop: Loop, result: StepResult) -> None:
    """Gate, shadow, canary; the database goes down in the middle of the promotion, and it is done once."""
    stage, former = loop.stage, loop.value(CHAMPION)
    job = loop.job()
    gate = ((job.result or {}).get("gate") or {}) if job is not None else {}
    checks = [f"{each['name']} {each['outcome']}" for each in gate.get("conditions", ())]
    result.expect(
        "the gate lets the candidate through", gate.get("outcome") == "passed", ", ".join(checks) or "no gate"
    )
    loop.wait("the challenger runs in shadow", lambda: _place(loop)[0] != "shadow")
    stands, percent = _place(loop)
    result.expect("it passes shadow by labels", stands == "canary", f"{stands}, {percent}%")
    loop.wait("the challenger answers a part in canary", lambda: _place(loop) == ("canary", 100) or _ended(loop))
    caught = _crash_in_mid_promotion(loop)
    result.injected_at = datetime.now(UTC)
    when = "with the champion's row being changed" if caught else "before or after it"
    result.expect("the database goes down while the promotion is written", caught, when)
    after = loop.value(CHAMPION)
    result.expect("the former champion is the only one meanwhile", after == former, after)
    number = job.job_id if job is not None else 0
    promoted = loop.job_over(result, number, "promoted")
    aliases = loop.value("SELECT count(*) FROM model_aliases WHERE alias = 'champion'")
    audited = loop.value("SELECT count(*) FROM audit_log WHERE action = 'promoted'")
    result.expect("one champion, promoted once", (aliases, audited) == (1, 1), f"{aliases} champions, {audited} rows")
    version = loop.value(CHAMPION)
    if promoted is None or version in (None, former):
        return
    stage.view.say(f"{version} is champion in place of {former}")
    answers = loop.wait("waiting for its answers", lambda: stage.observer.logged(version) > 0, 60)
    result.expect("the worker takes it up without a restart", answers, version)
    _quality(loop, result, number, str(former), str(version))


def _quality(loop: Loop, result: StepResult, job: int, former: str, version: str) -> None:
    stage, drifted = loop.stage, loop.stage.results.steps[0]
    resolve(stage, drifted)
    found = stage.await_("waiting for its labels", lambda: stage.observer.quality(version), stage.pace.at_most)
    before = stage.observer.quality(former)
    if found is None or before is None:
        result.expect("accuracy is measured before and after", False, (before, found))
        return
    stage.results.retrain = Retrain(job, before.accuracy, found.accuracy, before.ece, found.ece)
    better = f"{before.accuracy:.3f}, then {found.accuracy:.3f}"
    result.expect("accuracy recovers", found.accuracy > before.accuracy + 0.05, better)
    told = loop.command("history", "--limit", "3")
    missing = [word for word in CHAIN if word not in told]
    result.expect("history tells the whole chain", not missing, f"without {', '.join(missing)}" if missing else "whole")


def _place(loop: Loop) -> tuple[str, int]:
    rollout = loop.rollout()
    return ("none", 0) if rollout is None else (rollout.stage, rollout.percent)


def _ended(loop: Loop) -> bool:
    rollout = loop.rollout()
    return rollout is None or rollout.outcome is not None


def _crash_in_mid_promotion(loop: Loop) -> bool:
    """Hold the champion's row, so that the promotion has begun and cannot end, and take the database down then."""
    waits = (
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query ILIKE 'UPDATE model_aliases%'"
    )
    holder = loop.engine.connect()
    try:
        holder.execute(text("SELECT version FROM model_aliases FOR UPDATE"))
        caught = loop.wait("waiting for the promotion to begin", lambda: loop.value(waits) > 0 or _ended(loop))
        caught = caught and not _ended(loop)
        with servers.crashed(loop.deployment.folder / "postgres"):
            loop.stage.view.say("the database is taken down in the middle of the promotion", "yellow")
    finally:
        holder.invalidate()
        holder.close()
    return caught


def shuffled_labels(loop: Loop, result: StepResult) -> None:
    """Labels at random: what is trained on them is stopped at the gate."""
    stage, champion = loop.stage, loop.value(CHAMPION)
    chance = random.Random(stage.seed)
    wanted = int(loop.trainer.environment["FUSIONWATCH_RETRAIN_MAX_ROWS"])
    result.injected_at = datetime.now(UTC)
    stage.labeller.said = lambda _true: chance.choice(LABELS)
    stage.view.say("from now on labels are drawn by lot")
    wrong = "SELECT count(*) FROM labels WHERE received_at > :since"
    loop.wait(f"waiting for {wanted} of them", lambda: loop.value(wrong, since=result.injected_at) >= wanted)
    job = loop.job_over(result, loop.asked("labels of the new reviewers"), "rejected")
    stage.labeller.said = str
    table = ((job.result or {}).get("gate") or {}).get("conditions", []) if job is not None else []
    unmet = [f"{each['name']}: {each['text']}" for each in table if each.get("outcome") == "failed"]
    found = "; ".join(unmet) or "no check failed"
    result.expect("the gate says what got worse", any("accuracy" in each for each in unmet), found)
    result.expect("the champion stays", loop.value(CHAMPION) == champion, loop.value(CHAMPION))


def weaker_version(loop: Loop, result: StepResult) -> None:
    """A version some points worse, sent past the gate: taken away by its own answers beside the champion's."""
    stage, champion = loop.stage, str(loop.value(CHAMPION))
    folders = loop.rows("SELECT checkpoint FROM model_versions WHERE version = :version", version=champion)
    first = loop.value("SELECT checkpoint FROM model_versions ORDER BY created_at LIMIT 1")
    folder = loop.deployment.folder / "checkpoints" / "weaker"
    made = weaker.make(folder, Path(first), Path(folders[0].checkpoint), stage.seed + 900)
    stage.view.say(f"a version with an accuracy of {made.after:.3f} beside {made.before:.3f} is sent on")
    with loop.engine.begin() as connection:
        registry.register(connection, made.checkpoint.card, Baseline.load(folder), "fusion")
    result.injected_at = datetime.now(UTC)
    told = loop.command("champion", "try", made.checkpoint.version, "--reason", "looks good offline")
    result.expect("a person may send it on", "has begun" in told, told.strip())
    loop.wait("the challenger runs beside the champion", lambda: _ended(loop), stage.pace.retrain)
    rollout = loop.rollout()
    stopped = rollout is not None and rollout.outcome == "rolled_back" and "accuracy" in str(rollout.reason)
    place = "" if rollout is None else f"{rollout.stage}: {rollout.reason}"
    result.expect("it is taken away by what labels say", stopped, place)
    detect(stage, result, "RolloutRolledBack", None, stage.pace.at_most)
    result.expect("the champion stays", loop.value(CHAMPION) == champion, loop.value(CHAMPION))


def hung_trainer(loop: Loop, result: StepResult) -> None:
    """A trainer that hangs: the deadline ends its job and its lease; what it does later counts for nothing."""
    number = loop.asked("once more", retrain_deadline_seconds=HUNG_SECONDS)

    def claimed() -> bool:
        job = loop.job()
        return job is not None and job.state == "running" and job.claimed_by is not None

    loop.wait("waiting for the trainer", claimed, HUNG_SECONDS)
    loop.trainer.suspend()
    result.injected_at = datetime.now(UTC)
    loop.stage.view.say("the trainer is stopped with SIGSTOP: it hangs and holds its lease")
    job = loop.job_over(result, number, "failed")
    lease = "no job" if job is None else job.lease_until or "nobody holds one"
    result.expect("its lease is free", job is not None and job.lease_until is None, lease)
    result.expect("the deadline is named", job is not None and "deadline passed" in str(job.error), job and job.error)
    detect(loop.stage, result, "RetrainFailed", None, loop.stage.pace.at_most)
    loop.trainer.resume()
    loop.stage.hold(loop.stage.pace.hop, "the trainer wakes up")
    after = loop.job()
    unchanged = after is not None and (after.state, after.result) == ("failed", None)
    result.expect("who wakes up late writes nothing more", unchanged, after and after.state)


def accounts(loop: Loop, result: StepResult) -> None:
    """Through all of it: every request logged and answered once."""
    stage = loop.stage
    stage.traffic.stop()
    stage.labeller.stop()
    sent = len(stage.traffic.sent)
    loop.wait("waiting for the last rows", lambda: stage.observer.logged() >= sent)
    totals = stage.results.totals = stage.audit()
    result.expect("nothing is lost", totals.lost == 0 and totals.logged == sent, totals)
    result.expect("nothing is logged twice", totals.duplicated == 0, totals)
    result.expect("every request is answered", totals.answered >= sent, totals)


STORY: tuple[tuple[str, Step], ...] = (
    ("A new camera: drift, labels, one job of two monitors", drift),
    ("The trainer is killed half-way", killed_trainer),
    ("A good candidate: gate, shadow, canary; the database goes down in mid-promotion", promotion),
    ("A bad candidate: labels by lot", shuffled_labels),
    ("A weaker version, sent past the gate", weaker_version),
    ("A trainer that hangs", hung_trainer),
    ("The accounts", accounts),
)


def play(loop: Loop) -> Results:
    """Play every step, whatever became of the ones before it; one that breaks off is not met."""
    stage = loop.stage
    stage.view.plan([title for title, _ in STORY])
    for number, (title, step) in enumerate(STORY):
        stage.number = number
        result = StepResult(number, title)
        stage.results.steps.append(result)
        stage.view.begin(number)
        try:
            step(loop, result)
        except (SQLAlchemyError, subprocess.SubprocessError, RuntimeError) as error:
            result.expect("it is played to its end", False, f"{type(error).__name__}: {error}")
        stage.view.end(number, met=result.met)
        for each in result.expectations:
            stage.view.say(f"{'met' if each.met else 'not met'}: {each.text}", "green" if each.met else "red")
    return stage.results
