"""What a power cut does not take."""

import os
from pathlib import Path


def sync(path: Path) -> None:
    """Makes a file's content durable, or a directory's names."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
