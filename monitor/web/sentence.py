"""How the model is, in one sentence: the first thing that anyone reads. A pure function of the facts."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from monitor.storage.views.models.findings import FindingView
from monitor.storage.views.models.overview import Facts, Sentence
from monitor.storage.views.models.work import AlertView
from monitor.web.words import clock_time, count, detector, listed, modality, share

# The monitor counts as asleep when so many hops have passed since a window that it should have judged.
MISSED_HOPS = 3
# These take labels. Without labels they have no data, which is how most models live and not a fault.
BY_LABELS = frozenset({"accuracy", "calibration", "false_positives", "label_prior", "review_rate"})
# These compare with the baseline's labels, which a baseline made from traffic does not have.
BY_LABELS_OF_BASELINE = frozenset({"estimated_accuracy", "label_prior"})
# These read what a stream need not have: a sample on which it is measured, captures, a pairing map, measured time,
# cells that older baselines lack. No fault where it is not there.
OPTIONAL = frozenset({"contribution", "cost", "misalignment", "quality_shape"})
# These learn for a week what is usual before they judge.
GRADUAL_CHANGE = frozenset({"sequential", "sequential_page"})


def describe(facts: Facts) -> Sentence:
    """The most important thing that is true, and what to do about it.

    Order: what makes the rest meaningless (no model, no requests, a sleeping monitor), firing alerts, checks out of
    bounds that are no alert yet, checks that cannot be made; only then that all is well. What could not be judged is
    never called well.
    """
    for look in (_no_model, _no_traffic, _asleep, _alerts, _drifting, _unjudged):
        if (found := look(facts)) is not None:
            return found
    return _well(facts)


def _no_model(facts: Facts) -> Sentence | None:
    if facts.champion is not None:
        return None
    return Sentence(
        mood="unknown",
        text=f"No model named “{facts.model}” answers yet.",
        todo="Start a worker with a checkpoint folder: it registers the model and its baseline here.",
    )


def _no_traffic(facts: Facts) -> Sentence | None:
    if facts.traffic.requests:
        return None
    seen = [each.last_seen for each in facts.modalities if each.last_seen is not None]
    if not seen:
        return Sentence(
            mood="unknown",
            text="No requests have arrived within a day.",
            todo="Send one to the request topic, and see that the worker is running and ready.",
        )
    return Sentence(
        mood="problem",
        text=f"Requests stopped at {clock_time(max(seen), facts.now)}.",
        todo="Look whether producers send, whether the worker is ready, and at its consumer lag.",
    )


def _asleep(facts: Facts) -> Sentence | None:
    last = facts.last_evaluated
    if last is None:
        return Sentence(
            mood="unknown",
            text="Requests are answered, but no window has been judged yet.",
            todo=f"The first verdicts come after {facts.timing.window_seconds} s; see that the monitor is running.",
        )
    if facts.now - last <= timedelta(seconds=facts.timing.grace_seconds + MISSED_HOPS * facts.timing.hop_seconds):
        return None
    return Sentence(
        mood="problem",
        text=f"Nobody is watching: the monitor last judged a window at {clock_time(last, facts.now)}.",
        todo="Start the monitor, or look in its log; what follows is as old as that.",
    )


def _alerts(facts: Facts) -> Sentence | None:
    firing = [alert for alert in facts.alerts if alert.state == "firing" and not alert.inhibited_by]
    if not firing:
        return None
    first, others = firing[0], len(firing) - 1
    say = _PHRASES.get(first.detector or "", _by_summary)
    text = say(first, facts)
    if others:
        text += f" {others} more alert{'s' if others > 1 else ''} firing."
    return Sentence(mood="problem", text=text + _retraining(facts), todo=_todo(first))


def _todo(alert: AlertView) -> str | None:
    runbook = alert.annotations.get("runbook")
    return f"Runbook: {runbook}" if runbook else None


def _availability(alert: AlertView, facts: Facts) -> str:
    since = _since(alert, facts)
    now = next((each for each in facts.modalities if each.modality == alert.modality), None)
    name = modality(alert.modality)
    if now is None or now.share is None:
        return f"{name} feed is failing {since}."
    if now.share == 0:
        others = [each.modality.replace("_", " ") for each in facts.modalities if each.share and each is not now]
        goes_on = f"; answers go on from {listed(others)}" if facts.traffic.degraded and others else ""
        return f"{name} feed is down {since}{goes_on}."
    if now.verdict == "ok":
        return f"{name} feed is back ({share(now.share)} of requests have it); its alert, open {since}, is closing."
    return f"{name} feed is failing {since}: {share(1 - now.share)} of requests lack it."


def _embedding(alert: AlertView, facts: Facts) -> str:
    return f"{modality(alert.modality)} inputs have drifted away from the baseline {_since(alert, facts)}."


def _pairing(alert: AlertView, facts: Facts) -> str:
    names = alert.modality.split("+") if "+" in alert.modality else [each.modality for each in facts.modalities]
    return f"{listed(names).capitalize()} no longer belong together {_since(alert, facts)}."


def _class_mix(alert: AlertView, facts: Facts) -> str:
    return f"The mix of predicted classes has moved {_since(alert, facts)}."


def _agreement(alert: AlertView, facts: Facts) -> str:
    return f"Modalities contradict each other more than they should {_since(alert, facts)}."


def _contribution(alert: AlertView, facts: Facts) -> str:
    return f"The model goes by its inputs otherwise than it did {_since(alert, facts)}."


def _confidence(alert: AlertView, facts: Facts) -> str:
    return f"Answers are not as sure as they were in the baseline {_since(alert, facts)}."


def _shape(alert: AlertView, facts: Facts) -> str:
    return f"{modality(alert.modality)} inputs are spread differently than in the baseline {_since(alert, facts)}."


def _alignment(alert: AlertView, facts: Facts) -> str:
    return f"Modalities of one request are not of the same moment {_since(alert, facts)}."


def _cost(alert: AlertView, facts: Facts) -> str:
    return f"Requests take more of the model’s time than they should {_since(alert, facts)}."


def _gradual(alert: AlertView, facts: Facts) -> str:
    found = clock_time(alert.since, facts.now)
    return f"{modality(alert.modality)} has changed by little for long, as was found at {found}."


def _calibration(alert: AlertView, facts: Facts) -> str:
    return f"Confidence no longer matches how often answers are right {_since(alert, facts)}."


def _accuracy(alert: AlertView, facts: Facts) -> str:
    return f"By its labels the model is right less often {_since(alert, facts)}."


def _silence(alert: AlertView, facts: Facts) -> str:
    return f"No predictions are being logged {_since(alert, facts)}."


def _lost(alert: AlertView, facts: Facts) -> str:
    n = int(alert.annotations.get("value") or 0)
    messages = f"{count(n)} message{'s' if n != 1 else ''}" if n else "Messages"
    return f"{messages} left the log before being read, first seen at {clock_time(alert.since, facts.now)}."


def _reset(alert: AlertView, facts: Facts) -> str:
    return f"A topic’s log starts again {_since(alert, facts)}; what had not been read of the old one is not known."


def _partitions(alert: AlertView, facts: Facts) -> str:
    return f"The log lacks partitions for the days to come {_since(alert, facts)}; without today’s it stops."


def _baseline(_alert: AlertView, _facts: Facts) -> str:
    return "The model that answers has no baseline, so no drift can be seen."


def _by_summary(alert: AlertView, facts: Facts) -> str:
    summary = str(alert.annotations.get("summary") or f"{alert.alertname} on {alert.modality}").rstrip(".")
    return f"{summary}, {_since(alert, facts)}."


_PHRASES: dict[str, Callable[[AlertView, Facts], str]] = {
    "availability": _availability,
    "embedding_mmd": _embedding,
    "pairing": _pairing,
    "class_drift": _class_mix,
    "agreement": _agreement,
    "contribution": _contribution,
    "confidence_drift": _confidence,
    "quality_shape": _shape,
    "misalignment": _alignment,
    "cost": _cost,
    "sequential": _gradual,
    "calibration": _calibration,
    "accuracy": _accuracy,
    "silence": _silence,
    "messages_lost": _lost,
    "log_reset": _reset,
    "log_partitions": _partitions,
    "baseline": _baseline,
}


def _since(alert: AlertView, facts: Facts) -> str:
    return f"since {clock_time(alert.since, facts.now)}"


def _drifting(facts: Facts) -> Sentence | None:
    moved = [check for check in facts.checks if check.verdict == "drift"]
    if not moved:
        return None
    return Sentence(
        mood="notice",
        text=f"{_checks(moved)} out of bounds in the last window; no alert is firing." + _retraining(facts),
        todo="Nothing yet: an alert fires when it lasts.",
    )


def _unjudged(facts: Facts) -> Sentence | None:
    for verdict, why, todo in (
        (
            "no_baseline",
            "there is no baseline to compare with",
            "Give the model a baseline; its checkpoint brings one.",
        ),
        ("no_data", "the last window has no data for it", "Look at the modality’s feed."),
    ):
        lacking = [check for check in facts.checks if check.verdict == verdict and not _is_optional(check)]
        if lacking:
            return Sentence(mood="notice", text=f"{_checks(lacking)} not judged: {why}.", todo=todo)
    return None


def _lacks_labels(check: FindingView) -> bool:
    if check.verdict == "no_baseline":
        return check.detector in BY_LABELS_OF_BASELINE
    return check.detector in BY_LABELS and check.verdict == "no_data"


def _not_measured(check: FindingView) -> bool:
    return check.detector in OPTIONAL and check.verdict in ("no_baseline", "no_data")


def _is_optional(check: FindingView) -> bool:
    return _lacks_labels(check) or _not_measured(check)


def _learns(check: FindingView) -> bool:
    return check.detector in GRADUAL_CHANGE and check.verdict == "insufficient"


def _checks(found: list[FindingView]) -> str:
    names = [f"{modality(check.modality)} {detector(check.detector).name.lower()}" for check in found[:3]]
    if len(found) > 3:
        names.append(f"{len(found) - 3} more checks")
    return f"{listed(names)} {'are' if len(found) > 1 else 'is'}"


def _well(facts: Facts) -> Sentence:
    rate = facts.traffic.per_second
    shown = f"{rate:.0f}" if rate >= 10 else f"{rate:.1f}"
    learning = sum(_learns(check) for check in facts.checks)
    weak = sum(check.verdict == "insufficient" for check in facts.checks) - learning
    unlabelled = sum(_lacks_labels(check) for check in facts.checks)
    unmeasured = sum(_not_measured(check) for check in facts.checks)
    judged = len(facts.checks) - weak - unlabelled - learning - unmeasured
    doubt = f" {weak} could not be judged for want of data." if weak else ""
    doubt += " No labels came lately, so how often answers are right is not known." if unlabelled else ""
    doubt += " Gradual change is not judged before its calibration is over." if learning else ""
    start = "All is well" if judged else "Nothing looks wrong, but nothing could be judged yet"
    checks = f"{judged} check{'s' if judged != 1 else ''} ok"
    text = f"{start}: {shown} requests/s, no alert firing, {checks}.{doubt}{_retraining(facts)}"
    return Sentence(mood="well" if judged else "unknown", text=text)


def _retraining(facts: Facts) -> str:
    return " A retrain is under way." if facts.active_job else ""
