"""Connections that notice a dead server and speak UTC."""

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


def connection_string(url: str, *, application_name: str) -> str:
    """The url with what every connection of ours has: a name, UTC, keep-alives and a time-out.

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
    options = f"{given.get('options') or ''} -c timezone=UTC".strip()
    return make_conninfo("", **{**defaults, "application_name": application_name, "options": options})


def connect(url: str, *, application_name: str, autocommit: bool = True) -> psycopg.Connection:
    """An open connection.

    Args:
        url: postgresql://user:password@host:port/database.
        application_name: shown in pg_stat_activity.
        autocommit: False to have every statement open a transaction.

    Raises:
        TransientError: the server cannot be reached now, or refuses us. libpq gives no code for a refusal, so a
            wrong password looks like an outage: it is waited out, and its text is in the log at every try.
        ConfigError: the url is not one.
    """
    conninfo = connection_string(url, application_name=application_name)
    with translated():
        return psycopg.connect(conninfo, autocommit=autocommit)
