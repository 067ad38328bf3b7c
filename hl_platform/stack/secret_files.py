"""Random passwords, made once and kept in files that only their owner can read."""

import os
import secrets
from pathlib import Path

N_BYTES = 24


def read_or_create(directory: Path, name: str) -> str:
    """The secret of that name: URL-safe text of 32 characters, the same at every call."""
    path = directory / name
    if not path.exists():
        # Written whole under another name first: a crash must not leave an empty password behind.
        draft = directory / f".{name}.{os.getpid()}"
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_urlsafe(N_BYTES))
            file.flush()
            os.fsync(file.fileno())
        draft.rename(path)
    return path.read_text(encoding="ascii").strip()
