"""Where log lines go and what they look like."""

import logging
import os
import sys
from pathlib import Path
from typing import Protocol, TextIO

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
            os.close(self._descriptor)
            self._path.replace(self._path.with_name(f"{self._path.name}.1"))
            self._descriptor = self._open()
        os.write(self._descriptor, text.encode())

    def flush(self) -> None:
        """Nothing waits."""

    def _open(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)


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


def configure_logging(settings: LogSettings, stream: TextIO | None = None, *, service: str = "") -> None:
    """Colours on a terminal, one JSON object a line elsewhere. Call once, when a process starts.

    Args:
        settings: the lowest level, the format, and the directory of the services' files.
        stream: where to write; standard error unless told, since standard output is for results.
        service: writes to the service's file as well, if there is a directory for it.
    """
    output = stream or sys.stderr
    everywhere: Output = output
    if service and settings.dir is not None:
        everywhere = Both(output, LogFile(Path(settings.dir) / f"{service}.log"))
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
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            stamper,
            *last,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(settings.level.upper())),
        # Looked up at every line, so that a stream that tests replace is not kept.
        logger_factory=structlog.WriteLoggerFactory(everywhere),  # type: ignore[arg-type] # it only writes and flushes
        cache_logger_on_first_use=False,
    )
