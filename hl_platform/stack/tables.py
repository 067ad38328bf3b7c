"""Tables on the terminal, all of the same plain form."""

from collections.abc import Iterable

from rich.console import Console
from rich.table import Table

PIPE_COLUMNS = 500


def answer_console() -> Console:
    """Where a command prints its answer: as wide as the terminal, and in a pipe or file wide enough to cut nothing."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = PIPE_COLUMNS
    return console


def plain_table(title: str, left: Iterable[str], right: Iterable[str] = ()) -> Table:
    """A table without lines, to be given its rows.

    Args:
        title: above it.
        left: headings of the first columns, which hold words.
        right: headings of those behind them, which hold numbers.
    """
    table = Table(
        *left, title=title, title_justify="left", title_style="bold", box=None, padding=(0, 1), pad_edge=False
    )
    table.header_style = "dim"
    for heading in right:
        table.add_column(heading, justify="right")
    return table


def two_lines(names: Iterable[str]) -> list[str]:
    """Headings of counts, eight of which fit beside each other in 80 columns."""
    return [name.replace("_", "\n") for name in names]
