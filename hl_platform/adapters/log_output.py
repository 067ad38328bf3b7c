"""Where log lines go and what they look like."""

import logging
import sys
from typing import TextIO

import structlog

from hl_platform.core.settings import LogSettings


def configure_logging(settings: LogSettings, stream: TextIO | None = None) -> None:
    """Colours on a terminal, one JSON object a line elsewhere. Call once, when a process starts.

    Args:
        settings: the lowest level and the format.
        stream: where to write; standard error unless told, since standard output is for results.
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
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            stamper,
            *last,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(settings.level.upper())),
        # Looked up at every line, so that a stream that tests replace is not kept.
        logger_factory=structlog.PrintLoggerFactory(output),
        cache_logger_on_first_use=False,
    )
