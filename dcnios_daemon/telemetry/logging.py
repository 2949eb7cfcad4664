"""structlog, set up once: JSON for machines, colours on a terminal, and no secret in either."""

import logging
import sys
from collections.abc import Callable
from typing import Any

import structlog

_LEVELS = {
    name: logging.getLevelNamesMapping()[name.upper()] for name in ("debug", "info", "warning", "error")
}


def setup(*, form: str | None, level: str) -> None:
    """Send every log line, ours and our libraries', to standard error.

    Args:
        form: ``json`` or ``console``; None chooses console on a terminal.
        level: The lowest level shown.
    """
    chosen = form or ("console" if sys.stderr.isatty() else "json")
    threshold = _LEVELS[level]
    shared: list[Callable[..., Any]] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
    ]
    last: Callable[..., Any] = (
        structlog.dev.ConsoleRenderer(timestamp_key="time", colors=sys.stderr.isatty())
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
    _Speaker.logger = structlog.get_logger().bind()
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


class _Speaker:
    """The daemon's logger, bound once: structlog's lazy proxy costs more than most lines.

    Commands that never call :func:`setup` print data to standard output: there only warnings are said, on
    standard error.
    """

    logger: structlog.typing.FilteringBoundLogger = structlog.wrap_logger(
        structlog.PrintLogger(sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
    ).bind()


def say(level: str, event: str, fields: Callable[[], dict[str, Any]]) -> None:
    """One line of the log, if that level is shown; only then are its fields asked for.

    Args:
        level: ``debug``, ``info``, ``warning`` or ``error``.
        event: A constant like ``source.connected``; all else is key and value.
        fields: Gives them.
    """
    logger = _Speaker.logger
    if logger.is_enabled_for(_LEVELS[level]):
        getattr(logger, level)(event, **fields())
