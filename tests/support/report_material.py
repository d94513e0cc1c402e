"""Material of reports: of an eventful day, and of one on which nothing was there."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from typing import Any

import numpy as np

from migrations.schema import bins
from migrations.schema.bins import Bins
from monitor.domain.window import Reference, Summary
from monitor.reports.columns import compare
from monitor.reports.material import Compared, Material

CLASSES = ("consistent", "contradictory", "misleading")
DAY = datetime(2026, 3, 2, tzinfo=UTC)
ODD = "a|b*c_<script>alert(1)</script>"


def fused(rows: int, shares: tuple[float, ...], sure: float, q: int = 8, seed: int = 1) -> Bins:
    """Answers of these class shares, all of one confidence; heads agree on every second one."""
    rng = np.random.default_rng(seed)
    classes = np.eye(len(shares))[np.repeat(np.arange(len(shares)), np.round(np.array(shares) * rows).astype(int))]
    confidence = np.zeros((len(classes), 10))
    confidence[:, int(sure * 10)] = 1
    agreement = (np.arange(len(classes)) % 2 == 0).astype(float)[:, None]
    features = rng.normal(size=(len(classes), 4))
    columns = {"classes": classes, "confidence": confidence, "agreement": agreement, "features": features}
    return bins.from_rows(columns, q)


def image(rows: int, shift: float = 0.0, q: int = 8, seed: int = 2) -> Bins:
    """Images whose brightness and embeddings are moved by so many standard deviations."""
    rng = np.random.default_rng(seed)
    return bins.from_rows(
        {"quality": rng.normal(size=(rows, 2)) + shift, "features": rng.normal(size=(rows, 4)) + shift}, q
    )


def reference() -> Reference:
    """The baseline: 2000 rows of each."""
    of = {
        "image": Summary("image", {"present": 2000}, image(2000), "e"),
        "fused": Summary("fused", {"fused": 2000}, fused(2000, (0.5, 0.3, 0.2), 0.85), "e"),
    }
    return Reference(1, "v1", of, CLASSES, {"image": ("noise", "brightness")})


def period(rows: int = 800, shift: float = 3.0) -> dict[str, Summary]:
    """A period in which images moved, and answers became unsure and contradictory."""
    return {
        "image": Summary("image", {"present": rows}, image(rows, shift, seed=5), "e"),
        "fused": Summary("fused", {"fused": rows}, fused(rows, (0.25, 0.55, 0.2), 0.45, seed=6), "e"),
    }


def material(compared: Compared | None = None, **changes: Any) -> Material:
    """An eventful day; with nothing in it where `changes` say so."""
    end = DAY + timedelta(days=1)
    shown: dict[str, Any] = {
        "model": "fusion",
        "cadence": "daily",
        "period": {"start": DAY, "end": end},
        "made_at": end + timedelta(hours=1),
        "versions": {"v1": 1440},
        "baseline": "baseline 1 of v1 (checkpoint)",
        "traffic": {"requests": 86_400, "per_second": 1.0, "degraded": 864, "quarantined": 0, "routes": {}},
        "modalities": [
            {
                **{"modality": "image", "rows": 86_400, "counts": {"present": 85_536, "missing": 864}},
                **{"share": 0.99, "low": 0.989, "high": 0.991, "last_seen": None, "verdict": "ok"},
            }
        ],
        "refused": {
            "period": {"start": DAY, "end": end},
            "total": 3,
            "reasons": [{"error_code": "bad_json", "count": 3, "last_at": end, "last_detail": "not JSON"}],
        },
        "checks": [check("embedding_mmd", "image", drift=12, ok=276), check("pairing", "image+text", no_baseline=288)],
        "incidents": [incident()],
        "objectives": [
            {
                **{"slo": "image_availability", "subject": "Image availability", "target": 0.99, "good": 85_536},
                **{"valid": 86_400, "budget_left": -0.2, "text": "Image availability burns its budget."},
            }
        ],
        "jobs": [job("failed", error=ODD)],
        "champions": [],
        "calibration": {
            **{"model_version": "v1", "period": {"start": DAY, "end": end}, "labelled": 12, "minimum_labels": 500},
            **{"accuracy": 0.75, "accuracy_low": 0.5, "accuracy_high": 0.9, "mean_confidence": 0.8, "ece": 0.05},
            **{"ece_target": 0.05, "verdict": "insufficient", "bins": []},
        },
        "compared": compare(reference(), period(), 1440) if compared is None else compared,
        "status_page": "http://127.0.0.1:8080/",
    }
    return Material.model_validate({**shown, **changes})


def nothing() -> Material:
    """A day without a model, a request or a finding."""
    empty: dict[str, Any] = {
        **{"versions": {}, "baseline": None, "modalities": [], "checks": [], "incidents": [], "objectives": []},
        **{"jobs": [], "champions": []},
        "traffic": {"requests": 0, "per_second": 0, "degraded": 0, "quarantined": 0, "routes": {}},
        "refused": {"period": {"start": DAY, "end": DAY + timedelta(days=1)}, "total": 0, "reasons": []},
    }
    return material(Compared(), **empty)


def check(detector: str, modality: str, **verdicts: int) -> dict[str, Any]:
    """A check with so many windows of each verdict; the first one named is the last window's."""
    drift = verdicts.get("drift")
    return {
        **{"detector": detector, "modality": modality, "windows": sum(verdicts.values()), "verdicts": verdicts},
        **{"value": 0.19, "threshold": 0.06, "verdict": next(iter(verdicts)), "explanation": "it moved"},
        **{"drift_since": DAY if drift else None, "drift_until": DAY + timedelta(hours=1) if drift else None},
        "drift_explanation": f"brightness fell {ODD}" if drift else None,
    }


def incident(**changes: Any) -> dict[str, Any]:
    """A ticket that fires still."""
    at = DAY + timedelta(hours=20)
    return {
        **{"alert_id": 7, "alertname": "EmbeddingDrift", "severity": "ticket", "modality": "image", "state": "firing"},
        **{"since": at, "firing_since": at, "resolved_at": None, "inhibited_by": None, "detector": "embedding_mmd"},
        **{"finding_id": 1, "labels": {}, "annotations": {"summary": f"image moved {ODD}", "runbook": "r.md"}},
        **changes,
    }


def job(state: str, **changes: Any) -> dict[str, Any]:
    """A retrain job of that day."""
    return {
        **{"job_id": 4, "state": state, "created_at": DAY, "started_at": DAY, "finished_at": DAY, "deadline": DAY},
        **{"attempts": 1, "claimed_by": "t", "lease_until": None, "spec": {}, "progress": {}, "lineage": None},
        **{"result": None, "error": None},
        **changes,
    }


class Page(HTMLParser):
    """What a page would load, and what it says."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.scripts = 0
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        for name, value in attrs:
            if name in ("src", "srcset") or (name == "href" and tag == "link"):
                self.loads.append(value or "")

    def handle_data(self, data: str) -> None:
        self.words.append(data)
