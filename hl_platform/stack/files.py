"""Files that several processes may want at once."""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds an exclusive lock on a file, which is made if missing; waits for whoever holds it."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def build_once(target: Path, build: Callable[[Path], None]) -> Path:
    """The directory `target`, built unless it is there.

    Args:
        target: where it shall be.
        build: fills an empty directory; if it raises, nothing is left behind.

    Guarantee: whoever sees `target` sees all of it, also after a crash and with several builders at once.
    """
    if target.is_dir():
        return target
    with locked(target.parent / f".{target.name}.lock"):
        if not target.is_dir():
            draft = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
            try:
                build(draft)
                _open_for_reading(draft)
                draft.rename(target)
            finally:
                shutil.rmtree(draft, ignore_errors=True)
    return target


def rotate(path: Path, keep: int = 3) -> None:
    """Moves `x.log` to `x.log.1` and so on, so that a new one can begin; an empty one stays."""
    if not path.exists() or path.stat().st_size == 0:
        return
    for number in range(keep, 1, -1):
        older = path.with_name(f"{path.name}.{number - 1}")
        if older.exists():
            older.rename(path.with_name(f"{path.name}.{number}"))
    path.rename(path.with_name(f"{path.name}.1"))


def truncate_grown(path: Path, max_bytes: int) -> None:
    """Moves the text of a log that is being written into `x.log.1` once it is too large.

    What the writer adds between the copy and the cut is lost; it is a log. Where there is no room for the copy, or
    no log, nothing is cut.
    """
    with contextlib.suppress(OSError):
        if path.stat().st_size > max_bytes:
            shutil.copyfile(path, path.with_name(f"{path.name}.1"))
            os.truncate(path, 0)


def write_private(path: Path, text: str) -> None:
    """Replaces a file, at once and readable by its owner only."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    draft.rename(path)


def tail(path: Path, n_lines: int) -> list[str]:
    """The last lines of a text file; none if there is no file."""
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - 400 * n_lines))
            return file.read().decode(errors="replace").splitlines()[-n_lines:]
    except FileNotFoundError:
        return []


def _open_for_reading(directory: Path) -> None:
    # Whatever the umask was: another user runs what is in there.
    directory.chmod(0o755)
    for path in directory.rglob("*"):
        if not path.is_symlink():
            executable = path.is_dir() or path.stat().st_mode & 0o100
            path.chmod(0o755 if executable else 0o644)
