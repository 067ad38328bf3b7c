"""Connections that notice a dead server and speak UTC."""

from collections.abc import Mapping
from types import MappingProxyType

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from hl_platform.adapters.postgres.errors import translated
from hl_platform.core.errors import ConfigError

# Without these a peer that vanished without a word (power cut) is noticed after two hours.
KEEPALIVE = {
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}
CONNECT_TIMEOUT_S = 5
# Whatever the server's own defaults are: days as long as hours say, and what others have committed seen.
OURS = {"timezone": "UTC", "default_transaction_isolation": "read committed"}
NONE: Mapping[str, str] = MappingProxyType({})

# For what a client of the API waits for: whatever keeps a statement, or a read of the archive, longer is an outage.
REQUEST_TIMEOUT_S = 20
REQUEST = {"statement_timeout": f"{REQUEST_TIMEOUT_S}s"}

# For a connection whose transactions lock rows that others need. The server ends what a stopped or vanished
# process has left open; waiting for a lock is an outage, to be said and tried again, and no hang.
WRITER = {
    "idle_in_transaction_session_timeout": "5s",
    "lock_timeout": "10s",
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
}


def connection_string(url: str, *, application_name: str, parameters: Mapping[str, str] = NONE) -> str:
    """The url with what every connection of ours has: a name, UTC, keep-alives and a time-out.

    Args:
        url: postgresql://user:password@host:port/database.
        application_name: shown in pg_stat_activity.
        parameters: of the server, for this session.

    Raises:
        ConfigError: the url is not one of PostgreSQL's. The message does not repeat it: it holds a password.
    """
    try:
        given = conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        msg = "The database url is not valid. Write postgresql://user:password@host:port/database."
        # Not chained: libpq's message would quote the password.
        raise ConfigError(msg) from None
    defaults = {"connect_timeout": CONNECT_TIMEOUT_S, **KEEPALIVE, **given}
    # libpq splits at spaces that are not escaped.
    escaped = {name: value.replace(" ", r"\ ") for name, value in {**OURS, **parameters}.items()}
    chosen = [f"-c {name}={value}" for name, value in escaped.items()]
    options = " ".join([str(given.get("options") or ""), *chosen]).strip()
    return make_conninfo("", **{**defaults, "application_name": application_name, "options": options})


def connect(
    url: str, *, application_name: str, autocommit: bool = True, parameters: Mapping[str, str] = NONE
) -> psycopg.Connection:
    """An open connection.

    Args:
        url: postgresql://user:password@host:port/database.
        application_name: shown in pg_stat_activity.
        autocommit: False to have every statement open a transaction.
        parameters: of the server, for this session, such as `WRITER`.

    Raises:
        TransientError: the server cannot be reached now, or refuses us. libpq gives no code for a refusal, so a
            wrong password looks like an outage: it is waited out, and its text is in the log at every try.
        ConfigError: the url is not one.
    """
    conninfo = connection_string(url, application_name=application_name, parameters=parameters)
    with translated():
        return psycopg.connect(conninfo, autocommit=autocommit)
