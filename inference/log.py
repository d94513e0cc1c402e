"""One JSON object a line on stderr. Callers pass ids, codes and counts: never a raw input."""

from __future__ import annotations

import json
import logging
import sys
import traceback
from datetime import UTC, datetime
from typing import Any

_FIELDS = "fields"


class JsonFormatter(logging.Formatter):
    """Formats a record as JSON. Of an exception it writes type and places, not its text, which may quote an input."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line."""
        line: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line.update(getattr(record, _FIELDS, {}))
        if record.exc_info and record.exc_info[0] is not None:
            line["error"] = record.exc_info[0].__name__
            frames = traceback.extract_tb(record.exc_info[2])
            line["where"] = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames[-8:]]
        return json.dumps(line, ensure_ascii=False, default=str)


def configure(level: str) -> None:
    """Send every log line of this process to stderr as JSON."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # at DEBUG the Kafka client tells messages, and Pillow what a picture's metadata says
    quiet = {"kafka": logging.ERROR, "PIL": logging.WARNING, "alembic": logging.WARNING, "httpx": logging.WARNING}
    for chatty, least in quiet.items():
        logging.getLogger(chatty).setLevel(least)
    logging.captureWarnings(True)


def fields(**values: object) -> dict[str, dict[str, object]]:
    """Structured fields for a log call: `log.info("adopted", extra=fields(version=v))`."""
    return {_FIELDS: values}
