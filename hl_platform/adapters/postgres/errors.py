"""From a driver's error to ours, by SQLSTATE and never by message text.

| SQLSTATE class | meaning | becomes |
|---|---|---|
| none, 08, 40, 53, 55, 57, 25006, 25P03 | outage, lock, standby, idle too long | DatabaseAwayError |
| 22, 23, 54000 | the data, 54000 for instance a value too long for an index | PoisonRecordError |
| 28, 3D, 42 | user, database, missing table or right | ConfigError |
| any other | unknown | InvariantError: stop, never discard |
"""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from hl_platform.core.errors import ConfigError, DatabaseAwayError, HlError, InvariantError, PoisonRecordError

TRANSIENT_CLASSES = ("08", "40", "53", "55", "57")
# read_only_sql_transaction: what a standby answers, or a primary that became one.
# idle_in_transaction_session_timeout: we were stopped in the middle of a transaction, and the server ended it.
TRANSIENT_CODES = ("25006", "25P03")
DATA_CLASSES = ("22", "23")
# program_limit_exceeded: a value that does not fit into a page of an index.
DATA_CODES = ("54000",)
CONFIG_CLASSES = ("28", "3D", "42")


def translate(error: psycopg.Error) -> HlError:
    """Our error for a driver's."""
    code = error.sqlstate
    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if code is None:
        # Raised by the driver, not the server: a line that broke or could not be made, unless it is misuse.
        broken = isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
        data = isinstance(error, psycopg.DataError)
        if data:
            return PoisonRecordError("not_storable", text)
        return DatabaseAwayError(text) if broken else InvariantError(text)
    if code.startswith(TRANSIENT_CLASSES) or code in TRANSIENT_CODES:
        return DatabaseAwayError(f"{text} (SQLSTATE {code})")
    if code.startswith(DATA_CLASSES) or code in DATA_CODES:
        column = error.diag.column_name or error.diag.constraint_name
        return PoisonRecordError(f"sqlstate_{code.lower()}", text, sqlstate=code, column=column)
    if code.startswith(CONFIG_CLASSES):
        return ConfigError(f"{text} (SQLSTATE {code})")
    return InvariantError(f"{text} (SQLSTATE {code})")


@contextmanager
def translated() -> Iterator[None]:
    """Lets no driver's error out of the block."""
    try:
        yield
    except psycopg.Error as exc:
        raise translate(exc) from exc
