"""What a person sees of the stack on the terminal."""

import contextlib
import threading
from collections.abc import Collection, Iterable
from types import TracebackType
from typing import Self

from rich.console import Console, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from hl_platform.core.settings import Settings
from hl_platform.stack.state import ProgramState

BUSY = {"preparing", "starting", "restarting", "stopping"}
STYLES = {"running": "green", "done": "green", "failed": "bold red", "restarting": "yellow", "stopped": "dim"}
# What is worth a line where there is no terminal to change in place.
BEGUN = ("running", "done", "failed", "stopped")
ENDED = ("failed", "stopped")
MARKS = {"running": "✓", "done": "✓", "failed": "✗", "stopped": "·", "waiting": "·"}


class ProgressView:
    """Shows what is being started or stopped and for how long; a context manager.

    On a terminal a table that changes in place, elsewhere a line for each thing that is done.

    Args:
        console: where to show it.
        lines_for: states that get a line elsewhere than on a terminal.
    """

    def __init__(self, console: Console, lines_for: Collection[str] = BEGUN) -> None:
        self._console = console
        self._lines_for = lines_for
        self._states: list[ProgramState] = []
        self._spinners: dict[str, Spinner] = {}
        self._told: dict[str, tuple[str, str]] = {}
        self._guard = threading.Lock()
        self._live = Live(get_renderable=self._render, console=console, refresh_per_second=8, transient=True)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def states(self, states: list[ProgramState]) -> None:
        """Shows new states."""
        with self._guard:
            self._states = states
            if not self._console.is_terminal:
                self._print_changes(states)

    def tell(self, message: str, lines: Iterable[str] = ()) -> None:
        """Prints a message and lines of a log above the table."""
        show(self._console, Text(message, style="yellow"))
        for line in lines:
            show(self._console, Text(f"  {line}", style="dim"))

    def _render(self) -> RenderableType:
        grid = Table.grid(padding=(0, 2))
        with self._guard:
            for state in self._states:
                grid.add_row(
                    self._mark(state),
                    Text(state.name.replace("-", " ")),
                    Text(state.state, style=STYLES.get(state.state, "")),
                    Text(f"{state.seconds:.0f} s" if state.state in BUSY else "", style="dim"),
                    Text(state.detail, style="dim"),
                )
        return grid

    def _mark(self, state: ProgramState) -> RenderableType:
        if state.state in BUSY:
            return self._spinners.setdefault(state.name, Spinner("dots"))
        return Text(MARKS.get(state.state, "·"), style=STYLES.get(state.state, "dim"))

    def _print_changes(self, states: list[ProgramState]) -> None:
        for state in states:
            now = (state.state, state.detail)
            before = self._told.get(state.name)
            if now == before:
                continue
            self._told[state.name] = now
            if state.detail:
                show(self._console, Text(f"{state.name}: {state.detail}"))
            elif state.state in self._lines_for:
                show(self._console, Text(f"{state.name}: {state.state}"))


def show(console: Console, what: RenderableType) -> None:
    """Prints, where that is possible.

    In the background this goes to a file, whose disk may be full, and a terminal may be gone: who shows what is
    kept running must not end by that.
    """
    try:
        console.print(what)
    except (OSError, SystemExit):
        # SystemExit is what rich makes of a broken pipe. What it could not print it keeps, and would print again and
        # again with all that follows; a capture takes it away.
        with contextlib.suppress(OSError), console.capture():
            pass


def address_table(settings: Settings) -> Table:
    """Where everything is reached.

    Args:
        settings: with all addresses.
    """
    host = settings.live.host
    live = f"http://{f'[{host}]' if ':' in host else host}:{settings.live.port}"
    table = Table(show_header=False, box=None, padding=(0, 2), title_justify="left", title_style="bold")
    table.title = "hl is running"
    table.add_row("Page", f"{live}/")
    table.add_row("API", f"{live}/docs")
    table.add_row("Dagster", f"http://127.0.0.1:{settings.dagster.port}/")
    table.add_row("MQTT", f"mqtt://{settings.mqtt.host}:{settings.mqtt.port}")
    table.add_row("Kafka", f"{settings.kafka.bootstrap_servers}")
    table.add_row("PostgreSQL", without_password(settings.database.url or ""))
    if settings.database.read_url is not None:
        table.add_row("  read only", without_password(settings.database.read_url))
    table.add_row("  passwords", "`hl status --secrets` shows them; `hl psql` needs none")
    return table


def without_password(url: str) -> str:
    """The url of a database as it may be shown."""
    head, separator, rest = url.partition("://")
    credentials, at, place = rest.rpartition("@")
    user = credentials.partition(":")[0]
    return f"{head}{separator}{user}{at}{place}"


def duration_text(seconds: float) -> str:
    """A length of time for a person: 42 s, 5 min, 3.5 h, 2 d."""
    if seconds < 120:  # noqa: PLR2004
        return f"{seconds:.0f} s"
    if seconds < 7200:  # noqa: PLR2004
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172_800 else f"{seconds / 86_400:.1f} d"  # noqa: PLR2004
