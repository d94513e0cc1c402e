"""Apache Kafka's jars: fetched by Maven once, kept outside the repository."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

POM = Path(__file__).parent / "kafka" / "pom.xml"
INSTALL = "apt-get install default-jre-headless maven"
FETCH_SECONDS = 300.0


class KafkaSetupError(Exception):
    """Apache Kafka cannot run here; the text says what to install, or where the log is."""


def java() -> str:
    """The path of `java`. Raises KafkaSetupError where there is none."""
    return _tool("java", "runs on Java 17 or later")


def kafka_jars() -> Path:
    """The folder with the jars of this repository's pom; the first call fetches them (about 44 MB).

    Raises KafkaSetupError where Maven is missing or cannot fetch them.
    """
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fusionwatch"
    folder = home / f"kafka-{hashlib.sha256(POM.read_bytes()).hexdigest()[:12]}"
    if not folder.is_dir():
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=home) as fresh:
            _fetch(Path(fresh) / "jars")
            try:
                (Path(fresh) / "jars").rename(folder)  # whole or not at all
            except OSError:
                if not folder.is_dir():  # else another process was faster
                    raise
    return folder


def _fetch(folder: Path) -> None:
    command = [_tool("mvn", "is fetched by Maven"), "--quiet", "--batch-mode", "--strict-checksums", "-f", str(POM)]
    command += ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={folder}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=FETCH_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise KafkaSetupError(f"Maven did not fetch Apache Kafka within {FETCH_SECONDS:.0f} s") from None
    if done.returncode != 0 or not folder.is_dir():
        raise KafkaSetupError(f"Maven could not fetch Apache Kafka:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")


def _tool(name: str, why: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise KafkaSetupError(f"there is no `{name}` here, and Apache Kafka {why}; on Debian: {INSTALL}")
    return found
