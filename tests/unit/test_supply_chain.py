"""What is locked is told as a bill of materials, and audited; an audit that did not happen is not passed over."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from tests.support.audit import LOCKED, audit
from tests.support.sbom import IMAGES, bill


@pytest.mark.parametrize("image", IMAGES)
def test_an_images_bill_is_valid_and_names_what_its_lock_names(image: str) -> None:
    written = json.loads(make_outputter(bill(image), OutputFormat.JSON, SchemaVersion.V1_6).output_as_string())
    few = {**written, "components": written["components"][:5]}  # all are made alike, and each takes its time to check
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(few)) is None
    told = {each["name"]: each for each in written["components"]}
    assert ("torch" in told) == (image == "inference")
    assert {"sqlalchemy", "numpy"} <= told.keys()
    assert "colorama" not in told, "Windows has it alone"
    lock = (LOCKED.parent / f"{image}.txt").read_text()
    for each in told.values():
        assert f"{each['name']}=={each['version']}" in lock
        digests = [one["content"] for reference in each["externalReferences"] for one in reference["hashes"]]
        assert digests
        assert all(f"sha256:{digest}" in lock for digest in digests)


def answer(*packages: dict[str, Any]) -> str:
    return json.dumps({"dependencies": packages})


GOOD = {"name": "a", "version": "1", "vulns": []}
BAD = {"name": "b", "version": "2", "vulns": [{"id": "PYSEC-1", "fix_versions": ["2.1"]}]}
UNKNOWN = {"name": "c", "skip_reason": "Dependency not found on PyPI and could not be audited: c (1)"}


def asked(*answers: str) -> Any:
    left = list(answers)
    return lambda _: left.pop(0)


def test_a_known_vulnerability_fails_and_is_told() -> None:
    assert audit(LOCKED, True, asked(answer(GOOD), answer(GOOD, BAD, UNKNOWN))) == (
        1,
        "b 2: PYSEC-1, mended in 2.1\naudit: 2 packages, 1 known vulnerabilities",
    )
    assert audit(LOCKED, False, asked(answer(GOOD), answer(GOOD)))[0] == 0


@pytest.mark.parametrize("nothing", ["", answer(UNKNOWN)], ids=["no service", "one that knows nothing"])
def test_an_audit_that_did_not_happen_is_said_and_fails_unless_tolerated(nothing: str) -> None:
    code, told = audit(LOCKED, False, asked(nothing))
    assert code == 1
    assert "NOT DONE" in told
    assert audit(LOCKED, True, asked(nothing)) == (0, told)


def test_the_probe_is_one_requirement_with_its_hashes(tmp_path: Path) -> None:
    seen: list[str] = []

    def ask(path: Path) -> str:
        seen.append(path.read_text())
        return ""

    audit(LOCKED, True, ask)
    (probe,) = seen
    assert probe.count("==") == 1
    assert "--hash=sha256:" in probe
    assert LOCKED.read_text().startswith(probe)
