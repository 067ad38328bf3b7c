"""A file with a table in it, whatever its format."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from hl_platform.core.errors import ConfigError, PoisonRecordError


class TableRow(NamedTuple):
    """A row.

    Args:
        line: of the file where it begins, from 1; of a format without lines its number, from 1.
        cells: as many as there are columns, unless there is a fault.
        fault: why it cannot be read as a row; then `cells` are what could be.
    """

    line: int
    cells: Sequence[Any]
    fault: PoisonRecordError | None = None


class TableFile(Protocol):
    """A table in a file, read from its beginning as often as wanted, in bounded memory."""

    path: Path
    columns: Sequence[str]
    delimiter: str

    @property
    def share(self) -> float:
        """How much of it the last iterator has read, from 0 to 1."""

    def rows(self) -> Iterator[TableRow]:
        """Its rows, in the order of the file.

        Raises:
            ConfigError: it cannot be read on.
        """


def unreadable(path: Path, exc: Exception, hint: str = "") -> ConfigError:
    """What to tell a person whose file cannot be read."""
    reason = str(exc).splitlines()[0] if str(exc) else type(exc).__name__
    return ConfigError(f"{path} cannot be read: {reason}.{hint}")
