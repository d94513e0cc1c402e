"""What both programs read from their environment alike: the database's address, and errors a person can act on."""

from __future__ import annotations

from typing import Annotated, Any, Self, get_args

from pydantic import AfterValidator, BaseModel, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict
from pydantic_settings import SettingsError as SettingsSourceError
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

PREFIX = "FUSIONWATCH_"


def _psycopg2_url(url: SecretStr) -> SecretStr:
    try:
        parsed = make_url(url.get_secret_value())
    except (ArgumentError, ValueError):  # whose text may tell the password, taken for a port
        raise ValueError("not a database URL") from None
    if parsed.drivername != "postgresql+psycopg2" or not parsed.database:
        raise ValueError(f"needs the scheme postgresql+psycopg2 and a database name, not {parsed.drivername!r}")
    return url


# Secret, since it may hold a password; a Unix socket is named as `?host=/folder`.
DatabaseUrl = Annotated[SecretStr, AfterValidator(_psycopg2_url)]


class SettingsError(Exception):
    """A setting is missing or wrong. The text names each key, the value found and what is allowed."""


class EnvironmentSettings(BaseSettings):
    """Base of all settings; every key is an environment variable `FUSIONWATCH_<KEY>` or a line of .env."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_file=".env", env_nested_delimiter="__", extra="ignore", frozen=True
    )

    @classmethod
    def from_environment(cls) -> Self:
        """Read and check every setting. Raises SettingsError naming all that are wrong at once."""
        try:
            return cls()
        except ValidationError as error:
            raise SettingsError(_explain(cls, error)) from None
        except SettingsSourceError as error:
            # the text names the field and not what was found, which may hold a secret
            raise SettingsError(f"a value is not JSON: {error}") from None
        except RecursionError:
            raise SettingsError("a value is JSON that is nested too deeply") from None
        except UnicodeEncodeError:
            raise SettingsError("a value holds bytes that are not UTF-8") from None
        except OSError as error:
            raise SettingsError(f"a path cannot be looked at: {error.strerror}") from None


class DatabaseSettings(EnvironmentSettings):
    """Base of each program's settings."""

    database_url: DatabaseUrl = Field(description="postgresql+psycopg2://user:password@host:port/database")
    database_pool_size: int = Field(default=4, ge=1, le=100, description="connections kept open by this process")


def _explain(settings: type[BaseSettings], error: ValidationError) -> str:
    lines = []
    for problem in error.errors():
        path = [str(part) for part in problem["loc"]]
        if not path:  # what was found is every setting, secrets too
            lines.append(f"settings do not fit together: {problem['msg']}")
            continue
        field = settings.model_fields.get(path[0])
        key = PREFIX + "__".join(path).upper()
        found = "is not set" if problem["type"] == "missing" else f"is {_shown(field, problem['input'])}"
        allowed = f" ({field.description})" if field is not None and field.description else ""
        lines.append(f"{key} {found}: {problem['msg']}{allowed}")
    return "\n".join(lines)


def _shown(field: object, value: object) -> str:
    """The value as found, unless the key holds a secret."""
    if _holds_secret(getattr(field, "annotation", None)):
        return "set to a value that is not shown here"
    return repr(value)


def _holds_secret(kind: Any) -> bool:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return any(_holds_secret(field.annotation) for field in kind.model_fields.values())
    return kind is SecretStr or any(map(_holds_secret, get_args(kind)))
