"""Where log lines go and what they look like."""

import contextlib
import errno
import logging
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol, TextIO

import msgspec
import structlog

from hl_platform.core.sections import LogSettings

# Of a service that runs for days; the one before is kept, too.
MAX_FILE_BYTES = 16 * 1024 * 1024


class Output(Protocol):
    """Where lines are written."""

    def write(self, text: str) -> object:
        """Takes a line, or a part of one."""

    def flush(self) -> None:
        """Lets nobody wait for what was written."""


class LogFile:
    """A file that begins anew when it has grown, and keeps the one before as `.1`.

    Args:
        path: several processes may write to it, as they do while one hands over to another.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = self._open()

    def write(self, text: str) -> None:
        """Appends, in one piece: lines of two writers do not mix."""
        if os.fstat(self._descriptor).st_size > MAX_FILE_BYTES:
            # If it cannot begin anew it goes on: a line is worth more than the bound.
            with contextlib.suppress(OSError):
                self._begin_anew()
        line = text.encode()
        if os.write(self._descriptor, line) < len(line):
            raise OSError(errno.ENOSPC, "there was room for a part of a line only", str(self._path))

    def flush(self) -> None:
        """Nothing waits."""

    def _begin_anew(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._path.replace(self._path.with_name(f"{self._path.name}.1"))
        before, self._descriptor = self._descriptor, self._open()
        os.close(before)

    def _open(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)


class NeverFailing:
    """Writes lines where that is possible, and says later how many could not be written.

    Most lines are about faults, and written by threads that must outlive them: a full disk must not end those.

    Args:
        output: where to write.
        note: makes a line of the number of lost ones. A stream that keeps what it could not write may bring the
            first of them after all.
    """

    def __init__(self, output: Output, note: Callable[[int], str]) -> None:
        self._output = output
        self._note = note
        self._n_lost = 0

    def write(self, text: str) -> None:
        """Takes a whole line; from one thread at a time."""
        try:
            if self._n_lost:
                # What a stream has kept goes first; it is given no more while it cannot get rid of that.
                self._output.flush()
                # The line before may be there in part.
                self._output.write(f"\n{self._note(self._n_lost)}")
                self._n_lost = 0
            self._output.write(text)
            self._output.flush()
        except (OSError, ValueError):
            # ValueError: the stream is closed.
            self._n_lost += 1

    def flush(self) -> None:
        """Nothing waits."""


class Both:
    """Writes everything to two outputs."""

    def __init__(self, one: Output, other: Output) -> None:
        self._outputs = (one, other)

    def write(self, text: str) -> None:
        """Writes to both."""
        for output in self._outputs:
            output.write(text)

    def flush(self) -> None:
        """Flushes both."""
        for output in self._outputs:
            output.flush()


def log_for_a_person(settings: LogSettings, level: Literal["warning", "error"] = "warning") -> None:
    """For a command whose own sentences say what goes well, to whoever runs it: the log is what is beyond that."""
    configure_logging(msgspec.structs.replace(settings, dir=None, level=level))


def configure_logging(settings: LogSettings, stream: TextIO | None = None, *, service: str = "") -> None:
    """Colours on a terminal, one JSON object a line elsewhere. Call once, when a process starts.

    Args:
        settings: the lowest level, the format, and the directory of the services' files.
        stream: where to write; standard error unless told, since standard output is for results.
        service: writes to the service's file as well, if there is a directory for it.
    """
    output = stream or sys.stderr
    console = settings.format == "console" or (settings.format == "auto" and output.isatty())
    stamper = structlog.processors.TimeStamper(fmt="%H:%M:%S" if console else "iso", utc=not console)
    last: list[structlog.typing.Processor] = (
        # Tracebacks without the values of variables: among those are passwords.
        [
            structlog.dev.ConsoleRenderer(
                colors=output.isatty(), exception_formatter=structlog.dev.plain_traceback
            )
        ]
        if console
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    rendering: list[structlog.typing.Processor] = [structlog.processors.add_log_level, stamper, *last]
    everywhere: Output = NeverFailing(output, partial(_note, rendering))
    if service and settings.dir is not None:
        file = LogFile(Path(settings.dir) / f"{service}.log")
        everywhere = Both(everywhere, NeverFailing(file, partial(_note, rendering)))
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, *rendering],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(settings.level.upper())),
        # Looked up at every line, so that a stream that tests replace is not kept.
        logger_factory=structlog.WriteLoggerFactory(everywhere),  # type: ignore[arg-type] # it only writes and flushes
        cache_logger_on_first_use=False,
    )


def _note(rendering: Sequence[structlog.typing.Processor], n_lost: int) -> str:
    line: Any = {"event": "log_lines_lost", "n_lines": n_lost}
    for process in rendering:
        line = process(None, "warning", line)
    return f"{line}\n"
