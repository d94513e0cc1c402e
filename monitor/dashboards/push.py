"""Puts dashboards into a running Grafana, over its HTTP API. Pushing again replaces what was pushed before."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import SplitResult, urljoin, urlsplit

from grafana_client.api import GrafanaApi
from grafana_client.client import (
    GrafanaClientError,
    GrafanaException,
    GrafanaServerError,
    GrafanaTimeoutError,
    TokenAuth,
)

from monitor.dashboards.panels import POSTGRES, PROMETHEUS, Json
from monitor.errors import GrafanaError

FOLDER_UID = "fusionwatch"
TIMEOUT_SECONDS = 10.0
PAUSES = (1.0, 4.0)  # before the second and the third attempt
BUSY = 429
_LOCAL = ("localhost", "127.0.0.1", "::1")
_MEANS = {
    400: "it refuses the request; a dashboard of that uid that is provisioned from a file cannot be pushed",
    401: "it does not know the token: it is wrong, expired or of another Grafana",
    403: "the token may not do that: its service account needs the role Editor, which may make folders and dashboards",
    404: "it has no such address: is this Grafana's own, with the path that it is served under?",
    412: "it keeps something else in that place: a dashboard of the same title in this folder, or a newer version",
}


@dataclass(frozen=True, slots=True)
class Pushed:
    """A dashboard that Grafana has taken: its uid, and where it is."""

    uid: str
    url: str


class Grafana:
    """One Grafana. Raises GrafanaError where `url` is not its address, or would carry the token in the clear."""

    def __init__(self, url: str, token: str, *, insecure: bool = False, pauses: Sequence[float] = PAUSES) -> None:
        """`insecure` allows http to another host than this one. Certificates are checked in any case."""
        self._url = url.rstrip("/") + "/"
        self._pauses = pauses
        at = _checked(self._url, insecure)
        api: Any = GrafanaApi  # typed in parts only
        auth: Any = TokenAuth
        self._api = api(
            auth=auth(token),
            host=f"[{at.hostname}]" if at.hostname and ":" in at.hostname else at.hostname,
            port=at.port,
            url_path_prefix=at.path.lstrip("/"),
            protocol=at.scheme,
            timeout=TIMEOUT_SECONDS,
        )

    def push(self, dashboards: Mapping[str, Json], folder: str) -> list[Pushed]:
        """Put the dashboards into the folder of that title, which is made where there is none.

        Raises GrafanaError where a data source is missing that they read from, and where Grafana refuses or is away.
        Busy or failing servers are asked again, a refusal is not.
        """
        self._require_sources()
        self._folder(folder)
        return [self._dashboard(each) for each in dashboards.values()]

    def _require_sources(self) -> None:
        for source in (POSTGRES, PROMETHEUS):
            uid = source["uid"]
            ask = partial(self._api.datasource.get_datasource_by_uid, uid)
            # who may not look at sources is not refused
            found = self._asked(f"data source {uid}", ask, but={404: None, 403: {}})
            if found is None:
                raise GrafanaError(
                    f"{self._url} has no data source with the uid {uid!r} (a {source['type']}), which the dashboards "
                    "read from: make it first, as dashboards/grafana/provisioning/datasources/fusionwatch.yml does"
                )

    def _folder(self, title: str) -> None:
        what = f"folder {title!r}"
        if self._asked(what, lambda: self._api.folder.get_folder(FOLDER_UID), but={404: None}) is None:
            # made by someone else meanwhile is as good
            self._asked(what, lambda: self._api.folder.create_folder(title, FOLDER_UID), but={409: {}, 412: {}})

    def _dashboard(self, dashboard: Json) -> Pushed:
        payload = {"dashboard": dashboard, "folderUid": FOLDER_UID, "overwrite": True}
        what = f"dashboard {dashboard['uid']}"
        answer = self._asked(what, lambda: self._api.dashboard.update_dashboard(payload))
        url = (answer or {}).get("url")
        if not isinstance(url, str):
            raise GrafanaError(f"{self._url}, {what}: the answer does not say where the dashboard is; is it Grafana?")
        return Pushed(dashboard["uid"], urljoin(self._url, url))

    def _asked(self, what: str, ask: Callable[[], Any], but: Mapping[int, Json | None] | None = None) -> Json | None:
        """What it answers; where it answers with a status of `but`, what that maps to."""
        for pause in (*self._pauses, None):
            try:
                answer = ask()
            except (GrafanaServerError, GrafanaTimeoutError) as error:
                problem = f"it failed: {_short(error)}" if error.status_code else "it did not answer in time"
            except GrafanaClientError as error:
                if but is not None and error.status_code in but:
                    return but[error.status_code]
                if error.status_code != BUSY:
                    meaning = _MEANS.get(error.status_code, "it refuses")
                    raise GrafanaError(f"{self._url}, {what}: {meaning} ({_short(error)})") from None
                problem = "it is busy"
            except GrafanaException as error:
                raise GrafanaError(f"{self._url}, {what}: {_short(error)}") from None
            except ValueError:
                raise self._no_json(what) from None
            except OSError as error:
                problem = f"it cannot be reached: {_short(error)}"
            else:
                if not isinstance(answer, dict):
                    raise self._no_json(what)
                return answer
            if pause is not None:
                time.sleep(pause)
        raise GrafanaError(f"{self._url}, {what}: {problem}; tried {len(self._pauses) + 1} times")

    def _no_json(self, what: str) -> GrafanaError:
        return GrafanaError(
            f"{self._url}, {what}: the answer is not JSON, as that of a login page or a proxy: is this Grafana's own "
            "address, with the path that it is served under?"
        )


def _checked(url: str, insecure: bool) -> SplitResult:
    try:
        at = urlsplit(url)
        known = at.scheme in ("http", "https") and bool(at.hostname) and (at.port is None or at.port > 0)
    except ValueError:
        known = False
    if not known:
        raise GrafanaError(f"{url} is no address of Grafana: give it as https://host, with its port and path if any")
    if at.username or at.password or at.query or at.fragment:
        raise GrafanaError("the address of Grafana takes no user, password, query or fragment: a token is given apart")
    if at.scheme == "http" and at.hostname not in _LOCAL and not insecure:
        raise GrafanaError(f"{url} would carry the token in the clear: use https, or --insecure where nobody listens")
    return at


def _short(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 300 else f"{text[:300]} …"
