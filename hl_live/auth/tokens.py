"""The tokens that count, kept in memory and read again every second or so."""

import asyncio
import time
from collections.abc import Callable

import structlog

from hl_live.threads import in_thread
from hl_platform.adapters.postgres.tokens import TokenStore
from hl_platform.core.access import Grant, StoredToken, is_token, token_id_of
from hl_platform.core.errors import DatabaseAwayError, HlError

log = structlog.get_logger()

# What is revoked is refused after this and the time of a query; promised are 5 s.
POLL_S = 1.5
# A token that is not known may have been made since; so often we look at most.
LOOK_AGAIN_S = 0.5
# While the database is away nothing can be revoked in it. For so long the last tokens known stay good.
GOOD_FOR_S = 300.0
USED_EVERY_S = 30.0
WAIT_S = 4.0


class TokenWatch:
    """Finds the grant of a token without asking the database for each request.

    Args:
        store: used from one thread at a time.
        on_read: told after each reading, when grants may have ended.

    Guarantee: a token that was revoked is refused within 5 seconds while the database answers.
    """

    def __init__(self, store: TokenStore, on_read: Callable[[], None]) -> None:
        self._store = store
        self._on_read = on_read
        self._by_id: dict[str, tuple[StoredToken, Grant]] = {}
        self._read_at = float("-inf")
        self._lock = asyncio.Lock()
        self._used: dict[str, float] = {}
        self._to_mark: set[str] = set()

    async def run(self) -> None:
        """Keeps the tokens fresh, until cancelled."""
        while True:
            if await self._try_read(time.monotonic()):
                await self._mark()
            self._on_read()
            await asyncio.sleep(POLL_S)

    async def find(self, presented: str) -> Grant | None:
        """What a token opens; None if it is not one of ours, or not any more.

        Raises:
            DatabaseAwayError: that cannot be known now.
        """
        token_id = token_id_of(presented)
        if token_id is None:
            return None
        if token_id not in self._by_id:
            # Shielded: who gives up must not let another thread onto the connection.
            reading = asyncio.ensure_future(self._try_read(time.monotonic()))
            done, _ = await asyncio.wait((reading,), timeout=WAIT_S)
            if not done or not reading.result():
                raise DatabaseAwayError("Tokens cannot be read now.")
        if self._is_old():
            raise DatabaseAwayError("Tokens have not been read for too long.")
        stored, grant = self._by_id.get(token_id, (None, None))
        # Compared even where nothing was found, so that the time of an answer does not tell which ids there are.
        right = is_token(presented, stored.digest if stored else bytes(32))
        if grant is None or not right or grant.is_over(time.time()):
            return None
        self._note_use(token_id)
        return grant

    def holds(self, grant: Grant) -> bool:
        """Whether the token of a grant still opens the same."""
        return (
            not self._is_old()
            and grant.key in self._by_id
            and self._by_id[grant.key][1] == grant
            and not grant.is_over(time.time())
        )

    def close(self) -> None:
        """Gives the connection back."""
        self._store.close()

    async def _try_read(self, since: float) -> bool:
        """Reads all tokens unless that was done since a moment; returns whether they are known."""
        async with self._lock:
            if self._read_at >= since:
                return True
            await asyncio.sleep(LOOK_AGAIN_S - (time.monotonic() - self._read_at))
            began = time.monotonic()
            try:
                tokens = await in_thread(self._store.valid)
            except HlError as exc:
                log.warning("tokens_not_read", error=str(exc))
                return False
            self._by_id = {token.token_id: (token, token.grant()) for token in tokens}
            self._read_at = began
            return True

    def _note_use(self, token_id: str) -> None:
        now = time.monotonic()
        if now - self._used.get(token_id, float("-inf")) > USED_EVERY_S:
            self._used[token_id] = now
            self._to_mark.add(token_id)

    async def _mark(self) -> None:
        async with self._lock:
            token_ids, self._to_mark = sorted(self._to_mark & self._by_id.keys()), set()
            self._used = {token_id: at for token_id, at in self._used.items() if token_id in self._by_id}
            if not token_ids:
                return
            try:
                await in_thread(lambda: self._store.mark_used(token_ids))
            except HlError as exc:
                log.warning("token_use_not_noted", error=str(exc))

    def _is_old(self) -> bool:
        return time.monotonic() - self._read_at > GOOD_FOR_S
