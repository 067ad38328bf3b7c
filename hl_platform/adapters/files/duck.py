"""DuckDB as a reader of files: small, alone with itself, and off the network."""

import duckdb

MEMORY = "256MB"


def open_duckdb() -> duckdb.DuckDBPyConnection:
    """A database in memory. It loads no extension from anywhere, and leaves the machine to those that work."""
    return duckdb.connect(
        config={
            "memory_limit": MEMORY,
            "threads": 1,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "preserve_insertion_order": True,
        }
    )
