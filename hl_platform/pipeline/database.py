"""Where the database is."""

from hl_platform.core.errors import ConfigError
from hl_platform.core.settings import Settings


def require_database(settings: Settings) -> str:
    """The url of the owner of hl's tables.

    Raises:
        ConfigError: nobody has said where the database is.
    """
    if settings.database.url is None:
        raise ConfigError("HL_DATABASE__URL is not set, and no running hl was found. Run `hl up`.")
    return settings.database.url
