"""The pages in a real Chromium: all of them, what people do there, and what assistive technology would stumble on."""

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
from tests.support import seed, seed_story, tokens

pytestmark = pytest.mark.browser
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
]
FIRST_LOAD_BYTES = 300_000  # besides the chart file
TOKEN = "sixteen characters or more"
# axe-core 4.14.1 as npm packs it, MPL 2.0.
AXE = (Path(__file__).parent.parent / "support" / "axe" / "axe.min.js").read_text("utf-8")
LOADED = """['resource', 'navigation'].flatMap(kind => performance.getEntriesByType(kind))
  .filter(each => !each.name.includes('uPlot')).reduce((sum, each) => sum + each.decodedBodySize, 0)"""
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
    """Addresses of the pages over a seeded and over an empty database."""
    running, addresses = [], []
    for name in ("seen", "unseen"):
        engine = connect(postgres_server.create(f"browser_{name}", template="template"), application="test")
        if name == "seen":
            seed.seed(engine, outage=True)
            seed_story.tell(engine)
        port = servers.free_port()
        access = tokens.of({"ops": (TOKEN, "read silence")})
        app = create_app(engine, model=seed.MODEL, clock=seed.FixedClock(), access=access, **seed.TIMING)
        server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="warning", ws="none"))
        thread = threading.Thread(target=server.run)
        thread.start()
        running.append((name, engine, server, thread))
        addresses.append(f"http://127.0.0.1:{port}")
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
    """A window with what the browser complained of, and which hosts it asked."""

    def __init__(self, browser: Browser, address: str, *, width: int = 1280) -> None:
        self.complaints: list[str] = []
        self.hosts: set[str] = set()
        self.address = address
        self.context = browser.new_context(viewport={"width": width, "height": 844})
        self.page: Page = self.context.new_page()
        self.page.on("console", lambda m: self.complaints.append(m.text) if m.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.hosts.add(request.url.split("/")[2]))

    def __enter__(self) -> Visit:
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()

    def open(self, path: str) -> Page:
        """The page at a path once its plots, where it has some, are drawn."""
        self.page.goto(self.address + path)
        if self.page.locator("#charts").count():
            self.page.wait_for_selector("#charts:not([aria-busy])")
        return self.page

    def barriers(self) -> list[str]:
        """What axe-core finds serious or critical on the page that is open, by the rules of WCAG 2, A and AA."""
        self.page.evaluate(AXE)
        found = self.page.evaluate("axe.run(document, { runOnly: ['wcag2a', 'wcag2aa'], resultTypes: ['violations'] })")
        return [
            f"{each['id']} at {', '.join(str(node['target']) for node in each['nodes'])}"
            for each in found["violations"]
            if each["impact"] in ("serious", "critical")
        ]

    def picture(self, path: Path) -> int:
        """Bytes of a picture of the whole page: one without anything on it has few."""
        return len(self.page.screenshot(path=path, full_page=True))


PAGES = (
    "/",
    "/modalities",
    "/drift",
    "/drift/image",
    "/drift/fused",
    "/calibration",
    "/alerts",
    "/alerts/2",
    "/retraining",
    "/rollouts",
    "/findings/1174",
    "/refused",
    "/reports",
    "/reports/2/summary.html",
    "/history",
    "/sign-in",
)


@pytest.mark.parametrize("path", PAGES)
def test_every_page_in_the_light_and_in_the_dark_on_a_phone(
    browser: Browser, site: tuple[str, str], tmp_path: Path, path: str
) -> None:
    with Visit(browser, site[0]) as visit:
        page, least = visit.open(path), 20_000 if path != "/sign-in" else 5_000
        assert 0 < page.evaluate(LOADED) < FIRST_LOAD_BYTES
        assert page.evaluate("document.documentElement.scrollWidth") == 1280
        assert visit.picture(tmp_path / "light.png") > least
        assert visit.barriers() == []
        page.emulate_media(color_scheme="dark")
        page.set_viewport_size({"width": 390, "height": 844})
        assert page.evaluate("document.documentElement.scrollWidth") == 390, "it scrolls sideways"
        assert visit.picture(tmp_path / "dark.png") > least
        assert visit.barriers() == [], "in the dark, on a phone"
        assert visit.complaints == []
        assert visit.hosts == {site[0].split("/")[2]}


