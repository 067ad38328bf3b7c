"""The table of bearer tokens."""

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime

import psycopg
from psycopg.rows import class_row

from hl_platform.adapters.postgres.connection import connect
from hl_platform.adapters.postgres.errors import translated
from hl_platform.core.access import StoredToken, digest_of, token_id_of
from hl_platform.core.errors import ConfigError, InvariantError

LIST_TOKENS = """
-- list_tokens: all tokens, the newest last
select token_id, name, digest, scopes, device_ids, created_at, last_used_at, expires_at, revoked_at
from hl.tokens order by created_at, token_id
"""
VALID_TOKENS = """
-- valid_tokens: tokens that open something now
select token_id, name, digest, scopes, device_ids, created_at, last_used_at, expires_at, revoked_at
from hl.tokens where revoked_at is null and (expires_at is null or expires_at > now())
"""
INSERT = """
-- add_token: a new token
insert into hl.tokens (token_id, name, digest, scopes, device_ids, expires_at)
values (%(token_id)s, %(name)s, %(digest)s, %(scopes)s, %(device_ids)s, %(expires_at)s)
"""
REVOKE = """
-- revoke_token: end the token of a name; returns a row if there was one
update hl.tokens set revoked_at = now() where name = %(name)s and revoked_at is null returning token_id
"""
MARK_USED = """
-- mark_used: tokens that have just been used
update hl.tokens set last_used_at = now() where token_id = any(%(token_ids)s)
"""
# A service asks every second or two; one that waits longer is better told that the database is away.
PARAMETERS = {"statement_timeout": "3s", "lock_timeout": "2s"}


class TokenStore:
    """Tokens in the database, on a connection that is made when it is needed and made anew when it breaks.

    Args:
        url: of the owner of hl's tables.
        application_name: shown in pg_stat_activity.

    Raises from every method:
        TransientError: the database is away.
        ConfigError: the table is missing, or the role may not see it.

    Guarantee: for one thread at a time. What is revoked is in no later `valid`.
    """

    def __init__(self, url: str, application_name: str) -> None:
        self._url = url
        self._name = application_name
        self._conn: psycopg.Connection | None = None

    def list(self) -> Sequence[StoredToken]:
        """All tokens, also those that are over, the newest last."""
        return self._tokens(LIST_TOKENS)

    def valid(self) -> Sequence[StoredToken]:
        """The tokens that open something now."""
        return self._tokens(VALID_TOKENS)

    def add(
        self,
        token: str,
        name: str,
        scopes: Sequence[str],
        device_ids: Sequence[str] | None,
        expires_at: datetime | None,
    ) -> None:
        """Keeps a new token.

        Raises:
            ConfigError: a token of this name is there.
        """
        values = {
            "token_id": token_id_of(token),
            "name": name,
            "digest": digest_of(token),
            "scopes": list(scopes),
            "device_ids": None if device_ids is None else list(device_ids),
            "expires_at": expires_at,
        }
        with translated():
            try:
                self._open().execute(INSERT, values)
            except psycopg.errors.UniqueViolation as exc:
                raise ConfigError(f"There is a token {name!r}. Revoke it, or use another name.") from exc

    def revoke(self, name: str) -> bool:
        """Ends the token of a name; returns whether there was one."""
        with translated():
            return self._open().execute(REVOKE, {"name": name}).fetchone() is not None

    def mark_used(self, token_ids: Sequence[str]) -> None:
        """Says of these that they have just been used."""
        with translated():
            self._open().execute(MARK_USED, {"token_ids": list(token_ids)})

    def close(self) -> None:
        """Closes the connection."""
        if self._conn is not None:
            with suppress(psycopg.Error):
                self._conn.close()
            self._conn = None

    def _tokens(self, query: str) -> Sequence[StoredToken]:
        with translated():
            rows = self._open().cursor(row_factory=class_row(StoredToken)).execute(query.encode()).fetchall()
        if any(len(row.digest) != len(digest_of("")) for row in rows):
            raise InvariantError("hl.tokens holds a digest that is none.")
        return rows

    def _open(self) -> psycopg.Connection:
        if self._conn is None or self._conn.closed:
            self._conn = connect(self._url, application_name=self._name, parameters=PARAMETERS)
        return self._conn
