"""`fusionwatch-monitor tokens`: who may call the API."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.table import Table

from migrations.settings import PREFIX
from monitor.domain.access import EVERY_SCOPE, Scope, digest, listed, new_token
from monitor.errors import AccessError
from monitor.terminal import console, read_settings
from monitor.token_settings import EVERYTHING, NAME

app = typer.Typer(no_args_is_help=True, help="Tokens of the API. Settings hold their digests, so none is ever shown.")


@app.command()
def new(
    name: Annotated[str, typer.Option(help="who bears it: small letters, digits and _; the audit log's actor")],
    scope: Annotated[list[Scope], typer.Option(help="what it lets its bearer do; give it once for each")],
) -> None:
    """Make a token: print it, this once, and the settings that let it in. Needs no settings and no database."""
    if not NAME.fullmatch(name) or name == EVERYTHING:
        raise AccessError(
            f"--name: {name!r} must start with a small letter; small letters, digits and single _ may follow, "
            f"40 characters at most; {EVERYTHING!r} is that of {PREFIX}API_TOKEN"
        )
    token = new_token()
    key = f"{PREFIX}API_TOKENS__{name.upper()}"
    typer.echo(f"token, which is not shown again: {token}")
    typer.echo("add to the settings of the API, then start it again:")
    typer.echo(f"{key}__SHA256={digest(token).hex()}")
    typer.echo(f"{key}__SCOPES='{json.dumps([str(each) for each in Scope if each in scope])}'")


@app.command("list")
def shown() -> None:
    """Names and scopes of the tokens that the settings let in."""
    settings = read_settings()
    table = Table("name", "scopes")
    if settings.api_token is not None:
        table.add_row(EVERYTHING, listed(EVERY_SCOPE))
    for name, each in sorted(settings.api_tokens.items()):
        table.add_row(name, listed(each.scopes))
    console.print(table)