def test_every_plot_has_ink(browser: Browser, site: tuple[str, str]) -> None:
    with Visit(browser, site[0]) as visit:
        page = visit.open("/drift")
        canvases = page.locator("#charts canvas")
        assert canvases.count() == 12  # what only learns yet has no value to plot
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            for i in range(12):
                # a single window that is within bounds is a line of no length
                if "estimated" not in page.locator(".chart h3").nth(i).inner_text():
                    page.wait_for_function(f"i => ({INK})(document.querySelectorAll('#charts canvas')[i]) > 20", arg=i)
        assert visit.open("/findings/1174").locator("#charts canvas").count() == 1
        assert visit.open("/calibration").locator(".reliability .bin").count() == 20
        assert visit.open("/").locator("#modality-cards .strip .has").count() > 100
        assert "Image feed is down since 12:27; answers go on from text." in page.locator("h1").inner_text()


def test_signs_in_acknowledges_silences_and_ends_it_by_keyboard_and_click(
    browser: Browser, site: tuple[str, str]
) -> None:
    with Visit(browser, site[0]) as visit:
        page = visit.open("/alerts")
        page.get_by_role("link", name="Sign in to acknowledge").first.click()
        page.get_by_label("Your name").fill("ann")
        page.get_by_label("Token", exact=True).fill(TOKEN)
        page.keyboard.press("Enter")
        page.get_by_role("button", name="Acknowledge: I look after it").click()
        expect(page.locator("#acknowledge")).to_contain_text("ann looks after it")
        page.get_by_label("every alert on").check()
        page.get_by_label("For how long").select_option("1 day")
        page.get_by_label("Why", exact=True).fill("the camera is being changed")
        page.get_by_role("button", name="Silence").click()
        silenced = page.locator("#silences tr", has_text="the camera is being changed")
        expect(silenced).to_contain_text("ann")
        silenced.get_by_role("button").click()
        expect(page.locator("#silences")).not_to_contain_text("the camera is being changed")
        assert visit.barriers() == []
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_role("link", name="Sign in", exact=True)).to_be_visible()
        assert visit.complaints == []


def test_verdicts_have_a_word_and_a_shape(browser: Browser, site: tuple[str, str]) -> None:
    with Visit(browser, site[0]) as visit:
        signs = visit.open("/drift").locator(".sign")
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
    with Visit(browser, site[1], width=360) as visit:
        expect(visit.open("/").locator("h1")).to_have_text("No model named “fusion” answers yet.")
        assert visit.page.evaluate("document.documentElement.scrollWidth") == 360
        expect(visit.open("/drift").locator("#charts .empty")).to_contain_text("No window was judged in this time.")
        assert visit.complaints == []


def test_the_time_range_is_chosen_by_keyboard(browser: Browser, site: tuple[str, str]) -> None:
    with Visit(browser, site[0]) as visit, visit.open("/drift").expect_response("**/series?*minutes=15"):
        visit.page.get_by_role("link", name="15 min").focus()
        visit.page.keyboard.press("Enter")


def test_it_follows_the_database_without_reload_and_says_when_it_cannot(
    browser: Browser, postgres_server: servers.Database, site: tuple[str, str]
) -> None:
    with Visit(browser, site[1]) as visit:
        visit.open("/history").evaluate("window.stayed = true")
        engine = connect(postgres_server.url.replace("/postgres?", "/browser_unseen?"), application="test")
        with engine.begin() as connection:
            connection.execute(
                text(
                    "INSERT INTO audit_log (actor, action, subject, details) VALUES ('ann', 'pin_baseline', 'b7', '{}')"
                )
            )
        engine.dispose()
        expect(visit.page.locator("#history")).to_contain_text("Pin baseline: b7", timeout=15_000)
        assert visit.page.evaluate("window.stayed")
        visit.context.set_offline(True)
        expect(visit.page.locator("#fresh")).to_contain_text("no connection", timeout=20_000)
