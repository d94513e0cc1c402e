"""Every detector of the catalogue, by itself: the same promises for all, whoever adds one."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from migrations.schema.bins import Bins, from_rows
from monitor.detectors import catalogue, evaluate, judge
from monitor.detectors.base import Score, Takes
from monitor.domain.finding import Verdict
from monitor.domain.window import FUSED, Evidence, IncomparableError, Labelled, Reference, Summary
from tests.support.streams import CLASSES, WINDOW, answers, baseline, evidence, reference

Known = tuple[Reference, Evidence]
# what reads rows, which no summary keeps, is put through its paces in test_compare_conformance.py
DETECTORS = sorted(name for name, each in catalogue().items() if each.takes is not Takes.ROWS)


@pytest.fixture(scope="module")
def known() -> Known:
    rng = np.random.default_rng(11)
    made = baseline(1000, rng)
    # the first few have no neighbours that they could be compared with
    return reference(made), dataclasses.replace(evidence(made, answers(1010, rng)), labelled=labels(1500, rng))


def labels(n: int, rng: np.random.Generator) -> Labelled:
    """Labels of drift-free answers, everything known of them."""
    rows = answers(n, rng)
    names = np.array(CLASSES)
    rest = (1 - rows.confidence[:, None]) / 2
    return Labelled(
        rows.confidence.astype(np.float64),
        rows.predicted == rows.labels,
        np.where(rng.random(n) < 0.9, "fused", "fallback:text"),
        predicted=names[rows.predicted],
        label=names[rows.labels],
        source=np.where(rng.random(n) < 0.1, "human_review", "ground_truth"),
        verdict=np.where(rng.random(n) < 0.05, "correct", ""),
        sampling=rng.choice([0.2, 0.4], n),
        probabilities=np.where(np.arange(3) == rows.predicted[:, None], rows.confidence[:, None], rest),
        answered=4 * n,
        answers=np.histogram(answers(4 * n, rng).confidence, 50, (0, 1))[0].astype(np.float64),
    )


def modality_of(name: str) -> str:
    return "image" if catalogue()[name].takes in (Takes.MODALITY, Takes.EMBEDDING) else FUSED


def current_of(name: str, seen: Evidence) -> Any:
    return seen.labelled if catalogue()[name].takes is Takes.LABELS else seen.summaries[modality_of(name)]


def first_rows(current: Any, n: int) -> Any:
    if isinstance(current, Labelled):
        of_rows = {
            field.name: each[:n]
            for field in dataclasses.fields(current)
            if field.name != "answers" and isinstance(each := getattr(current, field.name), np.ndarray)
        }
        return dataclasses.replace(current, **of_rows, answered=n)
    columns = {name: sums[:n] / current.bins.count[:n, None] for name, sums in current.bins.columns.items()}
    counts = {"present": n} if current.modality != FUSED else {"rows": n, "fused": n}
    totals = {
        name: np.diff(np.minimum(np.cumsum(each), n), prepend=0).tolist() for name, each in current.totals.items()
    }
    return dataclasses.replace(
        current, counts=counts, bins=Bins(np.ones(n, np.int32), columns) if n else from_rows({}, 1), totals=totals
    )


def test_the_catalogue_holds_what_rules_and_pages_name() -> None:
    assert {
        "accuracy", "agreement", "availability", "calibration", "class_drift", "confidence_drift", "contribution",
        "cost", "embedding_mmd", "estimated_accuracy", "false_positives", "label_prior", "misalignment", "pairing",
        "quality", "quality_shape", "review_rate",
    } <= set(DETECTORS)  # fmt: skip


@pytest.mark.parametrize("name", DETECTORS)
def test_names_options_and_words(name: str) -> None:
    detector = catalogue()[name]
    options = detector.options()
    assert detector.name == name
    assert dataclasses.is_dataclass(options)
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(options, dataclasses.fields(options)[0].name, 0.5)
    with pytest.raises(TypeError):
        detector.options(no_such_parameter=1)


def assert_storable(score: Score) -> None:
    json.dumps(dict(score.details), allow_nan=False)
    numbers = [score.value, score.p_value, score.effect, score.threshold, *(score.interval or ())]
    assert all(np.isfinite(number) for number in numbers if number is not None)
    # the database's driver writes no number of NumPy
    assert {type(number) for number in numbers if number is not None} <= {float}


@pytest.mark.parametrize("name", DETECTORS)
def test_drift_free_rows_are_ok_and_the_score_is_complete(name: str, known: Known) -> None:
    score = judge(catalogue()[name], modality_of(name), known[0], current_of(name, known[1]))
    assert score.verdict is Verdict.OK, score
    assert score.value is not None
    assert score.n_current >= 1000
    assert score.explanation.endswith(".")
    assert_storable(score)
    if score.interval is not None:
        assert score.interval[0] <= score.value <= score.interval[1]


@pytest.mark.parametrize("name", DETECTORS)
def test_the_same_input_gives_the_same_score(name: str, known: Known) -> None:
    runs = [judge(catalogue()[name], modality_of(name), known[0], current_of(name, known[1])) for _ in range(2)]
    assert runs[0] == runs[1]


@pytest.mark.parametrize("name", DETECTORS)
def test_no_rows_are_no_data_never_ok(name: str, known: Known) -> None:
    score = judge(catalogue()[name], modality_of(name), known[0], first_rows(current_of(name, known[1]), 0))
    assert score.verdict is Verdict.NO_DATA


@pytest.mark.parametrize("name", DETECTORS)
@pytest.mark.parametrize("n", [1, 2, 7])
def test_a_handful_of_rows_is_insufficient_and_says_so(name: str, n: int, known: Known) -> None:
    score = judge(catalogue()[name], modality_of(name), known[0], first_rows(current_of(name, known[1]), n))
    assert score.verdict is Verdict.INSUFFICIENT
    assert "too few" in score.explanation or "no more than" in score.explanation
    assert_storable(score)


@pytest.mark.parametrize("name", DETECTORS)
def test_without_a_baseline_nothing_is_called_drift(name: str, known: Known) -> None:
    score = judge(catalogue()[name], modality_of(name), None, current_of(name, known[1]))
    assert score.verdict is (Verdict.NO_BASELINE if catalogue()[name].needs_baseline else Verdict.OK)


SUMMARY_DETECTORS = [name for name in DETECTORS if catalogue()[name].takes is not Takes.LABELS]
COMPARING = [name for name in SUMMARY_DETECTORS if catalogue()[name].needs_baseline]


@pytest.mark.parametrize("name", COMPARING)
def test_other_encoders_are_refused(name: str, known: Known) -> None:
    current = dataclasses.replace(current_of(name, known[1]), fingerprint="another")
    with pytest.raises(IncomparableError, match="cannot be compared"):
        judge(catalogue()[name], modality_of(name), known[0], current)


@pytest.mark.parametrize("name", COMPARING)
def test_nan_is_refused_with_a_reason(name: str, known: Known) -> None:
    current = current_of(name, known[1])
    columns = {key: sums.copy() for key, sums in current.bins.columns.items()}
    for sums in columns.values():
        sums[3] = np.nan
    with pytest.raises(IncomparableError, match="NaN"):
        judge(
            catalogue()[name],
            modality_of(name),
            known[0],
            dataclasses.replace(current, bins=Bins(current.bins.count, columns)),
        )


@pytest.mark.parametrize("name", COMPARING)
def test_constant_columns_are_no_drift_and_give_finite_numbers(name: str, known: Known) -> None:
    current = current_of(name, known[1])

    def constant(bins: Bins) -> Bins:
        sums = {key: np.ones_like(column) * bins.count[:, None] for key, column in bins.columns.items()}
        return Bins(bins.count, sums)

    flat = dataclasses.replace(current, bins=constant(current.bins))
    before = known[0].summaries[current.modality]
    summaries = {**known[0].summaries, current.modality: dataclasses.replace(before, bins=constant(before.bins))}
    score = judge(catalogue()[name], modality_of(name), dataclasses.replace(known[0], summaries=summaries), flat)
    assert score.verdict is Verdict.OK
    assert all(x is not None and np.isfinite(x) for x in (score.value, score.p_value, score.effect))


def test_evaluate_runs_everything_that_there_is_evidence_for(known: Known) -> None:
    findings = evaluate(known[0], known[1], window=WINDOW, model_version="7")
    seen = {(each.detector, each.modality) for each in findings}
    assert {("embedding_mmd", "image"), ("embedding_mmd", "text"), ("embedding_mmd", FUSED)} <= seen
    assert {("availability", "text"), ("quality", "image"), ("pairing", FUSED), ("accuracy", FUSED)} <= seen
    assert {each.verdict for each in findings} == {Verdict.OK}
    assert {(each.model_version, each.baseline_id, each.window) for each in findings} == {("7", 1, WINDOW)}


def test_findings_are_the_same_on_any_number_of_cores(known: Known) -> None:
    found = []
    for threads in (1, 2, 7):
        with threadpool_limits(threads, user_api="blas"):
            found.append(evaluate(known[0], known[1], window=WINDOW, model_version="7"))
    assert found[0] == found[1] == found[2]


def test_evaluate_takes_a_choice_and_options(known: Known) -> None:
    findings = evaluate(
        known[0],
        known[1],
        window=WINDOW,
        model_version="1",
        detectors=("availability",),
        options={"availability": {"target": 0.5}},
    )
    assert [(each.modality, each.threshold) for each in findings] == [("image", 0.5), ("text", 0.5)]
    with pytest.raises(KeyError):
        evaluate(known[0], known[1], window=WINDOW, model_version="1", detectors=("no_such",))


def test_an_unlabelled_window_has_no_label_findings(known: Known) -> None:
    findings = evaluate(known[0], Evidence(known[1].summaries), window=WINDOW, model_version="1")
    assert {"accuracy", "calibration"}.isdisjoint(each.detector for each in findings)


def test_an_empty_window_has_no_data_everywhere(known: Known) -> None:
    silent = Evidence({name: Summary(name) for name in ("image", "text", FUSED)})
    findings = evaluate(known[0], silent, window=WINDOW, model_version="1")
    assert {each.verdict for each in findings} == {Verdict.NO_DATA}
