"""A typed client of the API, on httpx alone.

with Client("http://127.0.0.1:8080", token) as fusion:
    answer = fusion.predict(image=Path("scene.jpg").read_bytes(), text="a red circle")
    fusion.label(answer["request_id"], "consistent")
    print(fusion.health()["text"])
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from types import TracebackType
from typing import Any, Literal, Self, TypedDict, cast

import httpx

PAGE = 200


class ApiError(Exception):
    """What the API refused: its status, its words, and for 429 after how many seconds to ask again."""

    def __init__(
        self, status: int, detail: str, errors: tuple[str, ...] = (), retry_after: float | None = None
    ) -> None:
        super().__init__("; ".join((f"{status}: {detail}", *errors)))
        self.status = status
        self.detail = detail
        self.errors = errors
        self.retry_after = retry_after


class Prediction(TypedDict):
    """An answer; `prediction` and its figures are None where the model's output cannot be used."""

    request_id: str
    model_version: str
    route: str
    prediction: str | None
    confidence: float | None
    probabilities: dict[str, float] | None
    modalities: dict[str, str]
    degraded: bool
    latency_ms: dict[str, float]


class Health(TypedDict):
    """How the model is, in a sentence, and what to do where there is something to do."""

    mood: Literal["well", "notice", "problem", "unknown"]
    text: str
    todo: str | None


class Finding(TypedDict):
    """One detector's verdict on one window; times as RFC 3339."""

    finding_id: int
    model_version: str
    detector: str
    modality: str
    window_start: str
    window_end: str
    verdict: Literal["ok", "drift", "insufficient", "no_data", "no_baseline"]
    value: float | None
    p_value: float | None
    threshold: float | None
    explanation: str


class Alert(TypedDict):
    """An alert that is pending, firing or resolved; times as RFC 3339."""

    alert_id: int
    alertname: str
    severity: Literal["page", "ticket"]
    modality: str
    state: Literal["pending", "firing", "resolved"]
    since: str
    acknowledged_by: str | None
    annotations: dict[str, Any]


class Baseline(TypedDict):
    """What a version of the model may be compared with; `used` where it is. Times as RFC 3339."""

    baseline_id: int
    model_version: str
    number: int
    origin: Literal["checkpoint", "period", "file"]
    pinned: bool
    used: bool
    period: dict[str, str] | None
    accuracy: float | None
    created_by: str
    created_at: str


class Client:
    """Asks one API, with one token. Every method raises ApiError where it refuses, httpx.HTTPError where it is away."""

    def __init__(self, url: str, token: str | None = None, *, timeout_seconds: float = 30) -> None:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._http = httpx.Client(base_url=url, headers=headers, timeout=timeout_seconds)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connections."""
        self._http.close()

    def predict(
        self,
        *,
        image: bytes | None = None,
        text: str | None = None,
        request_id: str | None = None,
        source: str | None = None,
    ) -> Prediction:
        """Send a request, an image or a text or both, and wait for its answer. Takes the scope `predict`.

        An ApiError of 504 says that no answer came in time; it may still come, and is logged.
        """
        fields = {"text": text, "request_id": request_id, "source": source}
        # each a part of one form: without a file httpx would send another kind of body
        parts: dict[str, Any] = {name: (None, value) for name, value in fields.items() if value is not None}
        if image is not None:
            parts["image"] = ("image", image, "application/octet-stream")
        return cast(Prediction, self._asked("POST", "/v1/predict", files=parts))

    def label(
        self,
        request_id: str,
        label: str,
        *,
        source: Literal["human_review", "ground_truth", "user"] = "human_review",
        labelled_at: datetime | None = None,
        sampling_probability: float | None = None,
    ) -> None:
        """Say what a request turned out to be. Late, repeated and unknown ids are normal. Takes the scope `label`."""
        given = {
            "request_id": request_id,
            "label": label,
            "source": source,
            "labelled_at": None if labelled_at is None else labelled_at.isoformat(),
            "sampling_probability": sampling_probability,
        }
        self._asked("POST", "/v1/labels", json={name: value for name, value in given.items() if value is not None})

    def health(self) -> Health:
        """How the model is now. Takes the scope `read`, as what follows."""
        return cast(Health, self._asked("GET", "/v1/overview")["sentence"])

    def findings(
        self, *, detector: str | None = None, modality: str | None = None, verdict: str | None = None
    ) -> Iterator[Finding]:
        """Findings, newest first, page by page as they are asked for."""
        wanted = {"detector": detector, "modality": modality, "verdict": verdict}
        return cast(Iterator[Finding], self._pages("/v1/findings", wanted))

    def alerts(self, state: Literal["open", "pending", "firing", "resolved", "any"] = "open") -> Iterator[Alert]:
        """Alerts, newest first; `open` means pending or firing."""
        return cast(Iterator[Alert], self._pages("/v1/alerts", {"state": state}))

    def baselines(self) -> Iterator[Baseline]:
        """The baselines of every version of the model, newest first."""
        return cast(Iterator[Baseline], self._pages("/v1/baselines", {}))

    def _pages(self, path: str, wanted: Mapping[str, str | None]) -> Iterator[Any]:
        query: dict[str, Any] = {"limit": PAGE, **{name: value for name, value in wanted.items() if value is not None}}
        while True:
            page = self._asked("GET", path, params=query)
            yield from page["items"]
            if page["next_cursor"] is None:
                return
            query["cursor"] = page["next_cursor"]

    def _asked(self, method: str, path: str, **given: Any) -> Any:
        response = self._http.request(method, path, **given)
        if response.is_success:
            return response.json()
        try:
            said = response.json()
        except ValueError:
            said = {}
        wait = response.headers.get("retry-after", "")
        raise ApiError(
            response.status_code,
            str(said.get("detail", response.reason_phrase)),
            tuple(said.get("errors", ())),
            float(wait) if wait.isdigit() else None,
        )
