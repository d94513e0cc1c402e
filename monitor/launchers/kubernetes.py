"""A trainer as a Kubernetes Job, posted to the API server.

https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/job-v1/ - the Job's name is the attempt's, so
that posting it again is refused (409), which counts as started. The pod ends with the job's deadline, or is deleted
where the job is cancelled. It meets the pod security standard "restricted".
"""

from __future__ import annotations

import hashlib
import re
import ssl
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx
from pydantic import Field, HttpUrl

from monitor.launchers.base import Launch, LauncherKind, LaunchError, Options

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
SCRATCH = "scratch"
LONGEST_NAME = 52  # pods get a suffix, and their names end up in labels of 63 characters at most


class KubernetesOptions(Options):
    """The image and what its pod gets. Server, token and authority are by default those of the pod's own account.

    `env_from` names secrets, and `config_maps` such, whose entries are the trainer's settings; `claims` maps persistent
    volume claims to where they are mounted, and `secrets` those whose entries become files there, if they exist;
    `resources` are limits such as {"nvidia.com/gpu": "1"}. The pod runs as `user`, who owns what it writes, on a
    read-only disk but for `/tmp`.
    """

    image: str = Field(min_length=1)
    namespace: str = Field(default="default", pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")
    server: HttpUrl = HttpUrl("https://kubernetes.default.svc")
    token_file: Path = ACCOUNT / "token"
    ca_file: Path | None = ACCOUNT / "ca.crt"
    service_account: str | None = None
    env_from: tuple[str, ...] = ()
    config_maps: tuple[str, ...] = ()
    claims: dict[str, str] = Field(default_factory=dict)
    secrets: dict[str, str] = Field(default_factory=dict)
    resources: dict[str, str] = Field(default_factory=dict)
    user: int = Field(default=10_001, ge=1)
    keep_seconds: int = Field(default=86_400, ge=0)
    timeout_seconds: float = Field(default=10.0, gt=0, le=60)


def manifest(options: KubernetesOptions, wanted: Launch) -> dict[str, Any]:
    """The Job of one attempt."""
    labels = {
        "app.kubernetes.io/part-of": "fusionwatch",
        "app.kubernetes.io/component": "trainer",
        "fusionwatch/job": str(wanted.job_id),
    }
    mounts: list[dict[str, Any]] = [{"name": name, "mountPath": path} for name, path in sorted(options.claims.items())]
    files = {f"secret-{number}": each for number, each in enumerate(sorted(options.secrets.items()))}
    mounts += [{"name": volume, "mountPath": path, "readOnly": True} for volume, (_, path) in files.items()]
    container: dict[str, Any] = {
        "name": "trainer",
        "image": options.image,
        "command": ["fusionwatch-inference", "trainer", "--job", str(wanted.job_id)],
        "envFrom": [
            *({"configMapRef": {"name": name}} for name in options.config_maps),
            *({"secretRef": {"name": name}} for name in options.env_from),
        ],
        "volumeMounts": [{"name": SCRATCH, "mountPath": "/tmp"}, *mounts],
        "resources": {"limits": dict(options.resources)},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    claimed = [{"name": name, "persistentVolumeClaim": {"claimName": name}} for name in sorted(options.claims)]
    secret = [{"name": volume, "secret": {"secretName": name, "optional": True}} for volume, (name, _) in files.items()]
    pod: dict[str, Any] = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": options.user,
            "runAsGroup": options.user,
            "fsGroup": options.user,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [{"name": SCRATCH, "emptyDir": {}}, *claimed, *secret],
        **({"serviceAccountName": options.service_account} if options.service_account else {}),
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": _name(wanted), "namespace": options.namespace, "labels": labels},
        "spec": {
            "backoffLimit": 2,
            "activeDeadlineSeconds": wanted.seconds_left,
            "ttlSecondsAfterFinished": options.keep_seconds,
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }


def _name(wanted: Launch) -> str:
    """The key as a DNS label; a model whose name is none, or too long, is told by a digest."""
    key = wanted.key.lower()
    if len(key) <= LONGEST_NAME and re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", wanted.key):
        return key
    told = hashlib.sha256(wanted.model.encode()).hexdigest()[:8]
    return f"fusionwatch-{told}-job-{wanted.job_id}-attempt-{wanted.attempt}"


class KubernetesLauncher:
    """Posts a Job for each attempt, and deletes it where nobody wants it any more."""

    def __init__(self, options: KubernetesOptions) -> None:
        self._options = options

    def launch(self, wanted: Launch) -> str:
        """Post it; its name."""
        job = manifest(self._options, wanted)
        self._ask("POST", "", {"fieldValidation": "Strict"}, job, allowed=HTTPStatus.CONFLICT)
        return f"job {self._options.namespace}/{job['metadata']['name']}"

    def withdraw(self, launched: Launch) -> None:
        """Delete it with its pod."""
        self._ask("DELETE", f"/{_name(launched)}", {"propagationPolicy": "Background"}, allowed=HTTPStatus.NOT_FOUND)

    def _ask(self, method: str, path: str, params: dict[str, str], body: Any = None, *, allowed: HTTPStatus) -> None:
        options = self._options
        url = f"{str(options.server).rstrip('/')}/apis/batch/v1/namespaces/{options.namespace}/jobs{path}"
        try:
            token = options.token_file.read_text(encoding="utf-8").strip()  # read anew: the cluster rotates it
            trusted = ssl.create_default_context(cafile=None if options.ca_file is None else str(options.ca_file))
            with httpx.Client(verify=trusted, timeout=options.timeout_seconds) as client:
                headers = {"Authorization": f"Bearer {token}"}
                answer = client.request(method, url, params=params, json=body, headers=headers)
        except OSError as error:
            raise LaunchError(f"the account's files cannot be read: {error.strerror}: {error.filename}") from error
        except httpx.HTTPError as error:
            raise LaunchError(f"the API server does not answer: {type(error).__name__}") from error
        if not answer.is_success and answer.status_code != allowed:
            raise LaunchError(f"the API server answered {answer.status_code}: {_message(answer)}")


def _message(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["message"])[:300]
    except (ValueError, KeyError, TypeError):
        return answer.reason_phrase


LAUNCHER = LauncherKind("kubernetes", KubernetesOptions, KubernetesLauncher)
