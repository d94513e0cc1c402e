"""Two baselines, or two parts of one, held against each other by every drift detector."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from monitor.detectors.base import Takes, catalogue, evaluate
from monitor.domain.finding import Finding, Verdict
from monitor.domain.window import Evidence, IncomparableError, Reference, Summary, Window

_SUMMARIES = (Takes.MODALITY, Takes.EMBEDDING, Takes.FUSED)


def compare(
    reference: Reference,
    summaries: Mapping[str, Summary],
    window: Window,
    options: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[Finding]:
    """What the detectors that read summaries say of `summaries` beside the reference; those without data are left out.

    Raises IncomparableError, naming both, where fingerprints of a modality differ.
    """
    for name in sorted(set(reference.summaries) & set(summaries)):
        before, after = reference.summaries[name], summaries[name]
        if len(before.bins.count) and len(after.bins.count) and before.fingerprint != after.fingerprint:
            raise IncomparableError(
                f"they cannot be compared: the {name} bins of one were made by encoder {before.fingerprint}, those of "
                f"the other by {after.fingerprint}"
            )
    found = []
    for name, detector in catalogue().items():
        if detector.takes not in _SUMMARIES or not detector.needs_baseline:
            continue
        known = {modality: each for modality, each in summaries.items() if modality in reference.summaries}
        for modality, each in known.items():
            try:
                found += evaluate(
                    reference,
                    Evidence({modality: each}),
                    window=window,
                    model_version=reference.model_version,
                    detectors=(name,),
                    options=options,
                )
            except IncomparableError:
                continue  # one of the two has not the column that this detector reads
    return [one for one in found if one.verdict not in (Verdict.NO_DATA, Verdict.NO_BASELINE)]
