"""What the engine asks of a database connection; hl_platform.adapters.postgres has the real one."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol


class Database(Protocol):
    """One connection in autocommit mode.

    Raises from every method:
        TransientError: the database is away; nothing of an open transaction was kept.
        ConfigError: an object is missing, or a right.
    """

    def rows(self, query: str, values: Mapping[str, object] | None = None) -> list[tuple[Any, ...]]:
        """Runs a statement; `%(name)s` stands for a value only where values are given."""
        ...

    def transaction(self) -> AbstractContextManager[object]:
        """A block whose statements are committed together, or not at all."""
        ...


class BulkDatabase(Database, Protocol):
    """A connection that whole tables go over."""

    def copy_out(self, query: str) -> Iterator[bytes]:
        """What a `COPY … TO STDOUT` sends, in portions."""
        ...

    def copy_in(self, query: str, rows: Iterable[Sequence[object]]) -> int:
        """Rows into a `COPY … FROM STDIN`; returns how many."""
        ...
