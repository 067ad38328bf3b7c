"""`hl token`: who may read through the live service."""

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta

import click
from rich.table import Table

from hl_platform.adapters.postgres.tokens import TokenStore
from hl_platform.core.access import (
    MAX_DEVICES,
    READ_ALL,
    READ_PIPELINE,
    REPLAY,
    SCOPE_ALLOWED,
    TOKEN_NAME,
    StoredToken,
    make_token,
    stream_scope,
    unknown_scopes,
)
from hl_platform.core.errors import ConfigError
from hl_platform.core.readings import DEVICE_ID
from hl_platform.core.settings import load_settings
from hl_platform.stack.connection import command_environment
from hl_platform.stack.tables import answer_console, plain_table
from hl_platform.streams import load_streams

LIFE = re.compile(r"([1-9][0-9]{0,4})([dhm])")
UNITS = {"d": "days", "h": "hours", "m": "minutes"}


@click.group()
def token() -> None:
    """Let a program or a person read through the live service, and no more than you say."""


@token.command("create")
@click.option("--name", required=True, help="What you call it, such as grafana.")
@click.option("--scope", "scopes", multiple=True, required=True, help=f"{SCOPE_ALLOWED}; repeatable.")
@click.option("--device", "device_ids", multiple=True, help="Only this device; repeatable.  [default: all]")
@click.option("--expires", help="After this time: 90d, 12h or 30m.  [default: never]")
def create(name: str, scopes: Sequence[str], device_ids: Sequence[str], expires: str | None) -> None:
    """Make a token and print it, once: only a hash of it is kept."""
    check_token(name, scopes, device_ids)
    expires_at = None if expires is None else datetime.now(UTC) + parse_life(expires)
    made = make_token()
    with _store() as (store, streams):
        _warn_of_unknown(scopes, streams)
        store.add(made, name, sorted(set(scopes)), sorted(set(device_ids)) or None, expires_at)
    click.echo("Keep it: it is shown this once. Send it as `Authorization: Bearer …`.", err=True)
    click.echo(made)


@token.command("list")
@click.option("--all", "with_past", is_flag=True, help="Those that are over as well.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def list_(*, with_past: bool, as_json: bool) -> None:
    """Show the tokens, not their secrets."""
    now = datetime.now(UTC)
    with _store() as (store, _):
        found = [one for one in store.list() if with_past or state_of(one, now) == "valid"]
    if as_json:
        click.echo(json.dumps([_document(one, now) for one in found], indent=2, ensure_ascii=False))
    elif found:
        answer_console().print(_table(found, now))
    else:
        click.echo("There are no tokens. `hl token create --name NAME --scope read:*` makes one.")


@token.command("revoke")
@click.argument("name")
def revoke(name: str) -> None:
    """End a token; every live service refuses it within 5 seconds and closes its feeds."""
    with _store() as (store, _):
        if not store.revoke(name):
            raise ConfigError(f"There is no valid token {name!r}. `hl token list` shows them.")
    click.echo(f"{name}: revoked.")


def check_token(name: str, scopes: Sequence[str], device_ids: Sequence[str]) -> None:
    """Checks what `hl token create` was given.

    Raises:
        UsageError: one of it is not allowed.
    """
    if not TOKEN_NAME.fullmatch(name):
        raise click.UsageError(f"--name {name!r} is not allowed: letters, digits and . _ - are, at most 63.")
    if unknown := unknown_scopes(scopes):
        raise click.UsageError(f"--scope {unknown[0]!r} is not allowed; allowed: {SCOPE_ALLOWED}.")
    if wrong := [device_id for device_id in device_ids if not DEVICE_ID.fullmatch(device_id)]:
        raise click.UsageError(f"--device {wrong[0]!r} cannot be a device's id.")
    if len(device_ids) > MAX_DEVICES:
        raise click.UsageError(f"At most {MAX_DEVICES} devices fit one token; without --device it is all.")


def parse_life(text: str) -> timedelta:
    """How long `90d`, `12h` or `30m` is.

    Raises:
        UsageError: the text is none of these.
    """
    match = LIFE.fullmatch(text)
    if match is None:
        raise click.UsageError(f"--expires {text!r} is not allowed; write 90d, 12h or 30m.")
    return timedelta(**{UNITS[match[2]]: int(match[1])})


def state_of(one: StoredToken, now: datetime) -> str:
    """`valid`, `expired` or `revoked`."""
    if one.revoked_at is not None:
        return "revoked"
    return "expired" if one.expires_at is not None and one.expires_at <= now else "valid"


def _warn_of_unknown(scopes: Sequence[str], streams: Sequence[str]) -> None:
    known = {READ_ALL, READ_PIPELINE, REPLAY, *map(stream_scope, streams)}
    for scope in scopes:
        if scope not in known:
            click.echo(f"{scope}: there is no such stream yet; the scope counts when there is.", err=True)


@contextmanager
def _store() -> Iterator[tuple[TokenStore, list[str]]]:
    settings = load_settings(command_environment())
    if settings.database.url is None:
        raise ConfigError("hl is not running. Start it with `hl up`, or set HL_DATABASE__URL.")
    with closing(TokenStore(settings.database.url, "hl-token")) as store:
        yield store, list(load_streams(settings.streams_dir))


def _document(one: StoredToken, now: datetime) -> dict[str, object]:
    moments = {
        name: None if at is None else at.isoformat()
        for name, at in (
            ("created_at", one.created_at),
            ("last_used_at", one.last_used_at),
            ("expires_at", one.expires_at),
            ("revoked_at", one.revoked_at),
        )
    }
    return {
        "name": one.name,
        "state": state_of(one, now),
        "scopes": one.scopes,
        "device_ids": one.device_ids,
        **moments,
    }


def _table(tokens: Sequence[StoredToken], now: datetime) -> Table:
    heads = ("name", "state", "scopes", "devices", "created", "last used", "expires")
    table = plain_table("Tokens", heads)
    for one in tokens:
        table.add_row(
            one.name,
            state_of(one, now),
            " ".join(one.scopes),
            " ".join(one.device_ids or ["all"]),
            _moment(one.created_at),
            _moment(one.last_used_at),
            _moment(one.expires_at) or "never",
        )
    return table


def _moment(at: datetime | None) -> str:
    return f"{at.astimezone():%Y-%m-%d %H:%M}" if at else ""
