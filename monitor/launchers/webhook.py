"""A signed JSON POST to whatever starts trainers: Airflow, Argo, a service of the team's own.

Signed as the alerts' webhook is (`monitor.channels.webhook`). `Idempotency-Key` names the attempt: a receiver that has
seen it answers 2xx, or 409, and starts nothing more. The body has the same key as `dag_run_id`, which makes Airflow
refuse a second run by itself, and the job in `conf`.
"""

from __future__ import annotations

import json
from http import HTTPStatus

import httpx
from pydantic import Field, HttpUrl, SecretStr

from monitor.channels.webhook import signature
from monitor.launchers.base import Launch, LauncherKind, LaunchError, Options


class WebhookOptions(Options):
    """Where to post, the shared secret (16 characters or more), and a bearer token where the receiver wants one.

    `cancel_url` is posted the same of an attempt that nobody wants any more; without it nobody is told.
    """

    url: HttpUrl
    cancel_url: HttpUrl | None = None
    secret: SecretStr = Field(min_length=16)
    token: SecretStr | None = None
    timeout_seconds: float = Field(default=10.0, gt=0, le=60)


class WebhookLauncher:
    """Posts each attempt."""

    def __init__(self, options: WebhookOptions) -> None:
        self._options = options

    def launch(self, wanted: Launch) -> str:
        """Post it; the key."""
        answer = self._post(self._options.url, wanted)
        if not answer.is_success and answer.status_code != HTTPStatus.CONFLICT:
            raise LaunchError(f"the webhook answered {answer.status_code}")
        return wanted.key

    def withdraw(self, launched: Launch) -> None:
        """Post it where cancelled attempts are told; 404 and 409 mean that there is nothing to cancel."""
        if self._options.cancel_url is None:
            return
        answer = self._post(self._options.cancel_url, launched)
        if not answer.is_success and answer.status_code not in (HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT):
            raise LaunchError(f"the webhook for cancelled attempts answered {answer.status_code}")

    def _post(self, url: HttpUrl, wanted: Launch) -> httpx.Response:
        conf = {
            "job_id": wanted.job_id,
            "model": wanted.model,
            "attempt": wanted.attempt,
            "deadline": wanted.deadline.isoformat(),
        }
        body = json.dumps({"dag_run_id": wanted.key, "conf": conf}, separators=(",", ":"), sort_keys=True).encode()
        stamp = str(int(wanted.now.timestamp()))
        options = self._options
        headers = {
            "Content-Type": "application/json",
            "Idempotency-Key": wanted.key,
            "X-Fusionwatch-Timestamp": stamp,
            "X-Fusionwatch-Signature": signature(options.secret.get_secret_value().encode(), stamp, wanted.key, body),
            **({"Authorization": f"Bearer {options.token.get_secret_value()}"} if options.token else {}),
        }
        try:
            return httpx.post(str(url), content=body, headers=headers, timeout=options.timeout_seconds)
        except httpx.HTTPError as error:
            raise LaunchError(f"the webhook does not answer: {type(error).__name__}") from error


LAUNCHER = LauncherKind("webhook", WebhookOptions, WebhookLauncher)
