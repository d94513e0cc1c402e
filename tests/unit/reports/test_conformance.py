"""Every kind of report makes whole files of any material, or is told of where it cannot; see tests/browser too."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest

from monitor.reports.base import kinds
from monitor.reports.columns import compare
from monitor.reports.material import Document, Material
from monitor.reports.run import Bounds, Renderer
from monitor.storage.views.reports import FILE_NAME
from tests.support.report_material import ODD, Page, check, incident, job, material, nothing, reference

MISSING = material(compare(reference(), {}, 0), documents=[Document(name="evidently", error="it broke")])
CHEAP = [name for name, kind in kinds().items() if not kind.isolated]


@pytest.mark.parametrize("name", CHEAP)
@pytest.mark.parametrize("given", [material(), nothing(), MISSING], ids=["eventful", "nothing", "missing"])
def test_what_is_left_when_all_else_fails_takes_any_material(name: str, given: Material) -> None:
    for file, text in kinds()[name].render(given).items():
        assert FILE_NAME.fullmatch(file)
        assert "None" not in text, file
        if file.endswith(".html"):
            assert Page(text).scripts == 0, "words of alerts and errors stay words"
            assert Page(text).loads == []


def test_the_summary_says_what_matters() -> None:
    files = kinds()["summary"].render(MISSING)
    page = " ".join("".join(Page(files["summary.html"]).words).split())
    for said in (
        "86 400 requests, 0 pages, 1 ticket, 1 check drifted and 1 error budget overdrawn.",
        "EmbeddingDrift of image was still firing: image moved",
        "The 30-day budget of image availability is overdrawn by 20%",
        f"Retrain job 4 failed: {ODD}",
        "Image and text pairing: never judged in the period, as there is nothing to compare with.",
        "12 labels came in the period; 500 are needed",
        "The report “evidently” is missing from this one: it broke.",
        "Not compared: image: the period has no rows of it.",
    ):
        assert said in page, said
    assert "Nothing to do." not in page
    markdown = files["summary.md"]
    assert "image moved a\\|b\\*c\\_\\<script\\>alert(1)\\</script\\>" in markdown
    tables = [line for line in markdown.splitlines() if line.startswith("|")]
    widths = {len(re.findall(r"(?<!\\)\|", line)) for line in tables}
    assert widths == {3, 6, 7}, "figures, objectives, incidents and verdicts: no row has a stray bar"


def test_only_what_should_not_wait_is_urgent_and_a_quiet_day_without_labels_asks_for_nothing() -> None:
    no_labels = material().calibration.model_copy(update={"labelled": 0, "accuracy": None, "ece": None})
    quiet: dict[str, Any] = {
        "checks": [check("embedding_mmd", "image", ok=288)],
        "incidents": [],
        "objectives": [],
        "jobs": [],
    }
    calm = kinds()["summary"].render(material(calibration=no_labels, **quiet))["summary.html"]
    assert "Nothing to do." in calm
    failed = kinds()["summary"].render(material(calibration=no_labels, **{**quiet, "jobs": [job("failed")]}))
    assert '<section class="todo">' in failed["summary.html"]
    fires = kinds()["summary"].render(material(calibration=no_labels, **{**quiet, "incidents": [incident()]}))
    assert '<section class="todo urgent">' in fires["summary.html"]


def test_a_day_without_anything_asks_for_nothing_and_says_so() -> None:
    page = kinds()["summary"].render(nothing())["summary.html"]
    assert "No requests were answered." in page
    assert "Nothing to do." in page


def test_a_kind_that_takes_too_long_or_too_much_is_told_of_by_the_summary() -> None:
    for bounds, why in (
        (Bounds(memory_bytes=192 * 1024**2), "needed more than 192 MiB of address space"),
        (Bounds(deadline=timedelta(seconds=0.1)), "took longer than 0.1 s"),
    ):
        made = Renderer(bounds).render(material())
        assert made.error is not None
        assert made.error.startswith("evidently: ")
        assert why in made.error
        assert set(made.files) == {"summary.html", "summary.md"}
        assert b"is missing from this one" in made.files["summary.html"]
