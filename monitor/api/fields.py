"""Fields that many bodies have: texts that the database can hold, and times in UTC."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field

FIRST_YEAR, LAST_YEAR = 1970, 9000  # what is reckoned from a time must be one too
STORABLE = r"^[^\x00]*$"  # PostgreSQL holds no NUL; a lone surrogate is no text to begin with


def _in_utc(at: datetime) -> datetime:
    """The time in UTC: PostgreSQL takes no offset beyond 16 hours. One without an offset is left to who reads it."""
    if not FIRST_YEAR <= at.year <= LAST_YEAR:
        raise ValueError(f"it must be within the years {FIRST_YEAR} to {LAST_YEAR}")
    return at if at.tzinfo is None else at.astimezone(UTC)


Plain = Annotated[str, Field(max_length=500, pattern=STORABLE)]
Text = Annotated[str, Field(min_length=1, max_length=500, pattern=STORABLE)]
Owner = Annotated[Text | None, Field(description="who asks, where several share a token; by default the token's name")]
Time = Annotated[datetime, AfterValidator(_in_utc)]
AwareTime = Annotated[AwareDatetime, AfterValidator(_in_utc)]


class Ending(BaseModel):
    """Why something is asked for; kept in the audit log."""

    model_config = ConfigDict(extra="forbid")

    owner: Owner = None
    reason: Text
