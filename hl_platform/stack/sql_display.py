"""What `hl sql` prints."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from dbt_like_sql.engine.checks import CheckResult
from dbt_like_sql.engine.example_runner import ExampleResult
from dbt_like_sql.engine.lineage import Node
from dbt_like_sql.engine.retire import Retired


def retired_text(retired: Retired) -> str:
    """That a model was removed, and what stays of it."""
    parts = [f"Removed {retired.model}."]
    if retired.n_rows_kept:
        parts.append(
            f"{retired.n_rows_kept:,} rows that cannot be computed again stay in materialized.{retired.model}."
        )
    if retired.readers:
        parts.append(f"What reads it answers with an error from now on: {', '.join(retired.readers)}.")
    return " ".join(parts)


def example_text(result: ExampleResult) -> RenderableType:
    """Why an example failed: what differs, row by row."""
    head = f"[red]failed[/] {result.file}: {escape(result.name)}"
    if result.error:
        return Text.from_markup(f"{head}\n  {escape(result.error)}")
    table = Table("row", "column", "expected", "found", box=None, padding=(0, 2))
    for row, column, expected, found in result.wrong:
        table.add_row(escape(row), column, Text(expected, style="green"), Text(found, style="red"))
    return Group(Text.from_markup(head), table)


def check_text(result: CheckResult) -> RenderableType:
    """Which rows a check found."""
    colour, word = ("red", "failed") if result.severity == "error" else ("yellow", "warning")
    head = f"[{colour}]{word}[/] {result.check} of {result.model}: {escape(result.description)}"
    if result.error:
        return Text.from_markup(f"{head}\n  {escape(result.error)}")
    table = Table(*(result.sample[0] if result.sample else ()), box=None, padding=(0, 2))
    for row in result.sample:
        table.add_row(*(escape(str(value)) for value in row.values()))
    n_more = result.n_bad - len(result.sample)
    more = [Text(f"  and {n_more:,} more rows")] if n_more > 0 else []
    return Group(Text.from_markup(head), table, *more)


def summary_text(n_passed: int, n_warned: int, n_failed: int) -> Text:
    """One line at the end."""
    parts = [f"{n_passed:,} passed"]
    parts += [f"{n_warned:,} warned"] if n_warned else []
    parts += [f"{n_failed:,} failed"] if n_failed else []
    return Text(", ".join(parts) + ".", style="red" if n_failed else "yellow" if n_warned else "green")


def lineage_text(
    model: str, tree: Node | None, columns: Mapping[str, Sequence[tuple[str, str]]]
) -> RenderableType:
    """A column's origins as a tree, or what each column of a model reads."""
    if tree is not None:
        return _branch(tree, None)
    table = Table(f"column of {model}", "comes from", box=None, padding=(0, 2))
    for name, origins in columns.items():
        table.add_row(name, ", ".join(f"{relation}.{column}" for relation, column in origins))
    return table


def _branch(node: Node, above: Tree | None) -> Tree:
    label = Text.assemble((node.relation, "dim"), ".", (node.column, "bold"))
    branch = Tree(label) if above is None else above.add(label)
    for origin in node.origins:
        _branch(origin, branch)
    return branch


@contextmanager
def progress_bar() -> Iterator[Callable[[str, int, int], None]]:
    """Shows how far each model is: on a terminal as bars, elsewhere as a line for each step."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda model, done, total: console.print(
            f"{model}: {done:,} of {total:,} marks", highlight=False
        )
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    tasks: dict[str, TaskID] = {}
    with Progress(*columns, console=console) as bars:

        def report(model: str, done: int, total: int) -> None:
            if model not in tasks:
                tasks[model] = bars.add_task(model)
            bars.update(tasks[model], completed=done, total=total)

        yield report
