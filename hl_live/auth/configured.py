"""Whether the service may begin to listen."""

from contextlib import closing

import structlog

from hl_live.guard import check_exposure
from hl_platform.adapters.postgres.tokens import TokenStore
from hl_platform.core.errors import TransientError
from hl_platform.core.settings import Settings, require_address

log = structlog.get_logger()


def check_configured(settings: Settings) -> None:
    """Refuses to listen where others could connect while there are no tokens.

    While the database is away it listens: nobody is let in before it is back.

    Raises:
        ConfigError: the address is not one of loopback, and nobody could show a token.
    """

    def has_token() -> bool:
        if settings.auth.issuer is not None:
            return True
        url = require_address(settings.database.url, "database", "url")
        with closing(TokenStore(url, "hl-live-tokens")) as store:
            try:
                return len(store.valid()) > 0
            except TransientError as exc:
                log.warning("tokens_not_read", error=str(exc))
                return True

    check_exposure(settings, has_token)
