"""`python -m migrations`: the schema's two steps around a rollout. `alembic` does the same by revision."""

from __future__ import annotations

from enum import StrEnum

import typer
from alembic import command
from alembic.config import Config

from migrations.connect import MINIMUM_REVISION

app = typer.Typer(add_completion=False)


class Step(StrEnum):
    """`expand` adds what this version needs and older programs do not mind; `contract` drops what none needs."""

    EXPAND = "expand"
    CONTRACT = "contract"


@app.command()
def migrate(step: Step) -> None:
    """Expand before the first program of this version starts, contract once the last older one is gone."""
    config = Config()
    config.set_main_option("script_location", "migrations:")
    config.set_main_option("path_separator", "os")
    command.upgrade(config, MINIMUM_REVISION if step is Step.EXPAND else "head")


if __name__ == "__main__":
    app()
