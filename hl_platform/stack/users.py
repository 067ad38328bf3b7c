"""The unprivileged system user that the embedded servers run as when hl is started by root."""

import os
import pwd
import shutil
import subprocess
from pathlib import Path

from hl_platform.core.errors import ConfigError

USER = "hl"


def server_user() -> str | None:
    """The user for the embedded servers: `hl` for root, made if missing; None (oneself) for anyone else.

    Raises:
        ConfigError: the user is missing and cannot be made.
    """
    if os.geteuid() != 0:
        return None
    if not _exists():
        _create()
    return USER


def give_to(path: Path, user: str | None) -> None:
    """Makes a file or directory belong to the servers' user; nothing to do where that is oneself."""
    if user is not None:
        entry = pwd.getpwnam(user)
        os.chown(path, entry.pw_uid, entry.pw_gid)


def check_reachable(path: Path, user: str | None) -> None:
    """Refuses a directory that the servers' user cannot get to.

    The permission of a folder that is not ours is not ours to change.

    Raises:
        ConfigError: names the folder that is closed.
    """
    if user is None:
        return
    entry = pwd.getpwnam(user)
    for folder in reversed([path, *path.parents]):
        if folder.exists() and not _may_enter(folder, entry):
            raise ConfigError(
                f"The servers run as user {user!r}, who may not enter {folder}. Set HL_DATA_DIR and "
                f"HL_RUNTIME_DIR to directories elsewhere, or run `chmod o+x {folder}`."
            )


def _may_enter(folder: Path, entry: pwd.struct_passwd) -> bool:
    status = folder.stat()
    if status.st_uid == entry.pw_uid:
        return bool(status.st_mode & 0o100)
    if status.st_gid == entry.pw_gid:
        return bool(status.st_mode & 0o010)
    return bool(status.st_mode & 0o001)


def _exists() -> bool:
    try:
        pwd.getpwnam(USER)
    except KeyError:
        return False
    return True


def _create() -> None:
    useradd = shutil.which("useradd", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    command = [
        useradd or "useradd",
        *("--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent"),
        *("--shell", "/usr/sbin/nologin", USER),
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        error = done.stderr.strip()
    except OSError as exc:
        error = str(exc)
    # Another hl may have made it at the same moment.
    if not _exists():
        raise ConfigError(
            f"The system user {USER!r} for the servers could not be made ({error}). "
            f"Run `{' '.join(command)}`, or run hl as another user than root."
        )
