"""Pushing dashboards, over HTTP to a server that answers as Grafana does, and as it does not."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from demo.servers import free_port
from monitor.cli import app
from monitor.dashboards.catalogue import SHIPPED, dashboards
from monitor.dashboards.push import Grafana, Pushed
from monitor.errors import GrafanaError
from tests.support.http_stub import Asked, Reply, serving

TOKEN = "glsa_a-token-that-nobody-may-see"
SHOWN = dashboards(SHIPPED)


@dataclass
class Stub:
    """A Grafana: its folders, data sources and dashboards, and by path what it answers instead, a reply at a time."""

    folders: dict[str, str] = field(default_factory=dict)
    sources: set[str] = field(default_factory=lambda: {"fusionwatch-postgres", "fusionwatch-prometheus"})
    dashboards: dict[str, Any] = field(default_factory=dict)
    instead: dict[str, list[Reply]] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    prefix: str = ""

    def answer(self, asked: Asked) -> Reply:
        self.asked.append(asked)
        path = asked.path.removeprefix(f"{self.prefix}/api")
        if replies := self.instead.get(path):
            return replies.pop(0)
        if asked.headers["Authorization"] != f"Bearer {TOKEN}":
            return told(401, "Invalid API key")
        return self._known(asked, path)

    def _known(self, asked: Asked, path: str) -> Reply:
        given = json.loads(asked.body or b"{}")
        name = path.rsplit("/", 1)[-1]
        if path == "/folders" and asked.method == "POST":
            self.folders[given["uid"]] = given["title"]
            return told(200, "made")
        if path.startswith("/folders/"):
            return told(200, "here") if name in self.folders else told(404, "folder not found")
        if path.startswith("/datasources/uid/"):
            return told(200, "here") if name in self.sources else told(404, "Data source not found")
        if path == "/dashboards/db" and given["folderUid"] in self.folders and given["overwrite"] is True:
            uid = given["dashboard"]["uid"]
            self.dashboards[uid] = given["dashboard"]
            return Reply(200, json.dumps({"uid": uid, "url": f"{self.prefix}/d/{uid}/x", "status": "success"}).encode())
        return told(404, "Not found")


def told(status: int, message: str) -> Reply:
    return Reply(status, json.dumps({"message": message}).encode())


@contextmanager
def grafana(**state: Any) -> Iterator[tuple[Stub, str]]:
    stub = Stub(**state)
    with serving(stub.answer) as url:
        yield stub, url + stub.prefix


def push(url: str, token: str = TOKEN, **more: Any) -> list[Pushed]:
    return Grafana(url, token, pauses=(0.0, 0.0), **more).push(SHOWN, "Models")


def test_dashboards_come_into_a_folder_and_pushing_again_replaces_them() -> None:
    with grafana(prefix="/monitoring") as (stub, url):
        pushed = push(url)
        assert [each.uid for each in pushed] == [each["uid"] for each in SHOWN.values()]
        assert pushed[0].url == f"{url}/d/fusionwatch-executive/x"
        assert push(f"{url}/") == pushed
    assert stub.folders == {"fusionwatch": "Models"}
    assert stub.dashboards == {each["uid"]: json.loads(json.dumps(each)) for each in SHOWN.values()}
    assert [each.method for each in stub.asked if each.path == "/monitoring/api/folders"] == ["POST"]


@pytest.mark.parametrize(
    ("path", "reply", "words"),
    [
        ("/dashboards/db", told(401, "Invalid API key"), "does not know the token"),
        ("/dashboards/db", told(403, "no dashboards:create"), "needs the role Editor"),
        ("/dashboards/db", told(400, "Cannot save provisioned dashboard"), "provisioned from a file"),
        ("/dashboards/db", told(412, "name-exists"), "keeps something else in that place"),
        ("/dashboards/db", told(422, "odd"), "it refuses .*odd"),
        ("/dashboards/db", Reply(200, b"<html>Log in</html>", "text/html"), "not JSON.*login page"),
        ("/dashboards/db", Reply(200, b"{", "application/json"), "not JSON"),
        ("/dashboards/db", Reply(200, b"{}", "application/json"), "does not say where the dashboard is"),
        ("/dashboards/db", Reply(200, b'{"url": 3}', "application/json"), "does not say where"),
        ("/folders/fusionwatch", told(401, "expired"), "folder 'Models': it does not know the token"),
        ("/datasources/uid/fusionwatch-postgres", told(404, "none"), "no data source .*fusionwatch-postgres"),
    ],
)
def test_a_refusal_is_told_with_what_helps_and_not_tried_again(path: str, reply: Reply, words: str) -> None:
    with grafana(instead={path: [reply]}) as (stub, url), pytest.raises(GrafanaError) as error:
        push(url)
    assert re.match(f"{url}/.*{words}", str(error.value))
    assert [each.path for each in stub.asked].count(f"/api{path}") == 1
    assert TOKEN not in str(error.value)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_what_fails_for_a_while_is_tried_again(status: int) -> None:
    busy = [told(status, "wait"), told(status, "wait")]
    with grafana(instead={"/dashboards/db": list(busy)}) as (stub, url):
        assert len(push(url)) == 3
        stub.instead["/dashboards/db"] = [*busy, told(status, "wait")]
        with pytest.raises(GrafanaError, match=r"fusionwatch-executive: it (failed|is busy).*tried 3 times"):
            push(url)


def test_who_may_not_look_at_data_sources_may_push() -> None:
    hidden = {f"/datasources/uid/fusionwatch-{name}": [told(403, "no")] for name in ("postgres", "prometheus")}
    with grafana(instead=hidden) as (_, url):
        assert len(push(url)) == 3


def test_a_folder_that_someone_made_meanwhile_is_taken() -> None:
    with grafana(folders={"fusionwatch": "Models"}) as (stub, url):
        stub.instead = {"/folders/fusionwatch": [told(404, "not yet")], "/folders": [told(412, "name exists")]}
        assert len(push(url)) == 3


def test_an_unknown_token_and_an_address_where_nobody_listens() -> None:
    with grafana() as (_, url), pytest.raises(GrafanaError, match="does not know the token"):
        push(url, token="another")
    with pytest.raises(GrafanaError, match=r"cannot be reached.*tried 3 times"):
        push(f"http://127.0.0.1:{free_port()}")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://grafana.test:3000", "token in the clear: use https, or --insecure"),
        ("grafana.test", "is no address"),
        ("ftp://grafana.test", "is no address"),
        ("https://", "is no address"),
        ("https://grafana.test:port", "is no address"),
        ("https://admin:secret@grafana.test", "takes no user, password"),
        ("https://grafana.test/?orgId=1", "takes no user, password, query"),
    ],
)
def test_an_address_that_cannot_be_used_is_refused_before_anything_is_sent(url: str, words: str) -> None:
    with pytest.raises(GrafanaError, match=words) as error:
        Grafana(url, TOKEN)
    assert "secret" not in str(error.value)
    Grafana("http://grafana.test:3000", TOKEN, insecure=True)


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, **settings: str) -> Any:
        environment = {f"FUSIONWATCH_{name}": value for name, value in settings.items()}
        return CliRunner().invoke(app, ["dashboards", *arguments], env=environment)

    return run


def test_the_command_pushes_with_the_deployments_objectives(command: Callable[..., Any]) -> None:
    slos = '{"end_to_end_latency": {"limit_ms": 500}}'
    with grafana() as (stub, url):
        done = command(
            "push", GRAFANA_URL=url, GRAFANA_TOKEN=TOKEN, SLOS=slos, RUNBOOK_URL="https://wiki.test/runbooks"
        )
    assert done.exit_code == 0, done.output
    assert f"fusionwatch-debug  {url}/d/fusionwatch-debug/x" in done.output
    assert TOKEN not in done.output
    shown = json.dumps(stub.dashboards["fusionwatch-on-call"])
    assert '"value": 0.5' in shown
    assert "https://wiki.test/runbooks/modality-unavailable.md" in shown
    assert stub.folders == {"fusionwatch": "fusionwatch"}


def test_the_command_says_what_it_needs(command: Callable[..., Any], tmp_path: Path) -> None:
    for missing in ({}, {"GRAFANA_URL": "https://grafana.test"}):
        assert "FUSIONWATCH_GRAFANA_TOKEN" in str(command("push", **missing).exception)
    wrong = command("write", str(tmp_path), SLOS='{"speed": {"target": 0.9}}')
    assert wrong.exit_code == 2
    assert not list(tmp_path.iterdir())


def test_the_command_writes_files_with_the_deployments_objectives(command: Callable[..., Any], tmp_path: Path) -> None:
    assert command("write", str(tmp_path), SLOS='{"agreement": {"target": 0.8}}').exit_code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["debug.json", "executive.json", "on-call.json"]
    assert '"value": 0.8' in (tmp_path / "debug.json").read_text()
    assert command("write", "--shipped", str(tmp_path), SLOS='{"agreement": {"target": 0.8}}').exit_code == 0
    assert '"value": 0.8' not in (tmp_path / "debug.json").read_text()
