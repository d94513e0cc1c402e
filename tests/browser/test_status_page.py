"""The status page in a real Chromium: plots have ink, nothing scrolls sideways, nothing is complained about."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from playwright.sync_api import Browser, Page, expect, sync_playwright
from sqlalchemy import text

from demo import servers
from migrations.connect import connect
from monitor.api.app import create_app
from tests.support import seed

pytestmark = pytest.mark.browser
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
]
FIRST_LOAD_BYTES = 300_000
# Pixels of a canvas in the colour of the value line or of the drift marks: axes and grid do not count.
INK = """canvas => {
  const style = getComputedStyle(document.documentElement);
  const rgb = name => {
    const probe = document.createElement('canvas').getContext('2d');
    probe.fillStyle = style.getPropertyValue(name).trim();
    probe.fillRect(0, 0, 1, 1);
    return probe.getImageData(0, 0, 1, 1).data;
  };
  const wanted = [rgb('--line'), rgb('--bad')];
  const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
  const near = (c, i) => Math.abs(c[0] - data[i]) + Math.abs(c[1] - data[i + 1]) + Math.abs(c[2] - data[i + 2]) < 40;
  let ink = 0;
  for (let i = 0; i < data.length; i += 4) if (data[i + 3] > 200 && wanted.some(c => near(c, i))) ink++;
  return ink;
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    found = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if not found:
        pytest.fail("no Chromium found: install it (apt-get install chromium) or set CHROMIUM to its path")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=found, args=ARGUMENTS)
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def site(postgres_server: servers.Database) -> Iterator[tuple[str, str]]:
    """Addresses of the page over a seeded and over an empty database."""
    running, addresses = [], []
    for name in ("seen", "unseen"):
        engine = connect(postgres_server.create(f"browser_{name}", template="template"), application="test")
        if name == "seen":
            seed.seed(engine, outage=True)
        port = servers.free_port()
        app = create_app(engine, model=seed.MODEL, clock=seed.FixedClock(), **seed.TIMING)
        server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="warning", ws="none"))
        thread = threading.Thread(target=server.run)
        thread.start()
        running.append((name, engine, server, thread))
        addresses.append(f"http://127.0.0.1:{port}/")
    deadline = time.monotonic() + 20
    while not all(server.started for _, _, server, _ in running) and time.monotonic() < deadline:
        time.sleep(0.05)
    yield addresses[0], addresses[1]
    for name, engine, server, thread in running:
        server.should_exit = True
        thread.join()
        engine.dispose()
        postgres_server.drop(f"browser_{name}")


class Visit:
    """A page with what the browser complained of, and which hosts it asked."""

    def __init__(self, browser: Browser, address: str, *, width: int = 1280, dark: bool = False) -> None:
        self.complaints: list[str] = []
        self.hosts: set[str] = set()
        self.context = browser.new_context(
            viewport={"width": width, "height": 844}, color_scheme="dark" if dark else "light"
        )
        self.page: Page = self.context.new_page()
        self.page.on("console", lambda m: self.complaints.append(m.text) if m.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.hosts.add(request.url.split("/")[2]))
        self.page.goto(address)
        self.page.wait_for_selector("#charts:not([aria-busy])")

    def __enter__(self) -> Visit:
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()


@pytest.mark.parametrize("dark", [False, True])
def test_every_plot_has_ink_and_nothing_is_complained_of(
    browser: Browser, site: tuple[str, str], tmp_path: Path, dark: bool
) -> None:
    with Visit(browser, site[0], dark=dark) as visit:
        page = visit.page
        canvases = page.locator("#charts canvas")
        assert canvases.count() == 10  # what only learns yet has no value to plot
        for i in range(10):
            assert canvases.nth(i).evaluate(INK) > 100, page.locator(".chart h3").nth(i).inner_text()
        assert page.locator(".reliability .bin").count() == 10
        assert page.locator("#modality-cards .strip .has").count() > 100
        assert "Image feed is down since 12:27; answers go on from text." in page.locator("h1").inner_text()
        picture = tmp_path / "page.png"
        page.screenshot(path=picture, full_page=True)
        assert picture.stat().st_size > 50_000
        assert visit.complaints == []
        assert visit.hosts == {site[0].split("/")[2]}


def test_first_load_is_small(browser: Browser, site: tuple[str, str]) -> None:
    with Visit(browser, site[0]) as visit:
        size = visit.page.evaluate(
            "['resource', 'navigation'].flatMap(kind => performance.getEntriesByType(kind))"
            ".reduce((sum, each) => sum + each.decodedBodySize, 0)"
        )
        assert 0 < size < FIRST_LOAD_BYTES + 52_000  # the chart file comes on top


@pytest.mark.parametrize("address", [0, 1])
def test_a_phone_does_not_scroll_sideways(browser: Browser, site: tuple[str, str], address: int) -> None:
    with Visit(browser, site[address], width=360) as visit:
        assert visit.page.evaluate("document.documentElement.scrollWidth") == 360
        assert visit.complaints == []


def test_verdicts_have_a_word_and_a_shape(browser: Browser, site: tuple[str, str]) -> None:
    with Visit(browser, site[0]) as visit:
        signs = visit.page.locator(".sign")
        assert signs.count() > 20
        for i in range(signs.count()):
            assert signs.nth(i).inner_text().strip()
            assert signs.nth(i).locator("use").get_attribute("href") in {
                "#check",
                "#diamond",
                "#half",
                "#ring",
                "#dashed",
            }
        shown = {text: signs.filter(has_text=text).count() for text in ("no data", "failing", "drift", "ok")}
        assert all(shown.values()), shown


def test_an_empty_database_says_what_is_missing(browser: Browser, site: tuple[str, str]) -> None:
    with Visit(browser, site[1]) as visit:
        expect(visit.page.locator("h1")).to_have_text("No model named “fusion” answers yet.")
        expect(visit.page.locator("#charts .empty")).to_contain_text("No window was judged in this time.")
        assert visit.complaints == []


def test_the_time_range_is_chosen_by_keyboard(browser: Browser, site: tuple[str, str]) -> None:
    with Visit(browser, site[0]) as visit, visit.page.expect_response("**/v1/series?minutes=15"):
        visit.page.locator('input[name="range"]:checked').focus()
        visit.page.keyboard.press("ArrowLeft")


def test_it_follows_the_database_without_reload_and_says_when_it_cannot(
    browser: Browser, postgres_server: servers.Database, site: tuple[str, str]
) -> None:
    with Visit(browser, site[1]) as visit:
        visit.page.evaluate("window.stayed = true")
        engine = connect(postgres_server.url.replace("/postgres?", "/browser_unseen?"), application="test")
        with engine.begin() as connection:
            connection.execute(
                text(
                    "INSERT INTO audit_log (actor, action, subject, details) VALUES ('ann', 'pin_baseline', 'b7', '{}')"
                )
            )
        engine.dispose()
        expect(visit.page.locator("#jobs .log")).to_contain_text("Pin baseline: b7", timeout=15_000)
        assert visit.page.evaluate("window.stayed")
        visit.context.set_offline(True)
        expect(visit.page.locator("#fresh")).to_contain_text("no connection", timeout=20_000)
