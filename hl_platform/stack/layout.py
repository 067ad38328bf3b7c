"""Where everything of one hl installation is on disk."""

import os
from pathlib import Path
from typing import NamedTuple

from hl_platform.adapters.directories import data_directory, runtime_directory
from hl_platform.core.errors import ConfigError
from hl_platform.core.settings import Settings
from hl_platform.stack.users import check_reachable, give_to, server_user


class Layout(NamedTuple):
    """The directories, and the user that the servers run as.

    Args:
        data_dir: what must not be lost.
        runtime_dir: what can be fetched again.
        user: who the servers run as; None is oneself.
    """

    data_dir: Path
    runtime_dir: Path
    user: str | None

    @property
    def logs(self) -> Path:
        """One file for each process."""
        return self.data_dir / "logs"

    @property
    def secrets(self) -> Path:
        """Passwords, closed to others."""
        return self.data_dir / "secrets"

    @property
    def run(self) -> Path:
        """What describes the running stack."""
        return self.data_dir / "run"

    @property
    def dagster_home(self) -> Path:
        """DAGSTER_HOME."""
        return self.data_dir / "dagster"

    def server_dir(self, name: str) -> Path:
        """The data directory of one server, made for its user and closed to others."""
        path = self.data_dir / name
        if not path.exists():
            path.mkdir(mode=0o700)
            give_to(path, self.user)
        return path


def plan_directories(settings: Settings) -> tuple[Path, Path]:
    """The data directory and the runtime directory; touches nothing."""
    return data_directory(settings), runtime_directory(settings)


def plan_layout(settings: Settings) -> Layout:
    """Where everything would be; touches nothing but, for root, makes sure of the servers' user."""
    return Layout(*plan_directories(settings), server_user())


def make_directories(layout: Layout) -> None:
    """Makes the directories that all parts share.

    Raises:
        ConfigError: one cannot be made, or the servers' user could not get to it.
    """
    for path, setting in ((layout.data_dir, "HL_DATA_DIR"), (layout.runtime_dir, "HL_RUNTIME_DIR")):
        try:
            _make(path, 0o755)
        except OSError as exc:
            raise ConfigError(
                f"{setting}={str(path)!r} cannot be used: {exc.strerror}. Set {setting} to a directory that "
                "you may write to."
            ) from exc
        check_reachable(path, layout.user)
    for path in (layout.logs, layout.secrets, layout.run, layout.dagster_home):
        _make(path, 0o700)


def _make(path: Path, mode: int) -> None:
    if not path.is_dir():
        path.mkdir(parents=True, exist_ok=True)
        # Whatever the umask: the servers' user must get through, and others not into what is closed.
        path.chmod(mode)
    if not os.access(path, os.W_OK | os.X_OK):
        raise PermissionError(13, "permission denied")
