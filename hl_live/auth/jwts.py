"""The grants of an OpenID Connect issuer's JWTs."""

import asyncio
import hashlib
import time

import structlog

from hl_live.threads import in_thread
from hl_platform.adapters.oidc import Keys, fetch_keys, key_id_of, verify
from hl_platform.core.access import SCOPE, Grant
from hl_platform.core.errors import DatabaseAwayError, HlError

log = structlog.get_logger()

# A key that the issuer has taken back opens nothing after this.
REFRESH_S = 300.0
# A token of a key that is not known may be of a new one; so often we look at most.
LOOK_AGAIN_S = 5.0
# While the issuer is away, the last keys known stay good for so long.
GOOD_FOR_S = 3_600.0


class JwtWatch:
    """Checks tokens with the issuer's keys, which are fetched beforehand and again when they rotate.

    Args:
        issuer: as it stands in `iss`.
        audience: what must be in `aud`.
        look_again_s: at most so often a key that is not known is looked for.
    """

    def __init__(self, issuer: str, audience: str, look_again_s: float = LOOK_AGAIN_S) -> None:
        self._issuer = issuer
        self._audience = audience
        self._look_again_s = look_again_s
        self._keys: Keys = {}
        self._read_at = self._tried_at = float("-inf")
        self._lock = asyncio.Lock()

    async def run(self) -> None:
        """Keeps the keys fresh, until cancelled."""
        while True:
            await self._fetch(0.0)
            await asyncio.sleep(REFRESH_S if self._keys else self._look_again_s)

    async def find(self, presented: str) -> Grant | None:
        """What a JWT opens; None if it is not one of the issuer's for us.

        Raises:
            DatabaseAwayError: the issuer's keys are not known.
        """
        key_id = key_id_of(presented)
        if key_id is None:
            return None
        if key_id not in self._keys:
            await asyncio.shield(asyncio.ensure_future(self._fetch(self._look_again_s)))
        if self._is_old():
            raise DatabaseAwayError("The issuer's keys are not known.")
        claims = verify(presented, self._keys, self._issuer, self._audience)
        if claims is None:
            return None
        return Grant(
            subject=claims.subject,
            key=f"{claims.key_id}/{hashlib.sha256(presented.encode()).hexdigest()[:16]}",
            scopes=frozenset(scope for scope in claims.scopes if SCOPE.fullmatch(scope)),
            expires_at=claims.expires_at,
        )

    def holds(self, grant: Grant) -> bool:
        """Whether a JWT's grant is not over, and its key not taken back."""
        return (
            grant.key.rpartition("/")[0] in self._keys
            and not grant.is_over(time.time())
            and not self._is_old()
        )

    async def _fetch(self, at_least_s: float) -> None:
        async with self._lock:
            if time.monotonic() - self._tried_at < at_least_s:
                return
            self._tried_at = began = time.monotonic()
            try:
                self._keys = await in_thread(lambda: fetch_keys(self._issuer))
                self._read_at = began
            except HlError as exc:
                log.warning("issuer_keys_not_read", issuer=self._issuer, error=str(exc))

    def _is_old(self) -> bool:
        return time.monotonic() - self._read_at > GOOD_FOR_S
