"""Where things are on disk when nobody says otherwise."""

import os
from pathlib import Path

from hl_platform.core.settings import Settings


def data_directory(settings: Settings) -> Path:
    """What must not be lost; touches nothing."""
    return _absolute(settings.data_dir or ("/var/lib/hl" if os.geteuid() == 0 else "~/.local/share/hl"))


def runtime_directory(settings: Settings) -> Path:
    """What can be fetched again; touches nothing."""
    return _absolute(settings.runtime_dir or ("/var/cache/hl" if os.geteuid() == 0 else "~/.cache/hl"))


def spool_directory(settings: Settings, service: str) -> Path:
    """The spool of a bridge; touches nothing."""
    own = settings.bridge.spool_dir
    return (_absolute(own) if own else data_directory(settings) / "spool") / service


def archive_directory(settings: Settings) -> Path:
    """The archive of readings; touches nothing."""
    own = settings.archive.dir
    return _absolute(own) if own else data_directory(settings) / "archive"


def _absolute(path: str) -> Path:
    return Path(path).expanduser().absolute()
