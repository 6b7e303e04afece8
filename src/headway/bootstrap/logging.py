"""Log lines of the service: for people on a terminal, as JSON elsewhere; secrets are masked in both."""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

from headway.model.redact import mask_secrets


def _mask(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = mask_secrets(value)
    return event


def log_through_celery() -> None:
    """Log lines of a managed worker: through the standard library's logging, which Celery sets up and sends where it likes."""
    if structlog.is_configured():
        return
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.processors.format_exc_info,
            _mask,
            _as_line,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    # What migrations say of themselves is nobody's concern here.
    logging.getLogger("alembic").setLevel(logging.WARNING)


def _as_line(_: Any, __: str, event: MutableMapping[str, Any]) -> str:
    words = [str(event.pop("event", ""))]
    trace = event.pop("exception", None)
    words += [f"{name}={value}" for name, value in event.items()]
    return " ".join(words) + (f"\n{trace}" if trace else "")


def set_up_logging(level: int = logging.INFO) -> None:
    """Configure structlog and the standard library's logging for this process; output goes to stderr."""
    on_terminal = sys.stderr.isatty()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _mask,
            structlog.dev.ConsoleRenderer() if on_terminal else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        # A line and its end in one write: with PYTHONUNBUFFERED, as containers have it, others would write between them.
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
