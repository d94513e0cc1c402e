"""Whether programs that knew one schema run on another: tables as databases have them, and what differs."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from sqlalchemy import Connection, Engine, Inspector, inspect

from migrations.schema.partitions import is_partition

# A value in a rule's list, as PostgreSQL shows it: 'user'::text,
_LISTED = r"'[^']*'(::[\w ]+(\[\])?)?[, ]*"
Tables = dict[str, dict[str, Any]]


def tables(source: Engine | Connection, only: Collection[str] = ()) -> Tables:
    """Columns and constraints of every table, or of those named, as far as they decide what statements are taken."""
    look: Inspector = inspect(source)
    found = {}
    for name in look.get_table_names():
        if is_partition(name) or (only and name not in only):
            continue
        found[name] = {
            "columns": {
                each["name"]: (
                    str(each["type"]),
                    bool(each["nullable"]),
                    each["default"] is not None or "identity" in each,
                )
                for each in look.get_columns(name)
            },
            "unique": {
                tuple(look.get_pk_constraint(name)["constrained_columns"]),
                *(tuple(each["column_names"]) for each in look.get_unique_constraints(name)),
            },
            "foreign": {tuple(each["constrained_columns"]) for each in look.get_foreign_keys(name)},
            "checks": {str(each["name"]): each["sqltext"] for each in look.get_check_constraints(name)},
        }
    return found


def breaks(before: Tables, after: Tables) -> list[str]:
    """What keeps programs of the schema before from running on the one after."""
    found = [f"{name} is gone" for name in before.keys() - after.keys()]
    for name in before.keys() & after.keys():
        old, new = before[name], after[name]
        for column, (kind, nullable, filled) in old["columns"].items():
            now = new["columns"].get(column)
            if now is None:
                found.append(f"{name}.{column} is gone")
            elif now[0] != kind or now[1] < nullable or (filled and not (now[2] or now[1])):
                found.append(f"{name}.{column} was {(kind, nullable, filled)} and is {now}")
        for column in new["columns"].keys() - old["columns"].keys():
            _, nullable, filled = new["columns"][column]
            if not (nullable or filled):
                found.append(f"{name}.{column} is new, and must be given")
        if new["unique"] != old["unique"] or not new["foreign"] <= old["foreign"]:
            found.append(f"{name}: other keys: ON CONFLICT may find none, and rows may be refused")
        for check, rule in new["checks"].items():
            if check not in old["checks"] or not _allows(rule, old["checks"][check]):
                found.append(f"{name}: {check} is stricter, or may be")
    return sorted(found)


def _allows(rule: str, before: str) -> bool:
    """Whether a rule is the one before, with more values in its list at most."""
    frames = [re.sub(_LISTED, "", each) for each in (rule, before)]
    values = [set(re.findall(r"'[^']*'", each)) for each in (rule, before)]
    return frames[0] == frames[1] and values[0] >= values[1]
