"""Opens a file with a table in it."""

from pathlib import Path

from hl_platform.adapters.files.csv_table import CsvTable
from hl_platform.adapters.files.parquet_table import ParquetTable
from hl_platform.adapters.files.table import TableFile, unreadable
from hl_platform.core.errors import ConfigError


def open_table(path: Path, delimiter: str | None = None) -> TableFile:
    """The table in a file, by the ending of its name.

    Args:
        path: of the file: `.csv`, `.csv.gz` or `.parquet`.
        delimiter: between the cells of CSV; None to find out.

    Raises:
        ConfigError: it is none of these, or cannot be read.
    """
    name = path.name.lower()
    try:
        if name.endswith((".csv", ".csv.gz")):
            return CsvTable(path, delimiter)
        if name.endswith(".parquet"):
            return ParquetTable(path)
    except OSError as exc:
        raise unreadable(path, exc) from exc
    raise ConfigError(f"{path} is none of .csv, .csv.gz and .parquet. Export it as one of these.")
