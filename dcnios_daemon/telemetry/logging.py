"""structlog, set up once: JSON for machines, colours on a terminal, and no secret in either."""

import logging
import sys
from collections.abc import Callable
from typing import Any

import structlog

FORMATS = ("json", "console")


def setup(*, form: str | None, level: str) -> None:
    """Send every log line, ours and our libraries', to standard error.

    Args:
        form: ``json`` or ``console``; None chooses console on a terminal.
        level: The lowest level shown.
    """
    chosen = form or ("console" if sys.stderr.isatty() else "json")
    threshold = logging.getLevelNamesMapping()[level.upper()]
    shared: list[Callable[..., Any]] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
    ]
    last: Callable[..., Any] = (
        structlog.dev.ConsoleRenderer(timestamp_key="time")
        if chosen == "console"
        else structlog.processors.JSONRenderer(ensure_ascii=False)
    )
    tail: list[Callable[..., Any]] = [last]
    if chosen == "json":
        tail.insert(0, structlog.processors.format_exc_info)
    structlog.configure(
        processors=[*shared, *tail],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    _adopt_foreign(shared, tail, threshold)


def _adopt_foreign(shared: list[Callable[..., Any]], tail: list[Callable[..., Any]], threshold: int) -> None:
    """Render the standard library's records in the same form. Libraries speak only from warning up."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *tail],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(threshold, logging.WARNING))


def logger() -> structlog.typing.FilteringBoundLogger:
    """The daemon's logger. Events are constants like ``source.connected``; all else is key and value."""
    made: structlog.typing.FilteringBoundLogger = structlog.get_logger()
    return made
