"""The story: six things that happen to a model in production, and what must be found of each, and when."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

from demo.bad_messages import bad_messages
from demo.observe import Told, said
from demo.results import Results, Retrain, StepResult
from demo.stage import Stage, detect, resolve
from demo.traffic import captions_shifted, image_feed_dead, new_camera, normal

Step = Callable[[Stage, StepResult], None]


def normal_traffic(stage: Stage, result: StepResult) -> None:
    """Normal traffic with a few bad messages in it: no alert, and every bad message a dead letter with its reason."""
    stage.traffic.start()
    stage.hold(stage.pace.normal / 3, "normal traffic")
    bad = bad_messages(f"demo-{stage.seed}")
    for message in bad:
        stage.traffic.send_raw(message.value, message.content_type)
    stage.view.say(f"{len(bad)} bad messages sent among the others")
    stage.hold(stage.pace.normal * 2 / 3, "normal traffic")
    codes = stage.dead_letter_codes()
    wanted: dict[str, int] = {}
    for message in bad:
        wanted[message.code] = wanted.get(message.code, 0) + 1
    result.expect("every bad message is in the dead-letter topic with its reason", codes == wanted, codes)
    told = stage.observer.told()
    result.expect("no alert", not told, told or "none")


def image_outage(stage: Stage, result: StepResult) -> None:
    """The image feed dies: a page, answers from text meanwhile, and it resolves by itself."""
    result.injected_at = began = stage.switch(image_feed_dead(stage.seed + 1))
    started = time.monotonic()
    found = detect(stage, result, "ModalityUnavailable", "image", 2 * stage.pace.window)
    if found is not None:
        result.expect("it is a page", found.severity == "page", found.severity)
    stage.hold(max(0.0, stage.pace.outage - (time.monotonic() - started)), "the image feed is dead")
    ended = stage.switch(normal(stage.seed + 2))
    stage.view.say("the image feed is back")
    resolve(stage, result)
    routes = stage.observer.routes(began, ended)
    only = set(routes) == {("fallback:text", True)}
    result.expect("every answer meanwhile came from text and was marked degraded", only, routes)


def mispairing(stage: Stage, result: StepResult) -> None:
    """Captions go to the next image: pairing drift, while both marginals stand still."""
    result.injected_at = began = stage.switch(captions_shifted(stage.seed + 3))
    detect(stage, result, "PairingDrift", None, stage.pace.at_most)
    ended = stage.switch(normal(stage.seed + 4))
    stage.view.say("pairing is right again")
    resolve(stage, result)
    for modality in ("image", "text"):
        verdicts = stage.observer.verdicts("embedding_mmd", modality, began, ended)
        result.expect(f"the {modality} marginal stays ok", bool(verdicts) and set(verdicts) == {"ok"}, verdicts)


def camera_change(stage: Stage, result: StepResult) -> None:
    """A darker, noisier camera: drift of the image embedding, with what moved; text stays."""
    result.injected_at = began = stage.switch(new_camera(stage.seed + 5))
    started = time.monotonic()
    detect(stage, result, "EmbeddingDrift", "image", stage.pace.at_most)
    stage.hold(max(0.0, stage.pace.camera - (time.monotonic() - started)), "traffic from the new camera")
    found = stage.observer.drift_details("embedding_mmd", "image", began)
    words = found[0] if found else "no finding"
    named = "brightness" in words or "noise" in words
    result.expect("the finding names the quality statistics that moved", named, words)
    verdicts = stage.observer.verdicts("embedding_mmd", "text", began, datetime.now(UTC))
    result.expect("text stays ok", bool(verdicts) and set(verdicts) == {"ok"}, verdicts)
    stage.view.say(words)


def closed_loop(stage: Stage, result: StepResult) -> None:
    """Labels show the drop; one job trains, passes the gate and is promoted; the worker reloads; quality recovers."""
    camera = stage.results.steps[-1]
    before_version = stage.observer.champion() or ""
    result.injected_at = datetime.now(UTC)
    stage.labeller.start(camera.injected_at or result.injected_at)
    stage.view.say("delayed labels arrive for the new camera's traffic")
    found = detect(stage, result, "AccuracyDrop", None, stage.pace.at_most)
    job = stage.await_(
        "waiting for a retrain job",
        lambda: next(iter(stage.observer.jobs()), None),
        stage.pace.at_most if found else 0,
    )
    result.expect("a retrain job is queued", job is not None, job.job_id if job else "none")
    if job is None:
        return
    stage.view.say(f"retrain job {job.job_id} queued")
    version = _await_promotion(stage, result, before_version)
    if version is None:
        return
    result.expect("the worker reloads without a restart", _answers_with(stage, version), version)
    resolve(stage, result)
    before = stage.observer.quality(before_version)
    after = stage.await_("waiting for enough labels", lambda: stage.observer.quality(version), stage.pace.at_most)
    if before is None or after is None:
        result.expect("accuracy and ECE are measured before and after", False, (before, after))
        return
    stage.results.retrain = Retrain(job.job_id, before.accuracy, after.accuracy, before.ece, after.ece)
    result.expect("accuracy recovers", after.accuracy > before.accuracy + 0.05, stage.results.retrain)
    result.expect("ECE recovers", after.ece < before.ece and after.ece < 0.05, stage.results.retrain)
    jobs = stage.observer.jobs()
    result.expect("exactly one job ran", len(jobs) == 1, [(job.job_id, job.state) for job in jobs])


def _await_promotion(stage: Stage, result: StepResult, old: str) -> str | None:
    def over() -> str | None:
        job = stage.observer.jobs()[0]
        progress = " ".join(f"{name} {value}" for name, value in sorted(job.progress.items()))
        stage.view.note(stage.number, f"job {job.state} {progress}")
        return str(job.state) if job.state in ("promoted", "rejected", "failed", "cancelled") else None

    state = stage.await_("training", over, stage.pace.retrain)
    job = stage.observer.jobs()[0]
    took = (job.finished_at - job.started_at).total_seconds() if job.finished_at and job.started_at else None
    result.expect("the candidate passes the gate and is promoted", state == "promoted", said(job))
    version = stage.observer.champion()
    if state != "promoted" or version in (None, old):
        return None
    result.expect("training took 150 s at most", took is not None and took <= 150, took)
    stage.view.say(f"job {job.job_id} promoted {version} after {took:.0f} s")
    return version


def _answers_with(stage: Stage, version: str) -> bool:
    def logged() -> bool | None:
        return True if stage.observer.logged(version) else None

    return stage.await_("waiting for the worker to reload", logged, 60) is True


def kill_and_restart(stage: Stage, result: StepResult) -> None:
    """SIGKILL in the middle of traffic, then the same worker again: nothing lost, nothing logged twice."""
    result.injected_at = datetime.now(UTC)
    stage.worker.kill()
    stage.view.say("the worker is killed with SIGKILL")
    stage.hold(stage.pace.down, "traffic goes on without a worker")
    stage.worker.start()
    stage.worker.wait_ready(60)
    stage.view.say("the worker is back")
    stage.hold(stage.pace.hop, "the worker catches up")
    stage.traffic.stop()
    stage.labeller.stop()
    sent = len(stage.traffic.sent)
    stage.await_("waiting for the last rows", lambda: True if stage.observer.logged() >= sent else None, 60)
    totals = stage.results.totals = stage.audit()
    result.expect("nothing is lost", totals.lost == 0 and totals.logged == sent, totals)
    result.expect("nothing is logged twice", totals.duplicated == 0, totals)
    result.expect("every request is answered", totals.answered >= sent, totals)


STORY: tuple[tuple[str, Step], ...] = (
    ("Normal traffic, a few bad messages", normal_traffic),
    ("The image feed dies", image_outage),
    ("Captions are paired with the wrong image", mispairing),
    ("A new camera: darker, noisier", camera_change),
    ("Labels, retrain, promotion", closed_loop),
    ("The worker is killed and started again", kill_and_restart),
)


def play(stage: Stage) -> Results:
    """Play every step, whatever became of the ones before it, and count the alerts nobody injected."""
    stage.view.plan([title for title, _ in STORY])
    for number, (title, step) in enumerate(STORY):
        stage.number = number
        result = StepResult(number, title)
        stage.view.begin(number)
        step(stage, result)
        stage.results.steps.append(result)
        stage.view.end(number, met=result.met)
        for expectation in result.expectations:
            if not expectation.met:
                stage.view.say(f"not met: {expectation.text}; found {expectation.found}", "red")
    _fill_in_late_resolves(stage)
    stage.results.false_alerts = len(false_alerts(stage.results, stage.observer.told()))
    return stage.results


def _fill_in_late_resolves(stage: Stage) -> None:
    """What one step broke another may have mended: the new camera's drift ends with the new champion's baseline."""
    for step in stage.results.steps:
        if step.alert is not None and step.injected_at is not None and step.resolved_at is None:
            alert = stage.told(step.alert, step.modality, step.injected_at)
            step.resolved_at = alert.resolved_at if alert is not None else None


def false_alerts(results: Results, told: list[Told]) -> list[Told]:
    """Alerts that no step injected: another name or modality, or told before its cause.

    Labels showing the drop in accuracy show the overconfidence too, so both alerts belong to that step.
    """
    injected = {(step.alert, step.modality): step.injected_at for step in results.steps if step.alert}
    for (alert, modality), since in list(injected.items()):
        if alert == "AccuracyDrop":
            injected["CalibrationDrift", modality] = since
    return [
        alert
        for alert in told
        if (since := injected.get((alert.alertname, alert.modality))) is None or alert.detected_at < since
    ]
