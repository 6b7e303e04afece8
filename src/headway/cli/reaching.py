"""How a command reaches the jobs: a named server, or the owner of the data directory, or the directory itself."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headway.client.api import JobsApi
    from headway.config import Settings


def settings_for(data_dir: str | None = None, **options: object) -> Settings:
    """The settings with the options of a command line."""
    from headway.config import load_settings

    return load_settings(options={"data_dir": data_dir, **options})


def jobs_api(data_dir: str | None, url: str | None, api_key: str | None, *, only_reads: bool = False) -> JobsApi:
    """The verbs of jobs, over whatever is there.

    Args:
        only_reads: of a data directory that is not there nothing can be read: none is made.
        data_dir: ``--data-dir``.
        url: ``--url``: a server that may be anywhere.
        api_key: ``--api-key``; the setting when None.
    """
    settings = settings_for(data_dir)
    if url is not None:
        from headway.client import Client

        return Client(url, api_key or settings.api_key)
    quiet_logs()
    from headway.bootstrap import must_be_there, reach

    if only_reads:
        must_be_there(settings)
    api: JobsApi = reach(settings)
    return api


def quiet_logs() -> None:
    """Log lines of what runs in this process: warnings and worse, to stderr, so that output stays output."""
    import structlog

    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
