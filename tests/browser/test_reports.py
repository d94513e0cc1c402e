"""Every kind of report, of a window with one row, in a real Chromium under the policy that it is served with."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Route, sync_playwright

from monitor.api.reports import CONTENT_SECURITY_POLICY, POLICY
from monitor.reports.base import kinds
from monitor.reports.columns import compare
from monitor.reports.run import Bounds, Rendered, Renderer
from monitor.storage.views.reports import FILE_NAME
from tests.support.report_material import Page, material, period, reference

pytestmark = pytest.mark.browser
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]


@pytest.fixture(scope="module")
def rendered() -> Rendered:
    """Every kind of an eventful day: the isolated ones in a process each, as the monitor makes them."""
    return Renderer(Bounds()).render(material(compare(reference(), period(rows=1), 1)))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    found = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if not found:
        pytest.fail("no Chromium found: install it (apt-get install chromium) or set CHROMIUM to its path")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=found, args=ARGUMENTS)
        yield launched
        launched.close()


def test_every_kind_is_rendered_whole(rendered: Rendered) -> None:
    assert rendered.error is None
    assert {each.name for each in rendered.documents} == set(kinds())
    assert set(rendered.files) == {name for each in rendered.documents for name in each.files}
    for name, body in rendered.files.items():
        assert FILE_NAME.fullmatch(name)
        if name.endswith(".html"):
            assert [each for each in Page(body.decode()).loads if not each.startswith("data:")] == [], name
            assert re.findall(rb"url\(\s*[\"']?https?:", body) == [], name


class Visit:
    """A file of a report as it is served, what the browser complained of, and what it asked for."""

    def __init__(self, browser: Browser, name: str, body: bytes) -> None:
        self.complaints: list[str] = []
        self.asked: list[str] = []
        self._body = body
        self._policy = {"Content-Security-Policy": CONTENT_SECURITY_POLICY.get(name, POLICY)}
        self.page = browser.new_page(viewport={"width": 1280, "height": 900})
        self.page.on("console", lambda said: self.complaints.append(said.text) if said.type == "error" else None)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.route("**/*", self._answer)
        self.page.goto(f"http://reports.example/{name}")

    def _answer(self, route: Route) -> None:
        self.asked.append(route.request.url)
        route.fulfill(body=self._body, content_type="text/html; charset=utf-8", headers=self._policy)


@pytest.mark.parametrize("name", ["evidently.html", "summary.html"])
def test_a_page_shows_all_and_asks_for_nothing_more(rendered: Rendered, browser: Browser, name: str) -> None:
    visit = Visit(browser, name, rendered.files[name])
    said = ["What to do", "Objectives"]
    if name == "evidently.html":
        said = [each.name for each in material().compared.columns]
        visit.page.wait_for_selector("svg.main-svg")
    for words in said:
        assert visit.page.get_by_text(words, exact=False).count() > 0, words
    assert visit.asked == [f"http://reports.example/{name}"]
    assert visit.complaints == []
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= 1280
    visit.page.close()
