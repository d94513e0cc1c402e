"""PostgreSQL's COPY as one more statement of a SQLAlchemy transaction, and the text format that it reads.

The format (https://www.postgresql.org/docs/current/sql-copy.html): a line is a row, tabs part its fields, a backslash
escapes, `\\N` is null. Fields are made a column at a time, which costs half of what a row at a time does.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from math import isfinite
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Engine, Table, event

NULL = r"\N"
_SOURCE = "copy_source"
_READ_BYTES = 1 << 16  # psycopg2's own 8 kB would call back into Python eight times as often
_FLAGS = {None: NULL, True: "t", False: "f"}
# Of a number it writes the fewest digits that read back as the same double; numpy's kinds of number become Python's.
_json = msgspec.json.Encoder(enc_hook=float).encode

Fields = list[str]


def enable(engine: Engine) -> None:
    """Let an engine's connections `copy`. Safe to repeat."""
    if not event.contains(engine, "do_execute", _execute):
        event.listen(engine, "do_execute", _execute)


def copy(connection: Connection, table: Table, columns: Mapping[str, Sequence[str]]) -> None:
    """Append N rows, given as N fields for each column.

    Raises sqlalchemy.exc.DBAPIError as any other statement does, DataError where a value does not fit its column.
    """
    lines = "\n".join(map("\t".join, zip(*columns.values(), strict=True)))
    if not lines:
        return
    names = ", ".join(f'"{name}"' for name in columns)
    statement = f"COPY {table.name} ({names}) FROM STDIN (FORMAT text, ENCODING 'UTF8')"
    # what is no Unicode goes to the server as it is: it refuses that like any other value it cannot hold
    source = io.BytesIO(lines.encode("utf-8", "surrogatepass"))
    connection.exec_driver_sql(statement, execution_options={_SOURCE: source})


def _execute(cursor: Any, statement: str, _parameters: Any, context: Any) -> bool:
    """Run a COPY where SQLAlchemy would call `cursor.execute`, so that it handles errors and lost connections alike."""
    source = context.execution_options.get(_SOURCE)
    if source is None:
        return False
    cursor.copy_expert(statement, source, _READ_BYTES)
    return True


def texts(values: Sequence[str | None]) -> Fields:
    """Texts, which must be without NUL and lone surrogates. Few are distinct in most columns."""
    fields = {value: _text(value) for value in set(values)}
    return [fields[value] for value in values]


def _text(value: str | None) -> str:
    if value is None:
        return NULL
    if "\\" in value or "\t" in value or "\n" in value or "\r" in value:
        return value.replace("\\", r"\\").replace("\t", r"\t").replace("\n", r"\n").replace("\r", r"\r")
    return value


def integers(values: Iterable[int]) -> Fields:
    """Whole numbers."""
    return list(map(str, values))


def flags(values: Iterable[bool | None]) -> Fields:
    """Booleans."""
    return [_FLAGS[value] for value in values]


def numbers(values: Sequence[float | None]) -> Fields:
    """Floating-point numbers."""
    encoded = _json(values).decode()
    if "n" in encoded:  # null: a value is None, or not finite, for which JSON has no word
        return [NULL if value is None else _number(value) for value in values]
    return encoded[1:-1].split(",") if values else []


def _number(value: float) -> str:
    return _json(value).decode() if isfinite(value) else repr(value)


def arrays(values: Iterable[NDArray[np.floating] | None]) -> Fields:
    """Arrays (K,) of floating-point numbers."""
    return [NULL if value is None else _array(value.tolist()) for value in values]


def _array(values: list[float]) -> str:
    encoded = _json(values).decode()
    return "{" + (",".join(map(_number, values)) if "n" in encoded else encoded[1:-1]) + "}"


def moments(values: Iterable[datetime | None]) -> Fields:
    """Points in time, to the microsecond."""
    return [NULL if value is None else _json(value.astimezone(UTC)).decode()[1:-1] for value in values]


def digests(values: Iterable[bytes | None]) -> Fields:
    """Bytes."""
    return [NULL if value is None else r"\\x" + value.hex() for value in values]


def documents(values: Iterable[Mapping[str, float]]) -> Fields:
    """Statistics by name, as JSON; what is not finite becomes null."""
    return [_text(_json(value).decode()) for value in values]
